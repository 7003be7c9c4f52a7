//! Ending a grant early.

use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Attempt, Record},
        caller::{self, Known},
        failed,
        revocation::{self, Change},
    },
    message::{
        grant::{Grant, GrantReceipt, RevokeGrant},
        revocation::Cause,
    },
    refusal::Refusal,
    subject::Subject,
    trace,
};
use tracing::instrument;

use crate::{
    rules::{
        access,
        lifecycle::{self, Event},
        wording,
    },
    state::State,
    store,
};

/// Ends a grant, and answers once no edge acts on it any more.
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
    if !store::revoke(&mut tx, grant.id, known.user_id, comment).await? {
        return Err(lifecycle::ended());
    }
    let read_at = state.reading();
    let snapshot = store::find(&mut tx, known.tenant_id, grant.id)
        .await?
        .ok_or_else(|| failed(sqlx::Error::RowNotFound))?;
    let record = Record {
        tenant: known.tenant_id,
        actor: Actor::User(known.user_id),
        action: "grant.revoked",
        target: Some(format!("grant:{}", grant.id)),
        origin: &request.caller.origin,
        detail: json!({ "user": grant.user.id, "comment": comment }),
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await.map_err(failed)?;
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
