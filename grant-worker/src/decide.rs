//! Deciding about somebody's request: m of n approve, or one denies.

use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Attempt},
        caller::{self, Known},
        failed,
        grants::{self, Ending},
        revocation::{self, Change},
    },
    message::{
        grant::{DecideGrant, Decision, EmergencyPolicy, Grant, GrantReceipt, State as GrantState},
        revocation::Cause,
    },
    refusal::{Code, Refusal},
    role::{Permission, Role},
    subject::Subject,
    trace,
};
use tracing::instrument;

use crate::{
    record::{self, Happened},
    request as asking,
    rules::{
        approval::{self, Waiting},
        lifecycle::{self, Event},
        wording,
    },
    state::State,
    store,
};

/// Notes a decision. The approval that completes what the request takes activates it, and answers
/// once every edge knows.
#[instrument(skip_all, name = "grant.decide", fields(grant.id = %request.grant_id))]
pub(crate) async fn decide(state: State, request: DecideGrant) -> Result<GrantReceipt, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let owner = store::owner(&mut tx, request.grant_id).await?;
    let known = caller::lock(&mut tx, &request.caller, owner).await?;
    match judge(&mut tx, &known, &request).await {
        Ok(judged) => apply(&state, tx, &known, &request, judged).await,
        Err(refusal) => {
            let attempt = Attempt {
                by: &known,
                origin: &request.caller.origin,
                request: Subject::GrantDecide,
                target: Some(format!("grant:{}", request.grant_id)),
            };
            Err(audit::refuse(tx, attempt, refusal).await)
        }
    }
}

/// What is decided about.
struct Judged<'a> {
    policy: EmergencyPolicy,
    grant: Grant,
    comment: Option<&'a str>,
}

/// Permission, then the object, then whether one may decide about it, then whether it is what one saw,
/// then its state.
async fn judge<'a>(
    tx: &mut Transaction,
    known: &Known,
    request: &'a DecideGrant,
) -> Result<Judged<'a>, Refusal> {
    known.require(Permission::EmergencyApprove)?;
    let found = store::find(tx, known.tenant_id, request.grant_id).await?;
    let snapshot = found.ok_or_else(Refusal::not_found)?;
    let grant = lifecycle::as_of(snapshot.grant, snapshot.now);
    let policy = store::policy::lock(tx, known.tenant_id).await?;
    approval::may_decide(&policy, known, grant.user.id)?;
    let comment = wording::comment(request.comment.as_deref())?;
    if request.request_digest.as_ref().is_some_and(|seen| *seen != grant.request_digest) {
        let detail = "The request is another one than you decided about; look at it again.";
        return Err(Refusal::new(Code::RequestChanged, detail));
    }
    let event = match request.decision {
        Decision::Approve => Event::Activate,
        Decision::Deny => Event::Deny,
    };
    lifecycle::transition(grant.state, event)?;
    Ok(Judged { policy, grant, comment })
}

async fn apply(
    state: &State,
    mut tx: Transaction,
    known: &Known,
    request: &DecideGrant,
    judged: Judged<'_>,
) -> Result<GrantReceipt, Refusal> {
    let Judged { policy, grant, comment } = judged;
    let written =
        store::decide(&mut tx, grant.id, known.user_id, request.decision, comment).await?;
    if !written {
        return Err(Refusal::new(Code::AlreadyDecided, "You have approved this request already."));
    }
    let action = match request.decision {
        Decision::Approve => "grant.approved",
        Decision::Deny => "grant.denied",
    };
    let happened = Happened {
        detail: json!({"comment": comment, "request_digest": grant.request_digest}),
        ..Happened::by(known, &request.caller.origin, action, grant.id, grant.user.id)
    };
    if request.decision == Decision::Deny {
        let denied = Ending {
            leaving: GrantState::Pending,
            entering: GrantState::Denied,
            by: Some(known.user_id),
            why: comment,
            reviewed: false,
        };
        if grants::end(&mut tx, &[grant.id], denied).await.map_err(failed)?.is_empty() {
            return Err(lifecycle::ended());
        }
        record::write(&mut tx, happened).await?;
        return as_it_is(tx, known, &grant).await;
    }
    record::write(&mut tx, happened).await?;
    let votes = store::votes(&mut tx, known.tenant_id, grant.id).await?;
    // What the request was told it takes, or more by now. Never none.
    let needed = grant.approvals_needed.max(policy.approvals_needed).max(1);
    if approval::count(&policy, grant.user.id, &votes) < needed {
        return as_it_is(tx, known, &grant).await;
    }
    activate(state, tx, known, request, &policy, &grant, needed).await
}

/// The request as it is after a decision that changed no right.
pub(crate) async fn as_it_is(
    mut tx: Transaction,
    known: &Known,
    grant: &Grant,
) -> Result<GrantReceipt, Refusal> {
    let snapshot = store::reread(&mut tx, known.tenant_id, grant.id).await?;
    store::commit(tx).await?;
    let grant = lifecycle::as_of(snapshot.grant, snapshot.now);
    Ok(GrantReceipt { grant, receipt: None })
}

async fn activate(
    state: &State,
    mut tx: Transaction,
    known: &Known,
    request: &DecideGrant,
    policy: &EmergencyPolicy,
    grant: &Grant,
    needed: u32,
) -> Result<GrantReceipt, Refusal> {
    let owner = grant.user.id;
    let standing = store::standing(&mut tx, owner, grant.extended_from, 0).await?;
    let mut spent_seconds = None;
    if let Some(old) = grant.extended_from {
        spent_seconds = Some(store::replaced(&mut tx, old).await?.spent_seconds);
    }
    let waiting = Waiting {
        assigned: standing.role,
        active: standing.active,
        role: grant.role,
        duration_seconds: grant.duration_seconds,
        spent_seconds,
    };
    let duration = approval::judge_activation(policy, &waiting)?;
    let mut cause = Cause::GrantActivated;
    if let Some(old) = grant.extended_from {
        let found = store::reread(&mut tx, known.tenant_id, old).await?;
        // One that ended by itself meanwhile needs no replacing. One that somebody ended has taken
        // this request with it.
        if lifecycle::as_of(found.grant, found.now).state == GrantState::Active {
            asking::replace(&mut tx, known, &request.caller.origin, old, grant.id).await?;
        }
        cause = Cause::GrantExtended;
    }
    if !store::activate(&mut tx, grant.id, policy, needed, duration).await? {
        return Err(lifecycle::ended());
    }
    let read_at = state.reading();
    let snapshot = store::reread(&mut tx, known.tenant_id, grant.id).await?;
    let recipients =
        store::people(&mut tx, known.tenant_id, [Role::Admin], owner).await.map_err(failed)?;
    let happened = Happened {
        detail: json!({
            "reason": grant.reason,
            "role": grant.role,
            "duration_seconds": duration,
            "ticket": grant.ticket,
            "expires_at": snapshot.grant.expires_at,
            "approvals_needed": needed,
            "extended_from": grant.extended_from,
        }),
        recipients,
        ..Happened::by(known, &request.caller.origin, "grant.activated", grant.id, owner)
    };
    record::write(&mut tx, happened).await?;
    let change = Change {
        tenant: known.tenant_id,
        user: Some(owner),
        sessions: Vec::new(),
        cause,
        traceparent: trace::current_traceparent(),
    };
    let entry = revocation::commit(tx, change).await.map_err(failed)?;
    state.receipt(entry, snapshot, read_at).await
}
