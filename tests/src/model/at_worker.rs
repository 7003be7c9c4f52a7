//! What workers do, and the database for them.

use std::rc::Rc;

use shared::{
    lease::{
        Revision,
        worker::{EdgeRow, Enforcement, Rows},
    },
    message::edge::Renewal,
};

use super::{
    moves::Model,
    mutation::Mutation,
    scope::May,
    system::{Answer, Cell, Message, STEP, System, at, incarnation, life, name, watch},
};

impl Model {
    pub(super) fn handle(&self, system: &mut System, i: usize, message: Message) {
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

    pub(super) fn fence(&self, system: &mut System, j: usize, i: usize, life: usize) {
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

    pub(super) fn restart_worker(&self, system: &mut System, j: usize) {
        system.crashes -= 1;
        for cell in &mut system.cells {
            cell.watches[j] = Rc::new(watch(&self.scope));
            cell.enforcements.fill(None);
            cell.changed = true;
        }
    }

    /// W5: what is known of a change by now.
    pub(super) fn look(&self, system: &mut System, k: usize) {
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
                enforcement.read(&Rows { timeline, rows: rows.to_vec() });
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
}

pub(super) fn read_edges(system: &mut System, k: usize) {
    let head = system.head();
    let number = system.changes.get(k).map_or(head.number + 1, |change| change.number);
    let revision = Revision { number, ..head };
    for cell in &mut system.cells {
        let enforcement = Enforcement::new(revision, &cell.read_rows(head.timeline));
        cell.enforcements.resize(cell.enforcements.len().max(k + 1), None);
        cell.enforcements[k] = Some(Rc::new(enforcement));
    }
}

pub(super) fn read_rows(system: &mut System, i: usize, j: usize) {
    let timeline = system.head().timeline;
    let worker = &mut system.workers[j];
    worker.timeline = timeline;
    let now = at(worker.read_clock.unwrap_or(worker.clock));
    let cell = &mut system.cells[i];
    let rows = cell.read_rows(timeline);
    Rc::make_mut(&mut cell.watches[j]).observe(now, &rows);
}

pub(super) fn press(system: &mut System, k: usize) {
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

const fn is_commit(message: &Message) -> bool {
    !matches!(message, Message::Inserted { .. } | Message::Since { .. })
}
