//! What follows from a step.

use std::rc::Rc;

use shared::{
    clock::{Monotonic, Timestamp},
    lease::{
        Revision,
        edge::{Action, Alarm, Edge},
        worker::{EdgeRow, Enforcement},
    },
    message::{
        edge::{Joined, Renewal, Renewed},
        revocation::Broadcast,
    },
};

use super::{
    moves::Model,
    mutation::Mutation,
    scope::May,
    step::Step,
    system::{
        Answer, Cell, Change, Message, STEP, System, at, entry, incarnation, life, name, process,
        watch,
    },
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

    /// Changes the rules of an edge, and does what they ask for.
    fn drive(
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

    fn handle(&self, system: &mut System, i: usize, message: Message) {
        let head = self.shown(system.head());
        let failovers = system.failovers;
        if is_commit(&message) {
            system.keep_all();
        }
        let cell = &mut system.cells[i];
        match message {
            Message::Join { sent_at } if self.breaks(Mutation::HeadBeforeJoin) => {
                cell.messages.insert(Message::HeadRead { head, sent_at });
            }
            Message::Join { sent_at } => {
                let life = self.insert_row(cell, head);
                cell.messages.insert(Message::Inserted { life, sent_at });
            }
            Message::HeadRead { head: read, sent_at } => {
                let life = self.insert_row(cell, head);
                cell.messages.insert(Message::Joined { life, sent_at, head: read });
            }
            Message::Inserted { life, sent_at } => {
                cell.messages.insert(Message::Joined { life, sent_at, head });
            }
            Message::Renew { life, sent_at, applied } if self.scope.may(May::HoldRows) => {
                cell.messages.insert(Message::Renewing { life, sent_at, applied, head });
            }
            Message::Renew { life, sent_at, applied } => {
                self.renew(cell, life, sent_at, applied, head);
                cell.before_renewal = cell.before_renewal.take().filter(|_| failovers > 0);
            }
            Message::Renewing { life, sent_at, applied, head } => {
                self.renew(cell, life, sent_at, applied, head);
                cell.before_renewal = cell.before_renewal.take().filter(|_| failovers > 0);
            }
            Message::Since { after } => {
                let mut entries = [None; 3];
                let missed = system.changes.iter().filter(|change| change.number > after.number);
                let most = if self.scope.may(May::Page) { 1 } else { entries.len() };
                if !self.scope.may(May::Prune) {
                    for (place, change) in entries[..most].iter_mut().zip(missed) {
                        *place = Some(change.whom);
                    }
                }
                cell.messages.insert(Message::Missed { after, head, entries });
            }
            Message::Leave { life } => {
                let any = self.breaks(Mutation::LeaveAnyLife);
                for of in 0..cell.rows.len() {
                    if of == life || any {
                        let row = cell.row(of);
                        row.left = !row.fenced;
                    }
                }
            }
            Message::Fencing { life } => cell.row(life).fenced = true,
            _ => unreachable!("{message:?} is for the edge"),
        }
    }

    fn insert_row(&self, cell: &mut Cell, head: Revision) -> usize {
        if self.breaks(Mutation::RowRevived) && !cell.rows.is_empty() {
            let row = cell.row(0);
            (row.applied, row.must_apply) = (head.number, head.number);
            (row.fenced, row.left) = (false, false);
            return 0;
        }
        let life = cell.rows.len();
        let cached = !self.breaks(Mutation::FenceIgnoresCached);
        let row = EdgeRow {
            edge: name(),
            incarnation: incarnation(life),
            applied: head.number,
            must_apply: head.number,
            lease_seq: 1,
            ttl: STEP * self.scope.ttl,
            allow_cached: STEP * if cached { self.scope.allow_cached } else { 0 },
            fenced: false,
            left: false,
        };
        Rc::make_mut(&mut cell.rows).push(row);
        cell.acks.push(Revision::default());
        cell.changed = true;
        life
    }

    /// W2, at the commit of the statement.
    fn renew(&self, cell: &mut Cell, life: usize, sent_at: u32, applied: Revision, head: Revision) {
        let same = applied.timeline == head.timeline || self.breaks(Mutation::RenewAnyTimeline);
        let answer = if same {
            let row = cell.row(life);
            let before = row.clone();
            row.fenced &= !self.breaks(Mutation::RenewFenced);
            let mut answer = row.renew(applied.number, head.number);
            if answer == Renewal::Behind && self.breaks(Mutation::RenewDeaf) {
                (answer, row.lease_seq) = (Renewal::Extended, row.lease_seq + 1);
            }
            row.fenced = before.fenced;
            if self.breaks(Mutation::RenewUncounted) {
                row.lease_seq = before.lease_seq;
            }
            if answer != Renewal::Fenced {
                cell.before_renewal = Some((life, Rc::new(before)));
            }
            answer
        } else {
            Renewal::Fenced
        };
        let answer = match answer {
            Renewal::Extended => Answer::Extended,
            Renewal::Behind => Answer::Behind,
            Renewal::Fenced => Answer::Fenced,
        };
        cell.messages.insert(Message::Renewed { life, sent_at, applied, answer, head });
    }

    fn arrive(&self, system: &mut System, i: usize, message: Message) {
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

    fn restart(&self, system: &mut System, i: usize) {
        let cell = &mut system.cells[i];
        cell.process = process(&self.scope, cell.clock);
        // What would be answered finds nobody.
        cell.messages.retain(|message| {
            !is_of_join(message)
                && !matches!(message, Message::Since { .. } | Message::Missed { .. })
        });
        cell.promised_at.fill(cell.clock);
    }

    fn leave(&self, system: &mut System, i: usize) {
        let cell = &mut system.cells[i];
        let Some(incarnation) = cell.process.edge.incarnation() else { return };
        if !self.breaks(Mutation::LeaveAndGoOn) {
            Rc::make_mut(&mut cell.process.edge).leave();
        }
        cell.messages.insert(Message::Leave { life: life(incarnation) });
    }

    fn fence(&self, system: &mut System, j: usize, i: usize, life: usize) {
        system.keep_all();
        let timeline = system.workers[j].timeline;
        let promised = system.promised;
        let cell = &mut system.cells[i];
        if self.breaks(Mutation::FenceByReading) {
            let mut rows = cell.read_rows(timeline);
            rows.rows[life].fenced = true;
            for enforcement in cell.enforcements[promised..].iter_mut().flatten() {
                Rc::make_mut(enforcement).read(&rows);
            }
            cell.changed = true;
        } else if self.breaks(Mutation::FenceUnlocked) && cell.is_locked(life) {
            cell.messages.insert(Message::Fencing { life });
        } else {
            cell.row(life).fenced = true;
        }
    }

    fn restart_worker(&self, system: &mut System, j: usize) {
        system.crashes -= 1;
        for cell in &mut system.cells {
            cell.watches[j] = Rc::new(watch(&self.scope));
            cell.enforcements.fill(None);
            cell.changed = true;
        }
    }

    /// W5: what is known of a change by now.
    fn look(&self, system: &mut System, k: usize) {
        let timeline = system.head().timeline;
        let any_life = self.breaks(Mutation::AckAnyLife);
        let heard: Vec<_> = system.cells.iter().flat_map(|cell| cell.acks.clone()).collect();
        let highest = heard.into_iter().max().unwrap_or_default();
        let mut done = true;
        for cell in &mut system.cells {
            let Some(enforcement) = cell.enforcements[k].as_mut() else { return };
            let enforcement = Rc::make_mut(enforcement);
            if !self.breaks(Mutation::AckOnce) {
                let rows = Rc::clone(&cell.rows);
                enforcement.read(&shared::lease::worker::Rows { timeline, rows: rows.to_vec() });
            }
            for (life, acked) in cell.acks.iter().enumerate() {
                let acked = if any_life { highest } else { *acked };
                enforcement.acked(&name(), incarnation(life), acked);
            }
            done &= enforcement.is_done();
        }
        if !done {
            return;
        }
        system.promised = system.promised.max(k + 1);
        let promised = system.promised;
        for cell in &mut system.cells {
            cell.enforcements[..promised].fill(None);
            cell.promised_at.resize(promised, cell.clock);
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

fn read_edges(system: &mut System, k: usize) {
    let head = system.head();
    let number = system.changes.get(k).map_or(head.number + 1, |change| change.number);
    let revision = Revision { number, ..head };
    for cell in &mut system.cells {
        let enforcement = Enforcement::new(revision, &cell.read_rows(head.timeline));
        cell.enforcements.resize(cell.enforcements.len().max(k + 1), None);
        cell.enforcements[k] = Some(Rc::new(enforcement));
    }
}

fn read_rows(system: &mut System, i: usize, j: usize) {
    let timeline = system.head().timeline;
    let worker = &mut system.workers[j];
    worker.timeline = timeline;
    let now = at(worker.read_clock.unwrap_or(worker.clock));
    let cell = &mut system.cells[i];
    let rows = cell.read_rows(timeline);
    Rc::make_mut(&mut cell.watches[j]).observe(now, &rows);
}

fn press(system: &mut System, k: usize) {
    system.keep_all();
    let number = system.changes[k].number;
    for cell in &mut system.cells {
        let Some(waiting) = cell.enforcements[k].as_ref().map(|e| e.waiting()) else { continue };
        for incarnation in waiting {
            let life = life(incarnation);
            let row = &cell.rows[life];
            if row.is_live()
                && row.must_apply <= row.applied
                && row.must_apply < number
                && !cell.is_locked(life)
            {
                cell.row(life).must_apply = number;
            }
        }
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

/// The server's clock and the edges' tell the same: time of day decides about no lease.
fn server_time(asked_at: Monotonic) -> Timestamp {
    Timestamp::from_micros(i64::try_from(asked_at.0.as_micros()).expect("time is short"))
}

fn millis() -> u64 {
    u64::try_from(STEP.as_millis()).expect("a step is short")
}

const fn is_commit(message: &Message) -> bool {
    !matches!(message, Message::Inserted { .. } | Message::Since { .. })
}

const fn is_of_join(message: &Message) -> bool {
    matches!(
        message,
        Message::Join { .. }
            | Message::Inserted { .. }
            | Message::HeadRead { .. }
            | Message::Joined { .. }
    )
}
