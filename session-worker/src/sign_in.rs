//! Signing in: one answer and one duration for every kind of wrong credentials.

use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Record},
        failed,
    },
    id::{SessionId, TenantId, UserId},
    message::{
        Origin,
        session::{Method, SignIn, SignInStatus, SignedIn},
    },
    refusal::{Code, Refusal},
    trace,
};
use tracing::{Instrument as _, instrument};

use crate::{operator::normalise, session::store, state::State};

/// Longest password, in characters (ASVS 5.0, 6.2.9).
const LONGEST_PASSWORD: usize = 128;

#[instrument(skip_all, name = "session.sign-in", fields(session.id))]
pub(crate) async fn sign_in(state: State, request: SignIn) -> Result<SignedIn, Refusal> {
    let candidate = find(&state, &request).await.map_err(failed)?;
    let hash = candidate.as_ref().and_then(|user| user.password_hash.clone());
    let fits =
        secrecy::ExposeSecret::expose_secret(&request.password).chars().count() <= LONGEST_PASSWORD;
    let verified = state.hashing.verify(request.password, hash).await?;
    let mut opened = None;
    if let Some(user) = &candidate
        && verified
        && fits
    {
        let tx = state.pool.begin().await.map_err(failed)?;
        opened = open(&state, tx, user, &request.token.0, &request.origin).await?;
    }
    let Some(session_id) = opened else {
        // Not waited for: it would tell an existing tenant or user by the time it takes.
        state.background.clone().spawn(
            record_refusal(state, candidate, request.tenant, request.origin).in_current_span(),
        );
        return Err(Refusal::new(
            Code::InvalidCredentials,
            "The tenant, the email or the password is wrong.",
        ));
    };
    tracing::Span::current().record("session.id", session_id.to_string());
    let session = store::current(&state.pool, session_id).await.map_err(failed)?;
    let session = session.ok_or_else(Refusal::unauthenticated)?;
    Ok(SignedIn { status: SignInStatus::Authenticated, session })
}

struct Candidate {
    id: UserId,
    tenant: TenantId,
    password_hash: Option<String>,
}

#[instrument(skip_all, name = "user.find")]
async fn find(state: &State, request: &SignIn) -> Result<Option<Candidate>, sqlx::Error> {
    // Postgres' text has no NUL, so nobody is called so.
    if request.tenant.contains('\0') || request.email.contains('\0') {
        return Ok(None);
    }
    let row = sqlx::query!(
        "SELECT u.id, u.tenant_id, u.password_hash FROM users u JOIN tenants t ON t.id = u.tenant_id
         WHERE t.slug = $1 AND u.email = $2 AND u.disabled_at IS NULL",
        request.tenant,
        normalise(&request.email),
    )
    .fetch_optional(&state.pool)
    .await?;
    Ok(row.map(|row| Candidate {
        id: UserId(row.id),
        tenant: TenantId(row.tenant_id),
        password_hash: row.password_hash,
    }))
}

/// Opens the session, under the lock of the user's row: if the password was changed or the user
/// disabled since it was verified, there is none. The same message twice opens one.
#[instrument(skip_all, name = "session.open")]
async fn open(
    state: &State,
    mut tx: Transaction,
    user: &Candidate,
    token_hash: &[u8],
    origin: &Origin,
) -> Result<Option<SessionId>, Refusal> {
    let unchanged = sqlx::query_scalar!(
        "SELECT id FROM users WHERE id = $1 AND disabled_at IS NULL AND password_hash = $2
         FOR NO KEY UPDATE",
        user.id.0,
        user.password_hash,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    if unchanged.is_none() {
        return Ok(None);
    }
    let id = SessionId::new(state.clock.wall());
    let opened = sqlx::query_scalar!(
        "INSERT INTO sessions (id, tenant_id, user_id, token_hash, methods, user_agent, ip, idle_seconds, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + make_interval(secs => $9))
         ON CONFLICT (token_hash) DO NOTHING RETURNING id",
        id.0,
        user.tenant.0,
        user.id.0,
        token_hash,
        &[Method::Password.as_str().to_owned()],
        origin.user_agent,
        origin.ip.map(|ip| ip.to_string()),
        i32::try_from(state.idle_seconds).unwrap_or(i32::MAX),
        f64::from(state.absolute_seconds),
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    if opened.is_none() {
        let earlier = sqlx::query_scalar!(
            "SELECT id FROM sessions WHERE token_hash = $1 AND user_id = $2 AND ended_at IS NULL",
            token_hash,
            user.id.0,
        );
        return Ok(earlier.fetch_optional(&mut *tx).await.map_err(failed)?.map(SessionId));
    }
    let record = Record {
        tenant: user.tenant,
        actor: Actor::User(user.id),
        action: "session.opened",
        target: Some(format!("session:{id}")),
        origin,
        detail: json!({"methods": [Method::Password]}),
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(Some(id))
}

/// The record of a refused sign-in, where the tenant exists. What was typed is not kept: people
/// type passwords into the wrong field.
async fn record_refusal(state: State, candidate: Option<Candidate>, slug: String, origin: Origin) {
    if slug.contains('\0') {
        return;
    }
    let recorded = async {
        let mut tx = state.pool.begin().await?;
        let tenant = sqlx::query_scalar!("SELECT id FROM tenants WHERE slug = $1", slug)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(tenant) = tenant else { return Ok(()) };
        let record = Record {
            tenant: TenantId(tenant),
            actor: Actor::Nobody,
            action: "session.sign-in-refused",
            target: candidate.map(|user| format!("user:{}", user.id)),
            origin: &origin,
            detail: json!({}),
            trace_id: trace::current_trace_id(),
        };
        audit::append(&mut tx, record).await?;
        tx.commit().await
    };
    if let Err(error) = recorded.await {
        tracing::error!(%error, "a refused sign-in was not recorded");
    }
}
