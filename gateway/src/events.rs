//! What open pages hear as it happens: events of their tenant, and what this edge has applied.
//!
//! One task hears both for the whole gateway and hands each to the streams of its tenant alone. It keeps
//! nothing for later: a stream that may have missed something tells its page to fetch everything.

mod audience;
mod frame;
mod stream;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::body::Bytes;
use parking_lot::Mutex;
use shared::{
    bus::Bus,
    clock::Timestamp,
    id::{EventId, SessionId, TenantId, UserId},
    message::{notification::Happened, revocation::Entry as Revision},
    token::TokenHash,
};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};
use tokio_util::sync::CancellationToken;

use self::audience::{Audience, SESSION_ENDED};
pub use self::stream::Stream;
use crate::edge::{Applied, Edge, Undecided};

/// Most streams on this gateway.
const STREAMS: usize = 2_000;
/// Most streams of one session.
const STREAMS_OF_SESSION: usize = 20;
/// So many notices of its tenant a stream may be behind. They are kept once for all of them.
const BEHIND: usize = 256;
/// How often to look whether this edge hears everything.
const LOOK: Duration = Duration::from_millis(100);

/// The streams of this gateway; cheap to clone.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    edge: Edge,
    link: watch::Sender<Link>,
    open: Mutex<Open>,
    stop: CancellationToken,
}

/// Whether this edge hears what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    /// It has the bus and a lease.
    live: bool,
    /// What happened between two connections was not heard.
    connections: u64,
}

/// Who listens.
#[derive(Default)]
struct Open {
    tenants: HashMap<TenantId, broadcast::Sender<Arc<Notice>>>,
    sessions: HashMap<SessionId, usize>,
    streams: usize,
}

/// What the streams of a tenant are told.
enum Notice {
    /// This edge has applied a revision.
    Revision {
        /// Whose rights it changes; absent: everybody's.
        user: Option<UserId>,
        cause: String,
        /// If it ends sessions, what others are told of that.
        ended: Option<Change>,
    },
    /// Something happened.
    Change(Change),
    /// Nobody knows what this edge has applied.
    Anything,
}

/// Something that happened, ready to be sent.
struct Change {
    audience: Audience,
    user: Option<UserId>,
    text: Bytes,
}

/// Why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// Nothing is known of the session.
    #[error(transparent)]
    Undecided(#[from] Undecided),
    /// The session can only set up a second factor.
    #[error("the session can only set up a second factor")]
    EnrollmentOnly,
    /// The session has as many streams as it may have.
    #[error("the session has too many streams")]
    TooMany,
    /// This gateway has as many streams as it may have.
    #[error("this gateway has too many streams")]
    Full,
}

/// Makes the streams and the task that feeds them, which has to be run. Both end at `stop`.
#[must_use]
pub fn start(bus: Bus, edge: Edge, stop: CancellationToken) -> (Events, FanOut) {
    let applied = edge.applied();
    let link = watch::channel(link(&bus, &edge)).0;
    let events = Events(Arc::new(Inner { edge, link, open: Mutex::default(), stop }));
    (events.clone(), FanOut { events, bus, applied })
}

fn link(bus: &Bus, edge: &Edge) -> Link {
    Link { live: bus.is_connected() && edge.is_leased(), connections: bus.connections() }
}

impl Events {
    /// Opens a stream for the session of a token. That is no use of the session.
    pub async fn open(&self, token: TokenHash) -> Result<Stream, NotOpened> {
        let standing = self.0.edge.look(token).await?;
        let session = &standing.decision.session;
        let (place, notices) = self.take_place(session.tenant_id, session.session_id)?;
        let link = self.0.link.subscribe();
        // What was applied before it listened is in what is looked up only now.
        let standing = self.0.edge.look(token).await?;
        if standing.decision.enrollment_only {
            return Err(NotOpened::EnrollmentOnly);
        }
        Ok(Stream::new(token, standing, notices, link, place))
    }

    fn take_place(
        &self,
        tenant: TenantId,
        session: SessionId,
    ) -> Result<(Place, broadcast::Receiver<Arc<Notice>>), NotOpened> {
        let mut open = self.0.open.lock();
        if open.streams >= STREAMS {
            return Err(NotOpened::Full);
        }
        let of_session = open.sessions.entry(session).or_default();
        if *of_session >= STREAMS_OF_SESSION {
            return Err(NotOpened::TooMany);
        }
        *of_session += 1;
        open.streams += 1;
        let notices = open.tenants.entry(tenant).or_insert_with(|| broadcast::channel(BEHIND).0);
        let notices = notices.subscribe();
        Ok((Place { events: self.clone(), tenant, session }, notices))
    }

    /// Tells the streams of a tenant, if there are any.
    fn tell(&self, tenant: TenantId, notice: impl FnOnce() -> Notice) {
        if let Some(notices) = self.0.open.lock().tenants.get(&tenant) {
            let _ = notices.send(Arc::new(notice()));
        }
    }

    fn tell_all(&self, notice: &Arc<Notice>) {
        for notices in self.0.open.lock().tenants.values() {
            let _ = notices.send(Arc::clone(notice));
        }
    }
}

/// A stream's place among those that may be open; free again when dropped.
struct Place {
    events: Events,
    tenant: TenantId,
    session: SessionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.events.0.open.lock();
        open.streams -= 1;
        if let Entry::Occupied(mut of_session) = open.sessions.entry(self.session) {
            *of_session.get_mut() -= 1;
            if *of_session.get() == 0 {
                of_session.remove();
            }
        }
        if let Entry::Occupied(notices) = open.tenants.entry(self.tenant)
            && notices.get().receiver_count() == 0
        {
            notices.remove();
        }
    }
}

/// Hears what happens, for all streams. One per process.
pub struct FanOut {
    events: Events,
    bus: Bus,
    applied: broadcast::Receiver<Applied>,
}

impl FanOut {
    /// Runs until the streams are to end.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut heard = self.bus.hear_events().await?;
        let mut look = tokio::time::interval(LOOK);
        let stop = self.events.0.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                applied = self.applied.recv() => match applied {
                    Ok(Applied::Entries(entries)) => entries.iter().for_each(|entry| self.revised(entry)),
                    Ok(Applied::Anything) | Err(RecvError::Lagged(_)) => {
                        self.events.tell_all(&Arc::new(Notice::Anything));
                    }
                    Err(RecvError::Closed) => anyhow::bail!("the edge is gone"),
                },
                _ = look.tick() => {
                    let now = link(&self.bus, &self.events.0.edge);
                    self.events.0.link.send_if_modified(|link| std::mem::replace(link, now) != now);
                }
                happened = heard.next() => {
                    let happened = happened.context("the bus closed the subscription")?;
                    self.happened(&happened);
                }
            }
        }
    }

    fn revised(&self, entry: &Revision) {
        self.events.tell(entry.tenant_id, || {
            let at = self.events.0.edge.server_time();
            let ends = frame::reason(&entry.cause).is_some();
            let ended = at.filter(|_| ends).map(|at| {
                Change::new(None, SESSION_ENDED, at, entry.user_id, &serde_json::Value::Null)
            });
            Notice::Revision { user: entry.user_id, cause: entry.cause.clone(), ended }
        });
    }

    fn happened(&self, happened: &Happened) {
        let Happened { id, tenant, kind, at, data } = happened;
        self.events.tell(*tenant, || {
            let user = data["user"].as_str().and_then(|user| user.parse().ok());
            Notice::Change(Change::new(Some(*id), kind, *at, user, data))
        });
    }
}

impl Change {
    fn new(
        id: Option<EventId>,
        kind: &str,
        at: Timestamp,
        user: Option<UserId>,
        data: &serde_json::Value,
    ) -> Self {
        let grant = data["grant"].as_str().and_then(|grant| grant.parse().ok());
        let change = frame::Change { kind, at, grant, user };
        Self { audience: audience::of(kind, data), user, text: frame::frame("change", id, &change) }
    }
}
