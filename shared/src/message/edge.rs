//! Between an edge and session-worker: the lease.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    id::{EdgeId, Incarnation},
    lease::Revision,
    message::{Caller, Event, Request, SHORT, requests},
    subject::Subject,
};

/// An edge starts to work, or starts anew (E1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Who asks.
    pub edge: EdgeId,
    /// Where it stands, for people.
    pub region: String,
    /// How many milliseconds it will go on allowing what it has cached after its lease, while it is
    /// cut off; at most [`MOST_ALLOW_CACHED_MS`]. Until then it counts as waiting.
    #[serde(default)]
    pub allow_cached_ms: u32,
}

/// The longest that an edge may allow while it is cut off: an hour.
pub const MOST_ALLOW_CACHED_MS: u32 = 3_600_000;

/// The edge has a lease, counted from when it sent [`Join`] (W1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The life that begins.
    pub incarnation: Incarnation,
    /// The head, read after the edge's row was committed.
    pub head: Revision,
    /// Length of the lease in milliseconds.
    pub ttl_ms: u64,
    /// How long the edge may go on allowing after its lease, as its row has it: workers that know
    /// nothing of it wait for nothing of it.
    #[serde(default)]
    pub allow_cached_ms: u32,
    /// The database's clock when the head was read.
    pub server_time: Timestamp,
}

impl Request for Join {
    type Reply = Joined;
    const SUBJECT: Subject = Subject::EdgeJoin;
    const DEADLINE: Duration = Duration::from_secs(3);
    fn edge(&self) -> Option<&EdgeId> {
        Some(&self.edge)
    }
}

/// An edge asks for more time (E6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// Who asks.
    pub edge: EdgeId,
    /// Its present life.
    pub incarnation: Incarnation,
    /// Every revision up to this one is applied.
    pub applied: Revision,
    /// How many sessions it has in memory, for people.
    #[serde(default)]
    pub cached_sessions: u64,
}

/// Whether the lease was extended (W2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Renewal {
    /// Extended, from when the request was sent.
    Extended,
    /// Not extended: the edge must first apply what it missed. It keeps what it has.
    Behind,
    /// That life is over, or was never known. Join again.
    Fenced,
}

/// The answer to [`Renew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The life that was asked about.
    pub incarnation: Incarnation,
    /// Whether the lease was extended.
    pub renewal: Renewal,
    /// The head.
    pub head: Revision,
    /// Length of the lease in milliseconds, as the edge's row has it.
    pub ttl_ms: u64,
    /// The database's clock in that statement.
    pub server_time: Timestamp,
}

impl Request for Renew {
    type Reply = Renewed;
    const SUBJECT: Subject = Subject::EdgeRenew;
    const DEADLINE: Duration = Duration::from_secs(3);
    fn edge(&self) -> Option<&EdgeId> {
        Some(&self.edge)
    }
}

/// An edge has stopped deciding and let started decisions end (E9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// Who says so.
    pub edge: EdgeId,
    /// The life that ends.
    pub incarnation: Incarnation,
}

impl Request for Leave {
    type Reply = ();
    const SUBJECT: Subject = Subject::EdgeLeave;
    const DEADLINE: Duration = Duration::from_secs(2);
    fn edge(&self) -> Option<&EdgeId> {
        Some(&self.edge)
    }
}

/// An edge has applied every revision up to one (E3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Who says so.
    pub edge: EdgeId,
    /// Its present life.
    pub incarnation: Incarnation,
    /// Every revision up to this one is applied.
    pub applied: Revision,
}

impl Event for Ack {
    const SUBJECT: Subject = Subject::EdgeAck;
    fn edge(&self) -> Option<&EdgeId> {
        Some(&self.edge)
    }
}

/// How all edges stand. Needs `audit.read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEdges {
    /// Who asks.
    pub caller: Caller,
}

requests! {
    ListEdges => Edges, EdgeList, SHORT;
}

/// The answer to [`ListEdges`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Edges {
    /// The latest life of each edge, by name; those that stopped in order are left out.
    pub edges: Vec<EdgeStatus>,
}

/// How an edge stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EdgeStatus {
    /// Its name.
    pub id: EdgeId,
    /// Where it stands.
    pub region: String,
    /// It enforces every revision up to this one.
    pub applied: u64,
    /// The latest revision.
    pub head: u64,
    /// How many milliseconds it may go on deciding if it is never heard of again, at most; 0 if it
    /// decides no more.
    pub lease_remaining_ms: u64,
    /// Its lease ran out: it decides nothing until it joins anew.
    pub fenced: bool,
    /// How many sessions it had in memory when it last renewed its lease.
    pub cached_sessions: u64,
}
