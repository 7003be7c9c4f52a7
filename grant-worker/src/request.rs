//! Asking for emergency access.

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
        grant::{GrantReceipt, RequestGrant},
        revocation::Cause,
    },
    refusal::{Code, Refusal},
    role::Permission,
    subject::Subject,
    trace,
};
use tracing::instrument;

use crate::{
    rules::{
        digest::{Asked, digest},
        lifecycle,
        policy::{Ask, Requester, Terms},
    },
    state::State,
    store::{self, NewGrant},
};

/// Activates a grant under the policy in force, and answers once every edge knows.
///
/// The same message again answers with the grant that it made, and without a receipt: it changed
/// nothing.
#[instrument(skip_all, name = "grant.request", fields(grant.id = %request.grant_id))]
pub(crate) async fn request(state: State, request: RequestGrant) -> Result<GrantReceipt, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let known = caller::lock(&mut tx, &request.caller, None).await?;
    if let Some(earlier) = store::find(&mut tx, known.tenant_id, request.grant_id).await?
        && earlier.grant.user.id == known.user_id
    {
        store::commit(tx).await?;
        let grant = lifecycle::as_of(earlier.grant, earlier.now);
        return Ok(GrantReceipt { grant, receipt: None });
    }
    let terms = match judge(&mut tx, &known, &request).await {
        Ok(terms) => terms,
        Err(refusal) => {
            let attempt = Attempt {
                by: &known,
                origin: &request.caller.origin,
                request: Subject::GrantRequest,
                target: None,
            };
            return Err(audit::refuse(tx, attempt, refusal).await);
        }
    };
    insert(&mut tx, &known, &request, terms).await?;
    let read_at = state.reading();
    let snapshot = store::find(&mut tx, known.tenant_id, request.grant_id)
        .await?
        .ok_or_else(|| failed(sqlx::Error::RowNotFound))?;
    let record = Record {
        tenant: known.tenant_id,
        actor: Actor::User(known.user_id),
        action: "grant.activated",
        target: Some(format!("grant:{}", request.grant_id)),
        origin: &request.caller.origin,
        detail: json!({
            "reason": request.reason,
            "role": terms.role,
            "duration_seconds": terms.duration_seconds,
            "ticket": terms.ticket,
        }),
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await.map_err(failed)?;
    let change = Change {
        tenant: known.tenant_id,
        user: Some(known.user_id),
        sessions: Vec::new(),
        cause: Cause::GrantActivated,
        traceparent: trace::current_traceparent(),
    };
    let entry = revocation::commit(tx, change).await.map_err(failed)?;
    state.receipt(entry, snapshot, read_at).await
}

async fn judge<'a>(
    tx: &mut Transaction,
    known: &Known,
    request: &'a RequestGrant,
) -> Result<Terms<'a>, Refusal> {
    known.require(Permission::EmergencyRequest)?;
    let policy = store::lock_policy(tx, known.tenant_id).await?;
    let standing = store::standing(tx, known.user_id).await?;
    let ask = Ask {
        reason: &request.reason,
        ticket: request.ticket.as_deref(),
        duration_seconds: request.duration_seconds,
        role: request.role,
    };
    let requester = Requester {
        assigned: known.role,
        active: standing.active,
        last_reason: standing.last_reason.as_deref(),
    };
    policy.judge(&ask, &requester)
}

async fn insert(
    tx: &mut Transaction,
    known: &Known,
    request: &RequestGrant,
    terms: Terms<'_>,
) -> Result<(), Refusal> {
    let digest = digest(&Asked {
        grant_id: request.grant_id,
        user_id: known.user_id,
        role: terms.role,
        reason: &request.reason,
        ticket: terms.ticket,
        duration_seconds: terms.duration_seconds,
    });
    let grant = NewGrant {
        id: request.grant_id,
        tenant: known.tenant_id,
        user: known.user_id,
        session: known.session_id,
        reason: &request.reason,
        terms,
        digest,
    };
    if store::insert_active(tx, &grant).await? {
        Ok(())
    } else {
        Err(Refusal::new(Code::Conflict, "The id of this grant is taken; ask again."))
    }
}
