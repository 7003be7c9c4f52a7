//! Reviewing how a grant was used, once it has ended.

use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Attempt},
        caller::{self, Known},
        failed,
    },
    message::grant::{Grant, OneGrant, Outcome, ReviewGrant, ReviewState},
    refusal::{Code, Refusal},
    role::{Permission, Role},
    subject::Subject,
};
use tracing::instrument;

use crate::{
    record::{self, Happened},
    rules::{approval, lifecycle, wording},
    state::State,
    store,
};

/// Notes what a review found.
#[instrument(skip_all, name = "grant.review", fields(grant.id = %request.grant_id))]
pub(crate) async fn review(state: State, request: ReviewGrant) -> Result<OneGrant, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let owner = store::owner(&mut tx, request.grant_id).await?;
    let known = caller::lock(&mut tx, &request.caller, owner).await?;
    let grant = match judge(&mut tx, &known, &request).await {
        Ok(grant) => grant,
        Err(refusal) => {
            let attempt = Attempt {
                by: &known,
                origin: &request.caller.origin,
                request: Subject::GrantReview,
                target: Some(format!("grant:{}", request.grant_id)),
            };
            return Err(audit::refuse(tx, attempt, refusal).await);
        }
    };
    let (outcome, note) = (request.outcome, &request.note);
    if !store::review(&mut tx, grant.id, known.user_id, outcome, note).await? {
        // Over by the clock, and expiry-worker has not said so yet.
        return Err(Refusal::unavailable());
    }
    let told = (outcome == Outcome::Misuse).then_some(Role::Admin);
    let recipients =
        store::people(&mut tx, known.tenant_id, told, grant.user.id).await.map_err(failed)?;
    let origin = &request.caller.origin;
    let happened = Happened {
        detail: json!({"outcome": outcome, "note": note}),
        recipients,
        ..Happened::by(&known, origin, "grant.reviewed", grant.id, grant.user.id)
    };
    record::write(&mut tx, happened).await?;
    let snapshot = store::reread(&mut tx, known.tenant_id, grant.id).await?;
    store::commit(tx).await?;
    Ok(OneGrant { grant: lifecycle::as_of(snapshot.grant, snapshot.now) })
}

/// Permission, then the object, then whether it is one's own, then what was said, then the state.
async fn judge(
    tx: &mut Transaction,
    known: &Known,
    request: &ReviewGrant,
) -> Result<Grant, Refusal> {
    known.require(Permission::EmergencyApprove)?;
    let found = store::find(tx, known.tenant_id, request.grant_id).await?;
    let snapshot = found.ok_or_else(Refusal::not_found)?;
    let grant = lifecycle::as_of(snapshot.grant, snapshot.now);
    approval::may_review(known, grant.user.id)?;
    if wording::comment(Some(&request.note))?.is_none() {
        return Err(Refusal::new(Code::ReasonRequired, "Say in `note` what the review found."));
    }
    match grant.review.as_ref().map(|review| review.state) {
        Some(ReviewState::Due | ReviewState::Overdue) => Ok(grant),
        Some(ReviewState::Justified | ReviewState::Misuse) => {
            Err(Refusal::new(Code::AlreadyDecided, "Its use was reviewed already."))
        }
        None => Err(Refusal::new(Code::Conflict, not_yet(&grant))),
    }
}

fn not_yet(grant: &Grant) -> &'static str {
    if grant.activated_at.is_none() {
        "It was never active, so there is nothing to review."
    } else if lifecycle::is_final(grant.state) {
        "It was extended; its use is reviewed with what replaced it."
    } else {
        "It is still active; its use is reviewed when it has ended."
    }
}
