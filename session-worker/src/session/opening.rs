//! Opening a session: the end of every sign-in.

use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Record},
        failed,
        revocation::{self, Change},
    },
    id::{SessionId, TenantId, UserId},
    message::{
        Origin,
        revocation::Cause,
        session::{Method, Session, SignedIn},
    },
    refusal::Refusal,
    token::TokenHash,
    trace,
};
use sqlx::PgExecutor;
use tracing::{Instrument as _, instrument};

use super::{known_device, store};
use crate::state::State;

/// Who signs in, and how.
#[derive(Debug)]
pub(crate) struct NewSession<'a> {
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
    pub(crate) methods: &'a [Method],
    /// The hash of its token.
    pub(crate) token: TokenHash,
    pub(crate) origin: &'a Origin,
}

/// A session that is open once the transaction commits.
pub(crate) struct Opened {
    id: SessionId,
    /// Those that made room for it.
    displaced: Vec<SessionId>,
}

/// Opens a session, under the lock of the user's row, with its record. The same token twice opens one.
#[instrument(skip_all, name = "session.open", fields(session.id))]
pub(crate) async fn open(
    state: &State,
    tx: &mut Transaction,
    new: &NewSession<'_>,
) -> Result<Opened, Refusal> {
    if let Some(id) = earlier(&mut **tx, &new.token).await.map_err(failed)? {
        return Ok(Opened { id, displaced: Vec::new() });
    }
    let id = SessionId::new(state.clock.wall());
    tracing::Span::current().record("session.id", id.to_string());
    let methods: Vec<_> = new.methods.iter().map(|method| method.as_str().to_owned()).collect();
    sqlx::query!(
        "INSERT INTO sessions (id, tenant_id, user_id, token_hash, methods, user_agent, ip, idle_seconds, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + make_interval(secs => $9))",
        id.0,
        new.tenant.0,
        new.user.0,
        &new.token.0[..],
        &methods,
        new.origin.user_agent,
        new.origin.ip.map(|ip| ip.to_string()),
        i32::try_from(state.idle_seconds).unwrap_or(i32::MAX),
        f64::from(state.absolute_seconds),
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    let record = Record {
        tenant: new.tenant,
        actor: Actor::User(new.user),
        action: "session.opened",
        target: Some(format!("session:{id}")),
        origin: new.origin,
        detail: json!({"methods": new.methods}),
        trace_id: trace::current_trace_id(),
    };
    let noted = known_device::note(state, tx, (new.tenant, new.user), id, new.origin);
    noted.await.map_err(failed)?;
    let displaced = store::displace(tx, new.user, id).await.map_err(failed)?;
    let mut records = vec![record];
    records.extend(displaced.iter().map(|displaced| Record {
        tenant: new.tenant,
        actor: Actor::User(new.user),
        action: "session.displaced",
        target: Some(format!("session:{displaced}")),
        origin: new.origin,
        detail: json!({"user": new.user, "by": id}),
        trace_id: trace::current_trace_id(),
    }));
    audit::append_all(tx, &records).await.map_err(failed)?;
    Ok(Opened { id, displaced })
}

/// Commits a new session. Those that it displaced end on every edge, for which nobody waits.
pub(crate) async fn commit(
    state: &State,
    tx: Transaction,
    new: &NewSession<'_>,
    opened: Opened,
) -> Result<SignedIn, Refusal> {
    if opened.displaced.is_empty() {
        tx.commit().await.map_err(failed)?;
    } else {
        let change = Change {
            tenant: new.tenant,
            user: Some(new.user),
            sessions: opened.displaced,
            cause: Cause::SessionDisplaced,
            traceparent: trace::current_traceparent(),
        };
        let entry = revocation::commit(tx, change).await.map_err(failed)?;
        let revocations = state.revocations.clone();
        let enforced = async move {
            // If it fails here, the beacon tells every edge (W6).
            let _ = revocations.enforce(vec![entry]).await;
        };
        state.background.spawn(enforced.in_current_span());
    }
    signed_in(state, opened.id).await
}

/// The session of a token. Nobody but the gateway that made it knows it.
pub(crate) async fn earlier(
    database: impl PgExecutor<'_>,
    token: &TokenHash,
) -> Result<Option<SessionId>, sqlx::Error> {
    let earlier = sqlx::query_scalar!(
        "SELECT id FROM sessions WHERE token_hash = $1 AND ended_at IS NULL",
        &token.0[..],
    );
    Ok(earlier.fetch_optional(database).await?.map(SessionId))
}

/// The answer that the same message has had before, for a message may come twice.
pub(crate) async fn opened_before(
    state: &State,
    token: &TokenHash,
) -> Result<Option<SignedIn>, Refusal> {
    match earlier(&state.pool, token).await.map_err(failed)? {
        Some(id) => signed_in(state, id).await.map(Some),
        None => Ok(None),
    }
}

/// The answer to a sign-in that was completed.
async fn signed_in(state: &State, id: SessionId) -> Result<SignedIn, Refusal> {
    let session = current(state, id).await?;
    let enrollment_only = sqlx::query_scalar!(
        r#"SELECT coalesce(m.enrollment_only_from <= clock_timestamp(), false) AS "only!"
           FROM sessions s JOIN mfa_standing m ON m.user_id = s.user_id WHERE s.id = $1"#,
        id.0,
    )
    .fetch_one(&state.pool)
    .await
    .map_err(failed)?;
    Ok(if enrollment_only {
        SignedIn::EnrollmentRequired { session }
    } else {
        SignedIn::Authenticated { session }
    })
}

/// A session that lives.
pub(crate) async fn current(state: &State, id: SessionId) -> Result<Session, Refusal> {
    let session = store::current(state, id).await.map_err(failed)?;
    session.ok_or_else(Refusal::unauthenticated)
}
