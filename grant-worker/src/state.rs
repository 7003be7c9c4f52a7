//! What every handler is given, and how a change of rights ends: with a receipt.

use std::sync::Arc;

use shared::{
    bus::Bus,
    clock::{Clock, Monotonic},
    message::{
        grant::GrantReceipt,
        revocation::{Enforce, Entry, Receipt},
    },
    refusal::Refusal,
};
use sqlx::PgPool;
use tracing::{instrument, warn};

use crate::{rules::lifecycle, store::Snapshot};

/// What every handler is given.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
    pub(crate) bus: Bus,
    clock: Arc<dyn Clock>,
}

impl State {
    pub(crate) fn new(bus: Bus, pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        Self { pool, bus, clock }
    }

    /// A reading to count from, taken before a snapshot.
    pub(crate) fn reading(&self) -> Monotonic {
        self.clock.monotonic()
    }

    /// Has a committed change enforced, and answers with the grant as it stands after that.
    ///
    /// Without a receipt there is no success to tell, though the change is committed and will
    /// reach every edge: 503 says to look again.
    pub(crate) async fn receipt(
        &self,
        entry: Entry,
        snapshot: Snapshot,
        read_at: Monotonic,
    ) -> Result<GrantReceipt, Refusal> {
        let revision = entry.revision.number;
        let receipt = enforce(&self.bus, entry).await.map_err(|refusal| {
            warn!(revision, %refusal, "committed, but there is no receipt");
            Refusal::unavailable()
        })?;
        let now = snapshot.now.plus(self.clock.monotonic().since(read_at));
        Ok(GrantReceipt { grant: lifecycle::as_of(snapshot.grant, now), receipt: Some(receipt) })
    }
}

#[instrument(skip_all, name = "revocation.enforce", fields(revocation.revision = entry.revision.number))]
async fn enforce(bus: &Bus, entry: Entry) -> Result<Receipt, Refusal> {
    bus.request(&Enforce { revision: entry.revision }).await
}
