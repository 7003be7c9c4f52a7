//! What every handler is given, and how each ends: with a receipt, or an announcement.

use std::{sync::Arc, time::Duration};

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
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, instrument, warn};

use crate::{rules::lifecycle, store::Snapshot};

/// At most this many revisions are announced at once while nobody waits for their receipts, so
/// that a wave of expiries leaves session-worker free for those who do wait.
const ANNOUNCED_AT_ONCE: usize = 64;

/// What every handler is given.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
    pub(crate) bus: Bus,
    clock: Arc<dyn Clock>,
    announcements: TaskTracker,
    places: Arc<Semaphore>,
}

impl State {
    pub(crate) fn new(bus: Bus, pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        let places = Arc::new(Semaphore::new(ANNOUNCED_AT_ONCE));
        Self { pool, bus, clock, announcements: TaskTracker::new(), places }
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

    /// Waits until what was announced has gone out, at most `deadline`.
    pub(crate) async fn announced(&self, deadline: Duration) {
        self.announcements.close();
        let _ = tokio::time::timeout(deadline, self.announcements.wait()).await;
    }

    /// Has a committed change broadcast while nobody waits. Where that fails, or too many wait
    /// already, the edges find the revision through the beacon.
    pub(crate) fn announce(&self, entry: Entry) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let bus = self.bus.clone();
        let announcement = async move {
            let _ = enforce(&bus, entry).await;
            drop(place);
        };
        self.announcements.spawn(announcement.in_current_span());
    }
}

#[instrument(skip_all, name = "revocation.enforce", fields(revocation.revision = entry.revision.number))]
async fn enforce(bus: &Bus, entry: Entry) -> Result<Receipt, Refusal> {
    bus.request(&Enforce { revision: entry.revision }).await
}
