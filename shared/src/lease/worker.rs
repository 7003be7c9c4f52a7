//! How a worker renews and fences edges, and when a receipt is whole (W2 to W5).

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Monotonic,
    id::{EdgeId, Incarnation},
    lease::{Revision, margin},
    message::{
        edge::Renewal,
        revocation::{Receipt, ReceiptEdges},
    },
};

/// One life of an edge, as its row in Postgres has it. Numbers are of the present timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeRow {
    /// Which edge.
    pub edge: EdgeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
    /// Every revision up to this one is applied.
    pub applied: u64,
    /// The edge must have applied this before its lease is extended.
    pub must_apply: u64,
    /// Counts the extensions.
    pub lease_seq: i64,
    /// Length of its lease.
    pub ttl: Duration,
    /// Its lease ran out and it was told so.
    pub fenced: bool,
    /// It said that it decides no more.
    pub left: bool,
}

impl EdgeRow {
    /// Whether it may be deciding.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        !self.fenced && !self.left
    }

    /// W2. What the renewing statement does to the row; a test holds the statement against this.
    pub fn renew(&mut self, applied: u64, head: u64) -> Renewal {
        if !self.is_live() {
            return Renewal::Fenced;
        }
        self.applied = self.applied.max(applied);
        if self.applied < self.must_apply {
            return Renewal::Behind;
        }
        self.lease_seq += 1;
        self.must_apply = head;
        Renewal::Extended
    }
}

/// W4: watches the rows and says which lease has run out, by this worker's own steady clock.
#[derive(Debug, Clone, Default)]
pub struct FenceWatch {
    leases: BTreeMap<Incarnation, Lease>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    seq: i64,
    ttl: Duration,
    /// A reading taken *after* the row with this `seq` had arrived.
    seen_at: Monotonic,
}

/// A lease that has run out, to be fenced where the row still has this `lease_seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// Whose.
    pub incarnation: Incarnation,
    /// The extension that has run out. If the row has another one, it was renewed.
    pub lease_seq: i64,
}

impl FenceWatch {
    /// All live rows arrived; `now` was read after that.
    pub fn observe(&mut self, now: Monotonic, rows: &[EdgeRow]) {
        let old = std::mem::take(&mut self.leases);
        self.leases = rows
            .iter()
            .filter(|row| row.is_live())
            .map(|row| {
                let lease = match old.get(&row.incarnation) {
                    Some(lease) if lease.seq == row.lease_seq && lease.ttl >= row.ttl => *lease,
                    _ => Lease { seq: row.lease_seq, ttl: row.ttl, seen_at: now },
                };
                (row.incarnation, lease)
            })
            .collect();
    }

    /// The leases that have run out at `now`, margin included.
    #[must_use]
    pub fn overdue(&self, now: Monotonic) -> Vec<Overdue> {
        let over = |lease: &Lease| now.since(lease.seen_at) >= lease.ttl + margin(lease.ttl);
        let overdue = self.leases.iter().filter(|(_, lease)| over(lease));
        overdue
            .map(|(incarnation, lease)| Overdue { incarnation: *incarnation, lease_seq: lease.seq })
            .collect()
    }
}

/// How an edge came to count as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waiting,
    Acknowledged,
    Fenced,
    Left,
}

/// W3 and W5: one revision on its way to every edge.
#[derive(Debug, Clone)]
pub struct Enforcement {
    revision: Revision,
    edges: BTreeMap<Incarnation, (EdgeId, Standing)>,
}

impl Enforcement {
    /// The rows were read after `revision` was committed.
    #[must_use]
    pub fn new(revision: Revision, rows: &[EdgeRow]) -> Self {
        let edges = rows.iter().filter(|row| row.is_live()).map(|row| {
            let done = row.applied >= revision.number;
            let standing = if done { Standing::Acknowledged } else { Standing::Waiting };
            (row.incarnation, (row.edge.clone(), standing))
        });
        Self { revision, edges: edges.collect() }
    }

    /// An ack arrived, of this incarnation.
    pub fn acked(&mut self, incarnation: Incarnation, applied: Revision) {
        if applied >= self.revision {
            self.settle(incarnation, Standing::Acknowledged);
        }
    }

    /// A row was read again.
    pub fn row(&mut self, row: &EdgeRow) {
        if row.applied >= self.revision.number {
            self.settle(row.incarnation, Standing::Acknowledged);
        } else if row.fenced {
            self.settle(row.incarnation, Standing::Fenced);
        } else if row.left {
            self.settle(row.incarnation, Standing::Left);
        }
    }

    /// What is done stays done.
    fn settle(&mut self, incarnation: Incarnation, to: Standing) {
        if let Some((_, standing)) = self.edges.get_mut(&incarnation)
            && *standing == Standing::Waiting
        {
            *standing = to;
        }
    }

    /// The same, each with its edge: nobody's word counts for another.
    pub fn waiting_edges(&self) -> impl Iterator<Item = (&EdgeId, Incarnation)> {
        let waiting = self.edges.iter().filter(|(_, (_, s))| *s == Standing::Waiting);
        waiting.map(|(incarnation, (edge, _))| (edge, *incarnation))
    }

    /// Those of which it is not known yet.
    #[must_use]
    pub fn waiting(&self) -> Vec<Incarnation> {
        let waiting = self.edges.iter().filter(|(_, (_, s))| *s == Standing::Waiting);
        waiting.map(|(incarnation, _)| *incarnation).collect()
    }

    /// Whether every edge enforces the revision.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.edges.values().all(|(_, standing)| *standing != Standing::Waiting)
    }

    /// What can be said now, `took` after the commit.
    #[must_use]
    pub fn receipt(&self, took: Duration) -> Receipt {
        let count = |wanted| {
            let n = self.edges.values().filter(|(_, standing)| *standing == wanted).count();
            u32::try_from(n).unwrap_or(u32::MAX)
        };
        let waiting = self.edges.values().filter(|(_, s)| *s == Standing::Waiting);
        let (acknowledged, fenced) = (count(Standing::Acknowledged), count(Standing::Fenced));
        Receipt {
            revision: self.revision.number,
            enforced: self.is_done(),
            edges: ReceiptEdges {
                total: acknowledged + fenced + count(Standing::Waiting),
                acknowledged,
                fenced,
                waiting: waiting.map(|(edge, _)| edge.clone()).collect(),
            },
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TTL: Duration = Duration::from_secs(3);

    fn life(n: u128) -> Incarnation {
        Incarnation(Uuid::from_u128(n))
    }

    fn row(n: u128) -> EdgeRow {
        EdgeRow {
            edge: format!("edge-{n}").parse().unwrap(),
            incarnation: life(n),
            applied: 10,
            must_apply: 10,
            lease_seq: 1,
            ttl: TTL,
            fenced: false,
            left: false,
        }
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    fn rev(number: u64) -> Revision {
        Revision { timeline: 1, number }
    }

    #[test]
    fn w2_extends_only_who_has_applied_what_it_must() {
        let mut edge = row(1);
        assert_eq!(edge.renew(10, 12), Renewal::Extended);
        assert_eq!((edge.lease_seq, edge.must_apply), (2, 12));
        assert_eq!(edge.renew(11, 13), Renewal::Behind);
        assert_eq!((edge.lease_seq, edge.must_apply, edge.applied), (2, 12, 11));
        assert_eq!(edge.renew(12, 13), Renewal::Extended);
        edge.fenced = true;
        assert_eq!(edge.renew(13, 13), Renewal::Fenced);
    }

    #[test]
    fn w4_waits_lease_and_margin_from_the_reading_after_the_row() {
        let mut watch = FenceWatch::default();
        watch.observe(at(100), &[row(1)]);
        watch.observe(at(3_000), &[row(1)]);
        assert_eq!(watch.overdue(at(3_499)), []);
        assert_eq!(watch.overdue(at(3_500)), [Overdue { incarnation: life(1), lease_seq: 1 }]);
    }

    #[test]
    fn w4_a_renewal_starts_the_wait_anew() {
        let mut watch = FenceWatch::default();
        watch.observe(at(0), &[row(1)]);
        watch.observe(at(3_000), &[EdgeRow { lease_seq: 2, ..row(1) }]);
        assert_eq!(watch.overdue(at(6_399)), []);
        assert_eq!(watch.overdue(at(6_400)), [Overdue { incarnation: life(1), lease_seq: 2 }]);
    }

    #[test]
    fn w4_watches_only_the_living() {
        let mut watch = FenceWatch::default();
        watch.observe(at(0), &[EdgeRow { left: true, ..row(1) }]);
        assert_eq!(watch.overdue(at(10_000)), []);
    }

    #[test]
    fn w5_counts_incarnations_and_leaves_those_that_left_aside() {
        let rows: Vec<_> = (1..=5).map(row).collect();
        let mut enforcement = Enforcement::new(rev(11), &rows);
        enforcement.acked(life(1), rev(11));
        enforcement.row(&EdgeRow { applied: 12, fenced: true, ..row(2) });
        enforcement.row(&EdgeRow { fenced: true, ..row(3) });
        enforcement.row(&EdgeRow { left: true, ..row(4) });
        enforcement.acked(life(5), rev(10));
        let receipt = enforcement.receipt(Duration::from_millis(7));
        assert!(!receipt.enforced);
        assert_eq!(receipt.edges.total, 4);
        assert_eq!((receipt.edges.acknowledged, receipt.edges.fenced), (2, 1));
        assert_eq!(receipt.edges.waiting, ["edge-5".parse().unwrap()]);
        enforcement.acked(life(5), rev(11));
        assert!(enforcement.receipt(Duration::ZERO).enforced);
    }

    #[test]
    fn w5_an_ack_of_another_life_settles_nothing() {
        let mut enforcement = Enforcement::new(rev(11), &[row(1)]);
        enforcement.acked(life(2), rev(11));
        enforcement.acked(life(1), Revision { timeline: 0, number: 99 });
        assert!(!enforcement.is_done());
    }

    #[test]
    fn w5_without_edges_there_is_nothing_to_wait_for() {
        assert!(Enforcement::new(rev(11), &[]).is_done());
    }
}
