//! What time alone does to a grant: making its end official, warning of it, reminding of its review.
//! Edges end it by the clock, with or without this.

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    time::Duration,
};

use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Record},
        failed,
        grants::{self, Ended, Ending},
        outbox,
        revocation::{self, Change},
    },
    id::{GrantId, UserId},
    message::{
        Origin,
        grant::{
            ExpireGrants, ExpiredGrants, MOST_EXPIRED, RemindOfReview, State as GrantState, Told,
            WarnOfEnd,
        },
        revocation::Cause,
    },
    refusal::{Code, Refusal},
    trace,
};
use tracing::instrument;
use uuid::Uuid;

use crate::{
    record::{self, Happened},
    rules::lifecycle::{self, WARNINGS},
    state::State,
    store::{self, Timed},
};

/// Who says that something is due.
const EXPIRY_WORKER: &str = "expiry-worker";
/// What has happened to a grant whose time is over.
const EXPIRED: &str = "grant.expired";
const WARNING: &str = "grant-warning";
const REVIEW: &str = "review-overdue";

/// Ends grants whose time is over, and requests that nobody decided in time; any other is left as it is,
/// and a timer that nothing is left for is removed.
#[instrument(skip_all, name = "grant.expire-all", fields(grants = request.grant_ids.len()))]
pub(crate) async fn expire_all(
    state: State,
    request: ExpireGrants,
) -> Result<ExpiredGrants, Refusal> {
    let ids = request.grant_ids;
    if ids.len() > MOST_EXPIRED {
        let detail = format!("At most {MOST_EXPIRED} grants expire at once.");
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    let mut tx = store::begin(&state.pool).await?;
    let open = store::lock_open(&mut tx, &ids).await?;
    let mut ended = Vec::new();
    for leaving in [GrantState::Active, GrantState::Pending] {
        let ids: Vec<_> =
            open.iter().filter(|open| open.state == leaving).map(|open| open.id).collect();
        if ids.is_empty() {
            continue;
        }
        let expired =
            Ending { leaving, entering: GrantState::Expired, by: None, why: None, reviewed: true };
        let expired = grants::end(&mut tx, &ids, expired).await.map_err(failed)?;
        ended.extend(expired.into_iter().map(|grant| (leaving, grant)));
    }
    // Batches of several tenants wait for each other's locks in one order.
    ended.sort_by_key(|(_, grant)| (grant.tenant, grant.id));
    record_all(&mut tx, &ended).await?;
    if ended.len() < ids.len() {
        store::delete_stale_timers(&mut tx, &ids).await?;
    }
    // Edges have ended them by the clock, unless that of the database ran ahead for a while: what is
    // final here must not go on there.
    let active = ended.iter().filter(|(leaving, _)| *leaving == GrantState::Active);
    let users: BTreeSet<_> = active.map(|(_, grant)| (grant.tenant, grant.user)).collect();
    let changes = users.into_iter().map(|(tenant, user)| Change {
        tenant,
        user: Some(user),
        sessions: Vec::new(),
        cause: Cause::GrantExpired,
        traceparent: trace::current_traceparent(),
    });
    let entries = revocation::commit_all(tx, changes.collect()).await.map_err(failed)?;
    // Edges that have the last one fetch the others. Nobody waits for it.
    if let Some(last) = entries.into_iter().last() {
        state.announce(last);
    }
    Ok(ExpiredGrants { ended: ended.into_iter().map(|(_, grant)| grant.id).collect() })
}

/// The records of grants that have expired, with the states that they left, and the events of which
/// people are told.
async fn record_all(tx: &mut Transaction, expired: &[(GrantState, Ended)]) -> Result<(), Refusal> {
    let Some(now) = expired.iter().map(|(_, grant)| grant.at).max() else { return Ok(()) };
    let mut approvers = HashMap::new();
    let (mut records, mut events) = (Vec::new(), Vec::new());
    let origin = Origin::default();
    for (leaving, grant) in expired {
        if let hash_map::Entry::Vacant(unknown) = approvers.entry(grant.tenant) {
            let roles = store::policy::lock(tx, grant.tenant).await?.approvers;
            let nobody = UserId(Uuid::nil());
            let people = store::people(tx, grant.tenant, roles, nobody).await;
            unknown.insert(people.map_err(failed)?);
        }
        let told = &approvers[&grant.tenant];
        let told: Vec<_> = told.iter().filter(|user| **user != grant.user).collect();
        let end = if *leaving == GrantState::Active { "expires_at" } else { "pending_until" };
        let event =
            json!({"grant": grant.id, "user": grant.user, "recipients": told, end: grant.at});
        events.push((grant.tenant, event));
        records.push(Record {
            tenant: grant.tenant,
            actor: Actor::Service(EXPIRY_WORKER),
            action: EXPIRED,
            target: Some(format!("grant:{}", grant.id)),
            origin: &origin,
            detail: json!({"user": grant.user, end: grant.at}),
            trace_id: trace::current_trace_id(),
        });
    }
    outbox::append_all(tx, now, EXPIRED, events).await.map_err(failed)?;
    audit::append_all(tx, &records).await.map_err(failed)
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
        actor: Actor::Service(EXPIRY_WORKER),
        origin,
        now: timed.now,
        action,
        grant: id,
        user: timed.user,
        detail: json!({}),
        recipients: Vec::new(),
    }
}

async fn approvers(tx: &mut Transaction, timed: &Timed) -> Result<Vec<UserId>, Refusal> {
    let approvers = store::policy::lock(tx, timed.tenant).await?.approvers;
    store::people(tx, timed.tenant, approvers, timed.user).await.map_err(failed)
}
