//! What time alone does to a grant: making its end official, warning of it, reminding of its review.
//! Edges end it by the clock, with or without this.

use std::time::Duration;

use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::Actor,
        failed,
        grants::{self, Ending},
        revocation::{self, Change},
    },
    id::GrantId,
    message::{
        Origin,
        grant::{ExpireGrant, ExpiredGrant, RemindOfReview, State as GrantState, Told, WarnOfEnd},
        revocation::Cause,
    },
    refusal::Refusal,
    trace,
};
use tracing::instrument;

use crate::{
    record::{self, Happened},
    rules::lifecycle::{self, WARNINGS},
    state::State,
    store::{self, Timed},
};

const EXPIRY: &str = "grant-expiry";
const WARNING: &str = "grant-warning";
const REVIEW: &str = "review-overdue";

/// Ends a grant whose time is over, or a request that nobody decided in time; any other is left as it
/// is, and a timer that nothing is left for is removed.
#[instrument(skip_all, name = "grant.expire", fields(grant.id = %request.grant_id))]
pub(crate) async fn expire(state: State, request: ExpireGrant) -> Result<ExpiredGrant, Refusal> {
    let id = request.grant_id;
    let mut tx = store::begin(&state.pool).await?;
    let timed = store::lock_timed(&mut tx, id).await?;
    let Some(timed) = timed.filter(|timed| !lifecycle::is_final(timed.state)) else {
        store::delete_due_timer(&mut tx, EXPIRY, id).await?;
        store::commit(tx).await?;
        return Ok(ExpiredGrant { ended: false });
    };
    let expired = Ending {
        leaving: timed.state,
        entering: GrantState::Expired,
        by: None,
        why: None,
        reviewed: true,
    };
    let ended = grants::end(&mut tx, &[id], expired).await.map_err(failed)?;
    let Some(ended) = ended.first() else { return Ok(ExpiredGrant { ended: false }) };
    let was_active = timed.state == GrantState::Active;
    let origin = Origin::default();
    let happened = Happened {
        detail: if was_active {
            json!({"expires_at": ended.at})
        } else {
            json!({"pending_until": ended.at})
        },
        recipients: approvers(&mut tx, &timed).await?,
        ..by_time(&timed, &origin, "grant.expired", id)
    };
    record::write(&mut tx, happened).await?;
    if !was_active {
        store::commit(tx).await?;
        return Ok(ExpiredGrant { ended: true });
    }
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

/// Tells the user of a grant that it ends soon.
#[instrument(skip_all, name = "grant.warn", fields(grant.id = %request.grant_id))]
pub(crate) async fn warn(state: State, request: WarnOfEnd) -> Result<Told, Refusal> {
    let id = request.grant_id;
    let mut tx = store::begin(&state.pool).await?;
    let timed = store::lock_timed(&mut tx, id).await?;
    let active = timed.filter(|timed| timed.state == GrantState::Active);
    let left = active.as_ref().and_then(|timed| timed.left).filter(|left| *left > 0.0);
    let left = left.map(|left| Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX));
    let (Some(timed), Some(left)) = (active, left) else {
        store::delete_due_timer(&mut tx, WARNING, id).await?;
        store::commit(tx).await?;
        return Ok(Told { told: false });
    };
    let Some(warning) = lifecycle::warn(left) else { return Ok(Told { told: false }) };
    let [_, last] = WARNINGS;
    let due = if warning == last {
        store::delete_due_timer(&mut tx, WARNING, id).await?
    } else {
        store::move_timer(&mut tx, WARNING, id, last).await?
    };
    if !due {
        return Ok(Told { told: false });
    }
    let origin = Origin::default();
    let happened = Happened {
        detail: json!({"minutes_left": warning.as_secs() / 60, "expires_at": timed.expires_at}),
        ..by_time(&timed, &origin, "grant.expiring", id)
    };
    record::announce(&mut tx, &happened).await?;
    store::commit(tx).await?;
    Ok(Told { told: true })
}

/// Tells those who may review the use of a grant that nobody has done so in time.
#[instrument(skip_all, name = "grant.remind", fields(grant.id = %request.grant_id))]
pub(crate) async fn remind(state: State, request: RemindOfReview) -> Result<Told, Refusal> {
    let id = request.grant_id;
    let mut tx = store::begin(&state.pool).await?;
    let timed = store::lock_timed(&mut tx, id).await?;
    let was_due = store::delete_due_timer(&mut tx, REVIEW, id).await?;
    let Some(timed) = timed.filter(|timed| was_due && !timed.is_reviewed) else {
        store::commit(tx).await?;
        return Ok(Told { told: false });
    };
    let origin = Origin::default();
    let happened = Happened {
        recipients: approvers(&mut tx, &timed).await?,
        ..by_time(&timed, &origin, "grant.review-overdue", id)
    };
    record::write(&mut tx, happened).await?;
    store::commit(tx).await?;
    Ok(Told { told: true })
}

/// Something that time did.
fn by_time<'a>(timed: &Timed, origin: &'a Origin, action: &'a str, id: GrantId) -> Happened<'a> {
    Happened {
        tenant: timed.tenant,
        actor: Actor::Service("expiry-worker"),
        origin,
        now: timed.now,
        action,
        grant: id,
        user: timed.user,
        detail: json!({}),
        recipients: Vec::new(),
    }
}

async fn approvers(
    tx: &mut Transaction,
    timed: &Timed,
) -> Result<Vec<shared::id::UserId>, Refusal> {
    let approvers = store::policy::lock(tx, timed.tenant).await?.approvers;
    store::people(tx, timed.tenant, approvers, timed.user).await.map_err(failed)
}
