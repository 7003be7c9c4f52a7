//! What edges ask: to join, to renew, to leave, and what they missed.

use shared::{
    database::failed,
    id::Incarnation,
    message::{
        edge::{Join, Joined, Leave, MOST_ALLOW_CACHED_MS, Renew, Renewed},
        revocation::{Broadcast, Enforce, Receipt, Since},
    },
    refusal::{Code, Refusal},
};
use tracing::{info, instrument};

use super::{Revocations, store};

/// Most entries in one answer.
const MOST_ENTRIES: u32 = 500;

impl Revocations {
    /// W1. A new life each time: the row is committed first, the head is read after that.
    #[instrument(skip_all, name = "edge.join", fields(edge.id = %request.edge))]
    pub(crate) async fn join(self, request: Join) -> Result<Joined, Refusal> {
        let incarnation = Incarnation::new(self.clock.wall());
        if request.allow_cached_ms > MOST_ALLOW_CACHED_MS {
            return Err(Refusal::new(Code::BadRequest, "No edge may allow for so long."));
        }
        store::join(&self.pool, &request, incarnation, self.lease).await.map_err(failed)?;
        // A row that a failover loses would be an edge that nobody waits for (W7).
        let lsn = store::standby_needs(&self.pool).await.map_err(failed)?;
        if let Some(lsn) = lsn
            && !self.standby_has(&self.pool, lsn).await.map_err(failed)?
        {
            return Err(Refusal::unavailable());
        }
        let (head, server_time) = store::head(&self.pool).await.map_err(failed)?;
        info!(edge = %request.edge, region = request.region, %incarnation, %head, "edge joined");
        let ttl_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let allow_cached_ms = request.allow_cached_ms;
        Ok(Joined { incarnation, head, ttl_ms, allow_cached_ms, server_time })
    }

    /// W2, together with all others that ask at nearly the same time.
    pub(crate) async fn renew(self, request: Renew) -> Result<Renewed, Refusal> {
        self.renewals.ask(request).await
    }

    /// E9: the edge has stopped deciding.
    #[instrument(skip_all, name = "edge.leave", fields(edge.id = %request.edge))]
    pub(crate) async fn leave(self, request: Leave) -> Result<(), Refusal> {
        store::leave(&self.pool, &request).await.map_err(failed)?;
        info!(edge = %request.edge, incarnation = %request.incarnation, "edge left");
        Ok(())
    }

    /// W3, asked by another worker: only what the database has is broadcast, as the database has it.
    pub(crate) async fn enforce_committed(self, request: Enforce) -> Result<Receipt, Refusal> {
        let before = request.revision.number.saturating_sub(1);
        let found = store::since(&self.receipt_pool, before, 1).await.map_err(failed)?;
        match found.entries.into_iter().next() {
            Some(entry) if entry.revision == request.revision => {
                let enforcing = self.enforce(vec![entry]).await?;
                Ok(enforcing.receipt(request.revision.number).await)
            }
            _ => Err(Refusal::not_found()),
        }
    }

    /// E4: what came after a revision, from the primary.
    #[instrument(skip_all, name = "revocation.since")]
    pub(crate) async fn since(self, request: Since) -> Result<Broadcast, Refusal> {
        let limit = request.limit.min(MOST_ENTRIES);
        store::since(&self.pool, request.after.number, limit).await.map_err(failed)
    }
}
