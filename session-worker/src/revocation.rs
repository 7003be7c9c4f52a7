//! Revocations on their way to every edge: broadcast, acks, receipts, and the fencing of edges
//! that do not answer (W1 to W6).

mod edge;
mod store;
mod watch;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use shared::{
    bus::{Bus, parse_event, remaining},
    clock::Clock,
    database::failed,
    id::{EdgeId, Incarnation},
    lease::{Revision, receipt_deadline, worker::Enforcement},
    message::{
        edge::Ack,
        revocation::{Broadcast, Entry, Receipt},
    },
    refusal::Refusal,
    subject::Subject,
};
use sqlx::PgPool;
use tokio::sync::watch as signal;
use tokio_util::sync::CancellationToken;
use tracing::{info, instrument, warn};

/// After this long, edges that have not acked must apply before they may renew (W3).
const PATIENCE: Duration = Duration::from_millis(50);
/// What is left of the asker's time for the answer to arrive.
const ANSWER: Duration = Duration::from_millis(500);
/// How often the rows of missing edges are read again.
const REREAD: Duration = Duration::from_millis(100);
/// Acks of lives that are not known to be over.
const MOST_ACKS: usize = 20_000;

/// Everything that revocations need; cheap to clone.
#[derive(Clone)]
pub(crate) struct Revocations {
    bus: Bus,
    /// For leases, beacons and fences alone.
    pool: PgPool,
    /// For receipts alone: while an edge is dead, many may wait.
    receipt_pool: PgPool,
    clock: Arc<dyn Clock>,
    lease: Duration,
    acks: Arc<Acks>,
}

/// The highest revision that each life has acked, as heard by this worker.
struct Acks {
    applied: Mutex<HashMap<(EdgeId, Incarnation), Revision>>,
    changed: signal::Sender<()>,
}

impl Revocations {
    pub(crate) fn new(
        bus: Bus,
        pool: PgPool,
        receipt_pool: PgPool,
        clock: Arc<dyn Clock>,
        lease: Duration,
    ) -> Self {
        let acks = Acks { applied: Mutex::default(), changed: signal::Sender::new(()) };
        Self { bus, pool, receipt_pool, clock, lease, acks: Arc::new(acks) }
    }

    /// W3, after the commit: broadcasts an entry, and answers with the receipt once every edge
    /// enforces it, or at the deadline (W5).
    #[instrument(skip_all, name = "revocation.enforce", fields(revocation.revision = entry.revision.number, receipt.enforced))]
    pub(crate) async fn enforce(&self, entry: Entry) -> Result<Receipt, Refusal> {
        let committed_at = self.clock.monotonic();
        let revision = entry.revision;
        let mut acked = self.acks.changed.subscribe();
        self.bus.publish(&Broadcast { head: revision, entries: vec![entry] }).await;

        let rows = store::live(&self.receipt_pool).await.map_err(failed)?;
        let longest = rows.iter().map(|row| row.ttl).max().unwrap_or(self.lease);
        // With long leases the asker gives up before; a receipt that says so is better than none.
        let deadline = remaining()
            .map_or(Duration::MAX, |left| left.saturating_sub(ANSWER))
            .min(receipt_deadline(longest));
        let mut enforcement = Enforcement::new(revision, &rows);
        // Counted from the commit, not from the last ack: acks may never cease.
        let mut look_again = PATIENCE;
        let mut pressed = false;
        loop {
            acked.mark_unchanged();
            self.count_acks(&mut enforcement);
            let took = self.clock.monotonic().since(committed_at);
            if enforcement.is_done() || took >= deadline {
                let receipt = enforcement.receipt(took);
                tracing::Span::current().record("receipt.enforced", receipt.enforced);
                if !receipt.enforced {
                    warn!(revision = revision.number, waiting = ?receipt.edges.waiting, "not enforced in time");
                }
                return Ok(receipt);
            }
            if took < look_again {
                let pause = look_again.min(deadline).saturating_sub(took);
                let _ = tokio::time::timeout(pause, acked.changed()).await;
                continue;
            }
            let waiting = enforcement.waiting();
            if !pressed {
                pressed = true;
                info!(
                    revision = revision.number,
                    edges = waiting.len(),
                    "some edges do not answer yet"
                );
                store::must_apply(&self.receipt_pool, &waiting, revision).await.map_err(failed)?;
            }
            for row in store::of(&self.receipt_pool, &waiting).await.map_err(failed)? {
                enforcement.row(&row);
            }
            look_again = self.clock.monotonic().since(committed_at) + REREAD;
        }
    }

    fn count_acks(&self, enforcement: &mut Enforcement) {
        let applied = self.acks.applied.lock();
        let acked: Vec<_> = enforcement
            .waiting_edges()
            .filter_map(|(edge, life)| Some((life, *applied.get(&(edge.clone(), life))?)))
            .collect();
        for (life, revision) in acked {
            enforcement.acked(life, revision);
        }
    }

    /// Hears every edge's acks until nobody waits for a receipt any more.
    pub(crate) async fn hear_acks(self, finished: CancellationToken) -> anyhow::Result<()> {
        let mut acks = self.bus.subscribe(Subject::EdgeAck).await?;
        loop {
            let message = tokio::select! {
                () = finished.cancelled() => return Ok(()),
                message = acks.next() => message,
            };
            let Some(message) = message else { anyhow::bail!("the bus closed the subscription") };
            let Some(ack) = parse_event::<Ack>(&message) else { continue };
            let mut applied = self.acks.applied.lock();
            let life = (ack.edge, ack.incarnation);
            if applied.len() < MOST_ACKS || applied.contains_key(&life) {
                let highest = applied.entry(life).or_default();
                *highest = ack.applied.max(*highest);
            }
            drop(applied);
            self.acks.changed.send_replace(());
        }
    }
}
