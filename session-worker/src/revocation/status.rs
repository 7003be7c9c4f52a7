//! How edges and receipts stand, for those who ask later.

use std::time::Duration;

use shared::{
    database::failed,
    id::TenantId,
    lease::{Revision, worker::Enforcement},
    message::{edge::Edges, page, revocation::Receipt},
    refusal::Refusal,
};
use sqlx::PgPool;

use super::{Revocations, STANDBY, store};

/// How long to wait until a standby has what is asked about.
const STANDBY_PATIENCE: Duration = Duration::from_secs(1);
/// Most edges in one answer.
const MOST_EDGES: u32 = 1_000;

impl Revocations {
    /// W5, asked again: how a revision of a tenant stands now. Edges that joined after it enforce
    /// it from their beginning, and are not counted.
    pub(crate) async fn receipt_of(
        &self,
        tenant: TenantId,
        revision: u64,
    ) -> Result<Receipt, Refusal> {
        let pool = &self.receipt_pool;
        let found = store::committed(pool, tenant, revision).await.map_err(failed)?;
        let age = found.ok_or_else(Refusal::not_found)?;
        let read = store::counted(pool, revision).await.map_err(failed)?;
        let revision = Revision { timeline: read.edges.timeline, number: revision };
        let mut enforcement = Enforcement::new(revision, &read.edges);
        self.receipts.count(&mut enforcement);
        let mut receipt = enforcement.receipt(age);
        if let Some(lsn) = read.lsn {
            receipt.enforced &= self.standby_has(pool, lsn).await.map_err(failed)?;
        }
        receipt.waiting_ms = self.waiting(&enforcement);
        Ok(receipt)
    }

    /// How many milliseconds the edges that a revision waits for may go on deciding.
    fn waiting(&self, enforcement: &Enforcement) -> Option<u64> {
        let (now, fences) = (self.clock.monotonic(), self.fences.lock());
        let waiting = enforcement.waiting().into_iter();
        let left = waiting.filter_map(|life| fences.remaining(now, life)).max()?;
        u64::try_from(left.as_millis()).ok()
    }

    /// Whether a standby has the log up to a place, now or soon.
    pub(super) async fn standby_has(
        &self,
        pool: &PgPool,
        lsn: store::Lsn,
    ) -> Result<bool, sqlx::Error> {
        let until = self.clock.monotonic().plus(STANDBY_PATIENCE);
        loop {
            let flushed = store::standby(pool).await?;
            if flushed.is_none_or(|flushed| flushed >= lsn) {
                return Ok(true);
            }
            if self.clock.monotonic() >= until {
                return Ok(false);
            }
            tokio::time::sleep(STANDBY).await;
        }
    }

    /// How all edges stand.
    pub(crate) async fn edges(&self) -> Result<Edges, Refusal> {
        let lives = store::latest(&self.receipt_pool, MOST_EDGES).await.map_err(failed)?;
        let now = self.clock.monotonic();
        let edges = lives.into_iter().map(|(life, mut status)| {
            status.applied = self.receipts.applied(&status.id, life, status.applied);
            // One that joined just now was not seen yet: it has all of its lease.
            if !status.fenced
                && let Some(remaining) = self.fences.lock().remaining(now, life)
            {
                status.lease_remaining_ms =
                    u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
            }
            status
        });
        let (edges, _) = page(edges.collect(), MOST_EDGES);
        Ok(Edges { edges })
    }
}
