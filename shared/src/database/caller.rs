//! Who calls, and what they may do: looked up in the transaction of the change, under a lock.

use std::collections::HashMap;

use serde::Deserialize;
use sqlx::types::Json;
use tracing::instrument;
use uuid::Uuid;

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
    token::TokenHash,
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
    /// Whether the session can do nothing but set up a second factor.
    pub enrollment_only: bool,
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

    /// Refuses a session that can do nothing but set up a second factor.
    pub fn beyond_enrollment(self) -> Result<Self, Refusal> {
        if self.enrollment_only { Err(Refusal::enrollment_required()) } else { Ok(self) }
    }

    /// Refuses who may not.
    pub fn require(&self, permission: Permission) -> Result<(), Refusal> {
        if self.may(permission) { Ok(()) } else { Err(lacks(permission)) }
    }
}

/// What a caller is told who may not.
#[must_use]
pub fn lacks(permission: Permission) -> Refusal {
    Refusal::new(Code::Forbidden, format!("This needs the permission {permission}."))
}

/// Looks the caller up without locks, for requests that change nothing but when the session was
/// last used.
pub async fn look_up(tx: &mut Transaction, caller: &Caller) -> Result<Known, Refusal> {
    look_up_enrolling(tx, caller).await?.beyond_enrollment()
}

/// [`look_up`] for what a session may do that can otherwise only set up a second factor.
#[instrument(skip_all, name = "caller.look-up")]
pub async fn look_up_enrolling(tx: &mut Transaction, caller: &Caller) -> Result<Known, Refusal> {
    let touch_every = if caller.unattended { i32::MAX } else { touch_every_seconds() };
    let known = find(tx, &[caller.token], touch_every).await.map_err(failed)?;
    known.into_values().next().ok_or_else(Refusal::unauthenticated)
}

/// Looks the caller up with the rows of the caller and of `target` locked until the end of the
/// transaction, so that neither's sessions, grants or rights change meanwhile.
///
/// The target may be unknown or another tenant's: then nothing of it is locked.
pub async fn lock(
    tx: &mut Transaction,
    caller: &Caller,
    target: Option<UserId>,
) -> Result<Known, Refusal> {
    lock_enrolling(tx, caller, target).await?.beyond_enrollment()
}

/// [`lock`] for what a session may do that can otherwise only set up a second factor.
pub async fn lock_enrolling(
    tx: &mut Transaction,
    caller: &Caller,
    target: Option<UserId>,
) -> Result<Known, Refusal> {
    let locked = lock_all(tx, &[(caller.token, target)]).await.map_err(failed)?;
    locked.known(&caller.token).cloned()
}

/// Who calls and who is meant, under the locks of their rows.
#[derive(Debug)]
pub struct Locked {
    known: HashMap<TokenHash, Known>,
    tenants: HashMap<UserId, TenantId>,
}

impl Locked {
    /// Whom a token stands for, whatever the session may do.
    pub fn known(&self, token: &TokenHash) -> Result<&Known, Refusal> {
        self.known.get(token).ok_or_else(Refusal::unauthenticated)
    }

    /// Whether a target is a user of the caller's tenant.
    #[must_use]
    pub fn is_colleague(&self, known: &Known, target: UserId) -> bool {
        self.tenants.get(&target) == Some(&known.tenant_id)
    }
}

/// [`lock`] for several calls in one transaction: each caller's token and the target.
#[instrument(skip_all, name = "caller.lock")]
pub async fn lock_all(
    tx: &mut Transaction,
    calls: &[(TokenHash, Option<UserId>)],
) -> Result<Locked, sqlx::Error> {
    let tokens: Vec<_> = calls.iter().map(|(token, _)| token.0.to_vec()).collect();
    let targets: Vec<_> = calls.iter().map(|(_, target)| target.map(|user| user.0)).collect();
    let users = sqlx::query!(
        r#"SELECT id AS "id!", tenant_id AS "tenant_id!" FROM lock_users($1, $2)"#,
        &tokens,
        &targets as &[Option<Uuid>],
    )
    .fetch_all(&mut **tx)
    .await?;
    let tokens: Vec<_> = calls.iter().map(|(token, _)| *token).collect();
    // Read after the locks were had, so that it is what they keep.
    let known = find(tx, &tokens, touch_every_seconds()).await?;
    let tenants = users.into_iter().map(|row| (UserId(row.id), TenantId(row.tenant_id)));
    Ok(Locked { known, tenants: tenants.collect() })
}

/// Everybody whose session lives, by token. Notes that the sessions were used, where that was last noted
/// so many seconds ago.
async fn find(
    tx: &mut Transaction,
    tokens: &[TokenHash],
    touch_every: i32,
) -> Result<HashMap<TokenHash, Known>, sqlx::Error> {
    let hashes: Vec<_> = tokens.iter().map(|token| token.0.to_vec()).collect();
    let rows = sqlx::query!(
        r#"SELECT token_hash AS "token_hash!", session_id AS "session_id!", user_id AS "user_id!",
                  tenant_id AS "tenant_id!", role AS "role!: Role", enrollment_only AS "enrollment_only!", now AS "now!",
                  grants AS "grants: Json<Vec<LiveGrant>>"
           FROM find_callers($1, $2, $3)"#,
        &hashes,
        IDLE_SLACK_SECONDS,
        touch_every,
    )
    .fetch_all(&mut **tx)
    .await?;
    let known = rows.into_iter().filter_map(|row| {
        let grants = row.grants.map(|grants| grants.0).unwrap_or_default();
        let known = Known {
            user_id: UserId(row.user_id),
            tenant_id: TenantId(row.tenant_id),
            session_id: SessionId(row.session_id),
            role: row.role,
            elevation: grants.iter().map(Elevation::from).max_by_key(Elevation::precedence),
            enrollment_only: row.enrollment_only,
            now: row.now.into(),
        };
        Some((TokenHash(row.token_hash.try_into().ok()?), known))
    });
    Ok(known.collect())
}

/// [`TOUCH_EVERY`] as the database takes it.
#[must_use]
pub fn touch_every_seconds() -> i32 {
    i32::try_from(TOUCH_EVERY.as_secs()).unwrap_or(i32::MAX)
}

/// A live grant, as the JSON that a query makes of it.
#[derive(Debug, Deserialize)]
pub struct LiveGrant {
    id: Uuid,
    role: Role,
    expires_at_micros: i64,
}

impl From<&LiveGrant> for Elevation {
    fn from(grant: &LiveGrant) -> Self {
        Self {
            grant_id: GrantId(grant.id),
            role: grant.role,
            expires_at: Timestamp::from_micros(grant.expires_at_micros),
        }
    }
}
