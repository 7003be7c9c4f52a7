//! What an edge knows and how it decides (E1 to E9).
//!
//! Inputs are what arrived and when; outputs are [`Action`]s for the driver. A reply always comes
//! with the moment at which its request was *sent*: leases and clock readings count from there.

use std::{
    collections::BTreeSet,
    hash::{Hash, Hasher},
    time::Duration,
};

pub use crate::lease::marks::Snapshot;
use crate::{
    clock::{Monotonic, Timestamp},
    id::{Incarnation, TenantId, UserId},
    lease::{
        Revision,
        marks::Marks,
        server_clock::{Reading, ServerClock},
    },
    message::{
        edge::{Joined, Renewal, Renewed},
        revocation::{Broadcast, Entry},
    },
};

/// How long to wait before a failed fetch is tried again.
const FETCH_RETRY: Duration = Duration::from_millis(100);

/// Bounds on what an edge remembers and how it behaves.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A mark is forgotten after this long, and every cache entry older than it with it.
    pub mark_age: Duration,
    /// At most so many marks; the oldest go first.
    pub marks: usize,
    /// A gap over this distance is jumped, not fetched. Also bounds early entries.
    pub gap: u64,
    /// How long a missing entry may still come by itself before it is fetched.
    pub gap_wait: Duration,
    /// How long to wait before a failed join is tried again.
    pub join_retry: Duration,
    /// How long to go on allowing what is cached after the lease has run out, while cut off. Told
    /// to the workers at the join: they count this edge as waiting for as long.
    pub allow_cached: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            mark_age: Duration::from_mins(15),
            marks: 100_000,
            gap: 10_000,
            gap_wait: Duration::from_millis(5),
            join_retry: Duration::from_millis(250),
            allow_cached: Duration::ZERO,
        }
    }
}

/// What the driver shall do. Each request's reply comes back with the time it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send `edge.join`; the reply goes to [`Edge::joined`].
    Join,
    /// Send `edge.renew`; the reply goes to [`Edge::renewed`] with this `applied`.
    Renew {
        /// The present life.
        incarnation: Incarnation,
        /// What is applied now.
        applied: Revision,
    },
    /// Send `revocation.since`; the reply goes to [`Edge::caught_up`].
    Fetch {
        /// What is applied now.
        after: Revision,
    },
    /// Publish `edge.ack`.
    Ack {
        /// The present life.
        incarnation: Incarnation,
        /// What is applied now.
        applied: Revision,
    },
    /// Tell people: something happened that should not.
    Alarm(Alarm),
}

/// What people should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The database forgot revisions that this edge had applied: commits were lost. The process has
    /// to end: what is cached may be from what was lost.
    CommitsLost,
    /// The database runs on another timeline: it failed over.
    TimelineChanged,
    /// This edge was fenced and joins again.
    Fenced,
}

/// Whether a cached entry may be used for a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This edge holds no lease: decide nothing.
    Fenced,
    /// Something changed since the entry was loaded: load it again.
    Stale,
    /// Use it, with this server time for its expiries.
    Current(Timestamp),
}

#[derive(Debug, Clone, Copy, Hash)]
struct Membership {
    incarnation: Incarnation,
    ttl: Duration,
    until: Monotonic,
    /// How long to go on allowing what is cached after that.
    allow_cached: Duration,
    /// The timeline at the join.
    timeline: u32,
    renew_at: Monotonic,
}

/// Requests under way, each since when; one that takes too long is sent again.
#[derive(Debug, Clone, Copy, Default, Hash)]
struct UnderWay {
    join: Option<Monotonic>,
    renew: Option<Monotonic>,
    fetch: Option<Monotonic>,
}

/// The state of an edge. Everything is lost in a restart, which is a new life.
#[derive(Debug, Clone)]
pub struct Edge {
    limits: Limits,
    membership: Option<Membership>,
    leaving: bool,
    applied: Revision,
    marks: Marks,
    early: BTreeSet<Revision>,
    head: Revision,
    /// The highest head heard since the last fetch was sent.
    heard_since_fetch: Revision,
    behind_since: Option<Monotonic>,
    join_at: Monotonic,
    under_way: UnderWay,
    clock: ServerClock,
}

/// All that the rules go by. Of the server's clock only whether there is a reading; limits, which
/// do not change, are left out.
impl Hash for Edge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.membership.hash(state);
        self.leaving.hash(state);
        (self.applied, self.head, self.heard_since_fetch).hash(state);
        self.marks.hash(state);
        self.early.hash(state);
        (self.behind_since, self.join_at).hash(state);
        self.under_way.hash(state);
        self.clock.at(Monotonic(Duration::ZERO)).is_some().hash(state);
    }
}

impl Edge {
    /// An edge that knows nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            marks: Marks::new(limits.mark_age, limits.marks),
            limits,
            membership: None,
            leaving: false,
            applied: Revision::default(),
            early: BTreeSet::new(),
            head: Revision::default(),
            heard_since_fetch: Revision::default(),
            behind_since: None,
            join_at: Monotonic(Duration::ZERO),
            under_way: UnderWay::default(),
            clock: ServerClock::default(),
        }
    }

    /// E2: may a cached entry be used? `now` must have been read before this was called; the
    /// decision begins at `now`.
    #[must_use]
    pub fn verdict(&self, now: Monotonic, snapshot: &Snapshot) -> Verdict {
        let allow_cached = self.membership.map_or(Duration::ZERO, |m| m.allow_cached);
        match self.time_within(now, allow_cached) {
            None => Verdict::Fenced,
            Some(_) if !self.is_current(snapshot) => Verdict::Stale,
            Some(server_time) => Verdict::Current(server_time),
        }
    }

    /// The server's time at `now` if this edge holds a lease then, else nothing.
    #[must_use]
    pub fn server_time(&self, now: Monotonic) -> Option<Timestamp> {
        self.time_within(now, Duration::ZERO)
    }

    /// The server's time, until so long after the lease.
    fn time_within(&self, now: Monotonic, after: Duration) -> Option<Timestamp> {
        let membership = self.membership.filter(|_| !self.leaving)?;
        if now < membership.until.plus(after) { self.clock.at(now) } else { None }
    }

    /// The one predicate that decides at insertion and at every use.
    #[must_use]
    pub fn is_current(&self, snapshot: &Snapshot) -> bool {
        self.marks.is_current(snapshot)
    }

    /// Every revision up to this one is applied.
    #[must_use]
    pub const fn applied(&self) -> Revision {
        self.applied
    }

    /// The highest revision that this edge has heard of.
    #[must_use]
    pub const fn head(&self) -> Revision {
        self.head
    }

    /// Nothing that was loaded before this revision counts.
    #[must_use]
    pub const fn floor(&self) -> Revision {
        self.marks.floor()
    }

    /// The highest revision about this user, or the whole tenant, that has arrived and is not
    /// forgotten.
    #[must_use]
    pub fn seen(&self, user: UserId, tenant: TenantId) -> Revision {
        self.marks.seen(user, tenant)
    }

    /// Whether a join was sent that is neither answered nor failed.
    #[must_use]
    pub const fn is_joining(&self) -> bool {
        self.under_way.join.is_some()
    }

    /// The present life, if there is one.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.membership.map(|m| m.incarnation)
    }

    /// E1: the reply, at `now`, to a join that was sent at `sent_at`.
    ///
    /// A head below what was applied before means lost commits: new revisions would pass for applied
    /// ones. Nothing is decided then, and the process has to start anew, with an empty cache (E7).
    pub fn joined(&mut self, now: Monotonic, sent_at: Monotonic, reply: &Joined) -> Vec<Action> {
        self.under_way.join = None;
        if self.membership.is_some() || self.leaving {
            return Vec::new();
        }
        if reply.head < self.applied {
            self.join_failed(now);
            return vec![Action::Alarm(Alarm::CommitsLost)];
        }
        let ttl = Duration::from_millis(reply.ttl_ms);
        // Without any reading nothing is decided, so it is asked for at once.
        let slow = now.since(sent_at) > ttl / 3;
        let ask_again = slow || self.clock.read(sent_at, reply.server_time) == Reading::Confirm;
        self.membership = Some(Membership {
            incarnation: reply.incarnation,
            ttl,
            until: sent_at.plus(ttl),
            // Never longer than the workers know.
            allow_cached: Duration::from_millis(reply.allow_cached_ms.into())
                .min(self.limits.allow_cached),
            timeline: reply.head.timeline,
            renew_at: if ask_again { now } else { sent_at.plus(ttl / 3) },
        });
        self.under_way = UnderWay::default();
        self.raise_head(reply.head);
        self.jump(reply.head);
        self.ack().into_iter().collect()
    }

    /// A join failed at `now`: not answered, or refused.
    pub fn join_failed(&mut self, now: Monotonic) {
        self.under_way.join = None;
        self.join_at = now.plus(self.limits.join_retry);
    }

    /// E6: the reply, at `now`, to a renewal that was sent at `sent_at` with `sent_applied`.
    pub fn renewed(
        &mut self,
        now: Monotonic,
        sent_at: Monotonic,
        sent_applied: Revision,
        reply: &Renewed,
    ) -> Vec<Action> {
        let Some(membership) = self.membership.as_mut() else { return Vec::new() };
        if reply.incarnation != membership.incarnation {
            return Vec::new();
        }
        self.under_way.renew = None;
        if reply.renewal == Renewal::Fenced {
            return self.rejoin(now, Alarm::Fenced);
        }
        if reply.head.timeline != membership.timeline {
            return self.rejoin(now, Alarm::TimelineChanged);
        }
        if reply.head < sent_applied {
            return self.rejoin(now, Alarm::CommitsLost);
        }
        let ttl = Duration::from_millis(reply.ttl_ms);
        match reply.renewal {
            Renewal::Extended => {
                membership.ttl = ttl;
                membership.until = membership.until.max(sent_at.plus(ttl));
                membership.renew_at = sent_at.plus(ttl / 3);
            }
            // Renew again as soon as the gap is closed, and not in a busy loop if it never is.
            Renewal::Behind | Renewal::Fenced => membership.renew_at = now.plus(ttl / 30),
        }
        if now.since(sent_at) <= ttl / 3
            && self.clock.read(sent_at, reply.server_time) == Reading::Confirm
        {
            membership.renew_at = now;
        }
        self.raise_head(reply.head);
        if reply.renewal == Renewal::Behind {
            self.behind_since.get_or_insert(Monotonic(Duration::ZERO));
        }
        self.poll(now)
    }

    /// A renewal failed at `now`: not answered, or refused. The lease runs on until its end.
    pub fn renew_failed(&mut self, now: Monotonic) {
        self.under_way.renew = None;
        if let Some(membership) = self.membership.as_mut() {
            membership.renew_at = now.plus(membership.ttl / 30);
        }
    }

    /// E3: a broadcast arrived, with entries or as a beacon.
    pub fn heard(&mut self, now: Monotonic, broadcast: &Broadcast) -> Vec<Action> {
        if let Some(membership) = self.membership
            && broadcast.head.timeline != membership.timeline
        {
            // An old beacon proves nothing; a newer timeline means that the database failed over.
            if broadcast.head.timeline < membership.timeline {
                return Vec::new();
            }
            return self.rejoin(now, Alarm::TimelineChanged);
        }
        for entry in &broadcast.entries {
            self.take(now, entry);
        }
        self.raise_head(broadcast.head);
        self.advance();
        let mut actions: Vec<_> = self.ack().into_iter().collect();
        actions.extend(self.poll(now));
        actions
    }

    /// E4: the reply to a fetch of what came after `after`.
    pub fn caught_up(&mut self, now: Monotonic, after: Revision, reply: &Broadcast) -> Vec<Action> {
        self.under_way.fetch = None;
        let Some(membership) = self.membership else { return Vec::new() };
        if reply.head.timeline != membership.timeline {
            return if reply.head.timeline > membership.timeline {
                self.rejoin(now, Alarm::TimelineChanged)
            } else {
                Vec::new()
            };
        }
        if reply.head < after {
            return self.rejoin(now, Alarm::CommitsLost);
        }
        for entry in &reply.entries {
            self.take(now, entry);
        }
        // The primary was asked after the rest was heard: what it does not know, nobody committed.
        self.head = reply.head.max(self.heard_since_fetch);
        self.advance();
        let first = reply.entries.first().map(|entry| entry.revision);
        let pruned = reply.head > after && first != Some(after.next());
        if (pruned && self.applied <= after) || self.distance() > self.limits.gap {
            self.jump(reply.head);
        }
        let mut actions: Vec<_> = self.ack().into_iter().collect();
        actions.extend(self.poll(now));
        actions
    }

    /// A fetch failed at `now`.
    pub fn fetch_failed(&mut self, now: Monotonic) {
        self.under_way.fetch = None;
        self.behind_since = Some(now.plus(FETCH_RETRY));
    }

    /// Time has passed: what is to be done now? Call it at least every few milliseconds while
    /// [`Edge::is_behind`], else several times per lease.
    pub fn poll(&mut self, now: Monotonic) -> Vec<Action> {
        self.marks.forget(now);
        let mut actions = Vec::new();
        if self.leaving {
            return actions;
        }
        let Some(membership) = self.membership else {
            if self.under_way.join.is_none() && now >= self.join_at {
                self.under_way.join = Some(now);
                actions.push(Action::Join);
            }
            return actions;
        };
        let patience = membership.ttl / 3;
        let free = |since: Option<Monotonic>| since.is_none_or(|at| now.since(at) > patience);
        if now >= membership.renew_at && free(self.under_way.renew) {
            self.under_way.renew = Some(now);
            actions
                .push(Action::Renew { incarnation: membership.incarnation, applied: self.applied });
        }
        if self.is_behind() {
            let since = *self.behind_since.get_or_insert(now);
            if now.since(since) >= self.limits.gap_wait && free(self.under_way.fetch) {
                self.under_way.fetch = Some(now);
                self.heard_since_fetch = Revision::default();
                actions.push(Action::Fetch { after: self.applied });
            }
        } else {
            self.behind_since = None;
        }
        actions
    }

    /// Whether there are revisions that this edge knows of and has not applied.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.membership.is_some() && self.head > self.applied
    }

    /// E9: stop deciding. The life that ends is to be told to the workers once decisions that
    /// started have ended.
    pub fn leave(&mut self) -> Option<Incarnation> {
        self.leaving = true;
        self.membership.take().map(|m| m.incarnation)
    }

    /// Stops deciding and joins anew. Marks, floor, early entries and clock readings stay.
    fn rejoin(&mut self, now: Monotonic, alarm: Alarm) -> Vec<Action> {
        self.membership = None;
        self.under_way = UnderWay::default();
        self.behind_since = None;
        self.join_at = now;
        let mut actions = vec![Action::Alarm(alarm)];
        actions.extend(self.poll(now));
        actions
    }

    /// Raises the marks of an entry, which counts at once, and notes that it arrived.
    fn take(&mut self, now: Monotonic, entry: &Entry) {
        self.marks.raise(now, entry);
        self.raise_head(entry.revision);
        if entry.revision > self.applied {
            self.early.insert(entry.revision);
        }
        // Early entries only shorten a fetch; their marks have been raised.
        while self.early.len() as u64 > self.limits.gap {
            self.early.pop_last();
        }
    }

    fn raise_head(&mut self, head: Revision) {
        self.head = self.head.max(head);
        self.heard_since_fetch = self.heard_since_fetch.max(head);
    }

    /// Moves `applied` over what has arrived without a gap.
    fn advance(&mut self) {
        if self.membership.is_none() {
            return;
        }
        while self.early.remove(&self.applied.next()) {
            self.applied = self.applied.next();
        }
    }

    /// In one step: nothing loaded before `head` counts any more, and all up to it is applied.
    fn jump(&mut self, head: Revision) {
        self.marks.raise_floor(head);
        self.applied = self.applied.max(head);
        self.early = self.early.split_off(&self.applied.next());
        self.advance();
    }

    fn distance(&self) -> u64 {
        self.head.number.saturating_sub(self.applied.number)
    }

    fn ack(&self) -> Option<Action> {
        let incarnation = self.membership?.incarnation;
        Some(Action::Ack { incarnation, applied: self.applied })
    }
}

#[cfg(test)]
mod tests;
