//! Sessions: what a token stands for, the list, and how they end.

pub(crate) mod ending;
pub(crate) mod known_device;
pub(crate) mod opening;
pub(crate) mod store;

use std::{collections::HashMap, sync::Arc};

use shared::{
    database::{
        Transaction,
        audit::{self, Attempt},
        caller::{self, Known},
        failed,
    },
    id::UserId,
    message::{
        Caller,
        session::{
            List, Resolve, Resolved, Revoke, RevokeAll, Revoked, RevokedAll, Sessions, SignOut,
            Touch, Touched,
        },
    },
    refusal::Refusal,
    role::Permission,
    subject::Subject,
};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tracing::instrument;

use self::ending::{End, What};
use crate::state::State;

/// Most sessions that one message may touch.
const TOUCHED_AT_ONCE: usize = 1_000;
/// So many messages are worked on at once.
const TOUCHING: usize = 2;

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
    let (tx, owner) =
        owner(tx, &known, &request.caller, request.user_id, Subject::SessionList).await?;
    tx.commit().await.map_err(failed)?;
    let sessions = store::live(&state, owner, known.session_id).await.map_err(failed)?;
    Ok(Sessions { sessions })
}

/// Ends one session.
#[instrument(skip_all, name = "session.revoke", fields(session.id = %request.session_id))]
pub(crate) async fn revoke(state: State, request: Revoke) -> Result<Revoked, Refusal> {
    let what = What::One(request.session_id);
    let ended = state.endings.ask(End::new(request.caller, request.user_id, what)).await?;
    Ok(Revoked { receipt: ended.receipt().await })
}

/// Ends all sessions of somebody else, or the caller's others.
#[instrument(skip_all, name = "session.revoke-all")]
pub(crate) async fn revoke_all(state: State, request: RevokeAll) -> Result<RevokedAll, Refusal> {
    let ended = state.endings.ask(End::new(request.caller, request.user_id, What::All)).await?;
    Ok(RevokedAll { revoked: ended.sessions, receipt: ended.receipt().await })
}

/// Ends the session that asks.
#[instrument(skip_all, name = "session.sign-out")]
pub(crate) async fn sign_out(state: State, request: SignOut) -> Result<Revoked, Refusal> {
    let ended = state.endings.ask(End::new(request.caller, None, What::Own)).await?;
    Ok(Revoked { receipt: ended.receipt().await })
}

/// Whose sessions are meant: the permission first, then whether there is such a user.
async fn owner(
    mut tx: Transaction,
    known: &Known,
    caller: &Caller,
    user: Option<UserId>,
    request: Subject,
) -> Result<(Transaction, UserId), Refusal> {
    let Some(user) = user else { return Ok((tx, known.user_id)) };
    if let Err(refusal) = known.require(Permission::SessionRevokeAny) {
        let target = Some(format!("user:{user}"));
        let attempt = Attempt { by: known, origin: &caller.origin, request, target };
        return Err(audit::refuse(tx, attempt, refusal).await);
    }
    let exists = store::user_exists(&mut tx, user, known.tenant_id).await.map_err(failed)?;
    if exists { Ok((tx, user)) } else { Err(Refusal::not_found()) }
}

/// What writes down when sessions were last used. Few statements at once, whoever tells it: the
/// connections are everybody's.
#[derive(Clone)]
pub(crate) struct Touching {
    pool: PgPool,
    turns: Arc<Semaphore>,
}

impl Touching {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, turns: Arc::new(Semaphore::new(TOUCHING)) }
    }

    /// Writes down when sessions were last used, as an edge tells it.
    pub(crate) async fn touch(self, request: Touch) -> Result<Touched, Refusal> {
        let _turn = self.turns.acquire().await.map_err(|_| Refusal::unavailable())?;
        let used: HashMap<_, _> = request.used.into_iter().take(TOUCHED_AT_ONCE).collect();
        let last_active = store::touch(&self.pool, &used).await.map_err(failed)?;
        Ok(Touched { last_active })
    }
}
