//! What was decided, what was revoked, and whether the two fit: no allow that began after the
//! receipt.
//!
//! Of each right only the allow that *began last* at each edge is kept: if that one is in order, all
//! are. So a run may last as long as one likes.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use shared::{
    clock::{Clock as _, Monotonic, SystemClock},
    id::{SessionId, TenantId, UserId},
    message::revocation::Receipt,
    token::Token,
};

/// How long a right is asked about after a receipt that covers it.
const AFTERMATH: Duration = Duration::from_secs(8);
/// A clock that runs at another rate than this machine's may show a grant for this much longer.
const RATES: Duration = Duration::from_millis(50);
/// An edge's notion of server time may run ahead by as long as a renewal may take, a third of a
/// lease, and a busy machine is late besides.
const AHEAD: Duration = Duration::from_millis(1_500);
/// Receipts of the past that are kept.
const RECEIPTS: usize = 20_000;
/// Violations that are described; all are counted.
const DESCRIBED: usize = 50;

/// This machine's steady clock.
#[must_use]
pub fn now() -> Monotonic {
    SystemClock.monotonic()
}

/// Something that edges may allow until it is revoked: a session, or the role that a grant confers.
#[derive(Debug)]
pub struct Right {
    /// Whose.
    pub user: UserId,
    /// In which tenant.
    pub tenant: TenantId,
    /// By which session.
    pub session: SessionId,
    /// The session's token.
    pub token: Token,
    /// The grant by which the role of an admin is demanded.
    pub grant: Option<Granted>,
    known: Mutex<Known>,
}

/// A grant of emergency access.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Its id.
    pub id: String,
    /// When it was asked for.
    pub asked_at: Monotonic,
    /// When it was known to hold at every edge.
    pub held_at: Option<Monotonic>,
    /// How long it lasts, where the run waits for its end by time.
    pub lasts: Option<Duration>,
}

#[derive(Debug, Default)]
struct Known {
    /// By edge: the allow that began last.
    allows: BTreeMap<usize, Span>,
    /// Somebody may have begun to end it.
    attempted: bool,
    /// It ended at this revision, or an earlier one.
    revision: Option<u64>,
    /// The first receipt that covers the revision.
    covered_at: Option<Monotonic>,
    /// The edges that a violation has been reported of.
    reported: Vec<usize>,
}

/// When a request was sent, and when its answer had arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Read before sending.
    pub began: Monotonic,
    /// Read after the answer.
    pub ended: Monotonic,
}

impl Right {
    /// A right that nobody has used yet.
    #[must_use]
    pub fn new(user: UserId, tenant: TenantId, session: SessionId, token: Token) -> Self {
        Self { user, tenant, session, token, grant: None, known: Mutex::default() }
    }

    /// What a grant adds to it.
    #[must_use]
    pub fn granted(&self, grant: Granted) -> Self {
        let token = self.token.clone();
        Self { grant: Some(grant), ..Self::new(self.user, self.tenant, self.session, token) }
    }

    /// Notes, *before* anything is sent, that somebody is about to end it.
    pub fn attempt(&self) {
        self.known.lock().attempted = true;
    }

    /// Whether somebody may have begun to end it.
    #[must_use]
    pub fn is_attempted(&self) -> bool {
        self.known.lock().attempted
    }

    /// Whether it is known at which revision it ended, if it did.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.known.lock().revision.is_some()
    }

    fn is_over(&self, now: Monotonic) -> bool {
        let covered_at = self.known.lock().covered_at;
        let end = self.grant.as_ref().and_then(|grant| Some(grant.held_at?.plus(grant.lasts?)));
        covered_at.or(end).is_some_and(|at| now.since(at) > AFTERMATH)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.grant {
            Some(grant) => write!(f, "grant {} of user {}", grant.id, self.user),
            None => write!(f, "session {} of user {}", self.session, self.user),
        }
    }
}

/// Counts of a run.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names say it, and the summary prints them")]
pub struct Counts {
    pub allowed: AtomicU64,
    pub denied: AtomicU64,
    pub undecided: AtomicU64,
    pub unanswered: AtomicU64,
    pub revocations: AtomicU64,
    pub signed_out: AtomicU64,
    pub refused: AtomicU64,
    pub lost: AtomicU64,
    pub enforced: AtomicU64,
    pub not_enforced: AtomicU64,
    pub slowest_ms: AtomicU64,
    pub violations: AtomicU64,
}

/// Everything that a run has seen.
#[derive(Debug)]
pub struct Ledger {
    began: Monotonic,
    /// What happened how often.
    pub counts: Counts,
    asked: Mutex<Asked>,
    /// Receipts that say `enforced`, each of a higher revision than those before it.
    receipts: Mutex<Vec<(Monotonic, Receipt)>>,
    violations: Mutex<Vec<String>>,
    /// By edge: since when its process cannot have been started anew.
    lives: Mutex<BTreeMap<usize, Monotonic>>,
    /// Whether the database's wall clock was ever touched.
    stepped: AtomicBool,
}

/// What edges are asked about.
#[derive(Debug, Default)]
struct Asked {
    live: Vec<Arc<Right>>,
    ended: Vec<Arc<Right>>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            began: now(),
            counts: Counts::default(),
            asked: Mutex::default(),
            receipts: Mutex::default(),
            violations: Mutex::default(),
            lives: Mutex::default(),
            stepped: AtomicBool::new(false),
        }
    }
}

impl Ledger {
    /// Time since the beginning, for people.
    #[must_use]
    pub fn clock(&self, at: Monotonic) -> String {
        format!("{:.6} s", at.since(self.began).as_secs_f64())
    }

    /// From now on edges are asked about a right.
    pub fn add(&self, right: Arc<Right>) {
        self.asked.lock().live.push(right);
    }

    /// Notes, *before* anything is sent, that somebody is about to end rights.
    pub fn attempt(&self, rights: &[Arc<Right>]) {
        let mut asked = self.asked.lock();
        for right in rights {
            right.attempt();
        }
        let (ended, live) =
            std::mem::take(&mut asked.live).into_iter().partition(|right| right.is_attempted());
        asked.live = live;
        let ended: Vec<_> = ended;
        asked.ended.extend(ended);
    }

    /// One right at random: of those that somebody began to end if `ended`, else of the others.
    pub fn any(&self, rng: &mut fastrand::Rng, ended: bool) -> Option<Arc<Right>> {
        let asked = self.asked.lock();
        let rights = if ended { &asked.ended } else { &asked.live };
        rng.choice(rights).cloned()
    }

    /// All rights that somebody began to end, and are not long over.
    #[must_use]
    pub fn ended(&self) -> Vec<Arc<Right>> {
        self.asked.lock().ended.clone()
    }

    /// All rights that nobody began to end.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<Right>> {
        self.asked.lock().live.clone()
    }

    /// Forgets what has been over for long, and what somebody tried to end in vain.
    pub fn forget(&self, failed: impl Fn(&Right) -> bool) {
        let now = now();
        let mut asked = self.asked.lock();
        asked.live.retain(|right| !right.is_over(now));
        asked.ended.retain(|right| !right.is_over(now) && !failed(right));
    }

    /// The process of an edge may end or start now.
    pub fn new_life(&self, edge: usize) {
        self.lives.lock().insert(edge, now());
    }

    /// The database's wall clock is about to be changed.
    pub fn step(&self) {
        self.stepped.store(true, Relaxed);
    }

    /// An edge's answer about a right: its status, none if it did not come in time.
    pub fn decision(&self, right: &Right, edge: usize, span: Span, status: Option<u16>) {
        let counts = &self.counts;
        let count = match status {
            Some(200) => &counts.allowed,
            Some(401 | 403) => &counts.denied,
            Some(503) => &counts.undecided,
            None => &counts.unanswered,
            Some(other) => {
                return self.violation(format!("{right}: edge {edge} answered {other}"));
            }
        };
        count.fetch_add(1, Relaxed);
        match status {
            Some(200) => {
                {
                    let mut known = right.known.lock();
                    let last = known.allows.entry(edge).or_insert(span);
                    *last = (*last).max(span);
                }
                self.judge(right);
                self.judge_late(right, edge, span);
            }
            Some(401 | 403) => self.judge_denial(right, edge, span, status.unwrap_or_default()),
            _ => {}
        }
    }

    /// A receipt arrived at `at`.
    pub fn receipt(&self, receipt: &Receipt, at: Monotonic) {
        let counts = &self.counts;
        let edges = &receipt.edges;
        let waiting = u32::try_from(edges.waiting.len()).unwrap_or(u32::MAX);
        if edges.acknowledged + edges.fenced + waiting != edges.total
            || receipt.enforced != edges.waiting.is_empty()
        {
            self.violation(format!("a receipt contradicts itself: {receipt:?}"));
        }
        counts.slowest_ms.fetch_max(receipt.took_ms, Relaxed);
        if !receipt.enforced {
            counts.not_enforced.fetch_add(1, Relaxed);
            return;
        }
        counts.enforced.fetch_add(1, Relaxed);
        {
            let mut receipts = self.receipts.lock();
            // In the order in which they arrived, as far as this can be told.
            if receipts.last().is_none_or(|(_, last)| last.revision < receipt.revision) {
                receipts.push((at, receipt.clone()));
            }
            if receipts.len() > RECEIPTS {
                receipts.drain(..RECEIPTS / 2);
            }
        }
        for right in self.ended() {
            self.judge(&right);
        }
    }

    /// A right is known to have ended at this revision or before.
    pub fn revoked(&self, right: &Right, revision: u64) {
        {
            let mut known = right.known.lock();
            known.revision = Some(known.revision.map_or(revision, |known| known.min(revision)));
            known.attempted = true;
        }
        self.judge(right);
    }

    /// No allow that began after the receipt. A receipt speaks of all earlier revisions, too: also
    /// of those whose own receipt got lost.
    fn judge(&self, right: &Right) {
        let mut known = right.known.lock();
        let Some(revision) = known.revision else { return };
        let Some((at, receipt)) = self.covering(revision) else { return };
        known.covered_at.get_or_insert(at);
        let late: Vec<_> = known
            .allows
            .iter()
            .filter(|(edge, span)| span.began > at && !known.reported.contains(edge))
            .map(|(edge, span)| (*edge, *span))
            .collect();
        for (edge, span) in late {
            known.reported.push(edge);
            self.violation(format!(
                "{right}, revoked at revision {revision}, was allowed by edge {edge} in a request \
                 that began at {} and ended at {}, after the receipt of {}: {receipt:?}",
                self.clock(span.began),
                self.clock(span.ended),
                self.clock(at),
            ));
        }
    }

    fn covering(&self, revision: u64) -> Option<(Monotonic, Receipt)> {
        let receipts = self.receipts.lock();
        let first = receipts.partition_point(|(_, receipt)| receipt.revision < revision);
        receipts.get(first).cloned()
    }

    /// A grant is not allowed after its end, at an edge that lived when it was given (E8).
    fn judge_late(&self, right: &Right, edge: usize, span: Span) {
        let Some(grant) = &right.grant else { return };
        let (Some(held_at), Some(lasts)) = (grant.held_at, grant.lasts) else { return };
        let lived = self.lives.lock().get(&edge).is_none_or(|since| *since < grant.asked_at);
        if lived && span.began > held_at.plus(lasts).plus(RATES) {
            self.violation(format!(
                "{right}, which lasts {lasts:?}, asked for at {} and held at {}, was allowed by edge \
                 {edge} in a request that began at {}",
                self.clock(grant.asked_at),
                self.clock(held_at),
                self.clock(span.began),
            ));
        }
    }

    /// What nobody began to end is not denied: an edge that cannot decide says so.
    fn judge_denial(&self, right: &Right, edge: usize, span: Span, status: u16) {
        if right.is_attempted() {
            return;
        }
        let must_hold = match &right.grant {
            None => true,
            Some(_) if status == 401 => true,
            Some(Granted { held_at: None, .. }) => false,
            Some(Granted { asked_at, held_at: Some(held_at), lasts, .. }) => {
                span.began > *held_at
                    && lasts.is_none_or(|lasts| {
                        !self.stepped.load(Relaxed) && span.ended.plus(AHEAD) < asked_at.plus(lasts)
                    })
            }
        };
        if must_hold {
            self.violation(format!(
                "{right}, which nobody ended, was denied ({status}) by edge {edge} in a request that \
                 began at {} and ended at {}: {:?}",
                self.clock(span.began),
                self.clock(span.ended),
                right.grant,
            ));
        }
    }

    /// Something that must not be.
    pub fn violation(&self, text: String) {
        println!("VIOLATION {text}");
        self.counts.violations.fetch_add(1, Relaxed);
        let mut violations = self.violations.lock();
        if violations.len() < DESCRIBED {
            violations.push(text);
        }
    }

    /// The violations, as far as they are described.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use shared::message::revocation::ReceiptEdges;

    use super::*;

    fn at(ms: u64) -> Monotonic {
        now().plus(Duration::from_millis(ms))
    }

    fn right(ledger: &Ledger) -> Arc<Right> {
        let wall = SystemClock.wall();
        let ids = (UserId::new(wall), TenantId::new(wall), SessionId::new(wall));
        let right = Arc::new(Right::new(ids.0, ids.1, ids.2, Token::generate()));
        ledger.add(right.clone());
        right
    }

    fn receipt(revision: u64, enforced: bool) -> Receipt {
        let waiting = if enforced { vec![] } else { vec!["e".parse().expect("an edge id")] };
        let edges =
            ReceiptEdges { total: 3, acknowledged: 3 - u32::from(!enforced), fenced: 0, waiting };
        Receipt { revision, enforced, edges, took_ms: 1, waiting_ms: None }
    }

    fn allowed(ledger: &Ledger, right: &Right, began: Monotonic) {
        let span = Span { began, ended: began.plus(Duration::from_millis(1)) };
        ledger.decision(right, 1, span, Some(200));
    }

    fn violations(ledger: &Ledger) -> u64 {
        ledger.counts.violations.load(Relaxed)
    }

    #[test]
    fn an_allow_that_began_after_the_receipt_is_a_violation_in_whatever_order_they_are_told() {
        let (before, received, after) = (at(0), at(1_000), at(2_000));
        for late in [false, true] {
            for order in 0..3 {
                let ledger = Ledger::default();
                let right = right(&ledger);
                ledger.attempt(std::slice::from_ref(&right));
                let tell = |step: u32| match step {
                    0 => ledger.revoked(&right, 7),
                    1 => ledger.receipt(&receipt(7, true), received),
                    _ => allowed(&ledger, &right, if late { after } else { before }),
                };
                (0..3).for_each(|step| tell((step + order) % 3));
                assert_eq!(violations(&ledger), u64::from(late), "{order}");
            }
        }
    }

    #[test]
    fn a_receipt_covers_earlier_revisions_and_no_later_ones() {
        let ledger = Ledger::default();
        let (earlier, later) = (right(&ledger), right(&ledger));
        ledger.attempt(&[earlier.clone(), later.clone()]);
        ledger.revoked(&earlier, 6);
        ledger.revoked(&later, 8);
        ledger.receipt(&receipt(9, false), at(10));
        ledger.receipt(&receipt(7, true), at(20));
        allowed(&ledger, &later, at(30));
        assert_eq!(violations(&ledger), 0);
        allowed(&ledger, &earlier, at(30));
        assert_eq!(violations(&ledger), 1);
    }

    #[test]
    fn what_nobody_ended_must_not_be_denied() {
        let ledger = Ledger::default();
        let right = right(&ledger);
        let span = Span { began: at(0), ended: at(1) };
        ledger.decision(&right, 1, span, Some(503));
        ledger.decision(&right, 1, span, None);
        assert_eq!(violations(&ledger), 0);
        ledger.decision(&right, 1, span, Some(401));
        assert_eq!(violations(&ledger), 1);
        ledger.attempt(std::slice::from_ref(&right));
        ledger.decision(&right, 1, span, Some(401));
        assert_eq!(violations(&ledger), 1);
    }

    #[test]
    fn a_grant_is_held_against_its_end_where_the_edge_lived() {
        let ledger = Ledger::default();
        let lasts = Some(Duration::from_secs(8));
        let granted = |held_at| Granted { id: "g".to_owned(), asked_at: at(0), held_at, lasts };
        let grant = right(&ledger).granted(granted(Some(at(100))));
        allowed(&ledger, &grant, at(8_000));
        assert_eq!(violations(&ledger), 0);
        let denied = |began| ledger.decision(&grant, 1, Span { began, ended: began }, Some(403));
        denied(at(7_500));
        assert_eq!(violations(&ledger), 0);
        denied(at(3_000));
        assert_eq!(violations(&ledger), 1, "early");
        ledger.step();
        denied(at(3_000));
        assert_eq!(violations(&ledger), 1, "the database's clock ends it early");
        allowed(&ledger, &grant, at(8_300));
        assert_eq!(violations(&ledger), 2, "late");
        ledger.new_life(1);
        let began_before =
            Granted { asked_at: Monotonic(Duration::ZERO), ..granted(Some(at(100))) };
        let grant = Right { grant: Some(began_before), ..grant };
        allowed(&ledger, &grant, at(8_300));
        assert_eq!(violations(&ledger), 2, "another life has read the clock anew");
    }

    #[test]
    fn a_receipt_that_contradicts_itself_is_a_violation() {
        let ledger = Ledger::default();
        let mut wrong = receipt(1, true);
        wrong.edges.total = 4;
        ledger.receipt(&wrong, at(0));
        let mut wrong = receipt(2, false);
        wrong.enforced = true;
        ledger.receipt(&wrong, at(0));
        assert_eq!(violations(&ledger), 2);
    }
}
