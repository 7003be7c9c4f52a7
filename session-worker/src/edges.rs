//! What people may ask about edges: how they stand, and the receipts of earlier revisions.

use shared::{
    database::{
        audit::{self, Attempt},
        caller, failed,
    },
    message::{
        edge::{Edges, ListEdges},
        revocation::{GetReceipt, Receipt},
    },
    refusal::Refusal,
    role::Permission,
    subject::Subject,
};
use tracing::instrument;

use crate::state::State;

/// How all edges stand, with `audit.read`.
#[instrument(skip_all, name = "edge.list")]
pub(crate) async fn list(state: State, request: ListEdges) -> Result<Edges, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    if let Err(refusal) = known.require(Permission::AuditRead) {
        let (by, origin) = (&known, &request.caller.origin);
        let attempt = Attempt { by, origin, request: Subject::EdgeList, target: None };
        return Err(audit::refuse(tx, attempt, refusal).await);
    }
    tx.commit().await.map_err(failed)?;
    state.revocations.edges().await
}

/// The receipt of a revision of the caller's tenant, as it is now.
#[instrument(skip_all, name = "revocation.receipt-again", fields(revocation.revision = request.revision))]
pub(crate) async fn receipt(state: State, request: GetReceipt) -> Result<Receipt, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    tx.commit().await.map_err(failed)?;
    state.revocations.receipt_of(known.tenant_id, request.revision).await
}
