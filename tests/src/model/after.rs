//! What follows from a step.

use shared::{
    lease::{Revision, edge::Edge},
    message::revocation::Broadcast,
};

use super::{
    at_worker::{press, read_edges, read_rows},
    moves::{Model, is_of_join},
    mutation::Mutation,
    scope::May,
    step::Step,
    system::{Cell, Change, Message, System},
};

impl Model {
    /// The world after a step.
    pub(super) fn after(&self, system: &System, step: Step) -> System {
        let mut next = system.clone();
        match step {
            Step::WorkerClock(j) => next.workers[j].clock += 1,
            Step::EdgeClock(i) => next.cells[i].clock += 1,
            Step::Commit => self.commit(&mut next),
            Step::ReadEdges(k) => read_edges(&mut next, k),
            Step::Receipt(k) => self.look(&mut next, k),
            Step::Press(k) => press(&mut next, k),
            Step::Poll(i) => self.drive(&mut next, i, Edge::poll),
            Step::Handle(i, message, again) => {
                self.consume(&mut next.cells[i], &message, again);
                self.handle(&mut next, i, message);
            }
            Step::Arrive(i, message, again) => {
                self.consume(&mut next.cells[i], &message, again);
                self.arrive(&mut next, i, message);
            }
            Step::RollBack(i, message) => self.consume(&mut next.cells[i], &message, false),
            Step::Beacon(i, head) => {
                let beacon = Broadcast { head: self.shown(next.heads[head]), entries: Vec::new() };
                self.drive(&mut next, i, |edge, now| edge.heard(now, &beacon));
                if self.breaks(Mutation::AckOnce) {
                    next.cells[i].acks.clone_from(&system.cells[i].acks);
                }
            }
            Step::JoinFails(i) => {
                // An answer that comes later finds nobody; the row stays.
                next.cells[i].messages.retain(|message| !is_of_join(message));
                self.drive(&mut next, i, |edge, now| {
                    edge.join_failed(now);
                    Vec::new()
                });
            }
            Step::Restart(i) => {
                next.restarts -= 1;
                self.restart(&mut next, i);
            }
            Step::Leave(i) => self.leave(&mut next, i),
            Step::ReadClock(j) => next.workers[j].read_clock = Some(next.workers[j].clock),
            Step::ReadRows(j) => {
                for i in 0..next.cells.len() {
                    read_rows(&mut next, i, j);
                }
                next.workers[j].read_clock = None;
            }
            Step::Fence(j, i, life) => self.fence(&mut next, j, i, life),
            Step::WorkerRestart(j) => self.restart_worker(&mut next, j),
            Step::FailOver(lose) => fail_over(&mut next, lose),
        }
        self.settle(&mut next);
        next
    }

    /// A message is taken off the network, unless the same is to arrive again.
    fn consume(&self, cell: &mut Cell, message: &Message, again: bool) {
        if again && !self.fair {
            cell.repeats -= 1;
        } else {
            cell.messages.remove(message);
        }
    }

    fn commit(&self, system: &mut System) {
        let whom = self.scope.changes[system.committed];
        let revision = system.head().next();
        let change = Change { number: revision.number, whom, head: system.heads.len() };
        system.heads.push(revision);
        system.changes.push(change);
        system.committed += 1;
        system.keep_all();
        system.can_lose = system.failovers > 0;
        let count = system.changes.len();
        for cell in &mut system.cells {
            cell.messages.insert(Message::Broadcast { revision, whom });
            cell.enforcements.resize(count, None);
        }
    }

    /// What the edges are told: where timelines are not told apart, all are the first.
    pub(super) fn shown(&self, revision: Revision) -> Revision {
        if self.breaks(Mutation::OneTimeline) {
            Revision { timeline: 1, ..revision }
        } else {
            revision
        }
    }

    /// What follows at once. Reading rows and acks as soon as they change can only bring fences
    /// and receipts earlier, and nothing else depends on them.
    fn settle(&self, system: &mut System) {
        let late = self.scope.may(May::ReadLate);
        let changed = system.cells.iter().any(|cell| cell.changed);
        if !late {
            for i in 0..system.cells.len() {
                if system.cells[i].changed {
                    for j in 0..system.workers.len() {
                        read_rows(system, i, j);
                    }
                }
            }
            let mut look = changed;
            for k in system.promised..system.changes.len() {
                let revision = system.revision(&system.changes[k]);
                let asked = system.cells[0].enforcements[k].as_ref();
                if asked.is_none_or(|enforcement| enforcement.revision() != revision) {
                    read_edges(system, k);
                    look = true;
                }
            }
            if look {
                for k in system.promised..system.changes.len() {
                    if k >= system.promised {
                        self.look(system, k);
                    }
                }
            }
        }
        for cell in &mut system.cells {
            cell.changed = false;
        }
        if self.breaks(Mutation::CheckBeforeClock) || self.breaks(Mutation::CurrentByApplied) {
            self.note(system);
        }
    }
}

fn fail_over(system: &mut System, lose: bool) {
    system.failovers -= 1;
    let head = system.head();
    let lost_change = lose && system.can_lose;
    let number = head.number - u64::from(lost_change);
    system.heads.push(Revision { timeline: head.timeline + 1, number });
    if lost_change {
        system.changes.pop();
    }
    let count = system.changes.len();
    for cell in &mut system.cells {
        if let Some((life, before)) = cell.before_renewal.take().filter(|_| lose) {
            *cell.row(life) = before.as_ref().clone();
        }
        cell.enforcements.truncate(count);
        // Transactions end with their server.
        cell.messages.retain(|message| !matches!(message, Message::Renewing { .. }));
        cell.changed = true;
    }
    system.can_lose = false;
}
