//! The promise: what a receipt rules out.

use std::fmt;

use shared::lease::{
    Revision,
    edge::{Snapshot, Verdict},
};

use super::{
    moves::Model,
    mutation::Mutation,
    scope::Whom,
    system::{Cell, System, TENANT, at, user},
};

/// A broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation {
    /// The edge that allows.
    pub(super) edge: usize,
    /// The head under which it loaded what it goes by.
    pub(super) snapshot: Revision,
    /// The change that has a receipt, and made that stale.
    pub(super) change: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edge, snapshot, change } = self;
        write!(
            f,
            "edge {edge} allows by what it loaded at {snapshot}, though change {change} has a receipt"
        )
    }
}

impl Model {
    /// Whether an edge allows, now or at the end of a decision that began with a receipt, what a
    /// receipt says that it does not.
    pub(super) fn violation(&self, system: &System) -> Option<Violation> {
        for (k, change) in system.changes[..system.promised].iter().enumerate() {
            for (i, cell) in system.cells.iter().enumerate() {
                for data in 0..change.head {
                    let last = if self.breaks(Mutation::SnapshotAfterData) {
                        system.heads.len()
                    } else {
                        data + 1
                    };
                    for head in data..last {
                        let revision = self.shown(system.heads[head]);
                        if self.allows(cell, k, head, &snapshot(revision, change.whom)) {
                            return Some(Violation { edge: i, snapshot: revision, change: k });
                        }
                    }
                }
            }
        }
        None
    }

    fn allows(&self, cell: &Cell, change: usize, head: usize, snapshot: &Snapshot) -> bool {
        let edge = &cell.process.edge;
        let began = at(cell.promised_at[change]);
        let verdict = edge.verdict(began, snapshot);
        let marked = snapshot.revision >= edge.seen(snapshot.user, snapshot.tenant);
        let leased = verdict != Verdict::Fenced;
        match self.scope.broken {
            Some(Mutation::LoadUnchecked) => true,
            Some(Mutation::NoLease) => edge.is_current(snapshot),
            Some(Mutation::NoCheck) => leased,
            Some(Mutation::NoFloor) => leased && marked,
            Some(Mutation::NoMark) => leased && snapshot.revision >= edge.floor(),
            Some(Mutation::ForgetOnly) => {
                leased && marked && snapshot.revision >= cell.process.joined_floor
            }
            Some(Mutation::CheckBeforeClock) => {
                leased && cell.process.once_current & 1 << head != 0
            }
            Some(Mutation::CurrentByApplied) => leased && cell.process.cached & 1 << head != 0,
            _ => matches!(verdict, Verdict::Current(_)),
        }
    }

    /// For broken rules: what was current once, and what is in the cache.
    pub(super) fn note(&self, system: &mut System) {
        let heads = &system.heads;
        for cell in &mut system.cells {
            let process = &mut cell.process;
            for (n, head) in heads.iter().enumerate() {
                for whom in self.scope.changes {
                    let snapshot = snapshot(self.shown(*head), *whom);
                    if process.edge.is_current(&snapshot) {
                        process.once_current |= 1 << n;
                    }
                }
                if *head >= process.edge.applied() {
                    process.cached |= 1 << n;
                }
            }
        }
    }
}

fn snapshot(revision: Revision, whom: Whom) -> Snapshot {
    Snapshot { revision, user: user(whom), tenant: TENANT }
}
