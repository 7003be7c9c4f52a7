//! Who calls, and what they may do: looked up in the transaction of the change, under a lock.

use tracing::instrument;

use super::{Transaction, failed};
use crate::{
    clock::Timestamp,
    id::{GrantId, SessionId, TenantId, UserId},
    message::{
        Caller,
        session::{Elevation, IDLE_SLACK_SECONDS, TOUCH_EVERY},
    },
    refusal::{Code, Refusal},
    role::{Permission, Role, effective_permissions, permits},
};

/// Somebody who is signed in, as of this transaction.
#[derive(Debug, Clone)]
pub struct Known {
    /// Who.
    pub user_id: UserId,
    /// In which tenant.
    pub tenant_id: TenantId,
    /// By which session.
    pub session_id: SessionId,
    /// The assigned role.
    pub role: Role,
    /// What raises it now, the one that is shown first.
    pub elevation: Option<Elevation>,
    /// The database's clock.
    pub now: Timestamp,
}

impl Known {
    /// The role that the caller is raised to, if any.
    #[must_use]
    pub fn elevated(&self) -> Option<Role> {
        self.elevation.as_ref().map(|elevation| elevation.role)
    }

    /// Whether the caller may do something.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        permits(self.role, self.elevated(), permission)
    }

    /// All that the caller may do.
    #[must_use]
    pub fn permissions(&self) -> Vec<Permission> {
        effective_permissions(self.role, self.elevated())
    }

    /// Refuses who may not.
    pub fn require(&self, permission: Permission) -> Result<(), Refusal> {
        if self.may(permission) {
            Ok(())
        } else {
            Err(Refusal::new(Code::Forbidden, format!("This needs the permission {permission}.")))
        }
    }
}

/// Looks the caller up without locks, for requests that change nothing but when the session was
/// last used.
#[instrument(skip_all, name = "caller.look-up")]
pub async fn look_up(tx: &mut Transaction, caller: &Caller) -> Result<Known, Refusal> {
    find(tx, caller).await
}

/// Looks the caller up with the rows of the caller and of `target` locked until the end of the
/// transaction, so that neither's sessions, grants or rights change meanwhile.
///
/// The target may be unknown or another tenant's: then nothing of it is locked.
#[instrument(skip_all, name = "caller.lock")]
pub async fn lock(
    tx: &mut Transaction,
    caller: &Caller,
    target: Option<UserId>,
) -> Result<Known, Refusal> {
    let own = sqlx::query_scalar!(
        "SELECT user_id FROM sessions WHERE token_hash = $1 AND ended_at IS NULL",
        &caller.token.0[..],
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?
    .ok_or_else(Refusal::unauthenticated)?;
    sqlx::query_scalar!(
        "SELECT id FROM users
         WHERE (id = $1 OR id = $2) AND tenant_id = (SELECT tenant_id FROM users WHERE id = $1)
         ORDER BY id FOR NO KEY UPDATE",
        own,
        target.map(|user| user.0),
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?;
    find(tx, caller).await
}

async fn find(tx: &mut Transaction, caller: &Caller) -> Result<Known, Refusal> {
    let row = sqlx::query!(
        r#"SELECT s.id AS session_id, s.user_id, s.tenant_id, u.role AS "role: Role",
                  s.last_active_at, clock_timestamp() AS "now!"
           FROM sessions s JOIN users u ON u.id = s.user_id
           WHERE s.token_hash = $1 AND s.ended_at IS NULL AND u.disabled_at IS NULL
             AND s.expires_at > clock_timestamp()
             AND s.last_active_at + make_interval(secs => s.idle_seconds + $2) > clock_timestamp()"#,
        &caller.token.0[..],
        IDLE_SLACK_SECONDS,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?
    .ok_or_else(Refusal::unauthenticated)?;
    let now = Timestamp::from(row.now);
    if now.since(row.last_active_at.into()) >= TOUCH_EVERY {
        sqlx::query!(
            "UPDATE sessions SET last_active_at = clock_timestamp() WHERE id = $1",
            row.session_id
        )
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    }
    let elevation = sqlx::query!(
        r#"SELECT id, role AS "role: Role", expires_at AS "expires_at!" FROM emergency_grants
           WHERE user_id = $1 AND state = 'active' AND expires_at > clock_timestamp()"#,
        row.user_id,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|grant| Elevation {
        grant_id: GrantId(grant.id),
        role: grant.role,
        expires_at: grant.expires_at.into(),
    })
    .max_by_key(Elevation::precedence);
    Ok(Known {
        user_id: UserId(row.user_id),
        tenant_id: TenantId(row.tenant_id),
        session_id: SessionId(row.session_id),
        role: row.role,
        elevation,
        now,
    })
}
