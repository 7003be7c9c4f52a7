//! How large a world is searched, and what may happen in it.

use super::mutation::Mutation;

/// Whom a change of rights is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Whom {
    /// One user.
    User(u8),
    /// Everybody in the tenant.
    Tenant,
}

/// What may happen besides joining, renewing, deciding, committing, broadcasting and fencing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    /// Beacons tell the head.
    Beacon,
    /// Edges fetch what they missed.
    Fetch,
    /// Only one entry is fetched at once.
    Page,
    /// What is fetched has been pruned, so that the edge has to jump.
    Prune,
    /// Workers raise `must_apply` of rows that are missing.
    Press,
    /// Edges leave.
    Leave,
    /// Renewals hold the lock of their row for a while before they commit, or never do.
    HoldRows,
    /// Rows and acks are read late: else as soon as they change, which can only bring fences and
    /// receipts earlier.
    ReadLate,
    /// Edges forget their marks.
    Forget,
    /// Reading the clock before reading the rows, for a worker that does it in the wrong order.
    ReadClock,
}

/// A world with bounds.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// What it is called.
    pub(super) name: &'static str,
    /// How many edges.
    pub(super) edges: usize,
    /// How many workers, each with a steady clock of its own.
    pub(super) workers: usize,
    /// The changes of rights, in the order of their commits.
    pub(super) changes: &'static [Whom],
    /// Length of the lease, in steps of the margin.
    pub(super) ttl: u32,
    /// How long an edge goes on allowing what it has cached while it is cut off, in the same steps.
    pub(super) allow_cached: u32,
    /// How far the workers' clocks run, in the same steps.
    pub(super) time: u32,
    /// At most so many lives of each edge.
    pub(super) lives: usize,
    /// So many times an edge's process ends and starts anew.
    pub(super) restarts: u8,
    /// So many times a worker does.
    pub(super) crashes: u8,
    /// So many messages of each edge arrive twice.
    pub(super) repeats: u8,
    /// So many times the database fails over.
    pub(super) failovers: u8,
    /// What else may happen.
    pub(super) may: &'static [May],
    /// Whether the edges have joined when the search begins.
    pub(super) joined: bool,
    /// Whether to look for the receipt in the end, from each world.
    pub(super) live: bool,
    /// The rule that is broken.
    pub(super) broken: Option<Mutation>,
}

impl Scope {
    /// One edge that starts, one worker, one change, a lease of one step.
    pub(super) const SMALLEST: Self = Self {
        name: "one edge, one worker",
        edges: 1,
        workers: 1,
        changes: &[Whom::User(1)],
        ttl: 1,
        allow_cached: 0,
        time: 2,
        lives: 2,
        restarts: 0,
        crashes: 0,
        repeats: 0,
        failovers: 0,
        may: &[],
        joined: false,
        live: false,
        broken: None,
    };

    /// Whether something may happen.
    pub(super) fn may(&self, what: May) -> bool {
        self.may.contains(&what)
    }

    /// Whether this rule is broken.
    pub(super) fn breaks(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }
}
