//! How a worker renews and fences edges, and when a receipt is whole (W2 to W5).

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Monotonic,
    id::{EdgeId, Incarnation},
    lease::{Margin, Revision},
    message::{
        edge::Renewal,
        revocation::{Receipt, ReceiptEdges},
    },
};

/// One life of an edge, as its row in Postgres has it. Numbers are of the present timeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// How long it may go on allowing what it has cached after its lease, while it is cut off.
    pub allow_cached: Duration,
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

    /// How long it may allow after it asked for its last extension.
    #[must_use]
    pub fn reach(&self) -> Duration {
        self.ttl + self.allow_cached
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

/// Rows of edges, and the timeline of the database that had them: numbers of one timeline mean
/// nothing in another (E7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The database's timeline when the rows were read.
    pub timeline: u32,
    /// The rows.
    pub rows: Vec<EdgeRow>,
}

impl Rows {
    fn live(&self) -> impl Iterator<Item = &EdgeRow> {
        self.rows.iter().filter(|row| row.is_live())
    }
}

/// W4: watches the rows and says which lease has run out, by this worker's own steady clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FenceWatch {
    margin: Margin,
    timeline: u32,
    leases: BTreeMap<Incarnation, Lease>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Lease {
    seq: i64,
    /// [`EdgeRow::reach`].
    reach: Duration,
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
    /// A watch that has seen nothing yet.
    #[must_use]
    pub fn new(margin: Margin) -> Self {
        Self { margin, ..Self::default() }
    }

    /// All live rows arrived; `now` was read after that. With another timeline all waits start
    /// anew: a renewal that the failover lost may have been answered (E7).
    pub fn observe(&mut self, now: Monotonic, rows: &Rows) {
        let mut old = std::mem::take(&mut self.leases);
        if rows.timeline != self.timeline {
            self.timeline = rows.timeline;
            old.clear();
        }
        self.leases = rows
            .live()
            .map(|row| {
                let lease = match old.get(&row.incarnation) {
                    Some(lease) if lease.seq == row.lease_seq && lease.reach >= row.reach() => {
                        *lease
                    }
                    _ => Lease { seq: row.lease_seq, reach: row.reach(), seen_at: now },
                };
                (row.incarnation, lease)
            })
            .collect();
    }

    /// The leases that have run out at `now`, margin included.
    #[must_use]
    pub fn overdue(&self, now: Monotonic) -> Vec<Overdue> {
        let over =
            |lease: &Lease| now.since(lease.seen_at) >= lease.reach + self.margin.of(lease.reach);
        let overdue = self.leases.iter().filter(|(_, lease)| over(lease));
        overdue
            .map(|(incarnation, lease)| Overdue { incarnation: *incarnation, lease_seq: lease.seq })
            .collect()
    }

    /// How much longer a life may decide, at most, as far as this worker knows. None if it is not
    /// known to live.
    #[must_use]
    pub fn remaining(&self, now: Monotonic, incarnation: Incarnation) -> Option<Duration> {
        let lease = self.leases.get(&incarnation)?;
        Some(lease.reach.saturating_sub(now.since(lease.seen_at)))
    }
}

/// How an edge came to count as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Standing {
    Waiting,
    Acknowledged,
    Fenced,
    Left,
}

/// W3 and W5: revisions of one commit on their way to every edge. The last of them stands for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Enforcement {
    revision: Revision,
    edges: BTreeMap<Incarnation, (EdgeId, Standing)>,
    waiting: usize,
    /// The database has failed over since: what was committed may be lost, and nothing that its
    /// rows say tells of the revision (E7).
    failed_over: bool,
}

impl Enforcement {
    /// The rows were read after `revision` was committed; all that have not left are counted.
    #[must_use]
    pub fn new(revision: Revision, rows: &Rows) -> Self {
        let edges: BTreeMap<_, _> = rows
            .rows
            .iter()
            .filter(|row| !row.left)
            .map(|row| (row.incarnation, (row.edge.clone(), Standing::Waiting)))
            .collect();
        let waiting = edges.len();
        let mut enforcement = Self { revision, edges, waiting, failed_over: false };
        enforcement.read(rows);
        enforcement
    }

    /// The revision that is to be enforced.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// An ack arrived, of this life of this edge: nobody's word counts for another.
    pub fn acked(&mut self, edge: &EdgeId, incarnation: Incarnation, applied: Revision) {
        let of_edge = self.edges.get(&incarnation).is_some_and(|(own, _)| own == edge);
        let covers = applied.timeline == self.revision.timeline && applied >= self.revision;
        if of_edge && covers {
            self.settle(incarnation, Standing::Acknowledged);
        }
    }

    /// Rows were read again.
    pub fn read(&mut self, rows: &Rows) {
        if rows.timeline != self.revision.timeline {
            self.failed_over = true;
            return;
        }
        for row in &rows.rows {
            if row.applied >= self.revision.number {
                self.settle(row.incarnation, Standing::Acknowledged);
            } else if row.fenced {
                self.settle(row.incarnation, Standing::Fenced);
            } else if row.left {
                self.settle(row.incarnation, Standing::Left);
            }
        }
    }

    /// What is done stays done.
    fn settle(&mut self, incarnation: Incarnation, to: Standing) {
        if let Some((_, standing)) = self.edges.get_mut(&incarnation)
            && *standing == Standing::Waiting
        {
            *standing = to;
            self.waiting -= 1;
        }
    }

    /// Those of which it is not known yet.
    #[must_use]
    pub fn waiting(&self) -> Vec<Incarnation> {
        let waiting = self.edges.iter().filter(|(_, (_, s))| *s == Standing::Waiting);
        waiting.map(|(incarnation, _)| *incarnation).collect()
    }

    /// Whether every edge enforces the revision.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.waiting == 0 && !self.failed_over
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
            waiting_ms: None,
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
            allow_cached: Duration::ZERO,
            fenced: false,
            left: false,
        }
    }

    fn edge(n: u128) -> EdgeId {
        row(n).edge
    }

    fn rows(rows: &[EdgeRow]) -> Rows {
        Rows { timeline: 1, rows: rows.to_vec() }
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
        watch.observe(at(100), &rows(&[row(1)]));
        watch.observe(at(3_000), &rows(&[row(1)]));
        assert_eq!(watch.overdue(at(3_499)), []);
        assert_eq!(watch.overdue(at(3_500)), [Overdue { incarnation: life(1), lease_seq: 1 }]);
    }

    #[test]
    fn w4_a_renewal_starts_the_wait_anew() {
        let mut watch = FenceWatch::default();
        watch.observe(at(0), &rows(&[row(1)]));
        watch.observe(at(3_000), &rows(&[EdgeRow { lease_seq: 2, ..row(1) }]));
        assert_eq!(watch.overdue(at(6_399)), []);
        assert_eq!(watch.overdue(at(6_400)), [Overdue { incarnation: life(1), lease_seq: 2 }]);
    }

    #[test]
    fn w4_waits_for_what_an_edge_may_allow_while_it_is_cut_off() {
        let mut watch = FenceWatch::default();
        let patient = EdgeRow { allow_cached: Duration::from_secs(7), ..row(1) };
        watch.observe(at(0), &rows(&[patient]));
        assert_eq!(watch.overdue(at(11_099)), []);
        assert_eq!(watch.overdue(at(11_100)), [Overdue { incarnation: life(1), lease_seq: 1 }]);
    }

    #[test]
    fn w4_the_margin_is_a_choice() {
        let mut watch =
            FenceWatch::new(Margin { percent: 50, constant: Duration::from_millis(500) });
        watch.observe(at(0), &rows(&[row(1)]));
        assert_eq!(watch.overdue(at(4_999)), []);
        assert_eq!(watch.overdue(at(5_000)), [Overdue { incarnation: life(1), lease_seq: 1 }]);
    }

    #[test]
    fn e7_waits_start_anew_with_a_timeline() {
        let mut watch = FenceWatch::default();
        watch.observe(at(0), &rows(&[row(1)]));
        watch.observe(at(3_000), &Rows { timeline: 2, rows: vec![row(1)] });
        assert_eq!(watch.overdue(at(6_399)), []);
        assert_eq!(watch.overdue(at(6_400)), [Overdue { incarnation: life(1), lease_seq: 1 }]);
    }

    #[test]
    fn w4_watches_only_the_living() {
        let mut watch = FenceWatch::default();
        watch.observe(at(0), &rows(&[EdgeRow { left: true, ..row(1) }]));
        assert_eq!(watch.overdue(at(10_000)), []);
    }

    #[test]
    fn w5_counts_incarnations_and_leaves_those_that_left_aside() {
        let five: Vec<_> = (1..=5).map(row).collect();
        let mut enforcement = Enforcement::new(rev(11), &rows(&five));
        enforcement.acked(&edge(1), life(1), rev(11));
        enforcement.read(&rows(&[
            EdgeRow { applied: 12, fenced: true, ..row(2) },
            EdgeRow { fenced: true, ..row(3) },
            EdgeRow { left: true, ..row(4) },
        ]));
        enforcement.acked(&edge(5), life(5), rev(10));
        let receipt = enforcement.receipt(Duration::from_millis(7));
        assert!(!receipt.enforced);
        assert_eq!(receipt.edges.total, 4);
        assert_eq!((receipt.edges.acknowledged, receipt.edges.fenced), (2, 1));
        assert_eq!(receipt.edges.waiting, ["edge-5".parse().unwrap()]);
        enforcement.acked(&edge(5), life(5), rev(11));
        assert!(enforcement.receipt(Duration::ZERO).enforced);
    }

    #[test]
    fn w5_an_ack_of_another_life_settles_nothing() {
        let mut enforcement = Enforcement::new(rev(11), &rows(&[row(1)]));
        enforcement.acked(&edge(1), life(2), rev(11));
        enforcement.acked(&edge(2), life(1), rev(11));
        enforcement.acked(&edge(1), life(1), Revision { timeline: 0, number: 99 });
        enforcement.acked(&edge(1), life(1), Revision { timeline: 2, number: 99 });
        assert!(!enforcement.is_done());
    }

    #[test]
    fn e7_rows_of_another_timeline_prove_nothing() {
        let mut enforcement = Enforcement::new(rev(11), &rows(&[row(1)]));
        let far = Rows { timeline: 2, rows: vec![EdgeRow { applied: 99, ..row(1) }] };
        enforcement.read(&far);
        enforcement.acked(&edge(1), life(1), rev(11));
        assert!(!enforcement.is_done());
        assert!(!enforcement.receipt(Duration::ZERO).enforced);
        assert!(!Enforcement::new(rev(11), &Rows { timeline: 2, rows: vec![] }).is_done());
    }

    #[test]
    fn w5_without_edges_there_is_nothing_to_wait_for() {
        assert!(Enforcement::new(rev(11), &rows(&[])).is_done());
    }
}
