//! Sessions: what a token stands for, the list, and how they end.

pub(crate) mod store;

use std::collections::HashMap;

use futures_util::StreamExt as _;
use serde_json::json;
use shared::{
    bus::{Bus, parse_event},
    database::{
        Transaction,
        audit::{self, Actor, Record},
        caller::{self, Known},
        failed,
        revocation::{self, Change},
    },
    id::{SessionId, UserId},
    message::{
        Caller,
        revocation::{Cause, Receipt},
        session::{
            List, Resolve, Resolved, Revoke, RevokeAll, Revoked, RevokedAll, Sessions, SignOut,
            Touch,
        },
    },
    refusal::Refusal,
    role::Permission,
    subject::Subject,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, instrument};

use crate::state::State;

/// Most sessions that one message may touch.
const TOUCHED_AT_ONCE: usize = 1_000;

/// E5: the session and the head, from one snapshot.
#[instrument(skip_all, name = "session.resolve")]
pub(crate) async fn resolve(state: State, request: Resolve) -> Result<Resolved, Refusal> {
    store::resolve(&state.resolve_pool, &request.token).await.map_err(failed)
}

/// Live sessions of the caller, or of somebody else with `session.revoke-any`.
#[instrument(skip_all, name = "session.list")]
pub(crate) async fn list(state: State, request: List) -> Result<Sessions, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    let owner = owner(&mut tx, &known, request.user_id).await?;
    tx.commit().await.map_err(failed)?;
    let mut sessions = store::live(&state.pool, Some(owner)).await.map_err(failed)?;
    for session in &mut sessions {
        session.current = session.id == known.session_id;
    }
    sessions.sort_by_key(|session| std::cmp::Reverse((session.current, session.last_active_at)));
    Ok(Sessions { sessions })
}

/// Ends one session.
#[instrument(skip_all, name = "session.revoke", fields(session.id = %request.session_id))]
pub(crate) async fn revoke(state: State, request: Revoke) -> Result<Revoked, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::lock(&mut tx, &request.caller, request.user_id).await?;
    let owner = owner(&mut tx, &known, request.user_id).await?;
    let ended =
        store::end_one(&mut tx, request.session_id, owner, known.user_id).await.map_err(failed)?;
    if !ended {
        return Err(Refusal::not_found());
    }
    let ended = Ended { owner, sessions: vec![request.session_id], cause: Cause::SessionRevoked };
    let receipt = conclude(&state, tx, &known, &request.caller, ended).await?;
    Ok(Revoked { receipt })
}

/// Ends all sessions of somebody else, or the caller's others.
#[instrument(skip_all, name = "session.revoke-all")]
pub(crate) async fn revoke_all(state: State, request: RevokeAll) -> Result<RevokedAll, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::lock(&mut tx, &request.caller, request.user_id).await?;
    let owner = owner(&mut tx, &known, request.user_id).await?;
    let keep = request.user_id.is_none().then_some(known.session_id);
    let sessions = store::end_all(&mut tx, owner, keep, known.user_id).await.map_err(failed)?;
    let revoked = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
    let ended = Ended { owner, sessions, cause: Cause::SessionsRevoked };
    let receipt = conclude(&state, tx, &known, &request.caller, ended).await?;
    Ok(RevokedAll { revoked, receipt })
}

/// Ends the session that asks.
#[instrument(skip_all, name = "session.sign-out")]
pub(crate) async fn sign_out(state: State, request: SignOut) -> Result<Revoked, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::lock(&mut tx, &request.caller, None).await?;
    let own = known.session_id;
    store::end_one(&mut tx, own, known.user_id, known.user_id).await.map_err(failed)?;
    let ended = Ended { owner: known.user_id, sessions: vec![own], cause: Cause::SignedOut };
    let receipt = conclude(&state, tx, &known, &request.caller, ended).await?;
    Ok(Revoked { receipt })
}

/// Whose sessions are meant: the permission first, then whether there is such a user.
async fn owner(
    tx: &mut Transaction,
    known: &Known,
    user: Option<UserId>,
) -> Result<UserId, Refusal> {
    let Some(user) = user else { return Ok(known.user_id) };
    known.require(Permission::SessionRevokeAny)?;
    let exists = store::user_exists(tx, user, known.tenant_id).await.map_err(failed)?;
    if exists { Ok(user) } else { Err(Refusal::not_found()) }
}

struct Ended {
    owner: UserId,
    sessions: Vec<SessionId>,
    cause: Cause,
}

/// The end of every revocation: record, number, commit, broadcast, receipt.
async fn conclude(
    state: &State,
    mut tx: Transaction,
    known: &Known,
    caller: &Caller,
    ended: Ended,
) -> Result<Receipt, Refusal> {
    let (action, target) = match (ended.cause, ended.sessions.as_slice()) {
        (Cause::SignedOut, [session]) => ("session.signed-out", format!("session:{session}")),
        (_, [session]) => ("session.revoked", format!("session:{session}")),
        _ => ("session.revoked-all", format!("user:{}", ended.owner)),
    };
    let record = Record {
        tenant: known.tenant_id,
        actor: Actor::User(known.user_id),
        action,
        target: Some(target),
        origin: &caller.origin,
        detail: json!({"user": ended.owner, "sessions": ended.sessions}),
    };
    audit::append(&mut tx, record).await.map_err(failed)?;
    let change = Change {
        tenant: known.tenant_id,
        user: Some(ended.owner),
        sessions: ended.sessions,
        cause: ended.cause,
    };
    let entry = revocation::commit(tx, change).await.map_err(failed)?;
    state.revocations.enforce(entry).await
}

/// Writes down when sessions were last used, as edges tell it.
pub(crate) async fn hear_touches(
    state: State,
    bus: Bus,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut touches = bus.subscribe_shared(Subject::SessionTouch).await?;
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            message = touches.next() => message,
        };
        let Some(message) = message else { anyhow::bail!("the bus closed the subscription") };
        let Some(touch) = parse_event::<Touch>(&message) else { continue };
        let used: HashMap<_, _> = touch.used.into_iter().take(TOUCHED_AT_ONCE).collect();
        if let Err(error) = store::touch(&state.pool, &used).await {
            error!(%error, sessions = used.len(), "last use of sessions not written");
        }
    }
}
