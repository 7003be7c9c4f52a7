//! Revocations on their way to every edge: broadcast, acks, receipts, and the fencing of edges
//! that do not answer (W1 to W7).

mod edge;
mod receipts;
mod renewals;
mod status;
mod store;
mod watch;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use shared::{
    bus::{Bus, parse_event, patience, remaining},
    clock::{Clock, Monotonic},
    database::failed,
    lease::{
        Margin, receipt_deadline,
        worker::{Enforcement, FenceWatch},
    },
    message::{
        edge::{Ack, Renew, Renewed},
        revocation::{Broadcast, Entry, Receipt},
    },
    refusal::Refusal,
    subject::Subject,
};
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, instrument, warn};

use self::receipts::{Receipts, Wait};
use crate::{batch::Queue, warm::Warm};

/// After this long, edges that have not acked must apply before they may renew (W3).
const PATIENCE: Duration = Duration::from_millis(50);
/// How often the rows of missing edges are read again.
const REREAD: Duration = Duration::from_millis(100);
/// How often it is asked what a standby has, while somebody waits for it alone.
const STANDBY: Duration = Duration::from_millis(5);
/// How long the database may take: a host that vanished does not answer at all.
const DATABASE: Duration = Duration::from_secs(2);
/// What is left of the asker's time for the answer to arrive.
const ANSWER: Duration = Duration::from_millis(500);

/// Everything that revocations need; cheap to clone.
#[derive(Clone)]
pub(crate) struct Revocations {
    bus: Bus,
    /// For leases, beacons and fences alone.
    pool: PgPool,
    /// For receipts alone: while an edge is dead, many may wait.
    receipt_pool: PgPool,
    /// Of these, the one that each receipt begins with.
    receipt_warm: Warm,
    clock: Arc<dyn Clock>,
    lease: Duration,
    margin: Margin,
    renewals: Queue<Renew, Renewed>,
    receipts: Arc<Receipts>,
    fences: Arc<Mutex<FenceWatch>>,
    /// What goes on though nobody waits for it any more.
    background: TaskTracker,
}

/// What [`Revocations`] is made of.
pub(crate) struct Parts {
    pub(crate) bus: Bus,
    pub(crate) pool: PgPool,
    pub(crate) receipt_pool: PgPool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lease: Duration,
    pub(crate) margin: Margin,
    pub(crate) background: TaskTracker,
}

/// Revisions of one commit that were broadcast; the last of them stands for all.
#[derive(Clone)]
pub(crate) struct Enforcing {
    wait: Arc<Wait>,
    clock: Arc<dyn Clock>,
    /// When the receipt is due, enforced or not (W5).
    due: Monotonic,
}

impl Revocations {
    /// Also gives what has to run beside, until the end.
    pub(crate) fn new(parts: Parts) -> (Self, renewals::Renewals) {
        let (queue, renewals) = renewals::start(parts.pool.clone());
        let revocations = Self {
            bus: parts.bus,
            pool: parts.pool,
            receipt_warm: Warm::new(parts.receipt_pool.clone(), parts.clock.clone()),
            receipt_pool: parts.receipt_pool,
            clock: parts.clock,
            lease: parts.lease,
            margin: parts.margin,
            renewals: queue,
            receipts: Arc::default(),
            fences: Arc::new(Mutex::new(FenceWatch::new(parts.margin))),
            background: parts.background,
        };
        (revocations, renewals)
    }

    /// W3, after a commit: broadcasts its entries, which are consecutive, and begins to wait for
    /// every edge.
    #[instrument(skip_all, name = "revocation.enforce", fields(revocation.revision))]
    pub(crate) async fn enforce(&self, entries: Vec<Entry>) -> Result<Enforcing, Refusal> {
        let committed_at = self.clock.monotonic();
        let Some(head) = entries.last().map(|entry| entry.revision) else {
            return Err(Refusal::not_found());
        };
        tracing::Span::current().record("revocation.revision", head.number);
        self.bus.publish(&Broadcast { head, entries }).await;

        let read = self.live().await.map_err(failed)?;
        let longest = read.edges.rows.iter().map(|row| row.ttl).max().unwrap_or(self.lease);
        let patience = receipt_deadline(longest, self.margin);
        let enforcement = Enforcement::new(head, &read.edges);
        let now = self.clock.monotonic();
        let wait = Arc::new(self.receipts.begin(enforcement, committed_at, now, read.lsn));
        // Edges are pressed for as long as the receipt may take, whoever still waits for it.
        let underway = Arc::clone(&wait);
        let clock = self.clock.clone();
        self.background.spawn(async move {
            underway.done_within(patience).await;
            let receipt = underway.receipt(clock.monotonic());
            if !receipt.enforced {
                warn!(revision = head.number, waiting = ?receipt.edges.waiting, "not enforced in time");
            }
        });
        Ok(Enforcing { wait, clock: self.clock.clone(), due: committed_at.plus(patience) })
    }

    async fn live(&self) -> Result<store::Read, sqlx::Error> {
        let mut connection = self.receipt_warm.take().await?;
        let read = store::live(&mut *connection).await?;
        connection.keep();
        Ok(read)
    }

    /// Looks after what is missing: presses edges, and reads their rows, until `finished`.
    pub(crate) async fn look_after_receipts(
        self,
        finished: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut reread_at = self.clock.monotonic();
        loop {
            let begun = async {
                while !self.receipts.is_waiting() {
                    self.receipts.begun.notified().await;
                }
            };
            tokio::select! {
                () = finished.cancelled() => return Ok(()),
                () = begun => {}
            }
            let looked = tokio::time::timeout(DATABASE, self.look_again(&mut reread_at)).await;
            let pause = looked.unwrap_or(Err(sqlx::Error::PoolTimedOut)).unwrap_or_else(|error| {
                error!(%error, "receipts wait for the database");
                REREAD
            });
            tokio::select! {
                () = finished.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Says after how long to look once more.
    async fn look_again(&self, reread_at: &mut Monotonic) -> Result<Duration, sqlx::Error> {
        let now = self.clock.monotonic();
        let missing = self.receipts.missing(now, PATIENCE);
        if missing.standby {
            let flushed = store::standby(&self.receipt_pool).await?;
            self.receipts.standby_has(self.clock.monotonic(), flushed);
        }
        if !missing.press.is_empty() {
            info!(edges = missing.press.len(), "some edges do not answer yet");
            store::must_apply(&self.receipt_pool, &missing.press).await?;
        }
        if !missing.lives.is_empty() && (now >= *reread_at || !missing.press.is_empty()) {
            let read = store::live_and(&self.receipt_pool, &missing.lives).await?;
            self.receipts.read(self.clock.monotonic(), &read.edges);
            *reread_at = self.clock.monotonic().plus(REREAD);
        }
        Ok(if missing.standby { STANDBY } else { PATIENCE / 2 })
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
            self.receipts.acked(self.clock.monotonic(), ack.edge, ack.incarnation, ack.applied);
        }
    }
}

impl Enforcing {
    /// The receipt once every edge enforces it, or at its deadline (W5), or shortly before the
    /// asker gives up; at once where the asker wants it at the commit.
    #[instrument(skip_all, name = "revocation.receipt", fields(receipt.enforced))]
    pub(crate) async fn receipt(&self, entry_number: u64) -> Receipt {
        let left = self.due.since(self.clock.monotonic());
        let asker = remaining().map_or(Duration::MAX, |left| left.saturating_sub(ANSWER));
        let patience = patience().unwrap_or(Duration::MAX);
        if !patience.is_zero() {
            self.wait.done_within(left.min(asker).min(patience)).await;
        }
        let receipt = self.wait.receipt(self.clock.monotonic());
        tracing::Span::current().record("receipt.enforced", receipt.enforced);
        Receipt { revision: entry_number, ..receipt }
    }
}
