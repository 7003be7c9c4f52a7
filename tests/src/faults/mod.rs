//! Faults on real servers: everything that a network, a machine or an operator can do to edges,
//! workers, NATS and Postgres, while decisions and revocations go on, and the one question: did any
//! edge begin to allow after the receipt?
//!
//! [`run`] is the command `cargo run --release -p tests -- faults`. Its parts serve flows as well:
//! [`rig`] is a [`crate::World`] with a [`proxy`] on each link and a [`wall_clock`] for each process.
//!
//! A seed names the faults, their times and what is revoked. When exactly each of them happens is up
//! to the machine, so a run is repeated as closely as real processes can be, not to the instant.

pub mod fault;
pub mod ledger;
pub mod load;
mod nats_filter;
pub mod plan;
pub mod proxy;
pub mod rig;
pub mod wall_clock;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context as _;
use shared::clock::Monotonic;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    ledger::{Ledger, now},
    load::Load,
    plan::{Targets, Timed, Wave},
    rig::Rig,
};
use crate::Options;

/// After its faults have ended, everything has to be well again within this time.
const RECOVERY: Duration = Duration::from_mins(1);
/// The length of the grants whose end by time is watched.
const SHORT_GRANT: Duration = Duration::from_secs(5);

/// Breaks real edges, workers, NATS and Postgres, and holds what edges decide against the receipts.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Names the faults and what is revoked; at random if absent
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long new faults begin, in seconds; all kinds once takes about 60
    #[arg(long, value_name = "N", default_value_t = 60, conflicts_with = "minutes")]
    seconds: u64,
    /// The same in minutes
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// How many edges
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    edges: u16,
    /// How many replicas of each worker
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=10))]
    workers: u16,
    /// Leave out the beginning, in which every kind occurs once
    #[arg(long)]
    random_only: bool,
    /// Let the first edge go on allowing what it has cached for so many seconds while it is cut off
    #[arg(long, value_name = "SECONDS")]
    allow_cached: Option<u16>,
    /// Where all processes' logs go; if absent, and there is a violation, to target/faults
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

/// Runs it; an error if there was a violation.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let lasts = args.minutes.map_or(args.seconds, |minutes| minutes * 60);
    println!(
        "faults on {} edges and {} of each worker for {lasts} s; seed {seed}",
        args.edges, args.workers
    );
    let cached = args
        .allow_cached
        .map(|seconds| ("gateway-1", vec![format!("--on-partition=allow-cached={seconds}")]));
    let options = Options {
        flags: cached.into_iter().collect(),
        own_postgres: true,
        edges: Some(args.edges),
        workers: Some(args.workers),
        ..Options::default()
    };
    let rig = Arc::new(Rig::start(options).await?);
    let load = Arc::new(Load::prepare(&rig.world).await?);
    let users = load.run(seed);
    let mut course = Course::new(rig.clone(), load.clone());

    let targets = Targets::new(args.edges, args.workers);
    let mut rng = fastrand::Rng::with_seed(seed);
    let scripted = if args.random_only { Vec::new() } else { targets.every_kind() };
    let mut waves = scripted.into_iter();
    let ends_at = now().plus(Duration::from_secs(lasts));
    course.recover().await;
    let mut left = true;
    while left {
        let wave = waves.next().or_else(|| (now() < ends_at).then(|| targets.random(&mut rng)));
        left = wave.is_some();
        if let Some(wave) = wave {
            left = course.wave(wave).await?;
        }
    }
    drop(users);
    course.say(now(), "the end: every edge is asked about everything that was revoked");
    course.recover().await;

    let violations = course.summary(seed);
    let logs = args.logs.or_else(|| (violations > 0).then(|| "target/faults".into()));
    if let Some(logs) = &logs {
        keep_logs(&rig.world.stack.data().join("log"), logs)?;
        println!("logs        {}", logs.display());
    }
    drop((course, load));
    if let Ok(rig) = Arc::try_unwrap(rig) {
        rig.end().await;
    }
    anyhow::ensure!(violations == 0, "{violations} violations");
    Ok(())
}

/// The course of a run, told as it goes.
struct Course {
    rig: Arc<Rig>,
    load: Arc<Load>,
    faults: BTreeMap<&'static str, u32>,
    slowest_recovery: Duration,
}

impl Course {
    fn new(rig: Arc<Rig>, load: Arc<Load>) -> Self {
        Self { rig, load, faults: BTreeMap::new(), slowest_recovery: Duration::ZERO }
    }

    fn ledger(&self) -> &Ledger {
        &self.load.ledger
    }

    fn say(&self, at: Monotonic, text: &str) {
        println!("[{:>14}] {text}", self.ledger().clock(at));
    }

    /// Faults at the same time, and recovery from them. Whether to go on.
    async fn wave(&mut self, wave: Wave) -> anyhow::Result<bool> {
        // One that began in quiet times ends by time among the faults.
        self.load.grant_for(0, SHORT_GRANT).await;
        let mut under_way = JoinSet::new();
        for Timed { after, fault, lasts } in wave {
            *self.faults.entry(fault.kind()).or_default() += 1;
            let (rig, load) = (self.rig.clone(), self.load.clone());
            under_way.spawn(async move {
                sleep(after).await;
                let seconds = lasts.as_secs_f64();
                let clock = |load: &Load| load.ledger.clock(now());
                println!("[{:>14}] {fault} ({seconds:.1} s)", clock(&load));
                fault.inflict(&rig, &load, lasts).await.with_context(|| fault.to_string())?;
                println!("[{:>14}]   over: {fault}", clock(&load));
                anyhow::Ok(())
            });
        }
        while let Some(ended) = under_way.join_next().await {
            ended??;
        }
        Ok(self.recover().await)
    }

    /// Waits until everything is well again: every process is ready, every edge allows what it
    /// should, and a receipt says that every edge enforces. Whether that came to be.
    async fn recover(&mut self) -> bool {
        let ended_at = now();
        let mut missing = String::new();
        let well = timeout(RECOVERY, async {
            while let Err(what) = self.is_well().await {
                if what != missing {
                    self.say(now(), &format!("  not yet: {what}"));
                }
                missing = what;
                sleep(Duration::from_millis(50)).await;
            }
        });
        let well = well.await.is_ok();
        let took = now().since(ended_at);
        self.slowest_recovery = self.slowest_recovery.max(took);
        if well {
            self.say(now(), &format!("well again after {:.1} s", took.as_secs_f64()));
        } else {
            self.ledger().violation(format!("not well after {took:?}: {missing}"));
        }
        // What nobody managed to end is let go: it lives on, and nobody asks about it.
        self.ledger().forget(|right| !right.has_ended());
        well
    }

    async fn is_well(&self) -> Result<(), String> {
        let failed = |error: anyhow::Error| format!("{error:#}");
        self.rig.world.all_ready().await.map_err(failed)?;
        self.load.look_up_ends().await.map_err(failed)?;
        let receipt =
            self.load.revoke_one(0).await.map_err(failed)?.ok_or("there was no receipt")?;
        let edges = receipt.edges.total as usize;
        if !receipt.enforced || edges < self.load.edges() {
            return Err(format!("not every edge enforces: {receipt:?}"));
        }
        self.load.ask_about_all().await
    }

    fn summary(&self, seed: u64) -> u64 {
        let counts = &self.ledger().counts;
        let of = |count: &std::sync::atomic::AtomicU64| count.load(Relaxed);
        let violations = of(&counts.violations);
        let decisions = of(&counts.allowed) + of(&counts.denied);
        println!("\nseed {seed}");
        println!(
            "decisions   {decisions}: {} allowed, {} denied; besides {} not decided (503), {} without an answer",
            of(&counts.allowed),
            of(&counts.denied),
            of(&counts.undecided),
            of(&counts.unanswered),
        );
        println!(
            "revocations {}, grants included; of these {} signed out, {} refused, {} without an answer",
            of(&counts.revocations),
            of(&counts.signed_out),
            of(&counts.refused),
            of(&counts.lost),
        );
        println!(
            "receipts    {} enforced, {} not enforced in time; slowest {} ms",
            of(&counts.enforced),
            of(&counts.not_enforced),
            of(&counts.slowest_ms)
        );
        println!("faults      {}", self.faults.values().sum::<u32>());
        for (kind, count) in &self.faults {
            println!("            {count:>4} × {kind}");
        }
        println!("recovery    {:.1} s at most", self.slowest_recovery.as_secs_f64());
        println!("violations  {violations}");
        for violation in self.ledger().violations() {
            println!("  {violation}");
        }
        violations
    }
}

fn keep_logs(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
