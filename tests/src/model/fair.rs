//! What comes in the end: a receipt, once messages arrive again and time goes on.

use std::collections::HashSet;

use super::{
    moves::{Model, is_for_edge},
    scope::{May, Scope},
    step::Step,
    system::{Message, System, at},
};

/// How the world goes on once nothing more breaks, apart from what is broken already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Weather {
    /// All messages arrive.
    Fine,
    /// What is under way is lost; all later messages arrive.
    AfterLoss,
    /// The same, and acks are lost for ever.
    NoAcks,
    /// The edges have stopped for ever.
    DeadEdges,
    /// Broadcasts, beacons and what is fetched never arrive; renewals do.
    DeafEdges,
}

/// All kinds of weather.
const ALL: [Weather; 5] =
    [Weather::Fine, Weather::AfterLoss, Weather::NoAcks, Weather::DeadEdges, Weather::DeafEdges];

/// Looks whether a receipt comes in the end.
#[derive(Debug)]
pub(super) struct Liveness {
    weather: Weather,
    model: Model,
    /// So many steps of the clock at most.
    patience: u32,
    /// Worlds from which a receipt comes.
    comes: HashSet<u64>,
}

impl Liveness {
    /// For the worlds of a scope, in all kinds of weather, if the scope asks for it.
    pub(super) fn all(scope: &Scope) -> Vec<Self> {
        let weathers = if scope.live { &ALL[..] } else { &[] };
        weathers.iter().map(|weather| Self::new(scope, *weather)).collect()
    }

    fn new(scope: &Scope, weather: Weather) -> Self {
        let scope = Scope { failovers: 0, crashes: 0, restarts: 0, repeats: 0, ..scope.clone() };
        let lose_acks = weather == Weather::NoAcks;
        // Twice what one lease and its fence take: an edge may have renewed just before.
        let patience = 2 * (scope.ttl + scope.allow_cached + 1) + 4;
        let model = Model { fair: true, lose_acks, scope };
        Self { weather, model, patience, comes: HashSet::new() }
    }

    /// What is missing: a receipt that does not come from this world on.
    pub(super) fn missing(&mut self, system: &System) -> Option<String> {
        let comes = self.comes(system);
        (!comes).then(|| format!("no receipt comes in {:?} weather", self.weather))
    }

    /// Whether all changes that were committed get their receipts, from this world on.
    fn comes(&mut self, system: &System) -> bool {
        let mut system = system.clone();
        system.failovers = 0;
        if self.weather != Weather::Fine {
            for cell in &mut system.cells {
                cell.messages.clear();
            }
        }
        if self.weather == Weather::NoAcks || self.weather == Weather::AfterLoss {
            for cell in &mut system.cells {
                cell.acks.fill(shared::lease::Revision::default());
            }
        }
        let mut passed = Vec::new();
        for _ in 0..=self.patience {
            if system.promised == system.changes.len() {
                self.comes.extend(passed);
                return true;
            }
            let fingerprint = system.fingerprint();
            if self.comes.contains(&fingerprint) {
                self.comes.extend(passed);
                return true;
            }
            passed.push(fingerprint);
            system = self.round(system);
        }
        false
    }

    /// All that can happen at one moment; then time passes for everybody.
    fn round(&self, mut system: System) -> System {
        let hears = !matches!(self.weather, Weather::DeadEdges | Weather::DeafEdges);
        self.run(&mut system);
        if hears {
            let head = system.heads.len() - 1;
            for i in 0..system.cells.len() {
                system = self.model.after(&system, Step::Beacon(i, head));
            }
            self.run(&mut system);
        }
        let slowest = system.workers.iter().map(|worker| worker.clock).min().unwrap_or(0);
        for j in 0..system.workers.len() {
            if system.workers[j].clock == slowest {
                system = self.model.after(&system, Step::WorkerClock(j));
            }
        }
        for i in 0..system.cells.len() {
            while system.cells[i].clock < slowest + 1 {
                system = self.model.after(&system, Step::EdgeClock(i));
            }
        }
        system
    }

    /// Takes what can be done until there is nothing left to do.
    fn run(&self, system: &mut System) {
        // A failed join is tried again once at each moment.
        let mut failed = vec![false; system.cells.len()];
        while let Some(step) = self.next(system, &mut failed) {
            *system = self.model.after(system, step);
        }
        if self.model.scope.may(May::ReadLate) {
            for j in 0..system.workers.len() {
                *system = self.model.after(system, Step::ReadRows(j));
            }
            for k in system.promised..system.changes.len() {
                *system = self.model.after(system, Step::ReadEdges(k));
                *system = self.model.after(system, Step::Receipt(k));
            }
        }
    }

    fn next(&self, system: &System, failed: &mut [bool]) -> Option<Step> {
        let dead = self.weather == Weather::DeadEdges;
        let hears_nothing = self.weather == Weather::DeafEdges;
        for (i, cell) in system.cells.iter().enumerate() {
            for message in &cell.messages {
                let told = matches!(
                    message,
                    Message::Broadcast { .. } | Message::Since { .. } | Message::Missed { .. }
                );
                if hears_nothing && told {
                    continue;
                }
                if !is_for_edge(message) && self.model.can_handle(cell, message) {
                    return Some(Step::Handle(i, *message, false));
                }
                if is_for_edge(message) && !dead {
                    return Some(Step::Arrive(i, *message, false));
                }
            }
            let due = || !cell.process.edge.as_ref().clone().poll(at(cell.clock)).is_empty();
            if !dead && due() {
                return Some(Step::Poll(i));
            }
            let joins = cell.messages.iter().any(|message| matches!(message, Message::Join { .. }));
            if !dead && !failed[i] && cell.process.edge.is_joining() && !joins {
                failed[i] = true;
                return Some(Step::JoinFails(i));
            }
            for j in 0..system.workers.len() {
                if let Some(life) = self.model.can_fence(system, i, j).first() {
                    return Some(Step::Fence(j, i, *life));
                }
            }
        }
        None
    }
}
