//! Users of a tenant, as its admins manage them.

use serde_json::{Map, json};
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Record},
        caller::Known,
        failed, grants, outbox,
        revocation::Change,
    },
    id::{TenantId, UserId},
    message::{
        Caller, MOST_ITEMS, page,
        revocation::Cause,
        user::{
            ChangeUser, ChangedUser, CreateUser, GetUser, ListUsers, OneUser, PasswordTokenIssued,
            ResetPassword, UserDetails, Users,
        },
    },
    refusal::{Code, Refusal},
    role::Role,
    subject::Subject,
    token::TokenHash,
    trace,
};
use sqlx::PgPool;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::{
    manage::{self, Concerned, Managing},
    mfa::policy,
    operator::normalise,
    session::store,
    state::State,
};

/// How long a token for the first password counts, in seconds: somebody has to be told of it.
pub(crate) const FIRST_PASSWORD_SECONDS: u32 = 72 * 3_600;
/// How long any other token for a password counts (ASVS 5.0, 6.4.3).
pub(crate) const RESET_SECONDS: u32 = 1_800;
/// Longest address (RFC 5321 §4.5.3.1.3).
const LONGEST_EMAIL: usize = 254;
/// Longest name.
const LONGEST_NAME: usize = 200;

/// Users in the order of their creation.
#[instrument(skip_all, name = "user.list")]
pub(crate) async fn list(state: State, request: ListUsers) -> Result<Users, Refusal> {
    if !(1..=MOST_ITEMS).contains(&request.limit) {
        return Err(Refusal::new(Code::BadRequest, format!("limit is 1 to {MOST_ITEMS}.")));
    }
    let known = manage::admit(&state, &request.caller, Subject::UserList, None).await?;
    let rows = select(&state.pool, known.tenant_id, None, request.cursor, request.limit + 1)
        .await
        .map_err(failed)?;
    let (users, more) = page(rows, request.limit);
    let next_cursor = if more { users.last().map(|user| user.id) } else { None };
    Ok(Users { users, next_cursor })
}

/// One user.
#[instrument(skip_all, name = "user.get", fields(user.id = %request.user_id))]
pub(crate) async fn get(state: State, request: GetUser) -> Result<OneUser, Refusal> {
    let user = Some(request.user_id);
    let known = manage::admit(&state, &request.caller, Subject::UserGet, user).await?;
    one(&state, known.tenant_id, request.user_id).await
}

async fn one(state: &State, tenant: TenantId, user: UserId) -> Result<OneUser, Refusal> {
    let rows = select(&state.pool, tenant, Some(user), None, 1).await.map_err(failed)?;
    let user = rows.into_iter().next().ok_or_else(Refusal::not_found)?;
    Ok(OneUser { user })
}

#[instrument(skip_all, name = "user.select")]
async fn select(
    pool: &PgPool,
    tenant: TenantId,
    user: Option<UserId>,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<UserDetails>, sqlx::Error> {
    struct Row {
        id: Uuid,
        email: String,
        name: String,
        role: Role,
        disabled: bool,
        mfa_enabled: bool,
        password_set: bool,
        created_at: OffsetDateTime,
    }
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT u.id, u.email, u.name, u.role AS "role: Role", u.disabled_at IS NOT NULL AS "disabled!",
                  m.enabled AS "mfa_enabled!", u.password_hash IS NOT NULL AS "password_set!", u.created_at
           FROM users u JOIN mfa_standing m ON m.user_id = u.id
           WHERE u.tenant_id = $1 AND ($2::uuid IS NULL OR u.id = $2) AND ($3::uuid IS NULL OR u.id > $3)
           ORDER BY u.id LIMIT $4"#,
        tenant.0,
        user.map(|user| user.0),
        after.map(|user| user.0),
        i64::from(limit),
    )
    .fetch_all(pool)
    .await?;
    let details = rows.into_iter().map(|row| UserDetails {
        id: UserId(row.id),
        email: row.email,
        name: row.name,
        role: row.role,
        disabled: row.disabled,
        mfa_enabled: row.mfa_enabled,
        password_set: row.password_set,
        created_at: row.created_at.into(),
    });
    Ok(details.collect())
}

/// Creates a user, who sets a password with a token. The same message twice creates one.
#[instrument(skip_all, name = "user.create", fields(user.id = %request.user_id))]
pub(crate) async fn create(state: State, request: CreateUser) -> Result<OneUser, Refusal> {
    let id = request.user_id;
    let begun = manage::begin(&state, &request.caller, Subject::UserCreate, Concerned::Nobody);
    let Managing { mut tx, known, .. } = begun.await?;
    let email = email(&request.email)?;
    let name = name(&request.name)?;
    let created = sqlx::query!(
        "INSERT INTO users (id, tenant_id, email, name, role) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
        id.0,
        known.tenant_id.0,
        email,
        name,
        request.role.as_str(),
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    if created.rows_affected() == 0 {
        let earlier = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM users u JOIN password_tokens t ON t.user_id = u.id
               WHERE u.id = $1 AND u.tenant_id = $2 AND u.email = $3 AND t.token_hash = $4) AS "exists!""#,
            id.0,
            known.tenant_id.0,
            email,
            &request.token.0[..],
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
        if earlier {
            return one(&state, known.tenant_id, id).await;
        }
        return Err(Refusal::new(Code::Conflict, "There is a user with this address already."));
    }
    policy::note_scope(&mut tx, known.tenant_id, Some(id)).await.map_err(failed)?;
    issue_token(&mut tx, id, &request.token, f64::from(FIRST_PASSWORD_SECONDS))
        .await
        .map_err(failed)?;
    let detail = json!({"role": request.role});
    record(&mut tx, &known, &request.caller, "user.created", id, detail).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    one(&state, known.tenant_id, id).await
}

/// An address as it is stored.
pub(crate) fn email(text: &str) -> Result<String, Refusal> {
    let email = normalise(text);
    let has_form = email.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !domain.contains('@')
    });
    let is_plain = email.chars().all(|char| !char.is_whitespace() && !char.is_control());
    if has_form && is_plain && email.len() <= LONGEST_EMAIL {
        Ok(email)
    } else {
        Err(Refusal::new(Code::BadRequest, "email is not an address."))
    }
}

/// A name as it is stored.
fn name(text: &str) -> Result<String, Refusal> {
    let name = text.trim();
    let fits = (1..=LONGEST_NAME).contains(&name.chars().count());
    if fits && !name.chars().any(char::is_control) {
        Ok(name.to_owned())
    } else {
        Err(Refusal::new(
            Code::BadRequest,
            "name has 1 to 200 characters, none of them control characters.",
        ))
    }
}

/// A token with which a user sets a password, in place of those that they had.
pub(crate) async fn issue_token(
    tx: &mut Transaction,
    user: UserId,
    token: &TokenHash,
    seconds: f64,
) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query!(
        "DELETE FROM password_tokens WHERE user_id = $1 AND token_hash <> $2",
        user.0,
        &token.0[..],
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query_scalar!(
        "INSERT INTO password_tokens (token_hash, user_id, expires_at)
         VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
         ON CONFLICT (token_hash) DO UPDATE SET expires_at = password_tokens.expires_at
         RETURNING expires_at",
        &token.0[..],
        user.0,
        seconds,
    )
    .fetch_one(&mut **tx)
    .await
}

/// A token for a new password, for a user who cannot sign in. Their password counts until it is used.
#[instrument(skip_all, name = "user.reset-password", fields(user.id = %request.user_id))]
pub(crate) async fn reset_password(
    state: State,
    request: ResetPassword,
) -> Result<PasswordTokenIssued, Refusal> {
    let user = request.user_id;
    let concerned = Concerned::User(user);
    let begun = manage::begin(&state, &request.caller, Subject::UserResetPassword, concerned);
    let Managing { mut tx, known, .. } = begun.await?;
    if known.user_id == user {
        // Else a session alone would do, and nobody would ask for the present password.
        return Err(Refusal::new(
            Code::Conflict,
            "This is your own account: change your password with the present one.",
        ));
    }
    let expires_at = issue_token(&mut tx, user, &request.token, f64::from(RESET_SECONDS))
        .await
        .map_err(failed)?;
    record(&mut tx, &known, &request.caller, "user.password-reset-issued", user, json!({}))
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(PasswordTokenIssued { expires_at: expires_at.into() })
}

struct Standing {
    name: String,
    role: Role,
    disabled: bool,
}

/// Changes name, role, or whether a user can do anything. Rights change on every edge at once.
#[instrument(skip_all, name = "user.change", fields(user.id = %request.user_id))]
pub(crate) async fn change(state: State, request: ChangeUser) -> Result<ChangedUser, Refusal> {
    let user = request.user_id;
    let begun = manage::begin(&state, &request.caller, Subject::UserChange, Concerned::User(user));
    let Managing { mut tx, known, .. } = begun.await?;
    let before = sqlx::query_as!(
        Standing,
        r#"SELECT name, role AS "role: Role", disabled_at IS NOT NULL AS "disabled!" FROM users WHERE id = $1"#,
        user.0,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    let after = Standing {
        name: request.name.as_deref().map(name).transpose()?.unwrap_or(before.name.clone()),
        role: request.role.unwrap_or(before.role),
        disabled: request.disabled.unwrap_or(before.disabled),
    };
    let is_admin = |standing: &Standing| standing.role == Role::Admin && !standing.disabled;
    if is_admin(&before)
        && !is_admin(&after)
        && !has_other_admin(&mut tx, &known, user).await.map_err(failed)?
    {
        return Err(Refusal::new(
            Code::LastAdmin,
            "This is the last admin who can sign in. Make somebody else an admin first.",
        ));
    }
    let mut changes = Map::new();
    if after.name != before.name {
        changes.insert("name".to_owned(), json!("changed"));
    }
    if after.role != before.role {
        changes.insert("role".to_owned(), json!({"before": before.role, "after": after.role}));
    }
    if after.disabled != before.disabled {
        changes.insert("disabled".to_owned(), json!(after.disabled));
    }
    if changes.is_empty() {
        return Ok(ChangedUser {
            user: one(&state, known.tenant_id, user).await?.user,
            receipt: None,
        });
    }
    write(&mut tx, user, &after).await.map_err(failed)?;
    let mut sessions = Vec::new();
    if after.disabled && !before.disabled {
        sessions =
            store::end_all(&mut tx, user, None, Some(known.user_id)).await.map_err(failed)?;
        sqlx::query!("DELETE FROM password_tokens WHERE user_id = $1", user.0)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        grants::end_all(&mut tx, user, &known, &request.caller.origin).await.map_err(failed)?;
    }
    if after.role != before.role {
        policy::note_scope(&mut tx, known.tenant_id, Some(user)).await.map_err(failed)?;
    }
    let action = match (before.disabled, after.disabled) {
        (false, true) => "user.disabled",
        (true, false) => "user.enabled",
        _ if after.role != before.role => "user.role-changed",
        _ => "user.changed",
    };
    record(&mut tx, &known, &request.caller, action, user, changes.into()).await.map_err(failed)?;
    let narrows = after.role != before.role || (after.disabled && !before.disabled);
    let receipt = if narrows {
        let cause = if after.disabled && !before.disabled {
            Cause::UserDisabled
        } else {
            Cause::RoleChanged
        };
        let change = Change {
            tenant: known.tenant_id,
            user: Some(user),
            sessions,
            cause,
            traceparent: trace::current_traceparent(),
        };
        let enforcing = state.commit(tx, change).await?;
        Some(enforcing.receipt().await)
    } else {
        tx.commit().await.map_err(failed)?;
        None
    };
    Ok(ChangedUser { user: one(&state, known.tenant_id, user).await?.user, receipt })
}

async fn has_other_admin(
    tx: &mut Transaction,
    known: &Known,
    user: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM users
           WHERE tenant_id = $1 AND role = 'admin' AND disabled_at IS NULL AND id <> $2) AS "exists!""#,
        known.tenant_id.0,
        user.0,
    )
    .fetch_one(&mut **tx)
    .await
}

async fn write(tx: &mut Transaction, user: UserId, after: &Standing) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE users SET name = $2, role = $3,
                disabled_at = CASE WHEN $4 THEN coalesce(disabled_at, clock_timestamp()) END
         WHERE id = $1",
        user.0,
        after.name,
        after.role.as_str(),
        after.disabled,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The record of a change to a user, or to how they sign in, and the event of which they are told.
pub(crate) async fn record(
    tx: &mut Transaction,
    known: &Known,
    caller: &Caller,
    action: &str,
    user: UserId,
    detail: serde_json::Value,
) -> Result<(), sqlx::Error> {
    outbox::append_by(tx, known, action, json!({"user": user, "by": known.user_id})).await?;
    let record = Record {
        tenant: known.tenant_id,
        actor: Actor::User(known.user_id),
        action,
        target: Some(format!("user:{user}")),
        origin: &caller.origin,
        detail,
        trace_id: trace::current_trace_id(),
    };
    audit::append(tx, record).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_checked() {
        assert_eq!(email("  Ada@Acme.TEST ").ok().as_deref(), Some("ada@acme.test"));
        for bad in ["", "ada", "@acme.test", "ada@", "a@b@c", "a da@acme.test", "a\u{7}@acme.test"]
        {
            assert!(email(bad).is_err(), "{bad}");
        }
        assert!(email(&format!("{}@acme.test", "a".repeat(250))).is_err());
        assert_eq!(name(" Ada ").ok().as_deref(), Some("Ada"));
        for bad in ["", "  ", "a\nb", &"x".repeat(201)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
