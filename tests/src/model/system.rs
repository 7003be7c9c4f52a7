//! What there is at one moment: the database, the edges with all that is under way to and from
//! them, and what the workers know of each.
//!
//! Whatever concerns one edge is kept with that edge, so that edges can change places without a
//! difference: a world counts as seen if one with its edges, or its workers, in another order was.

use std::{
    collections::BTreeSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
    time::Duration,
};

use shared::{
    clock::Monotonic,
    id::{EdgeId, Incarnation, TenantId, UserId},
    lease::{
        Margin, Revision,
        edge::{Edge, Limits},
        worker::{EdgeRow, Enforcement, FenceWatch, Rows},
    },
    message::revocation::Entry,
};
use uuid::Uuid;

use super::{
    mutation::Mutation,
    scope::{May, Scope, Whom},
};

/// One step of every clock: as long as the margin.
pub(super) const STEP: Duration = Duration::from_millis(100);

/// A reading of a steady clock.
pub(super) fn at(steps: u32) -> Monotonic {
    Monotonic(STEP * steps)
}

/// The lives of an edge are numbered from 0.
pub(super) fn incarnation(life: usize) -> Incarnation {
    Incarnation(Uuid::from_u128(life as u128))
}

/// The reverse of [`incarnation`].
pub(super) fn life(incarnation: Incarnation) -> usize {
    usize::try_from(incarnation.0.as_u128()).expect("lives are few")
}

/// The only tenant.
pub(super) const TENANT: TenantId = TenantId(Uuid::from_u128(100));

/// A user whom a change is about.
pub(super) fn user(whom: Whom) -> UserId {
    match whom {
        Whom::User(n) => UserId(Uuid::from_u128(u128::from(n))),
        Whom::Tenant => UserId(Uuid::from_u128(50)),
    }
}

/// The entry that tells of a change.
pub(super) fn entry(revision: Revision, whom: Whom) -> Entry {
    Entry {
        revision,
        tenant_id: TENANT,
        user_id: (whom != Whom::Tenant).then(|| user(whom)),
        cause: String::new(),
        traceparent: None,
    }
}

/// All edges have the same name: nothing may depend on names being different.
pub(super) fn name() -> EdgeId {
    "edge".parse().expect("a name")
}

/// A committed change of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Change {
    /// Its number, whatever the timeline is by now.
    pub(super) number: u64,
    /// Whom it is about.
    pub(super) whom: Whom,
    /// Which of [`System::heads`] it made.
    pub(super) head: usize,
}

/// What is under way between an edge and the workers, or inside a worker on behalf of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Message {
    /// The edge asks to join.
    Join { sent_at: u32 },
    /// The row is committed, the head is not read yet.
    Inserted { life: usize, sent_at: u32 },
    /// The head is read, and the row not inserted yet: the wrong order.
    HeadRead { head: Revision, sent_at: u32 },
    /// The edge has joined.
    Joined { life: usize, sent_at: u32, head: Revision },
    /// The edge asks for an extension.
    Renew { life: usize, sent_at: u32, applied: Revision },
    /// A renewal holds the lock of its row and has read the head.
    Renewing { life: usize, sent_at: u32, applied: Revision, head: Revision },
    /// The answer to a renewal.
    Renewed { life: usize, sent_at: u32, applied: Revision, answer: Answer, head: Revision },
    /// The edge asks for what it missed.
    Since { after: Revision },
    /// What came after: at most three entries, the first numbered `after + 1`.
    Missed { after: Revision, head: Revision, entries: [Option<Whom>; 3] },
    /// The entry of a revision.
    Broadcast { revision: Revision, whom: Whom },
    /// The edge decides no more.
    Leave { life: usize },
    /// A fence that checked its condition and waits for the lock: the wrong order.
    Fencing { life: usize },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join { sent_at } => write!(f, "the join of {sent_at}"),
            Self::Inserted { life, sent_at } => {
                write!(f, "the join of {sent_at}, inserted as life {life}")
            }
            Self::HeadRead { head, sent_at } => {
                write!(f, "the join of {sent_at}, with head {head} and no row yet")
            }
            Self::Joined { life, sent_at, head } => {
                write!(f, "the answer to the join of {sent_at}: life {life}, head {head}")
            }
            Self::Renew { life, sent_at, applied } => {
                write!(f, "the renewal of {sent_at} of life {life}, applied {applied}")
            }
            Self::Renewing { life, sent_at, applied, head } => {
                write!(
                    f,
                    "the renewal of {sent_at} of life {life}, applied {applied}, in its transaction with head {head}"
                )
            }
            Self::Renewed { life, sent_at, answer, head, .. } => {
                write!(
                    f,
                    "the answer to the renewal of {sent_at} of life {life}: {answer:?}, head {head}"
                )
            }
            Self::Since { after } => write!(f, "the fetch of what came after {after}"),
            Self::Missed { after, head, entries } => {
                let count = entries.iter().flatten().count();
                write!(f, "{count} entries after {after}, head {head}")
            }
            Self::Broadcast { revision, whom } => write!(f, "the entry {revision} about {whom:?}"),
            Self::Leave { life } => write!(f, "the end of life {life}"),
            Self::Fencing { life } => write!(f, "the fence of life {life} that waits"),
        }
    }
}

/// How a renewal went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Answer {
    /// See [`shared::message::edge::Renewal`].
    Extended,
    /// The same.
    Behind,
    /// The same.
    Fenced,
}

/// A running process of an edge.
#[derive(Debug, Clone, Hash)]
pub(super) struct Process {
    /// The rules themselves.
    pub(super) edge: Rc<Edge>,
    /// For broken rules: which of [`System::heads`] were current once.
    pub(super) once_current: u16,
    /// For broken rules: of which of [`System::heads`] something is in the cache.
    pub(super) cached: u16,
    /// For broken rules: the floor, had no mark ever been forgotten.
    pub(super) joined_floor: Revision,
}

/// An edge, and all that concerns it.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// Its steady clock.
    pub(super) clock: u32,
    /// Its process.
    pub(super) process: Process,
    /// Its rows in the database, one for each life.
    pub(super) rows: Rc<Vec<EdgeRow>>,
    /// The highest revision that each life has acked; an ack that is lost counts as one that comes
    /// later.
    pub(super) acks: Vec<Revision>,
    /// What is under way.
    pub(super) messages: BTreeSet<Message>,
    /// What each worker saw of its lease.
    pub(super) watches: Vec<Rc<FenceWatch>>,
    /// How it stands with each change that was committed.
    pub(super) enforcements: Vec<Option<Rc<Enforcement>>>,
    /// For each change that has a receipt, its clock when that was given: decisions that began
    /// then may still be under way.
    pub(super) promised_at: Vec<u32>,
    /// So many messages may still arrive twice.
    pub(super) repeats: u8,
    /// The row of a life as it was before the last commit, if that was its renewal and can be lost.
    pub(super) before_renewal: Option<(usize, Rc<EdgeRow>)>,
    /// Rows or acks have changed in this step.
    pub(super) changed: bool,
}

/// A worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    /// Its steady clock.
    pub(super) clock: u32,
    /// The timeline of the rows that it read last.
    pub(super) timeline: u32,
    /// For a broken rule: the clock as it was read before the rows.
    pub(super) read_clock: Option<u32>,
}

/// Everything at one moment.
#[derive(Debug, Clone)]
pub(super) struct System {
    /// Every head that there has been; the last one is in force.
    pub(super) heads: Vec<Revision>,
    /// The changes that were committed and not lost.
    pub(super) changes: Vec<Change>,
    /// How many were committed, lost ones included.
    pub(super) committed: usize,
    /// The last commit was a change, so that it can be lost alone.
    pub(super) can_lose: bool,
    /// For so many of `changes` there is a receipt.
    pub(super) promised: usize,
    /// The workers.
    pub(super) workers: Vec<Worker>,
    /// The edges.
    pub(super) cells: Vec<Cell>,
    /// What may still go wrong.
    pub(super) restarts: u8,
    /// The same for workers.
    pub(super) crashes: u8,
    /// The same for the database.
    pub(super) failovers: u8,
}

impl System {
    /// Edges that start, in an empty world.
    pub(super) fn new(scope: &Scope) -> Self {
        let worker = Worker { clock: 0, timeline: 1, read_clock: None };
        let cell = Cell {
            clock: 0,
            process: process(scope, 0),
            rows: Rc::default(),
            acks: Vec::new(),
            messages: BTreeSet::new(),
            watches: (0..scope.workers).map(|_| Rc::new(watch(scope))).collect(),
            enforcements: Vec::new(),
            promised_at: Vec::new(),
            repeats: scope.repeats,
            before_renewal: None,
            changed: false,
        };
        Self {
            heads: vec![Revision { timeline: 1, number: 0 }],
            changes: Vec::new(),
            committed: 0,
            can_lose: false,
            promised: 0,
            workers: vec![worker; scope.workers],
            cells: vec![cell; scope.edges],
            restarts: scope.restarts,
            crashes: scope.crashes,
            failovers: scope.failovers,
        }
    }

    /// The database's head.
    pub(super) fn head(&self) -> Revision {
        *self.heads.last().expect("there is always a head")
    }

    /// Something else is committed now: what was last before can be lost no more.
    pub(super) fn keep_all(&mut self) {
        self.can_lose = false;
        for cell in &mut self.cells {
            cell.before_renewal = None;
        }
    }

    /// What a change is called now.
    pub(super) fn revision(&self, change: &Change) -> Revision {
        Revision { timeline: self.head().timeline, number: change.number }
    }

    /// The same for all worlds that differ in the order of edges or workers alone.
    pub(super) fn fingerprint(&self) -> u64 {
        let orders: &[&[usize]] = match self.workers.len() {
            1 => &[&[0]],
            2 => &[&[0, 1], &[1, 0]],
            _ => unreachable!("there are one or two workers"),
        };
        let worlds = orders.iter().map(|order| {
            let mut cells: Vec<_> = self.cells.iter().map(|cell| cell.fingerprint(order)).collect();
            cells.sort_unstable();
            let mut hasher = DefaultHasher::new();
            cells.hash(&mut hasher);
            for worker in *order {
                self.workers[*worker].hash(&mut hasher);
            }
            (&self.heads, &self.changes, self.committed).hash(&mut hasher);
            (self.can_lose, self.promised).hash(&mut hasher);
            (self.restarts, self.crashes, self.failovers).hash(&mut hasher);
            hasher.finish()
        });
        worlds.min().expect("there is an order")
    }
}

impl Cell {
    fn fingerprint(&self, workers: &[usize]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.clock, &self.process, &self.rows, &self.acks).hash(&mut hasher);
        (&self.messages, &self.enforcements, &self.promised_at).hash(&mut hasher);
        (self.repeats, &self.before_renewal).hash(&mut hasher);
        for worker in workers {
            self.watches[*worker].hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether a transaction holds the lock of this life's row.
    pub(super) fn is_locked(&self, wanted: usize) -> bool {
        self.messages.iter().any(|m| matches!(m, Message::Renewing { life, .. } if *life == wanted))
    }

    /// Its rows, as a worker reads them.
    pub(super) fn read_rows(&self, timeline: u32) -> Rows {
        Rows { timeline, rows: self.rows.as_ref().clone() }
    }

    /// A row, to be changed.
    pub(super) fn row(&mut self, life: usize) -> &mut EdgeRow {
        self.changed = true;
        &mut Rc::make_mut(&mut self.rows)[life]
    }
}

/// A process that starts at `clock`.
pub(super) fn process(scope: &Scope, clock: u32) -> Process {
    let limits = Limits {
        marks: if scope.may(May::Forget) { 0 } else { 100 },
        gap_wait: Duration::ZERO,
        join_retry: Duration::ZERO,
        allow_cached: STEP * scope.allow_cached,
        ..Limits::default()
    };
    let mut process = Process {
        edge: Rc::new(Edge::new(limits)),
        once_current: 0,
        cached: 0,
        joined_floor: Revision::default(),
    };
    // It is asked what to do before anything arrives, and fails to join: it will ask again.
    let edge = Rc::make_mut(&mut process.edge);
    edge.poll(at(clock));
    edge.join_failed(at(clock));
    process
}

/// A worker that has seen no rows yet.
pub(super) fn watch(scope: &Scope) -> FenceWatch {
    let constant = if scope.breaks(Mutation::NoMargin) { Duration::ZERO } else { STEP };
    FenceWatch::new(Margin { percent: 0, constant })
}
