//! What an edge knows and how it decides (E1 to E9).
//!
//! Inputs are what arrived and when; outputs are [`Action`]s for the driver. A reply always comes
//! with the moment at which its request was *sent*: leases and clock readings count from there.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{Hash, Hasher},
    time::Duration,
};

use crate::{
    clock::{Monotonic, Timestamp},
    id::{Incarnation, TenantId, UserId},
    lease::{
        Revision,
        server_clock::{Reading, ServerClock},
    },
    message::{
        edge::{Joined, Renewal, Renewed},
        revocation::{Broadcast, Entry},
    },
};

/// How long to wait before a failed fetch is tried again.
const FETCH_RETRY: Duration = Duration::from_millis(100);
/// How long to wait before joining a database again that has lost commits.
const LOST_RETRY: Duration = Duration::from_secs(5);

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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            mark_age: Duration::from_mins(15),
            marks: 100_000,
            gap: 10_000,
            gap_wait: Duration::from_millis(5),
            join_retry: Duration::from_millis(250),
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
    /// The database forgot revisions that this edge had applied: commits were lost.
    CommitsLost,
    /// The database runs on another timeline: it failed over.
    TimelineChanged,
    /// This edge was fenced and joins again.
    Fenced,
}

/// What a cache entry is checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The head in the database snapshot that the entry was read from.
    pub revision: Revision,
    /// Whose rights it holds.
    pub user: UserId,
    /// In which tenant.
    pub tenant: TenantId,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Membership {
    incarnation: Incarnation,
    ttl: Duration,
    until: Monotonic,
    /// The timeline at the join.
    timeline: u32,
    renew_at: Monotonic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Mark {
    revision: Revision,
    raised_at: Monotonic,
}

/// Requests under way, each since when; one that takes too long is sent again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct UnderWay {
    /// A join.
    pub join: Option<Monotonic>,
    /// A renewal.
    pub renew: Option<Monotonic>,
    /// A fetch of what is missing.
    pub fetch: Option<Monotonic>,
}

/// The state of an edge. Everything is lost in a restart, which is a new life.
#[derive(Debug, Clone)]
pub struct Edge {
    limits: Limits,
    membership: Option<Membership>,
    leaving: bool,
    applied: Revision,
    floor: Revision,
    users: HashMap<UserId, Mark>,
    tenants: HashMap<TenantId, Mark>,
    early: BTreeSet<Revision>,
    head: Revision,
    /// The highest head heard since the last fetch was sent.
    heard_since_fetch: Revision,
    behind_since: Option<Monotonic>,
    join_at: Monotonic,
    under_way: UnderWay,
    clock: ServerClock,
    forget_at: Monotonic,
}

impl Edge {
    /// An edge that knows nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            membership: None,
            leaving: false,
            applied: Revision::default(),
            floor: Revision::default(),
            users: HashMap::new(),
            tenants: HashMap::new(),
            early: BTreeSet::new(),
            head: Revision::default(),
            heard_since_fetch: Revision::default(),
            behind_since: None,
            join_at: Monotonic(Duration::ZERO),
            under_way: UnderWay::default(),
            clock: ServerClock::default(),
            forget_at: Monotonic(Duration::ZERO),
        }
    }

    /// E2: may a cached entry be used? `now` must have been read before this was called; the
    /// decision begins at `now`.
    #[must_use]
    pub fn verdict(&self, now: Monotonic, snapshot: &Snapshot) -> Verdict {
        match self.server_time(now) {
            None => Verdict::Fenced,
            Some(_) if !self.is_current(snapshot) => Verdict::Stale,
            Some(server_time) => Verdict::Current(server_time),
        }
    }

    /// The server's time at `now` if this edge holds a lease then, else nothing.
    #[must_use]
    pub fn server_time(&self, now: Monotonic) -> Option<Timestamp> {
        let leased = self.membership.is_some_and(|m| now < m.until) && !self.leaving;
        if leased { self.clock.at(now) } else { None }
    }

    /// The one predicate that decides at insertion and at every use.
    #[must_use]
    pub fn is_current(&self, snapshot: &Snapshot) -> bool {
        let seen = |mark: Option<&Mark>| mark.is_none_or(|m| snapshot.revision >= m.revision);
        seen(self.users.get(&snapshot.user))
            && seen(self.tenants.get(&snapshot.tenant))
            && snapshot.revision >= self.floor
    }

    /// Every revision up to this one is applied.
    #[must_use]
    pub const fn applied(&self) -> Revision {
        self.applied
    }

    /// Nothing loaded before this counts.
    #[must_use]
    pub const fn floor(&self) -> Revision {
        self.floor
    }

    /// The highest revision about a user that has arrived and is not forgotten.
    #[must_use]
    pub fn seen(&self, user: UserId) -> Option<Revision> {
        self.users.get(&user).map(|mark| mark.revision)
    }

    /// The highest revision that this edge knows to exist.
    #[must_use]
    pub const fn head(&self) -> Revision {
        self.head
    }

    /// Which requests are under way.
    #[must_use]
    pub const fn under_way(&self) -> UnderWay {
        self.under_way
    }

    /// The present life, if there is one.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.membership.map(|m| m.incarnation)
    }

    /// E1: the reply, at `now`, to a join that was sent at `sent_at`.
    ///
    /// A head below what was applied before would let new revisions pass for applied ones: this
    /// edge then stays down, until a restart empties it (E7).
    pub fn joined(&mut self, now: Monotonic, sent_at: Monotonic, reply: &Joined) -> Vec<Action> {
        self.under_way.join = None;
        if self.membership.is_some() || self.leaving {
            return Vec::new();
        }
        if reply.head < self.applied {
            self.join_failed(now);
            self.join_at = now.plus(LOST_RETRY);
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
        self.forget(now);
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
        let mark = Mark { revision: entry.revision, raised_at: now };
        let raise = |old: &mut Mark| {
            if old.revision < mark.revision {
                *old = mark;
            }
        };
        match entry.user_id {
            Some(user) => self.users.entry(user).and_modify(raise).or_insert(mark),
            None => self.tenants.entry(entry.tenant_id).and_modify(raise).or_insert(mark),
        };
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
        self.floor = self.floor.max(head);
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

    /// Forgets marks that are old or too many. The floor rises first, so that what a mark kept
    /// out stays out.
    fn forget(&mut self, now: Monotonic) {
        let too_many = self.users.len() + self.tenants.len() > self.limits.marks;
        if now < self.forget_at && !too_many {
            return;
        }
        self.forget_at = now.plus(self.limits.mark_age / 100);
        // Too many is rare: then all of them go.
        let goes = |mark: &&Mark| too_many || now.since(mark.raised_at) > self.limits.mark_age;
        let marks = self.users.values().chain(self.tenants.values());
        let Some(forgotten) = marks.filter(goes).map(|mark| mark.revision).max() else { return };
        self.floor = self.floor.max(forgotten);
        let floor = self.floor;
        self.users.retain(|_, mark| mark.revision > floor);
        self.tenants.retain(|_, mark| mark.revision > floor);
    }
}

/// For checks that explore states. What is known of the server's clock is left out: it decides
/// about expiry alone, which has checks of its own.
impl Hash for Edge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            limits: _,
            membership,
            leaving,
            applied,
            floor,
            users,
            tenants,
            early,
            head,
            heard_since_fetch,
            behind_since,
            join_at,
            under_way,
            clock: _,
            forget_at,
        } = self;
        (membership, leaving, applied, floor, early, head).hash(state);
        (heard_since_fetch, behind_since, join_at, under_way, forget_at).hash(state);
        let mut users: Vec<_> = users.iter().collect();
        users.sort_unstable();
        let mut tenants: Vec<_> = tenants.iter().collect();
        tenants.sort_unstable();
        (users, tenants).hash(state);
    }
}

#[cfg(test)]
mod tests;
