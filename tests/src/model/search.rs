//! Looking at every world that a scope can come to.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use super::{moves::Model, step::Step, system::System};

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Distinct worlds.
    pub(super) states: usize,
    /// The longest way that was gone, in steps.
    pub(super) depth: usize,
    /// The way to a world that must not be, and what is wrong there.
    pub(super) counterexample: Option<(Vec<Step>, String)>,
}

/// Fingerprints are hashes already.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are kept")
    }
    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

type Kept = BuildHasherDefault<AsItIs>;

/// Looks at every world, depth first, in little memory. `check` says what is wrong with a world;
/// `progress` is told the number of worlds now and then.
pub(super) fn exhaust(
    model: &Model,
    mut check: impl FnMut(&System) -> Option<String>,
    mut progress: impl FnMut(usize),
) -> Found {
    struct Open {
        system: System,
        steps: Vec<Step>,
        taken: Option<Step>,
    }
    let initial = model.initial();
    let fingerprint = initial.fingerprint();
    let mut seen: HashSet<u64, Kept> = HashSet::default();
    seen.insert(fingerprint);
    let mut found = Found { states: 1, ..Found::default() };
    if let Some(wrong) = check(&initial) {
        found.counterexample = Some((Vec::new(), wrong));
        return found;
    }
    let steps = model.steps(&initial);
    let mut open = vec![Open { system: initial, steps, taken: None }];
    while let Some(last) = open.last_mut() {
        let Some(step) = last.steps.pop() else {
            open.pop();
            continue;
        };
        let system = model.after(&last.system, step);
        let fingerprint = system.fingerprint();
        if !seen.insert(fingerprint) {
            continue;
        }
        found.states += 1;
        found.depth = found.depth.max(open.len());
        if found.states.is_multiple_of(1_000_000) {
            progress(found.states);
        }
        let wrong = check(&system);
        let steps = if wrong.is_some() { Vec::new() } else { model.steps(&system) };
        open.push(Open { system, steps, taken: Some(step) });
        if let Some(wrong) = wrong {
            let way = open.iter().filter_map(|open| open.taken).collect();
            found.counterexample = Some((way, wrong));
            return found;
        }
    }
    found
}

/// Looks for the nearest world with which `check` finds something wrong, breadth first, among the
/// first `most`.
pub(super) fn nearest(
    model: &Model,
    most: usize,
    mut check: impl FnMut(&System) -> Option<String>,
) -> Found {
    let initial = model.initial();
    let first = initial.fingerprint();
    let mut came_from: HashMap<u64, Option<(u64, Step)>, Kept> = HashMap::default();
    came_from.insert(first, None);
    let mut found = Found { states: 1, ..Found::default() };
    let mut open = VecDeque::from([(initial, first, 0)]);
    while let Some((system, fingerprint, depth)) = open.pop_front() {
        found.depth = depth;
        if let Some(wrong) = check(&system) {
            let mut way = Vec::new();
            let mut at = fingerprint;
            while let Some(Some((before, step))) = came_from.get(&at) {
                way.push(*step);
                at = *before;
            }
            way.reverse();
            found.counterexample = Some((way, wrong));
            return found;
        }
        if found.states >= most {
            continue;
        }
        for step in model.steps(&system) {
            let next = model.after(&system, step);
            let after = next.fingerprint();
            if let std::collections::hash_map::Entry::Vacant(vacant) = came_from.entry(after) {
                vacant.insert(Some((fingerprint, step)));
                found.states += 1;
                open.push_back((next, after, depth + 1));
            }
        }
    }
    found
}
