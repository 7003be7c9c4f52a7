//! Which subject goes to which handler, and what the handlers share.

use std::sync::Arc;

use shared::{
    bus::{Bus, Server},
    clock::{Clock, Monotonic},
    message::{
        grant::{ExpireGrant, GetGrant, GrantReceipt, ListGrants, RequestGrant, RevokeGrant},
        revocation::{Enforce, Entry, Receipt},
    },
    refusal::Refusal,
    runtime::SHUTDOWN,
};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, instrument, warn};

use crate::{expire, read, request, revoke, rules::lifecycle, store::Snapshot};

/// At most this many revisions are announced at once while nobody waits for their receipts, so
/// that a wave of expiries leaves session-worker free for those who do wait.
const ANNOUNCED_AT_ONCE: usize = 64;

/// What every handler is given.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) pool: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
    announcements: TaskTracker,
    places: Arc<Semaphore>,
}

/// Serves requests until `stop` is cancelled, then finishes what has begun.
pub(crate) async fn serve(service: Service, stop: CancellationToken) -> anyhow::Result<()> {
    let server = Server::new(service.bus.clone(), stop);
    server.handle::<RequestGrant, _, _, _>(&service, request::request).await?;
    server.handle::<RevokeGrant, _, _, _>(&service, revoke::revoke).await?;
    server.handle::<ExpireGrant, _, _, _>(&service, expire::expire).await?;
    server.handle::<ListGrants, _, _, _>(&service, read::list).await?;
    server.handle::<GetGrant, _, _, _>(&service, read::get).await?;
    server.drained(SHUTDOWN).await;
    // What is left here is committed, and the beacon tells the edges of it.
    service.announcements.close();
    let _ = tokio::time::timeout(crate::FLUSH, service.announcements.wait()).await;
    Ok(())
}

impl Service {
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
