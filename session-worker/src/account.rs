//! One's own account: who one is, and one's password.

use secrecy::ExposeSecret as _;
use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Record},
        caller, failed, outbox,
        revocation::Change,
    },
    id::{TenantId, UserId},
    message::{
        Origin,
        account::{Account, Me, Mfa, Tenant, User},
        revocation::Cause,
        user::{
            ChangePassword, ForgotPassword, ForgotPasswordNoted, IssueReset, PasswordSet,
            PasswordTokenIssued, SetPassword,
        },
    },
    refusal::{Code, Refusal},
    subject::Subject,
    token::TokenHash,
    trace,
};
use tracing::instrument;

use crate::{
    operator::normalise,
    presence::{self, Shown},
    session::store,
    state::State,
    user::{self, RESET_SECONDS},
};

/// The caller, as the caller sees it.
#[instrument(skip_all, name = "account.me")]
pub(crate) async fn me(state: State, request: Me) -> Result<Account, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up_enrolling(&mut tx, &request.caller).await?;
    let row = sqlx::query!(
        r#"SELECT u.email, u.name, t.slug, t.name AS tenant_name,
                  m.enabled AS "enabled!", m.required AS "required!", m.due_at,
                  (SELECT count(*) FROM backup_codes b WHERE b.user_id = u.id AND b.used_at IS NULL) AS "codes!"
           FROM users u JOIN tenants t ON t.id = u.tenant_id JOIN mfa_standing m ON m.user_id = u.id
           WHERE u.id = $1"#,
        known.user_id.0,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let session = store::current(&state, known.session_id).await.map_err(failed)?;
    let session = session.ok_or_else(Refusal::unauthenticated)?;
    let permissions = if known.enrollment_only { Vec::new() } else { known.permissions() };
    let elevation = known.elevation.map(|elevation| elevation.grant_id);
    Ok(Account {
        user: User { id: known.user_id, email: row.email, name: row.name, role: known.role },
        tenant: Tenant { id: known.tenant_id, slug: row.slug, name: row.tenant_name },
        session,
        permissions,
        elevation: elevation.filter(|_| !known.enrollment_only),
        mfa: Mfa {
            enabled: row.enabled,
            required: row.required,
            grace_ends_at: row.due_at.filter(|_| !row.enabled).map(Into::into),
            backup_codes_left: u32::try_from(row.codes).unwrap_or(0),
        },
    })
}

/// Changes one's own password; all other sessions end.
#[instrument(skip_all, name = "account.change-password")]
pub(crate) async fn change_password(
    state: State,
    request: ChangePassword,
) -> Result<PasswordSet, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    let own = presence::own(&mut tx, known.user_id).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    state.blocklist.check(&request.new_password, &[&own.email, &own.name, &own.slug])?;
    if request.new_password.expose_secret() == request.current_password.expose_secret() {
        return Err(Refusal::new(Code::PasswordTooWeak, "The new password is the old one."));
    }
    let shown = Shown {
        caller: &request.caller,
        password: Some(request.current_password),
        code: request.code.as_ref(),
        request: Subject::AccountChangePassword,
        target: None,
        enrolling: false,
    };
    let hash = state.hashing.hash(request.new_password).await?;
    let presence::Proven { mut tx, known, .. } = presence::prove(&state, shown).await?;
    let whose = Whose { user: known.user_id, tenant: known.tenant_id };
    let change = NewPassword {
        hash: &hash,
        keep: Some(known.session_id),
        action: "account.password-changed",
        origin: &request.caller.origin,
    };
    let change = set(&mut tx, whose, change).await.map_err(failed)?;
    let enforcing = state.commit(tx, change).await?;
    Ok(PasswordSet { receipt: enforcing.receipt().await })
}

/// Sets a password with a one-time token. It neither signs in nor takes a second factor away; all
/// sessions of the user end.
#[instrument(skip_all, name = "account.set-password")]
pub(crate) async fn set_password(
    state: State,
    request: SetPassword,
) -> Result<PasswordSet, Refusal> {
    let row = sqlx::query!(
        "SELECT u.id, u.tenant_id, u.email, u.name, t.slug
         FROM password_tokens p JOIN users u ON u.id = p.user_id JOIN tenants t ON t.id = u.tenant_id
         WHERE p.token_hash = $1 AND p.expires_at > clock_timestamp() AND u.disabled_at IS NULL",
        &request.token.0[..],
    )
    .fetch_optional(&state.pool)
    .await
    .map_err(failed)?;
    let row = row.ok_or_else(no_token)?;
    state.blocklist.check(&request.new_password, &[&row.email, &row.name, &row.slug])?;
    let hash = state.hashing.hash(request.new_password).await?;
    let whose = Whose { user: UserId(row.id), tenant: TenantId(row.tenant_id) };

    let mut tx = state.pool.begin().await.map_err(failed)?;
    take_token(&mut tx, whose.user, &request.token).await?;
    let change = NewPassword {
        hash: &hash,
        keep: None,
        action: "account.password-set",
        origin: &request.origin,
    };
    let change = set(&mut tx, whose, change).await.map_err(failed)?;
    let enforcing = state.commit(tx, change).await?;
    Ok(PasswordSet { receipt: enforcing.receipt().await })
}

/// Uses a token up, under the lock of the user's row.
async fn take_token(tx: &mut Transaction, user: UserId, token: &TokenHash) -> Result<(), Refusal> {
    sqlx::query!("SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE", user.0)
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed)?;
    let gone = sqlx::query!(
        "DELETE FROM password_tokens p USING users u
         WHERE p.token_hash = $1 AND p.expires_at > clock_timestamp()
           AND u.id = p.user_id AND u.disabled_at IS NULL",
        &token.0[..],
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    if gone.rows_affected() == 1 { Ok(()) } else { Err(no_token()) }
}

fn no_token() -> Refusal {
    Refusal::new(
        Code::InvalidCredentials,
        "This token was used, or has run out. Ask an admin of your organisation for a new one.",
    )
}

#[derive(Clone, Copy)]
struct Whose {
    user: UserId,
    tenant: TenantId,
}

struct NewPassword<'a> {
    hash: &'a str,
    keep: Option<shared::id::SessionId>,
    action: &'a str,
    origin: &'a Origin,
}

/// A new password, and the end of all that the old one gave.
async fn set(
    tx: &mut Transaction,
    whose: Whose,
    new: NewPassword<'_>,
) -> Result<Change, sqlx::Error> {
    let Whose { user, tenant } = whose;
    let now = sqlx::query_scalar!(
        r#"UPDATE users SET password_hash = $2 WHERE id = $1 RETURNING clock_timestamp() AS "now!""#,
        user.0,
        new.hash,
    )
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query!("DELETE FROM password_tokens WHERE user_id = $1", user.0)
        .execute(&mut **tx)
        .await?;
    let sessions = store::end_all(tx, user, new.keep, Some(user)).await?;
    outbox::append(tx, now.into(), tenant, new.action, json!({"user": user})).await?;
    let record = Record {
        tenant,
        actor: Actor::User(user),
        action: new.action,
        target: Some(format!("user:{user}")),
        origin: new.origin,
        detail: json!({"sessions_ended": sessions.len()}),
        trace_id: trace::current_trace_id(),
    };
    audit::append(tx, record).await?;
    Ok(Change {
        tenant,
        user: Some(user),
        sessions,
        cause: Cause::PasswordChanged,
        traceparent: trace::current_traceparent(),
    })
}

/// Somebody says that they forgot their password. What comes of it is not waited for: the time it
/// takes would tell whether there is such a user. What is too many is refused, of whomever.
#[instrument(skip_all, name = "account.forgot-password")]
pub(crate) async fn forgot_password(
    state: State,
    request: ForgotPassword,
) -> Result<ForgotPasswordNoted, Refusal> {
    let place = state.later.place()?;
    let noted = note_forgotten(state.clone(), request);
    state.later.write(place, "a forgotten password", noted);
    Ok(ForgotPasswordNoted {})
}

/// At most once in five minutes for each user.
async fn note_forgotten(state: State, request: ForgotPassword) -> Result<(), sqlx::Error> {
    if request.tenant.contains('\0') || request.email.contains('\0') {
        return Ok(());
    }
    let mut tx = state.pool.begin().await?;
    let row = sqlx::query!(
        r#"SELECT u.id, u.tenant_id, clock_timestamp() AS "now!"
           FROM users u JOIN tenants t ON t.id = u.tenant_id
           WHERE t.slug = $1 AND u.email = $2 AND u.disabled_at IS NULL FOR NO KEY UPDATE OF u"#,
        request.tenant,
        normalise(&request.email),
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let (user, tenant) = (UserId(row.id), TenantId(row.tenant_id));
    let payload = json!({"user": user});
    let recent = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM outbox
           WHERE kind = 'account.password-forgotten' AND tenant_id = $1 AND payload = $2
             AND created_at > statement_timestamp() - interval '5 minutes') AS "recent!""#,
        tenant.0,
        payload,
    )
    .fetch_one(&mut *tx)
    .await?;
    if recent {
        return Ok(());
    }
    outbox::append(&mut tx, row.now.into(), tenant, "account.password-forgotten", payload).await?;
    let record = Record {
        tenant,
        actor: Actor::Nobody,
        action: "account.password-forgotten",
        target: Some(format!("user:{user}")),
        origin: &request.origin,
        detail: json!({}),
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await?;
    tx.commit().await
}

/// A one-time token for somebody who said that they forgot their password, for the mail that tells
/// them. It counts from now on; the event must not be older than it would live.
#[instrument(skip_all, name = "account.issue-reset", fields(event.id = %request.event_id))]
pub(crate) async fn issue_reset(
    state: State,
    request: IssueReset,
) -> Result<PasswordTokenIssued, Refusal> {
    let seconds = f64::from(RESET_SECONDS);
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let user = sqlx::query_scalar!(
        r#"SELECT u.id AS "id: UserId"
           FROM outbox o JOIN users u ON u.id::text = o.payload ->> 'user' AND u.tenant_id = o.tenant_id
           WHERE o.id = $1 AND o.kind = 'account.password-forgotten' AND u.disabled_at IS NULL
             AND o.created_at > clock_timestamp() - make_interval(secs => $2)
           FOR NO KEY UPDATE OF u"#,
        request.event_id.0,
        seconds,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?
    .ok_or_else(Refusal::not_found)?;
    let issued = user::issue_token(&mut tx, user, &request.token, seconds).await;
    let expires_at = issued.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(PasswordTokenIssued { expires_at: expires_at.into() })
}
