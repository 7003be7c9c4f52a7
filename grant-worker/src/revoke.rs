//! Ending a grant early.

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
        grant::{Grant, GrantReceipt, RevokeGrant, State as GrantState},
        revocation::Cause,
    },
    refusal::Refusal,
    subject::Subject,
    trace,
};
use tracing::instrument;

use crate::{
    record::{self, Happened},
    rules::{
        access,
        lifecycle::{self, Event},
        wording,
    },
    state::State,
    store,
};

/// Ends a grant, and answers once no edge acts on it any more. A request to extend it goes with it.
#[instrument(skip_all, name = "grant.revoke", fields(grant.id = %request.grant_id))]
pub(crate) async fn revoke(state: State, request: RevokeGrant) -> Result<GrantReceipt, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let owner = store::owner(&mut tx, request.grant_id).await?;
    let known = caller::lock(&mut tx, &request.caller, owner).await?;
    let (grant, comment) = match judge(&mut tx, &known, &request).await {
        Ok(judged) => judged,
        Err(refusal) => {
            let attempt = Attempt {
                by: &known,
                origin: &request.caller.origin,
                request: Subject::GrantRevoke,
                target: Some(format!("grant:{}", request.grant_id)),
            };
            return Err(audit::refuse(tx, attempt, refusal).await);
        }
    };
    let revoked = Ending {
        leaving: GrantState::Active,
        entering: GrantState::Revoked,
        by: Some(known.user_id),
        why: comment,
        reviewed: true,
    };
    if grants::end(&mut tx, &[grant.id], revoked).await.map_err(failed)?.is_empty() {
        return Err(lifecycle::ended());
    }
    cancel_extension(&mut tx, &known, &request, &grant).await?;
    let read_at = state.reading();
    let snapshot = store::reread(&mut tx, known.tenant_id, grant.id).await?;
    let approvers = store::policy::lock(&mut tx, known.tenant_id).await?.approvers;
    let recipients =
        store::people(&mut tx, known.tenant_id, approvers, grant.user.id).await.map_err(failed)?;
    let review_due_at = snapshot.grant.review.as_ref().map(|review| review.due_at);
    let happened = Happened {
        detail: json!({"comment": comment, "review_due_at": review_due_at}),
        recipients,
        ..Happened::by(&known, &request.caller.origin, "grant.revoked", grant.id, grant.user.id)
    };
    record::write(&mut tx, happened).await?;
    let change = Change {
        tenant: known.tenant_id,
        user: Some(grant.user.id),
        sessions: Vec::new(),
        cause: Cause::GrantRevoked,
        traceparent: trace::current_traceparent(),
    };
    let entry = revocation::commit(tx, change).await.map_err(failed)?;
    state.receipt(entry, snapshot, read_at).await
}

/// Permission, then the object, then what was said, then the state.
async fn judge<'a>(
    tx: &mut Transaction,
    known: &Known,
    request: &'a RevokeGrant,
) -> Result<(Grant, Option<&'a str>), Refusal> {
    let found = store::find(tx, known.tenant_id, request.grant_id).await?;
    let grant = found.map(|snapshot| lifecycle::as_of(snapshot.grant, snapshot.now));
    access::may_revoke(known, grant.as_ref().map(|grant| (grant.user.id, grant.state)))?;
    let comment = wording::comment(request.comment.as_deref())?;
    let grant = grant.ok_or_else(Refusal::not_found)?;
    lifecycle::transition(grant.state, Event::Revoke)?;
    Ok((grant, comment))
}

/// What somebody ended is not brought back by an approval of more of it.
async fn cancel_extension(
    tx: &mut Transaction,
    known: &Known,
    request: &RevokeGrant,
    grant: &Grant,
) -> Result<(), Refusal> {
    let Some(waiting) = store::waiting_extension(tx, grant.id).await? else { return Ok(()) };
    let why = "The grant that it extends was revoked.";
    let cancelled = Ending {
        leaving: GrantState::Pending,
        entering: GrantState::Cancelled,
        by: Some(known.user_id),
        why: Some(why),
        reviewed: false,
    };
    if grants::end(tx, &[waiting], cancelled).await.map_err(failed)?.is_empty() {
        return Ok(());
    }
    let origin = &request.caller.origin;
    let happened = Happened {
        detail: json!({"comment": why}),
        ..Happened::by(known, origin, "grant.cancelled", waiting, grant.user.id)
    };
    record::write(tx, happened).await
}
