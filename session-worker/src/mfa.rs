//! Two-factor sign-in: setting an authenticator app up, backup codes, doing without again.

pub(crate) mod backup;
pub(crate) mod factor;
pub(crate) mod policy;
pub(crate) mod totp;

use secrecy::ExposeSecret as _;
use serde_json::json;
use shared::{
    database::{
        Transaction,
        caller::{self, Known},
        failed,
        revocation::Change,
    },
    message::{
        mfa::{
            BackupCodes, Confirm, Confirmed, Disable, Disabled, Enroll, Enrollment,
            RenewBackupCodes, Reset, WasReset,
        },
        revocation::Cause,
        session::Method,
    },
    random,
    refusal::{Code, Refusal},
    role::Permission,
    subject::Subject,
    token::TokenHash,
    trace,
};
use tracing::instrument;

use crate::{
    manage,
    presence::{self, Shown},
    session::{opening, store},
    state::State,
    throttle::{self, Account},
    user,
};

/// Who the code is for, as apps show it.
const ISSUER: &str = "Breakglass";
/// How long a new secret waits for its first code, in seconds.
const ENROLLMENT_SECONDS: f64 = 600.0;

/// Begins to set up an authenticator app: a new secret. Nothing is enabled yet.
#[instrument(skip_all, name = "mfa.enroll")]
pub(crate) async fn enroll(state: State, request: Enroll) -> Result<Enrollment, Refusal> {
    let shown = Shown {
        caller: &request.caller,
        password: Some(request.password),
        code: request.code.as_ref(),
        request: Subject::MfaEnroll,
        target: None,
        enrolling: true,
    };
    let presence::Proven { mut tx, known, account, .. } = presence::prove(&state, shown).await?;
    let secret: totp::Secret = random::bytes();
    let sealed = state.keys.seal(known.user_id, &secret);
    let expires_at = sqlx::query_scalar!(
        "INSERT INTO totp_enrollments (user_id, session_id, secret, key_id, expires_at)
         VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
         ON CONFLICT (user_id) DO UPDATE SET session_id = $2, secret = $3, key_id = $4,
             expires_at = clock_timestamp() + make_interval(secs => $5)
         RETURNING expires_at",
        known.user_id.0,
        known.session_id.0,
        sealed.text,
        sealed.key_id,
        ENROLLMENT_SECONDS,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let app = totp::for_app(&secret, ISSUER, &account.email);
    Ok(Enrollment {
        secret: app.secret,
        otpauth_uri: app.uri,
        qr_svg: app.qr_svg,
        expires_at: expires_at.into(),
    })
}

/// Finishes it with the app's first code: the factor counts, the session goes on under a new token,
/// and all others of the user end.
#[instrument(skip_all, name = "mfa.confirm")]
pub(crate) async fn confirm(state: State, request: Confirm) -> Result<Confirmed, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up_enrolling(&mut tx, &request.caller).await?;
    let own = presence::own(&mut tx, known.user_id).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let guess = throttle::begin(&state.pool, Account::new(&own.slug, &own.email)).await?;

    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::lock_enrolling(&mut tx, &request.caller, None).await?;
    let replaced = factor::exists(&mut tx, known.user_id).await.map_err(failed)?;
    let taken = take_enrollment(&state, &mut tx, &known, request.code.expose_secret()).await;
    if let Err(refusal) = taken {
        if refusal.code == Code::NotFound {
            // There was nothing to guess at.
            guess.take_back(&mut tx).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
        }
        return Err(refusal);
    }
    let backup_codes = factor::renew_backup_codes(&mut tx, known.user_id).await.map_err(failed)?;
    rotate(&mut tx, &known, &request.token).await.map_err(failed)?;
    let user = known.user_id;
    let ended = store::end_all(&mut tx, user, Some(known.session_id), Some(user));
    let ended = ended.await.map_err(failed)?;
    guess.take_back(&mut tx).await.map_err(failed)?;

    let action = if replaced { "mfa.replaced" } else { "mfa.enabled" };
    let detail = json!({"sessions_ended": ended.len()});
    user::record(&mut tx, &known, &request.caller, action, known.user_id, detail)
        .await
        .map_err(failed)?;
    let change = Change {
        tenant: known.tenant_id,
        user: Some(known.user_id),
        sessions: ended,
        cause: Cause::FactorEnabled,
        traceparent: trace::current_traceparent(),
    };
    let enforcing = state.commit(tx, change).await?;
    let session = opening::current(&state, known.session_id).await?;
    enforcing.receipt().await;
    Ok(Confirmed { backup_codes, session })
}

/// The secret that waits for its first code becomes the factor, if this is that code.
async fn take_enrollment(
    state: &State,
    tx: &mut Transaction,
    known: &Known,
    code: &str,
) -> Result<(), Refusal> {
    let row = sqlx::query!(
        "DELETE FROM totp_enrollments WHERE user_id = $1 AND session_id = $2 AND expires_at > clock_timestamp()
         RETURNING secret, key_id",
        known.user_id.0,
        known.session_id.0,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    let Some(row) = row else {
        return Err(Refusal::new(
            Code::NotFound,
            "Nothing is being set up in this session, or it took too long. Begin again.",
        ));
    };
    let opened = state.keys.open(known.user_id, &row.key_id, &row.secret);
    let secret = opened.map_err(|error| factor::unopened(&error))?;
    let step = factor::judge(&secret, code, known.now, 0)?;
    sqlx::query!(
        "INSERT INTO totp_factors (user_id, secret, key_id, last_step) VALUES ($1, $2, $3, $4)
         ON CONFLICT (user_id) DO UPDATE
         SET secret = $2, key_id = $3, last_step = $4, enabled_at = clock_timestamp()",
        known.user_id.0,
        row.secret,
        row.key_id,
        step.cast_signed(),
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The session goes on under a new token, and has the second factor.
async fn rotate(tx: &mut Transaction, known: &Known, token: &TokenHash) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE sessions SET token_hash = $2,
                methods = CASE WHEN $3 = ANY (methods) THEN methods ELSE methods || $3 END
         WHERE id = $1",
        known.session_id.0,
        &token.0[..],
        Method::Totp.as_str(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Does without a second factor again, where the policy allows it.
#[instrument(skip_all, name = "mfa.disable")]
pub(crate) async fn disable(state: State, request: Disable) -> Result<Disabled, Refusal> {
    let shown = Shown {
        caller: &request.caller,
        password: Some(request.password),
        code: Some(&request.code),
        request: Subject::MfaDisable,
        target: None,
        enrolling: false,
    };
    let mut proven = presence::prove(&state, shown).await?;
    if !proven.account.has_factor {
        return Err(proven.refuse(no_factor()).await);
    }
    let required = sqlx::query_scalar!(
        r#"SELECT required AS "required!" FROM mfa_standing WHERE user_id = $1"#,
        proven.known.user_id.0,
    )
    .fetch_one(&mut *proven.tx)
    .await
    .map_err(failed)?;
    if required {
        let refusal = Refusal::new(
            Code::MfaRequiredByPolicy,
            "Your organisation requires two-factor sign-in for your role. With a new phone, set it up anew instead.",
        );
        return Err(proven.refuse(refusal).await);
    }
    let presence::Proven { mut tx, known, .. } = proven;
    factor::remove(&mut tx, known.user_id).await.map_err(failed)?;
    user::record(&mut tx, &known, &request.caller, "mfa.disabled", known.user_id, json!({}))
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(Disabled {})
}

/// Ten new backup codes; the old ones are dead.
#[instrument(skip_all, name = "mfa.renew-backup-codes")]
pub(crate) async fn renew_backup_codes(
    state: State,
    request: RenewBackupCodes,
) -> Result<BackupCodes, Refusal> {
    let shown = Shown {
        caller: &request.caller,
        password: Some(request.password),
        code: Some(&request.code),
        request: Subject::MfaRenewBackupCodes,
        target: None,
        enrolling: false,
    };
    let proven = presence::prove(&state, shown).await?;
    if !proven.account.has_factor {
        return Err(proven.refuse(no_factor()).await);
    }
    let presence::Proven { mut tx, known, .. } = proven;
    let backup_codes = factor::renew_backup_codes(&mut tx, known.user_id).await.map_err(failed)?;
    let action = "mfa.backup-codes-renewed";
    user::record(&mut tx, &known, &request.caller, action, known.user_id, json!({}))
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(BackupCodes { backup_codes })
}

fn no_factor() -> Refusal {
    Refusal::new(Code::NotFound, "Two-factor sign-in is not set up.")
}

/// An admin takes somebody's factor away; all their sessions end.
#[instrument(skip_all, name = "mfa.reset", fields(user.id = %request.user_id))]
pub(crate) async fn reset(state: State, request: Reset) -> Result<WasReset, Refusal> {
    manage::admit(&state, &request.caller, Subject::MfaReset, Some(request.user_id)).await?;
    let shown = Shown {
        caller: &request.caller,
        password: Some(request.password),
        code: request.code.as_ref(),
        request: Subject::MfaReset,
        target: Some(request.user_id),
        enrolling: false,
    };
    let proven = presence::prove(&state, shown).await?;
    // They may have been an admin before.
    if let Err(refusal) = proven.known.require(Permission::TenantManage) {
        return Err(proven.refuse(refusal).await);
    }
    let presence::Proven { mut tx, known, .. } = proven;
    let removed = factor::remove(&mut tx, request.user_id).await.map_err(failed)?;
    let ended = store::end_all(&mut tx, request.user_id, None, Some(known.user_id))
        .await
        .map_err(failed)?;
    let detail = json!({"had_factor": removed, "sessions_ended": ended.len()});
    user::record(&mut tx, &known, &request.caller, "mfa.reset", request.user_id, detail)
        .await
        .map_err(failed)?;
    let change = Change {
        tenant: known.tenant_id,
        user: Some(request.user_id),
        sessions: ended,
        cause: Cause::FactorReset,
        traceparent: trace::current_traceparent(),
    };
    let enforcing = state.commit(tx, change).await?;
    Ok(WasReset { receipt: enforcing.receipt().await })
}
