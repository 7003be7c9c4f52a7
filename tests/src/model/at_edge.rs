//! What happens at an edge.

use std::rc::Rc;

use shared::{
    clock::{Monotonic, Timestamp},
    lease::{
        Revision,
        edge::{Action, Alarm, Edge},
    },
    message::{
        edge::{Joined, Renewal, Renewed},
        revocation::Broadcast,
    },
};

use super::{
    moves::{Model, is_of_join},
    mutation::Mutation,
    system::{Answer, Message, STEP, System, at, entry, incarnation, life, process},
};

impl Model {
    /// Changes the rules of an edge, and does what they ask for.
    pub(super) fn drive(
        &self,
        system: &mut System,
        i: usize,
        change: impl FnOnce(&mut Edge, Monotonic) -> Vec<Action>,
    ) {
        let cell = &mut system.cells[i];
        let edge = Rc::make_mut(&mut cell.process.edge);
        let actions = change(edge, at(cell.clock));
        for action in actions {
            let edge = &cell.process.edge;
            match action {
                Action::Join => _ = cell.messages.insert(Message::Join { sent_at: cell.clock }),
                Action::Renew { incarnation, applied } => {
                    let sent_at = cell.clock;
                    cell.messages.insert(Message::Renew {
                        life: life(incarnation),
                        sent_at,
                        applied,
                    });
                }
                Action::Fetch { after } => _ = cell.messages.insert(Message::Since { after }),
                Action::Ack { .. } if self.lose_acks => {}
                Action::Ack { incarnation, applied } => {
                    let early =
                        self.breaks(Mutation::AckEarly) || self.breaks(Mutation::AckUnapplied);
                    let acked = if early { edge.head() } else { applied };
                    let highest = &mut cell.acks[life(incarnation)];
                    if *highest < acked {
                        *highest = acked;
                        cell.changed = true;
                    }
                }
                Action::Alarm(Alarm::CommitsLost) => return self.restart(system, i),
                Action::Alarm(Alarm::TimelineChanged | Alarm::Fenced) => {}
            }
        }
    }

    pub(super) fn arrive(&self, system: &mut System, i: usize, message: Message) {
        let clock = system.cells[i].clock;
        let counted_from =
            |sent_at| at(if self.breaks(Mutation::LeaseFromReply) { clock } else { sent_at });
        let longer = u32::from(self.breaks(Mutation::LongerThanRow));
        let ttl_ms = u64::from(self.scope.ttl + longer) * millis();
        match message {
            Message::Joined { life, sent_at, head } => {
                let sent_at = counted_from(sent_at);
                let reply = Joined {
                    incarnation: incarnation(life),
                    head,
                    ttl_ms,
                    allow_cached_ms: u32::try_from(u64::from(self.scope.allow_cached) * millis())
                        .unwrap_or(u32::MAX),
                    server_time: server_time(sent_at),
                };
                self.drive(system, i, |edge, now| edge.joined(now, sent_at, &reply));
                let process = &mut system.cells[i].process;
                if self.breaks(Mutation::ForgetOnly) {
                    process.joined_floor = process.joined_floor.max(head);
                }
            }
            Message::Renewed { life, sent_at, applied, answer, head } => {
                let sent_at = counted_from(sent_at);
                let reply = Renewed {
                    incarnation: incarnation(life),
                    renewal: match answer {
                        Answer::Behind if !self.breaks(Mutation::BehindExtends) => Renewal::Behind,
                        Answer::Extended | Answer::Behind => Renewal::Extended,
                        Answer::Fenced => Renewal::Fenced,
                    },
                    head,
                    ttl_ms,
                    server_time: server_time(sent_at),
                };
                self.drive(system, i, |edge, now| edge.renewed(now, sent_at, applied, &reply));
            }
            Message::Missed { after, head, entries } => {
                let mut revision = after;
                let entries = entries.into_iter().flatten().map(|whom| {
                    revision = Revision { timeline: head.timeline, ..revision.next() };
                    entry(revision, whom)
                });
                let reply = Broadcast { head, entries: entries.collect() };
                self.drive(system, i, |edge, now| edge.caught_up(now, after, &reply));
            }
            Message::Broadcast { revision, whom } => {
                let revision = self.shown(revision);
                if self.breaks(Mutation::CurrentByApplied) {
                    evict(system, i, revision);
                }
                let entries = if self.breaks(Mutation::AckUnapplied) {
                    Vec::new()
                } else {
                    vec![entry(revision, whom)]
                };
                let reply = Broadcast { head: revision, entries };
                self.drive(system, i, |edge, now| edge.heard(now, &reply));
            }
            _ => unreachable!("{message:?} is for the workers"),
        }
    }

    pub(super) fn restart(&self, system: &mut System, i: usize) {
        let cell = &mut system.cells[i];
        cell.process = process(&self.scope, cell.clock);
        // What would be answered finds nobody.
        cell.messages.retain(|message| {
            !is_of_join(message)
                && !matches!(message, Message::Since { .. } | Message::Missed { .. })
        });
        cell.promised_at.fill(cell.clock);
    }

    pub(super) fn leave(&self, system: &mut System, i: usize) {
        let cell = &mut system.cells[i];
        let Some(incarnation) = cell.process.edge.incarnation() else { return };
        if !self.breaks(Mutation::LeaveAndGoOn) {
            Rc::make_mut(&mut cell.process.edge).leave();
        }
        cell.messages.insert(Message::Leave { life: life(incarnation) });
    }
}

fn evict(system: &mut System, i: usize, revision: Revision) {
    let process = &mut system.cells[i].process;
    for (n, head) in system.heads.iter().enumerate() {
        if *head < revision {
            process.cached &= !(1 << n);
        }
    }
}

/// The server's clock and the edges' tell the same: time of day decides about no lease.
fn server_time(asked_at: Monotonic) -> Timestamp {
    Timestamp::from_micros(i64::try_from(asked_at.0.as_micros()).expect("time is short"))
}

fn millis() -> u64 {
    u64::try_from(STEP.as_millis()).expect("a step is short")
}
