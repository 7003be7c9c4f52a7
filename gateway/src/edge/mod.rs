//! This process as an edge: the cached sessions, the lease, and the decision.
//!
//! The rules are those of [`shared::lease::edge`]. Here they meet the cache (`cache`), and the bus
//! (`driver`). Rule numbers are those of the protocol in `ARCHITECTURE.md`.

mod cache;
mod driver;

use std::{
    collections::{HashMap, hash_map::Entry},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use shared::{
    bus::Bus,
    clock::{Clock, Timestamp},
    id::{EdgeId, SessionId},
    message::{
        edge::MOST_ALLOW_CACHED_MS,
        revocation::Entry as RevocationEntry,
        session::{Elevation, Resolve, ResolvedSession, TOUCH_EVERY, Touch, Touched},
    },
    role::Role,
    token::{Token, TokenHash},
};
use tokio::sync::{Semaphore, broadcast};
use tracing::{Instrument as _, info_span};

use self::cache::{Cache, Cached};
pub use self::driver::Driver;

/// Most loads that wait; past it, decisions that need another are refused.
const LOADS_WAITING: usize = 10_000;
/// Most loads that are asked for at once; the others wait.
const LOADS_AT_ONCE: usize = 128;
/// Most of them for those who only watch a session.
const LOOKS_AT_ONCE: usize = 32;
/// Broadcasts that whoever watches what is applied may be behind.
const APPLIED: usize = 1_024;
/// How long a load may wait for its turn.
const TURN: Duration = Duration::from_secs(2);
/// Most sessions whose use is noted until it is reported.
const TOUCHES: usize = 50_000;
/// Most of them in one message.
const REPORTED_AT_ONCE: usize = 1_000;

/// Handle on this edge's cache and lease; cheap to clone.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    cache: Cache,
    bus: Bus,
    clock: Arc<dyn Clock>,
    loads: Mutex<HashMap<TokenHash, Load>>,
    turns: Semaphore,
    touches: Mutex<HashMap<SessionId, Use>>,
    looks: Semaphore,
    applied: broadcast::Sender<Applied>,
}

/// A use that the database has to hear of.
struct Use {
    at: Timestamp,
    entry: Arc<Cached>,
}

type Load = Shared<BoxFuture<'static, Result<Option<Arc<Cached>>, Undecided>>>;

/// A session that is valid now.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The session.
    pub session: Arc<ResolvedSession>,
    /// The effective role.
    pub role: Role,
    /// The grant that raises it, if any.
    pub elevation: Option<Elevation>,
    /// Whether the session can do nothing but set up a second factor.
    pub enrollment_only: bool,
    /// When, by the servers' clock.
    pub at: Timestamp,
}

/// A valid session as it stands, for who watches it.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What it may do.
    pub decision: Decision,
    /// When the clock alone may change that.
    pub until: Timestamp,
    /// When the session ends by the clock at the earliest, unless it is used.
    pub ends_at: Timestamp,
}

/// What this edge has applied: every decision from now on goes by it.
#[derive(Debug, Clone)]
pub enum Applied {
    /// These entries; some of them perhaps for the second time.
    Entries(Arc<[RevocationEntry]>),
    /// Much at once, without knowing what: anything may be different.
    Anything,
}

/// Why there is no [`Decision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// This edge holds no lease.
    #[error("this edge holds no lease")]
    Fenced,
    /// The token has no valid session.
    #[error("there is no valid session")]
    NoSession,
    /// The session could not be looked up in time.
    #[error("the session could not be looked up in time")]
    Unavailable,
}

/// What makes an edge the one that it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name, unique in the deployment.
    pub id: EdgeId,
    /// Where it stands, for people.
    pub region: String,
    /// Most sessions kept in memory.
    pub cached_sessions: u64,
    /// What it does while it is cut off.
    pub on_partition: OnPartition,
}

/// What an edge does once its lease has run out because it is cut off from workers or bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnPartition {
    /// It decides nothing.
    #[default]
    Deny,
    /// It goes on allowing what it has cached, and what was current when it was cut off, for so
    /// many seconds. Receipts count it as waiting for as long.
    AllowCached(u32),
}

impl OnPartition {
    const fn allow_cached_ms(self) -> u32 {
        match self {
            Self::Deny => 0,
            Self::AllowCached(seconds) => seconds * 1_000,
        }
    }

    fn allow_cached(self) -> Duration {
        Duration::from_millis(u64::from(self.allow_cached_ms()))
    }
}

impl FromStr for OnPartition {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const MOST: u32 = MOST_ALLOW_CACHED_MS / 1_000;
        let seconds = text.strip_prefix("allow-cached=").and_then(|text| text.parse().ok());
        match (text, seconds) {
            ("deny", _) => Ok(Self::Deny),
            (_, Some(seconds @ 1..=MOST)) => Ok(Self::AllowCached(seconds)),
            _ => Err(format!("neither `deny` nor `allow-cached=<seconds>` with 1 to {MOST}")),
        }
    }
}

/// Makes the edge and its driver, which has to be run.
pub fn start(options: Options, bus: Bus, clock: Arc<dyn Clock>) -> (Edge, Driver) {
    let handle = Edge(Arc::new(Inner {
        cache: Cache::new(options.cached_sessions, options.on_partition.allow_cached()),
        bus,
        clock,
        loads: Mutex::default(),
        turns: Semaphore::new(LOADS_AT_ONCE),
        touches: Mutex::default(),
        looks: Semaphore::new(LOOKS_AT_ONCE),
        applied: broadcast::channel(APPLIED).0,
    }));
    let driver = Driver::new(handle.clone(), options);
    (handle, driver)
}

impl Edge {
    /// E2. Decides locally on a hit; one `session.resolve` for all concurrent callers on a miss.
    pub async fn decide(&self, token: &Token) -> Result<Decision, Undecided> {
        let hash = token.hash();
        let load = |primary| self.load(hash, primary);
        let decided = self.0.cache.decide(&hash, &*self.0.clock, load).await;
        decided.map(|(entry, server_time)| self.allow(&entry, server_time))
    }

    /// Decides as [`Edge::decide`] does, for who watches a session: that is no use of it.
    pub async fn look(&self, token: TokenHash) -> Result<Standing, Undecided> {
        // Those who watch many sessions of which each is stale leave room for those who use them.
        let load = async |primary| {
            let turn = tokio::time::timeout(TURN, self.0.looks.acquire()).await;
            let Ok(Ok(_turn)) = turn else { return Err(Undecided::Unavailable) };
            self.load(token, primary).await
        };
        let (entry, server_time) = self.0.cache.decide(&token, &*self.0.clock, load).await?;
        Ok(Standing {
            decision: decision(&entry, server_time),
            until: entry.next_change(server_time),
            ends_at: entry.ends_at(),
        })
    }

    /// What is applied from now on. Whoever falls behind has missed something.
    #[must_use]
    pub fn applied(&self) -> broadcast::Receiver<Applied> {
        self.0.applied.subscribe()
    }

    /// The server's time, while this edge holds a lease.
    #[must_use]
    pub fn server_time(&self) -> Option<Timestamp> {
        self.0.cache.server_time(self.0.clock.monotonic())
    }

    /// Whether this edge holds a lease now.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.server_time().is_some()
    }

    fn allow(&self, entry: &Arc<Cached>, server_time: Timestamp) -> Decision {
        if entry.used(server_time) {
            let mut touches = self.0.touches.lock();
            if touches.len() < TOUCHES {
                let used = Use { at: server_time, entry: Arc::clone(entry) };
                touches.insert(entry.session.session_id, used);
                entry.reported(server_time);
            }
        }
        decision(entry, server_time)
    }

    /// E5. All who miss the same token at once wait for one load. Whether its answer may be used
    /// is decided by each of them, as for any entry.
    async fn load(&self, hash: TokenHash, primary: bool) -> Result<Option<Arc<Cached>>, Undecided> {
        if !self.is_leased() {
            return Err(Undecided::Fenced);
        }
        let load = {
            let mut loads = self.0.loads.lock();
            match loads.get(&hash) {
                Some(load) => load.clone(),
                None if loads.len() >= LOADS_WAITING => return Err(Undecided::Unavailable),
                None => {
                    let load = self.clone().fetch(hash, primary).boxed().shared();
                    loads.insert(hash, load.clone());
                    // It comes to its end, and out of the map, though everybody may hang up.
                    tokio::spawn(load.clone());
                    load
                }
            }
        };
        let loaded = load.await?;
        // An edge that lost its lease meanwhile says nothing about the session.
        if loaded.is_none() && !self.is_leased() {
            return Err(Undecided::Fenced);
        }
        Ok(loaded)
    }

    async fn fetch(self, hash: TokenHash, primary: bool) -> Result<Option<Arc<Cached>>, Undecided> {
        let _under_way = UnderWay { edge: &self, hash };
        self.ask(hash, primary).instrument(info_span!("session.load")).await
    }

    async fn ask(&self, hash: TokenHash, primary: bool) -> Result<Option<Arc<Cached>>, Undecided> {
        let turn = tokio::time::timeout(TURN, self.0.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Undecided::Unavailable) };
        let resolved = self.0.bus.request(&Resolve { token: hash, primary }).await;
        let resolved = resolved.map_err(|_| Undecided::Unavailable)?;
        Ok(resolved.session.map(|session| {
            let entry = Arc::new(Cached::new(session, resolved.snapshot));
            self.0.cache.insert(hash, &entry);
            entry
        }))
    }

    /// Tells session-worker which sessions were used. What it does not confirm is told again with the next
    /// report.
    async fn report(&self) {
        let used: Vec<_> =
            self.0.touches.lock().iter().map(|(session, used)| (*session, used.at)).collect();
        for used in used.chunks(REPORTED_AT_ONCE) {
            let told = self.0.bus.request(&Touch { used: used.to_vec() }).await;
            let Ok(Touched { last_active }) = told else { return };
            self.settle(used, &last_active.into_iter().collect());
        }
    }

    /// Forgets uses that the database knows, or need not know.
    fn settle(&self, used: &[(SessionId, Timestamp)], last_active: &HashMap<SessionId, Timestamp>) {
        let mut touches = self.0.touches.lock();
        for (session, at) in used {
            let last = last_active.get(session);
            // Something else was changing its row.
            let is_settled = last.is_none_or(|last| at.since(*last) < TOUCH_EVERY);
            let Entry::Occupied(pending) = touches.entry(*session) else { continue };
            // There may be a later one by now.
            if is_settled && pending.get().at == *at {
                let Use { entry, .. } = pending.remove();
                if let Some(last) = last {
                    entry.reported(*last);
                }
            }
        }
    }
}

fn decision(entry: &Cached, at: Timestamp) -> Decision {
    let elevation = entry.elevation(at);
    let raised = elevation.as_ref().map_or(entry.session.role, |elevation| elevation.role);
    Decision {
        session: Arc::clone(&entry.session),
        role: raised.max(entry.session.role),
        elevation,
        enrollment_only: entry.enrollment_only(at),
        at,
    }
}

/// A load that is under way; out of the map when it ends, however it ends.
struct UnderWay<'a> {
    edge: &'a Edge,
    hash: TokenHash,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.edge.0.loads.lock().remove(&self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_edge_does_while_cut_off_is_spelled_one_way() {
        assert_eq!("deny".parse(), Ok(OnPartition::Deny));
        assert_eq!("allow-cached=30".parse(), Ok(OnPartition::AllowCached(30)));
        for bad in ["", "allow", "allow-cached", "allow-cached=0", "allow-cached=3601", "Deny"] {
            assert!(bad.parse::<OnPartition>().is_err(), "{bad}");
        }
    }
}
