//! The scopes that are searched, and the search itself.

use std::{
    fmt,
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use shared::clock::{Clock as _, SystemClock};

use super::{
    broken::{BROKEN, STUCK, find},
    fair::Liveness,
    moves::Model,
    readings::{Keeping, NAIVE, search},
    scope::{May, Scope, Whom},
    search::{Found, exhaust, nearest},
};

/// A world is looked for on the shortest way among so many at most.
const NEAREST: usize = 2_000_000;

const ONE: Scope = Scope::SMALLEST;
const JOINED: Scope = Scope { joined: true, ..ONE };
const TWO_USERS: &[Whom] = &[Whom::User(1), Whom::User(2)];
const USER_AND_TENANT: &[Whom] = &[Whom::User(1), Whom::Tenant];
const SAME_USER: &[Whom] = &[Whom::User(1), Whom::User(1)];

/// Looked through in less than a minute.
const SMALL: &[Scope] = &[
    Scope { name: "an edge starts", live: true, may: &[May::Beacon], ..ONE },
    Scope { name: "an edge starts, more time", time: 3, ..ONE },
    Scope { name: "rows and acks read late", may: &[May::ReadLate], ..ONE },
    Scope {
        name: "two workers, one of which crashes",
        workers: 2,
        crashes: 1,
        may: &[May::ReadLate],
        ..JOINED
    },
    Scope { name: "two workers", workers: 2, live: true, ..ONE },
    Scope { name: "two edges", edges: 2, ..JOINED },
    Scope { name: "a lease of two steps", ttl: 2, time: 4, ..JOINED },
    Scope { name: "two changes", changes: TWO_USERS, may: &[May::Beacon, May::Fetch], ..JOINED },
    Scope {
        name: "two changes, pages of one",
        changes: USER_AND_TENANT,
        time: 1,
        may: &[May::Beacon, May::Fetch, May::Page],
        ..JOINED
    },
    Scope {
        name: "two changes, pruned",
        changes: SAME_USER,
        time: 1,
        live: true,
        may: &[May::Beacon, May::Fetch, May::Prune],
        ..JOINED
    },
    Scope {
        name: "marks are forgotten",
        changes: TWO_USERS,
        time: 2,
        may: &[May::Beacon, May::Forget],
        ..JOINED
    },
    Scope { name: "an edge starts anew, or leaves", restarts: 1, may: &[May::Leave], ..JOINED },
    Scope {
        name: "renewals hold their rows",
        may: &[May::HoldRows, May::Press],
        live: true,
        ..ONE
    },
    Scope { name: "messages arrive twice", repeats: 1, ..JOINED },
    Scope {
        name: "the database fails over",
        changes: TWO_USERS,
        failovers: 1,
        time: 1,
        may: &[May::Beacon],
        ..JOINED
    },
    Scope { name: "allowing while cut off", allow_cached: 1, time: 3, live: true, ..JOINED },
];

/// Looked through by command.
const LARGE: &[Scope] = &[
    Scope { name: "an edge starts, much time", time: 4, may: &[May::Beacon], ..ONE },
    Scope { name: "rows and acks read late, more time", time: 3, may: &[May::ReadLate], ..ONE },
    Scope { name: "two edges, beacons", edges: 2, may: &[May::Beacon], lives: 1, ..JOINED },
    Scope {
        name: "two edges, two changes",
        edges: 2,
        changes: TWO_USERS,
        lives: 1,
        time: 1,
        ..JOINED
    },
    Scope { name: "two edges, two workers", edges: 2, workers: 2, lives: 1, ..JOINED },
    Scope { name: "an edge starts while another works", edges: 2, time: 1, restarts: 1, ..JOINED },
    Scope { name: "two workers read late", workers: 2, may: &[May::ReadLate], ..ONE },
    Scope { name: "two workers, more time", workers: 2, time: 3, ..ONE },
    Scope { name: "a lease of two steps, more time", ttl: 2, time: 5, ..JOINED },
    Scope { name: "a lease of two steps starts", ttl: 2, time: 4, ..ONE },
    Scope {
        name: "two changes read late",
        changes: USER_AND_TENANT,
        time: 1,
        may: &[May::Beacon, May::Fetch, May::ReadLate],
        ..JOINED
    },
    Scope {
        name: "three changes",
        changes: &[Whom::User(1), Whom::User(2), Whom::User(1)],
        may: &[May::Beacon, May::Fetch, May::Page],
        time: 1,
        ..JOINED
    },
    Scope {
        name: "an edge starts anew twice, or leaves",
        restarts: 2,
        lives: 3,
        may: &[May::Leave],
        ..JOINED
    },
    Scope {
        name: "renewals hold their rows, more time",
        time: 3,
        may: &[May::HoldRows, May::Press],
        ..ONE
    },
    Scope {
        name: "renewals hold their rows, read late",
        may: &[May::HoldRows, May::Press, May::ReadLate],
        ..ONE
    },
    Scope {
        name: "messages arrive twice, more time",
        repeats: 1,
        time: 3,
        may: &[May::Beacon, May::Fetch],
        ..JOINED
    },
    Scope { name: "messages arrive twice, an edge starts", repeats: 2, ..ONE },
    Scope {
        name: "the database fails over, more time",
        changes: TWO_USERS,
        failovers: 1,
        may: &[May::Beacon],
        ..JOINED
    },
    Scope {
        name: "the database fails over, read late",
        changes: TWO_USERS,
        failovers: 1,
        lives: 1,
        time: 1,
        may: &[May::Beacon, May::ReadLate],
        ..JOINED
    },
    Scope {
        name: "the database fails over twice",
        changes: TWO_USERS,
        failovers: 2,
        time: 1,
        may: &[],
        ..JOINED
    },
    Scope {
        name: "allowing while cut off, and starting anew",
        allow_cached: 1,
        time: 3,
        restarts: 1,
        may: &[May::Beacon],
        ..JOINED
    },
    Scope {
        name: "allowing while cut off, a longer lease",
        ttl: 2,
        allow_cached: 1,
        time: 5,
        ..JOINED
    },
    Scope {
        name: "everything at once, little time",
        changes: TWO_USERS,
        time: 1,
        restarts: 1,
        crashes: 1,
        repeats: 1,
        may: &[May::Beacon, May::Leave, May::Press],
        ..JOINED
    },
];

/// Looks through all scopes, and prints what it finds as it goes.
pub fn run(large: bool) -> anyhow::Result<()> {
    let scopes: Vec<_> = SMALL.iter().chain(if large { LARGE } else { &[] }).collect();
    println!("{:<44}{:>12}{:>7}{:>10}  what was found", "scope", "states", "depth", "time");
    let next = Mutex::new(scopes.into_iter());
    let total = Mutex::new((0, 0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|threads_of| {
        for _ in 0..threads {
            threads_of.spawn(|| {
                loop {
                    let scope = lock(&next).next();
                    let Some(scope) = scope else { return };
                    let report = look_through(scope);
                    let mut total = lock(&total);
                    total.0 += report.found.states;
                    total.1 += usize::from(report.found.counterexample.is_some());
                    println!("{report}");
                    let _ = std::io::stdout().flush();
                }
            });
        }
    });
    let (states, broken) = *lock(&total);
    println!("{states} distinct states");
    let clock = read_clock();
    let missed = break_rules();
    anyhow::ensure!(broken == 0 && clock, "the promise can be broken");
    anyhow::ensure!(missed == 0, "{missed} broken rules were not found out");
    Ok(())
}

/// E8, in every sequence of readings, by the rules and by broken ones.
fn read_clock() -> bool {
    let (sequences, wrong) = search(Keeping::Rules, 6);
    let verdict = wrong.as_deref().unwrap_or("nothing ends late or far too early");
    println!(
        "{:<44}{sequences:>12}{:>7}{:>10}  {verdict}",
        "readings of the server's clock", 6, ""
    );
    let found_out = NAIVE.iter().all(|naive| search(*naive, 2).1.is_some());
    wrong.is_none() && found_out
}

/// Breaks one rule after the other; how many of them are not found out.
fn break_rules() -> usize {
    println!("\n{:<44}{:>12}{:>7}{:>10}  what was found", "broken rule", "states", "steps", "");
    let mut missed = 0;
    for (rule, scope) in BROKEN.iter().chain(STUCK) {
        let found = find(&Scope { broken: Some(*rule), ..scope.clone() });
        let (steps, wrong) = match &found.counterexample {
            Some((way, wrong)) => (way.len(), wrong.as_str()),
            None => (0, "NOTHING"),
        };
        missed += usize::from(found.counterexample.is_none());
        println!("{:<44}{:>12}{steps:>7}{:>10}  {wrong}", format!("{rule:?}"), found.states, "");
    }
    missed
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a search found in a scope.
pub(super) struct Report {
    name: &'static str,
    live: bool,
    pub(super) found: Found,
    receipts: usize,
    fenced: usize,
    took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, live, found, receipts, fenced, took } = self;
        let Found { states, depth, counterexample } = found;
        write!(f, "{name:<44}{states:>12}{depth:>7}{:>9.1}s  ", took.as_secs_f64())?;
        match counterexample {
            None => {
                write!(f, "the promise holds; receipt in {receipts}, fenced in {fenced}")?;
                if *live {
                    write!(f, "; a receipt comes in the end")?;
                }
            }
            Some((way, wrong)) => {
                write!(f, "BROKEN")?;
                for (number, step) in way.iter().enumerate() {
                    write!(f, "\n  {:>3}. {step}", number + 1)?;
                }
                write!(f, "\n  => {wrong}")?;
            }
        }
        Ok(())
    }
}

/// Looks at every world of a scope.
pub(super) fn look_through(scope: &Scope) -> Report {
    let began = SystemClock.monotonic();
    let model = Model::new(scope.clone());
    let mut liveness = Liveness::all(scope);
    let (mut receipts, mut fenced) = (0, 0);
    let progress = |states: usize| {
        println!("  … {}: {states} states so far", scope.name);
        let _ = std::io::stdout().flush();
    };
    let mut found = exhaust(
        &model,
        |system| {
            receipts += usize::from(system.promised > 0);
            fenced += usize::from(system.cells.iter().any(|c| c.rows.iter().any(|row| row.fenced)));
            let broken = model.violation(system).map(|violation| violation.to_string());
            broken.or_else(|| liveness.iter_mut().find_map(|liveness| liveness.missing(system)))
        },
        progress,
    );
    if found.counterexample.is_some() {
        let shorter = nearest(&model, NEAREST, |system| {
            let broken = model.violation(system).map(|violation| violation.to_string());
            broken.or_else(|| liveness.iter_mut().find_map(|liveness| liveness.missing(system)))
        });
        found.counterexample = shorter.counterexample.or(found.counterexample);
    }
    let took = SystemClock.monotonic().since(began);
    Report { name: scope.name, live: scope.live, found, receipts, fenced, took }
}
