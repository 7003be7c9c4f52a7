//! What can happen next.

use shared::lease::worker::Overdue;

use super::{
    mutation::Mutation,
    scope::{May, Scope},
    step::Step,
    system::{Cell, Message, System, at, life},
};

/// A scope, and how the world moves in it.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// The bounds.
    pub(super) scope: Scope,
    /// No bounds on lives, and acks may all be lost: for looking at what comes in the end.
    pub(super) fair: bool,
    /// Every ack is lost.
    pub(super) lose_acks: bool,
}

impl Model {
    /// The model of a scope.
    pub(super) const fn new(scope: Scope) -> Self {
        Self { scope, fair: false, lose_acks: false }
    }

    pub(super) fn breaks(&self, rule: Mutation) -> bool {
        self.scope.breaks(rule)
    }

    /// Where the search begins.
    pub(super) fn initial(&self) -> System {
        let mut system = System::new(&self.scope);
        if self.scope.joined {
            for i in 0..self.scope.edges {
                system = self.after(&system, Step::Poll(i));
                while let Some(message) = system.cells[i].messages.first().copied() {
                    let step = if is_for_edge(&message) {
                        Step::Arrive(i, message, false)
                    } else {
                        Step::Handle(i, message, false)
                    };
                    system = self.after(&system, step);
                }
            }
        }
        system
    }

    /// Everything that can happen next.
    pub(super) fn steps(&self, system: &System) -> Vec<Step> {
        let mut steps = Vec::with_capacity(16);
        let scope = &self.scope;
        for (i, cell) in system.cells.iter().enumerate() {
            self.steps_of_edge(system, i, cell, &mut steps);
        }
        if system.committed < scope.changes.len() {
            if self.breaks(Mutation::EdgesBeforeCommit)
                && system.cells[0].enforcements.len() == system.committed
            {
                steps.push(Step::ReadEdges(system.committed));
            }
            steps.push(Step::Commit);
        }
        for k in system.promised..system.changes.len() {
            if scope.may(May::ReadLate) {
                let revision = system.revision(&system.changes[k]);
                let asked = system.cells[0].enforcements[k].as_ref();
                if asked.is_none_or(|enforcement| enforcement.revision() != revision) {
                    steps.push(Step::ReadEdges(k));
                } else {
                    steps.push(Step::Receipt(k));
                }
            }
            if scope.may(May::Press) {
                steps.push(Step::Press(k));
            }
        }
        if system.failovers > 0 {
            steps.push(Step::FailOver(false));
            let change = system.can_lose && system.promised < system.changes.len();
            if change || system.cells.iter().any(|cell| cell.before_renewal.is_some()) {
                steps.push(Step::FailOver(true));
            }
        }
        for (j, worker) in system.workers.iter().enumerate() {
            if scope.may(May::ReadClock) && worker.read_clock != Some(worker.clock) {
                steps.push(Step::ReadClock(j));
            }
            if scope.may(May::ReadLate)
                && (!scope.may(May::ReadClock) || worker.read_clock.is_some())
            {
                steps.push(Step::ReadRows(j));
            }
            if system.crashes > 0 {
                steps.push(Step::WorkerRestart(j));
            }
            let edges_follow = system.cells.iter().all(|cell| cell.clock >= worker.clock);
            if worker.clock < scope.time && edges_follow {
                steps.push(Step::WorkerClock(j));
            }
        }
        steps
    }

    fn steps_of_edge(&self, system: &System, i: usize, cell: &Cell, steps: &mut Vec<Step>) {
        let scope = &self.scope;
        let edge = &cell.process.edge;
        if !edge.as_ref().clone().poll(at(cell.clock)).is_empty() {
            steps.push(Step::Poll(i));
        }
        for message in &cell.messages {
            for again in [false, true] {
                if again && (cell.repeats == 0 || !can_repeat(message)) {
                    continue;
                }
                if is_for_edge(message) {
                    steps.push(Step::Arrive(i, *message, again));
                } else if self.can_handle(cell, message) {
                    steps.push(Step::Handle(i, *message, again));
                }
            }
            if matches!(message, Message::Renewing { .. }) {
                steps.push(Step::RollBack(i, *message));
            }
        }
        if scope.may(May::Beacon) {
            // Where the timeline never changes, an old head tells nothing that the last one does
            // not tell.
            let from = if scope.failovers > 0 { 0 } else { system.heads.len() - 1 };
            steps.extend((from..system.heads.len()).map(|head| Step::Beacon(i, head)));
        }
        if edge.is_joining() {
            steps.push(Step::JoinFails(i));
        }
        if system.restarts > 0 {
            steps.push(Step::Restart(i));
        }
        if scope.may(May::Leave) && edge.incarnation().is_some() {
            steps.push(Step::Leave(i));
        }
        for j in 0..system.workers.len() {
            for life in self.can_fence(system, i, j) {
                steps.push(Step::Fence(j, i, life));
            }
        }
        if system.workers.iter().all(|worker| worker.clock > cell.clock) {
            steps.push(Step::EdgeClock(i));
        }
    }

    /// Whether a worker can go on with a request now.
    pub(super) fn can_handle(&self, cell: &Cell, message: &Message) -> bool {
        match message {
            Message::Join { .. } | Message::HeadRead { .. } => {
                self.fair || cell.rows.len() < self.scope.lives
            }
            Message::Renew { life, .. } | Message::Leave { life } | Message::Fencing { life } => {
                !cell.is_locked(*life)
            }
            Message::Since { .. } => self.scope.may(May::Fetch),
            _ => true,
        }
    }

    /// Which lives of an edge a worker would fence now.
    pub(super) fn can_fence(&self, system: &System, i: usize, j: usize) -> Vec<usize> {
        let cell = &system.cells[i];
        let worker = &system.workers[j];
        if self.breaks(Mutation::NeverFence)
            || worker.timeline != system.head().timeline && !self.breaks(Mutation::FenceAnyTimeline)
        {
            return Vec::new();
        }
        let overdue = cell.watches[j].overdue(at(worker.clock));
        let would = |overdue: &Overdue| {
            let life = life(overdue.incarnation);
            let row = &cell.rows[life];
            let same = row.lease_seq == overdue.lease_seq || self.breaks(Mutation::FenceAnySeq);
            let locked = cell.is_locked(life) && !self.breaks(Mutation::FenceUnlocked);
            (row.is_live() && same && !locked).then_some(life)
        };
        overdue.iter().filter_map(would).collect()
    }
}

/// Whether a message is on its way to the edge.
pub(super) const fn is_for_edge(message: &Message) -> bool {
    matches!(
        message,
        Message::Joined { .. }
            | Message::Renewed { .. }
            | Message::Missed { .. }
            | Message::Broadcast { .. }
    )
}

/// What is repeated is a message, not a transaction.
const fn can_repeat(message: &Message) -> bool {
    !matches!(
        message,
        Message::Inserted { .. }
            | Message::HeadRead { .. }
            | Message::Renewing { .. }
            | Message::Fencing { .. }
    )
}

pub(super) const fn is_of_join(message: &Message) -> bool {
    matches!(
        message,
        Message::Join { .. }
            | Message::Inserted { .. }
            | Message::HeadRead { .. }
            | Message::Joined { .. }
    )
}
