//! The cache of sessions together with the rules that say which entries count.
//!
//! What the cache itself keeps, drops or refuses is of no consequence: an entry is used only if
//! [`shared::lease::edge::Edge::verdict`] calls it current at that moment.

#[cfg(test)]
mod idle;
#[cfg(test)]
mod race;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

#[cfg(not(test))]
use parking_lot::RwLock;
use shared::{
    clock::{Clock, Monotonic, Timestamp},
    lease::{
        Revision,
        edge::{Edge, Limits, Snapshot, Verdict},
    },
    message::session::{Elevation, IDLE_SLACK_SECONDS, ResolvedSession, TOUCH_EVERY},
    token::TokenHash,
};

// So a unit test that makes a `Cache` has to run under shuttle.
#[cfg(test)]
use self::race::RwLock;
use super::Undecided;

/// How often an entry that went stale while it was loaded is loaded again for one decision.
const LOADS: usize = 4;

pub(super) struct Cache {
    sessions: moka::sync::Cache<TokenHash, Arc<Cached>>,
    rules: RwLock<Edge>,
}

impl Cache {
    pub(super) fn new(capacity: u64, allow_cached: Duration) -> Self {
        let limits = Limits { allow_cached, ..Limits::default() };
        let sessions = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .time_to_live(limits.mark_age)
            .build();
        Self { sessions, rules: RwLock::new(Edge::new(limits)) }
    }

    /// E2: the session that is allowed, with the server's time at which it is. `load` looks a
    /// session up elsewhere, on the primary if it is told so.
    pub(super) async fn decide<L>(
        &self,
        hash: &TokenHash,
        clock: &dyn Clock,
        load: impl Fn(bool) -> L,
    ) -> Result<(Arc<Cached>, Timestamp), Undecided>
    where
        L: Future<Output = Result<Option<Arc<Cached>>, Undecided>>,
    {
        let mut cached = self.sessions.get(hash);
        let mut loaded = false;
        for _ in 0..=LOADS {
            let entry = if let Some(entry) = cached.take() {
                entry
            } else {
                // What was stale right after loading may come from a replica that lags.
                let primary = std::mem::replace(&mut loaded, true);
                load(primary).await?.ok_or(Undecided::NoSession)?
            };
            // The decision begins here, with the clock; the verdict checks the lease at this
            // moment and after that whether the entry is current.
            let now = clock.monotonic();
            match self.verdict(now, &entry) {
                Verdict::Fenced => return Err(Undecided::Fenced),
                Verdict::Stale => {}
                Verdict::Current(server_time) => match entry.life(server_time, loaded) {
                    Life::Alive => return Ok((entry, server_time)),
                    Life::Over => return Err(Undecided::NoSession),
                    Life::PerhapsIdle => {}
                },
            }
        }
        Err(Undecided::Unavailable)
    }

    /// How many sessions are cached.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.run_pending_tasks();
        self.sessions.entry_count()
    }

    /// Keeps a loaded entry, unless it went stale while it was loaded.
    pub(super) fn insert(&self, hash: TokenHash, entry: &Arc<Cached>) {
        if self.rules.read().is_current(&entry.snapshot) {
            self.sessions.insert(hash, Arc::clone(entry));
        }
    }

    /// May `entry` be used for a decision that began at `now`?
    fn verdict(&self, now: Monotonic, entry: &Cached) -> Verdict {
        self.rules.read().verdict(now, &entry.snapshot)
    }

    /// The server's time, while this edge holds a lease.
    pub(super) fn server_time(&self, now: Monotonic) -> Option<Timestamp> {
        self.rules.read().server_time(now)
    }

    /// Changes what the rules know. No decision is taken meanwhile, and every later one sees it.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Edge) -> T) -> T {
        change(&mut self.rules.write())
    }

    pub(super) fn inspect<T>(&self, look: impl FnOnce(&Edge) -> T) -> T {
        look(&self.rules.read())
    }
}

/// A session in memory.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) session: Arc<ResolvedSession>,
    snapshot: Snapshot,
    /// Server time of the last use that is known here, in microseconds.
    last_used: AtomicI64,
    /// The last use that the database knows, or is being told of.
    reported: AtomicI64,
}

/// Whether a session lives, by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Alive,
    Over,
    /// Not used here for too long; perhaps elsewhere. Load it to know.
    PerhapsIdle,
}

impl Cached {
    pub(super) fn new(session: ResolvedSession, snapshot: Revision) -> Self {
        let last_used = session.last_active_at.micros();
        Self {
            snapshot: Snapshot {
                revision: snapshot,
                user: session.user_id,
                tenant: session.tenant_id,
            },
            session: Arc::new(session),
            last_used: AtomicI64::new(last_used),
            reported: AtomicI64::new(last_used),
        }
    }

    /// Whether the session lives at `now`. `just_loaded` says that nothing newer can be had.
    fn life(&self, now: Timestamp, just_loaded: bool) -> Life {
        if now >= self.session.expires_at {
            return Life::Over;
        }
        let seconds = |n: u32| Duration::from_secs(u64::from(n));
        let idle = seconds(self.session.idle_seconds);
        // The database may know late of a use at another edge.
        let slack = seconds(IDLE_SLACK_SECONDS.unsigned_abs());
        let unused = now.since(Timestamp::from_micros(self.last_used.load(Ordering::Relaxed)));
        match (unused < idle, just_loaded) {
            (true, _) => Life::Alive,
            (false, false) => Life::PerhapsIdle,
            (false, true) if unused < idle + slack => Life::Alive,
            (false, true) => Life::Over,
        }
    }

    /// When it ends by the clock at the earliest, unless it is used.
    pub(super) fn ends_at(&self) -> Timestamp {
        self.session.expires_at.min(self.unused_until())
    }

    /// When the clock may change something next: it ends, or can do less.
    pub(super) fn next_change(&self, now: Timestamp) -> Timestamp {
        let unused_until = self.unused_until();
        let slack = Duration::from_secs(u64::from(IDLE_SLACK_SECONDS.unsigned_abs()));
        let idle = if now < unused_until { unused_until } else { unused_until.plus(slack) };
        let grants = self.session.grants.iter().map(|grant| grant.expires_at);
        let ahead = grants.chain(self.session.enrollment_only_from).filter(|at| now < *at);
        ahead.fold(self.session.expires_at.min(idle), Timestamp::min)
    }

    fn unused_until(&self) -> Timestamp {
        let idle = Duration::from_secs(u64::from(self.session.idle_seconds));
        Timestamp::from_micros(self.last_used.load(Ordering::Relaxed)).plus(idle)
    }

    /// Notes a use; says whether it is to be reported.
    pub(super) fn used(&self, now: Timestamp) -> bool {
        self.last_used.fetch_max(now.micros(), Ordering::Relaxed);
        let reported = Timestamp::from_micros(self.reported.load(Ordering::Relaxed));
        now.since(reported) >= TOUCH_EVERY
    }

    /// Notes that a use will be reported; or, once it was, which one the database knows. That may be an
    /// earlier one, of another edge: the next report counts from there.
    pub(super) fn reported(&self, at: Timestamp) {
        self.reported.store(at.micros(), Ordering::Relaxed);
    }

    /// Whether the session can do nothing at `now` but set up a second factor.
    pub(super) fn enrollment_only(&self, now: Timestamp) -> bool {
        self.session.enrollment_only
            || self.session.enrollment_only_from.is_some_and(|from| now >= from)
    }

    /// The grant that raises the role at `now`: the highest role, then the latest end.
    pub(super) fn elevation(&self, now: Timestamp) -> Option<Elevation> {
        let live = self.session.grants.iter().filter(|grant| now < grant.expires_at);
        live.max_by_key(|grant| grant.precedence()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        id::{GrantId, SessionId, TenantId, UserId},
        message::session::Method,
        role::Role,
    };

    use super::*;

    fn id() -> [u128; 1] {
        [7]
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    pub(super) fn cached(grants: Vec<Elevation>) -> Cached {
        let [n] = id();
        let session = ResolvedSession {
            session_id: SessionId(uuid(n)),
            user_id: UserId(uuid(n)),
            tenant_id: TenantId(uuid(n)),
            tenant: "acme".to_owned(),
            email: "a@acme.test".to_owned(),
            role: Role::Member,
            methods: vec![Method::Password],
            enrollment_only: false,
            enrollment_only_from: None,
            last_active_at: at(0),
            idle_seconds: 3_600,
            expires_at: at(43_200),
            grants,
        };
        Cached::new(session, Revision::default())
    }

    fn uuid(n: u128) -> uuid::Uuid {
        uuid::Uuid::from_u128(n)
    }

    fn grant(n: u128, role: Role, until: i64) -> Elevation {
        Elevation { grant_id: GrantId(uuid(n)), role, expires_at: at(until) }
    }

    #[test]
    fn a_session_ends_at_its_absolute_end_to_the_microsecond() {
        let entry = cached(vec![]);
        entry.used(at(43_199));
        assert_eq!(entry.life(at(43_199), false), Life::Alive);
        assert_eq!(entry.life(at(43_200), false), Life::Over);
    }

    #[test]
    fn an_idle_session_is_looked_up_before_it_is_refused() {
        let entry = cached(vec![]);
        assert_eq!(entry.life(at(3_599), false), Life::Alive);
        assert_eq!(entry.life(at(3_600), false), Life::PerhapsIdle);
        assert_eq!(entry.life(at(3_674), true), Life::Alive);
        assert_eq!(entry.life(at(3_675), true), Life::Over);
    }

    #[test]
    fn it_is_known_when_the_clock_changes_something_next() {
        let entry = cached(vec![grant(1, Role::Manager, 100), grant(2, Role::Admin, 50)]);
        let next = |now| entry.next_change(at(now));
        assert_eq!([next(0), next(50), next(99)], [at(50), at(100), at(100)]);
        assert_eq!([next(100), next(3_599)], [at(3_600); 2]);
        // Perhaps it is used elsewhere.
        assert_eq!([next(3_600), entry.ends_at()], [at(3_675), at(3_600)]);
        entry.used(at(43_000));
        assert_eq!([next(43_001), entry.ends_at()], [at(43_200); 2]);
        let mut entry = cached(vec![]);
        let session = Arc::get_mut(&mut entry.session).expect("nobody else has it");
        session.enrollment_only_from = Some(at(70));
        assert_eq!([entry.next_change(at(69)), entry.next_change(at(70))], [at(70), at(3_600)]);
    }

    #[test]
    fn use_keeps_a_session_alive_and_is_reported_once_a_minute() {
        let entry = cached(vec![]);
        assert!(!entry.used(at(59)));
        assert!(entry.used(at(60)));
        entry.reported(at(60));
        assert!(!entry.used(at(119)));
        assert_eq!(entry.life(at(119 + 3_599), false), Life::Alive);
    }

    #[test]
    fn grants_end_one_by_one_and_the_highest_shows() {
        let entry = cached(vec![
            grant(1, Role::Manager, 300),
            grant(2, Role::Admin, 100),
            grant(3, Role::Admin, 200),
        ]);
        let shown = |seconds| entry.elevation(at(seconds)).map(|e| e.grant_id.0.as_u128());
        assert_eq!(shown(99), Some(3));
        assert_eq!(shown(199), Some(3));
        assert_eq!(shown(200), Some(1));
        assert_eq!(shown(300), None);
    }
}
