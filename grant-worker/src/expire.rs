//! Making the end of a grant official. Edges end it by the clock, with or without this.

use serde_json::json;
use shared::{
    database::{
        audit::{self, Actor, Record},
        failed,
        revocation::{self, Change},
    },
    message::{
        Origin,
        grant::{ExpireGrant, ExpiredGrant},
        revocation::Cause,
    },
    refusal::Refusal,
    trace,
};
use tracing::instrument;

use crate::{rules::lifecycle, state::State, store};

/// Ends a grant whose time is over; any other is left as it is, and a timer that nothing is left
/// for is removed.
#[instrument(skip_all, name = "grant.expire", fields(grant.id = %request.grant_id))]
pub(crate) async fn expire(state: State, request: ExpireGrant) -> Result<ExpiredGrant, Refusal> {
    let id = request.grant_id;
    let mut tx = store::begin(&state.pool).await?;
    let stored = store::lock_owner(&mut tx, id).await?;
    let Some(ended) = store::expire(&mut tx, id).await? else {
        if stored.is_none_or(lifecycle::is_final) {
            store::delete_timer(&mut tx, id).await?;
            store::commit(tx).await?;
        }
        return Ok(ExpiredGrant { ended: false });
    };
    let record = Record {
        tenant: ended.tenant,
        actor: Actor::Service("expiry-worker"),
        action: "grant.expired",
        target: Some(format!("grant:{id}")),
        origin: &Origin::default(),
        detail: json!({ "user": ended.user, "expires_at": ended.at }),
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await.map_err(failed)?;
    let change = Change {
        tenant: ended.tenant,
        user: Some(ended.user),
        sessions: Vec::new(),
        cause: Cause::GrantExpired,
        traceparent: trace::current_traceparent(),
    };
    let entry = revocation::commit(tx, change).await.map_err(failed)?;
    state.announce(entry);
    Ok(ExpiredGrant { ended: true })
}
