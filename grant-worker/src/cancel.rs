//! Withdrawing a request.

use shared::{
    database::{
        audit::{self, Attempt},
        caller, failed,
        grants::{self, Ending},
    },
    message::grant::{CancelGrant, OneGrant, State as GrantState},
    refusal::Refusal,
    subject::Subject,
};
use tracing::instrument;

use crate::{
    decide,
    record::{self, Happened},
    rules::{
        access,
        lifecycle::{self, Event},
    },
    state::State,
    store,
};

/// Withdraws one's own request that waits.
#[instrument(skip_all, name = "grant.cancel", fields(grant.id = %request.grant_id))]
pub(crate) async fn cancel(state: State, request: CancelGrant) -> Result<OneGrant, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let known = caller::lock(&mut tx, &request.caller, None).await?;
    let found = store::find(&mut tx, known.tenant_id, request.grant_id).await?;
    let grant = found.map(|snapshot| lifecycle::as_of(snapshot.grant, snapshot.now));
    let grant = match access::own(&known, grant) {
        Ok(grant) => grant,
        Err(refusal) => {
            let attempt = Attempt {
                by: &known,
                origin: &request.caller.origin,
                request: Subject::GrantCancel,
                target: Some(format!("grant:{}", request.grant_id)),
            };
            return Err(audit::refuse(tx, attempt, refusal).await);
        }
    };
    lifecycle::transition(grant.state, Event::Cancel)?;
    let cancelled = Ending {
        leaving: GrantState::Pending,
        entering: GrantState::Cancelled,
        by: Some(known.user_id),
        why: None,
        reviewed: false,
    };
    if grants::end(&mut tx, &[grant.id], cancelled).await.map_err(failed)?.is_empty() {
        return Err(lifecycle::ended());
    }
    let approvers = store::policy::lock(&mut tx, known.tenant_id).await?.approvers;
    let recipients =
        store::people(&mut tx, known.tenant_id, approvers, known.user_id).await.map_err(failed)?;
    let happened = Happened {
        recipients,
        ..Happened::by(&known, &request.caller.origin, "grant.cancelled", grant.id, known.user_id)
    };
    record::write(&mut tx, happened).await?;
    let answer = decide::as_it_is(tx, &known, &grant).await?;
    Ok(OneGrant { grant: answer.grant })
}
