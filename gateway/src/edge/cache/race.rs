//! The race in the cache, explored by shuttle: an edge learns of a revocation while sessions are
//! loaded and decided about.
//!
//! What the edge does is the code that runs in production; the locks of [`Cache`] are shuttle's
//! here. Around it are a database, a bus and a worker made of locks and flags. The promise:
//! no decision that begins once the revocation is enforced allows the session.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use shared::{
    id::{Incarnation, SessionId, TenantId, UserId},
    lease::edge::Action,
    message::{
        edge::{Joined, Renewal, Renewed},
        revocation::{Broadcast, Entry},
        session::Method,
    },
    role::Role,
};
use shuttle::{
    future::block_on,
    sync::{
        Mutex, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};
use uuid::Uuid;

use super::*;

/// shuttle's lock with the interface of `parking_lot`'s.
pub(super) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(super) fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect("a panic ends the run")
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect("a panic ends the run")
    }
}

const HASH: TokenHash = TokenHash([7; 32]);
const LEASE_MS: u64 = 3_000;
/// The edge may go on for so long while it is cut off.
const ALLOW_CACHED: Duration = Duration::from_secs(1);
const CUT_OFF_AT_MS: u64 = 3_500;
/// Past the lease, what is allowed after it, and the worker's margin.
const FENCED_AT_MS: u64 = 4_500;

/// How the revocation comes to be enforced.
#[derive(Debug, Clone, Copy)]
enum How {
    /// The edge hears of it and acks.
    Broadcast,
    /// The same, but the entry before it comes after it.
    Early,
    /// The edge was deaf for so long that it jumps to the head, and acks.
    Jump,
    /// A worker waits until the lease is over; then the edge joins anew.
    Fence,
    /// The edge leaves.
    Leave,
}

/// What is done wrongly, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    CurrencyBeforeClock,
    LoadTrusted,
    AckBeforeMarks,
    HeadAfterData,
}

type Loaded = Result<Option<Arc<Cached>>, Undecided>;

/// What came about in all runs, so that nothing is proved by never happening.
#[derive(Default)]
struct Seen {
    allowed: AtomicUsize,
    refused: AtomicUsize,
    late: AtomicUsize,
}

struct World {
    mistake: Mistake,
    cache: Cache,
    /// The head, and whether the session is revoked at it.
    database: Mutex<(u64, bool)>,
    /// What every steady clock shows, in milliseconds.
    steady_ms: AtomicU64,
    /// A receipt says so.
    enforced: AtomicBool,
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn revision(number: u64) -> Revision {
    Revision { timeline: 1, number }
}

/// Of some user, or of the one whose session it is about.
fn entry(number: u64, user: u128) -> Entry {
    Entry {
        revision: revision(number),
        tenant_id: TenantId(id(2)),
        user_id: Some(UserId(id(user))),
        cause: "session-revoked".to_owned(),
        traceparent: None,
    }
}

fn session() -> ResolvedSession {
    ResolvedSession {
        session_id: SessionId(id(1)),
        user_id: UserId(id(1)),
        tenant_id: TenantId(id(2)),
        tenant: "acme".to_owned(),
        email: "a@acme.test".to_owned(),
        role: Role::Member,
        methods: vec![Method::Password],
        enrollment_only: false,
        enrollment_only_from: None,
        last_active_at: Timestamp::from_micros(0),
        idle_seconds: 3_600,
        expires_at: Timestamp::from_micros(43_200_000_000),
        grants: Vec::new(),
    }
}

impl World {
    fn new(mistake: Mistake) -> Self {
        let world = Self {
            mistake,
            cache: Cache::new(100, ALLOW_CACHED),
            database: Mutex::new((0, false)),
            steady_ms: AtomicU64::new(0),
            enforced: AtomicBool::new(false),
        };
        world.join(1, 0);
        world
    }

    fn now(&self) -> Monotonic {
        Monotonic(Duration::from_millis(self.steady_ms.load(SeqCst)))
    }

    fn join(&self, life: u128, head: u64) {
        let now = self.now();
        let joined = Joined {
            incarnation: Incarnation(id(life)),
            head: revision(head),
            ttl_ms: LEASE_MS,
            allow_cached_ms: 0,
            server_time: Timestamp::from_micros(0),
        };
        self.cache.update(|rules| rules.joined(now, now, &joined));
    }

    /// Lets the edge hear something; the worker takes note of the ack.
    fn hear(&self, news: impl FnOnce(&mut Edge, Monotonic) -> Vec<Action>, last: u64) {
        if self.mistake == Mistake::AckBeforeMarks {
            self.enforced.store(true, SeqCst);
        }
        let now = self.now();
        let actions = self.cache.update(|rules| news(rules, now));
        let acks = |action: &Action| matches!(action, Action::Ack { applied, .. } if *applied >= revision(last));
        if actions.iter().any(acks) {
            self.enforced.store(true, SeqCst);
        }
    }

    fn revoke(&self, how: How) {
        let head = if matches!(how, How::Early) { 2 } else { 1 };
        *self.database.lock().expect("a panic ends the run") = (head, true);
        let broadcast = |entries: Vec<Entry>| Broadcast { head: revision(head), entries };
        match how {
            How::Broadcast => {
                let news = broadcast(vec![entry(1, 1)]);
                self.hear(|rules, now| rules.heard(now, &news), head);
            }
            How::Early => {
                for news in [entry(2, 1), entry(1, 9)] {
                    let news = broadcast(vec![news]);
                    self.hear(|rules, now| rules.heard(now, &news), head);
                }
            }
            How::Jump => {
                let pruned = broadcast(Vec::new());
                self.hear(|rules, now| rules.caught_up(now, revision(0), &pruned), head);
            }
            How::Fence => {
                self.steady_ms.store(CUT_OFF_AT_MS, SeqCst);
                self.steady_ms.store(FENCED_AT_MS, SeqCst);
                self.enforced.store(true, SeqCst);
                let told = Renewed {
                    incarnation: Incarnation(id(1)),
                    renewal: Renewal::Fenced,
                    head: revision(head),
                    ttl_ms: 0,
                    server_time: Timestamp::from_micros(0),
                };
                let now = self.now();
                self.cache.update(|rules| rules.renewed(now, now, revision(0), &told));
                self.join(2, head);
            }
            How::Leave => {
                self.cache.update(Edge::leave);
                self.enforced.store(true, SeqCst);
            }
        }
    }

    /// A load, as the gateway and session-worker do it.
    fn load(&self) -> Option<Arc<Cached>> {
        let read = || *self.database.lock().expect("a panic ends the run");
        let (mut head, revoked) = read();
        if self.mistake == Mistake::HeadAfterData {
            (head, _) = read();
        }
        (!revoked).then(|| {
            let entry = Arc::new(Cached::new(session(), revision(head)));
            self.cache.insert(HASH, &entry);
            entry
        })
    }

    /// A load that several can wait for.
    fn loading(self: &Arc<Self>) -> Shared<BoxFuture<'static, Loaded>> {
        let world = Arc::clone(self);
        async move { Ok(world.load()) }.boxed().shared()
    }

    async fn decide<L>(&self, clock: &Began<'_>, load: impl Fn(bool) -> L) -> Result<(), Undecided>
    where
        L: Future<Output = Loaded>,
    {
        match self.mistake {
            Mistake::CurrencyBeforeClock => {
                let cached = self.cache.sessions.get(&HASH).ok_or(Undecided::NoSession)?;
                let current = self.cache.inspect(|rules| rules.is_current(&cached.snapshot));
                let leased = self.cache.server_time(clock.monotonic()).is_some();
                if current && leased { Ok(()) } else { Err(Undecided::Unavailable) }
            }
            Mistake::LoadTrusted => {
                let loaded = load(false).await?;
                clock.monotonic();
                loaded.map(|_| ()).ok_or(Undecided::NoSession)
            }
            _ => self.cache.decide(&HASH, clock, load).await.map(|_| ()),
        }
    }
}

/// The steady clock of one decision, which begins when it is read.
struct Began<'a> {
    world: &'a World,
    late: std::sync::atomic::AtomicBool,
}

impl Clock for Began<'_> {
    fn monotonic(&self) -> Monotonic {
        self.late.store(self.world.enforced.load(SeqCst), Relaxed);
        self.world.now()
    }

    fn wall(&self) -> Timestamp {
        unreachable!("no decision reads the wall clock")
    }
}

/// One revocation and some decisions, of which those that miss at first wait for the same load.
fn play(how: How, mistake: Mistake, cached: bool, decisions: usize, seen: &Seen) {
    let world = Arc::new(World::new(mistake));
    if cached {
        world.load();
    }
    let first_load = world.loading();
    let revoker = thread::spawn({
        let world = world.clone();
        move || world.revoke(how)
    });
    let deciders: Vec<_> = (0..decisions)
        .map(|_| {
            let (world, first_load) = (world.clone(), first_load.clone());
            thread::spawn(move || {
                let clock = Began { world: &world, late: false.into() };
                let load = |primary| if primary { world.loading() } else { first_load.clone() };
                let allowed = block_on(world.decide(&clock, load)).is_ok();
                let late = clock.late.load(Relaxed);
                assert!(!(allowed && late), "allowed what was revoked");
                (allowed, late)
            })
        })
        .collect();
    revoker.join().expect("a panic ends the run");
    for decider in deciders {
        let (allowed, late) = decider.join().expect("a panic ends the run");
        let counted = if allowed { &seen.allowed } else { &seen.refused };
        counted.fetch_add(1, Relaxed);
        seen.late.fetch_add(usize::from(late), Relaxed);
    }
}

/// In random orders, and in such with few switches between threads (PCT).
#[test]
fn no_decision_that_begins_once_it_is_enforced_allows() {
    for how in [How::Broadcast, How::Early, How::Jump, How::Fence, How::Leave] {
        let seen = Arc::new(Seen::default());
        for cached in [false, true] {
            let counted = Arc::clone(&seen);
            shuttle::check_random(move || play(how, Mistake::None, cached, 2, &counted), 300);
            let counted = Arc::clone(&seen);
            shuttle::check_pct(move || play(how, Mistake::None, cached, 2, &counted), 300, 3);
        }
        for count in [&seen.allowed, &seen.refused, &seen.late] {
            assert!(count.load(Relaxed) > 50, "{how:?} is hardly explored");
        }
    }
}

/// The other ways have too many orders, or the same ones.
#[test]
fn the_same_in_every_order_of_one_decision_about_a_cached_session() {
    const MOST: usize = 50_000;
    for how in [How::Broadcast, How::Leave] {
        let seen = Arc::new(Seen::default());
        let counted = Arc::clone(&seen);
        shuttle::check_dfs(move || play(how, Mistake::None, true, 1, &counted), Some(MOST));
        let (allowed, refused) = (seen.allowed.load(Relaxed), seen.refused.load(Relaxed));
        assert!(allowed > 0 && seen.late.load(Relaxed) > 0, "{how:?} proves nothing");
        assert!(allowed + refused < MOST, "{how:?} has more orders than were tried");
    }
}

/// That the check notices what it is for.
mod mistakes {
    use super::*;

    fn check(mistake: Mistake, cached: bool) {
        let play = move || play(How::Broadcast, mistake, cached, 2, &Seen::default());
        shuttle::check_random(play, 10_000);
    }

    #[test]
    #[should_panic(expected = "allowed what was revoked")]
    fn currency_checked_before_the_clock() {
        check(Mistake::CurrencyBeforeClock, true);
    }

    #[test]
    #[should_panic(expected = "allowed what was revoked")]
    fn what_a_load_brought_is_trusted() {
        check(Mistake::LoadTrusted, false);
    }

    #[test]
    #[should_panic(expected = "allowed what was revoked")]
    fn acked_before_the_marks_are_raised() {
        check(Mistake::AckBeforeMarks, true);
    }

    #[test]
    #[should_panic(expected = "allowed what was revoked")]
    fn the_head_read_after_the_data() {
        check(Mistake::HeadAfterData, false);
    }
}
