//! Receipts on their way: what edges acked, and which revisions are not enforced everywhere yet
//! (W3 and W5).
//!
//! However many revisions wait, the rows of missing edges are read, and pressed, by one loop.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    clock::Monotonic,
    id::{EdgeId, Incarnation},
    lease::{
        Revision,
        worker::{Enforcement, Rows},
    },
    message::revocation::Receipt,
};
use tokio::sync::{Notify, watch as signal};

use super::store::Lsn;

/// Acks of lives that are not known to be over.
const MOST_ACKS: usize = 20_000;

/// What this worker knows of all edges, and the revisions that it waits for.
#[derive(Default)]
pub(super) struct Receipts {
    state: Mutex<State>,
    /// A revision began to wait.
    pub(super) begun: Notify,
}

#[derive(Default)]
struct State {
    /// The highest revision that each life has acked, as heard by this worker.
    acked: HashMap<(EdgeId, Incarnation), Revision>,
    pending: HashMap<u64, Pending>,
    next: u64,
}

struct Pending {
    enforcement: Enforcement,
    committed_at: Monotonic,
    /// The commit is on a synchronous standby's disk once that has flushed up to here (W7).
    lsn: Option<Lsn>,
    /// Edges that are missing have been told to apply it before they renew.
    pressed: bool,
    done: signal::Sender<Option<Duration>>,
}

impl Pending {
    fn is_missing(&self) -> bool {
        self.done.borrow().is_none()
    }

    /// Tells those who wait once nothing is missing any more.
    fn settle(&mut self, now: Monotonic) {
        if self.enforcement.is_done() && self.lsn.is_none() && self.is_missing() {
            self.done.send_replace(Some(now.since(self.committed_at)));
        }
    }
}

/// A revision that is waited for; not waited for any more once dropped.
pub(super) struct Wait {
    receipts: Arc<Receipts>,
    id: u64,
    done: signal::Receiver<Option<Duration>>,
}

/// What is missing, over all revisions that wait for longer than a while.
#[derive(Default)]
pub(super) struct Missing {
    /// Lives of which it is not known whether they enforce.
    pub(super) lives: BTreeSet<Incarnation>,
    /// Lives that have to apply a revision before they may renew.
    pub(super) press: BTreeMap<Incarnation, Revision>,
    /// Some commit is not known to be on a standby's disk.
    pub(super) standby: bool,
}

impl Receipts {
    /// Counts an ack.
    pub(super) fn acked(&self, now: Monotonic, edge: EdgeId, life: Incarnation, applied: Revision) {
        let mut state = self.state.lock();
        for pending in state.pending.values_mut() {
            pending.enforcement.acked(&edge, life, applied);
            pending.settle(now);
        }
        let life = (edge, life);
        if state.acked.len() < MOST_ACKS || state.acked.contains_key(&life) {
            let highest = state.acked.entry(life).or_default();
            *highest = applied.max(*highest);
        }
    }

    /// Forgets the acks of lives that are over.
    pub(super) fn keep(&self, live: &Rows) {
        let live: BTreeSet<_> = live.rows.iter().map(|row| row.incarnation).collect();
        self.state.lock().acked.retain(|(_, life), _| live.contains(life));
    }

    /// Counts the acks that were heard before.
    pub(super) fn count(&self, enforcement: &mut Enforcement) {
        self.state.lock().count(enforcement);
    }

    /// What an edge has applied: what its row says, or what it has said since.
    pub(super) fn applied(&self, edge: &EdgeId, life: Incarnation, row: u64) -> u64 {
        let state = self.state.lock();
        let acked = state.acked.get(&(edge.clone(), life));
        acked.map_or(row, |acked| acked.number.max(row))
    }

    /// Begins to wait for what was committed at `committed_at`. `lsn` is where the commit lies, if a
    /// standby has to have it.
    pub(super) fn begin(
        self: &Arc<Self>,
        mut enforcement: Enforcement,
        committed_at: Monotonic,
        now: Monotonic,
        lsn: Option<Lsn>,
    ) -> Wait {
        let (sender, done) = signal::channel(None);
        let mut state = self.state.lock();
        state.count(&mut enforcement);
        let mut pending = Pending { enforcement, committed_at, lsn, pressed: false, done: sender };
        pending.settle(now);
        let id = state.next;
        state.next += 1;
        state.pending.insert(id, pending);
        drop(state);
        self.begun.notify_one();
        Wait { receipts: Arc::clone(self), id, done }
    }

    /// Whether anything is missing at all.
    pub(super) fn is_waiting(&self) -> bool {
        self.state.lock().pending.values().any(Pending::is_missing)
    }

    /// What has been missing for as long as `patience`. Each revision presses once.
    pub(super) fn missing(&self, now: Monotonic, patience: Duration) -> Missing {
        let mut missing = Missing::default();
        let mut state = self.state.lock();
        for pending in state.pending.values_mut().filter(|pending| pending.is_missing()) {
            missing.standby |= pending.lsn.is_some();
            if now.since(pending.committed_at) < patience {
                continue;
            }
            let waiting = pending.enforcement.waiting();
            if !std::mem::replace(&mut pending.pressed, true) {
                let revision = pending.enforcement.revision();
                for life in &waiting {
                    let highest = missing.press.entry(*life).or_insert(revision);
                    *highest = revision.max(*highest);
                }
            }
            missing.lives.extend(waiting);
        }
        missing
    }

    /// Rows were read again.
    pub(super) fn read(&self, now: Monotonic, rows: &Rows) {
        for pending in self.state.lock().pending.values_mut() {
            pending.enforcement.read(rows);
            pending.settle(now);
        }
    }

    /// A synchronous standby has everything up to here on its disk; none is configured any more if
    /// there is no such place.
    pub(super) fn standby_has(&self, now: Monotonic, flushed: Option<Lsn>) {
        for pending in self.state.lock().pending.values_mut() {
            if pending.lsn.is_some_and(|lsn| flushed.is_none_or(|flushed| flushed >= lsn)) {
                pending.lsn = None;
                pending.settle(now);
            }
        }
    }
}

impl State {
    fn count(&self, enforcement: &mut Enforcement) {
        for ((edge, life), applied) in &self.acked {
            enforcement.acked(edge, *life, *applied);
        }
    }
}

impl Wait {
    /// Returns once every edge enforces, at most after `patience`.
    pub(super) async fn done_within(&self, patience: Duration) {
        let mut done = self.done.clone();
        let _ = tokio::time::timeout(patience, done.wait_for(Option::is_some)).await;
    }

    /// What can be said now.
    pub(super) fn receipt(&self, now: Monotonic) -> Receipt {
        let state = self.receipts.state.lock();
        let pending = &state.pending[&self.id];
        let took = *pending.done.borrow();
        let mut receipt =
            pending.enforcement.receipt(took.unwrap_or_else(|| now.since(pending.committed_at)));
        // All edges may have it while the standby has not.
        receipt.enforced = took.is_some();
        receipt
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.receipts.state.lock().pending.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use shared::lease::worker::EdgeRow;
    use uuid::Uuid;

    use super::*;

    fn life(n: u128) -> Incarnation {
        Incarnation(Uuid::from_u128(n))
    }

    fn edge(n: u128) -> EdgeId {
        format!("edge-{n}").parse().expect("a name")
    }

    fn rev(number: u64) -> Revision {
        Revision { timeline: 1, number }
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    fn rows(count: u128, applied: u64) -> Rows {
        let row = |n| EdgeRow {
            edge: edge(n),
            incarnation: life(n),
            applied,
            must_apply: applied,
            lease_seq: 1,
            ttl: Duration::from_secs(3),
            allow_cached: Duration::ZERO,
            fenced: false,
            left: false,
        };
        Rows { timeline: 1, rows: (1..=count).map(row).collect() }
    }

    fn begin(receipts: &Arc<Receipts>, edges: &Rows, lsn: Option<Lsn>) -> Wait {
        receipts.begin(Enforcement::new(rev(11), edges), at(0), at(1), lsn)
    }

    #[test]
    fn acks_before_and_after_the_rows_were_read_count() {
        let receipts = Arc::<Receipts>::default();
        receipts.acked(at(1), edge(1), life(1), rev(11));
        let wait = begin(&receipts, &rows(2, 10), None);
        assert!(!wait.receipt(at(2)).enforced);
        receipts.acked(at(3), edge(2), life(2), rev(10));
        assert!(!wait.receipt(at(3)).enforced);
        receipts.acked(at(4), edge(2), life(2), rev(12));
        let receipt = wait.receipt(at(99));
        assert!(receipt.enforced);
        assert_eq!(receipt.took_ms, 4, "from the commit to the last ack");
    }

    #[test]
    fn w7_the_standby_counts_as_much_as_the_edges() {
        let receipts = Arc::<Receipts>::default();
        let wait = begin(&receipts, &rows(1, 11), Some(100));
        assert!(receipts.missing(at(1), Duration::from_millis(50)).standby);
        assert!(!wait.receipt(at(1)).enforced);
        receipts.standby_has(at(2), Some(99));
        assert!(!wait.receipt(at(2)).enforced);
        receipts.standby_has(at(3), Some(100));
        assert!(wait.receipt(at(3)).enforced);
        let wait = begin(&receipts, &rows(1, 11), Some(200));
        receipts.standby_has(at(4), None);
        assert!(wait.receipt(at(4)).enforced, "none is configured any more");
    }

    #[test]
    fn w3_missing_edges_are_pressed_once_for_the_highest_revision() {
        let receipts = Arc::<Receipts>::default();
        let patience = Duration::from_millis(50);
        let _first = begin(&receipts, &rows(2, 10), None);
        let second = Enforcement::new(rev(12), &rows(2, 10));
        let _second = receipts.begin(second, at(10), at(10), None);
        receipts.acked(at(20), edge(1), life(1), rev(11));
        assert!(receipts.missing(at(49), patience).lives.is_empty(), "they may still ack");
        let missing = receipts.missing(at(60), patience);
        assert_eq!(missing.lives, BTreeSet::from([life(1), life(2)]));
        assert_eq!(missing.press, BTreeMap::from([(life(1), rev(12)), (life(2), rev(12))]));
        let missing = receipts.missing(at(160), patience);
        assert_eq!((missing.lives.len(), missing.press.len()), (2, 0));
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let receipts = Arc::<Receipts>::default();
        let wait = begin(&receipts, &rows(1, 10), None);
        assert!(receipts.is_waiting());
        drop(wait);
        assert!(!receipts.is_waiting());
        receipts.acked(at(1), edge(1), life(1), rev(11));
        receipts.acked(at(1), edge(2), life(2), rev(11));
        receipts.keep(&rows(1, 10));
        assert_eq!(receipts.applied(&edge(1), life(1), 7), 11);
        assert_eq!(receipts.applied(&edge(2), life(2), 7), 7);
    }
}
