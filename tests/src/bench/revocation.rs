//! From a revocation to its receipt, beside what that is made of: round trips on the bus, and a
//! commit.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream};
use shared::{
    bus::Bus,
    clock::{Clock as _, Monotonic, SystemClock},
    lease::Margin,
    message::{
        Caller, Origin,
        revocation::{Receipt, ReceiptEdges},
        session::Revoke,
    },
};
use uuid::Uuid;

use super::{
    fleet::Fleet,
    numbers::{Timings, line, ms, us},
    stage::{Stage, Usage, Victim},
};

/// With so many edges, one revocation after the other.
const LATENCY_WITH: [usize; 4] = [1, 10, 50, 200];
/// With so many edges, their renewals alone.
const RENEWALS_WITH: [usize; 2] = [200, 1_000];
/// With so many edges, as many revocations as there can be; and the death of one.
const FEW: usize = 10;
const IDLE: Duration = Duration::from_secs(3);
/// Counted for so long; Postgres' own counters lag by up to a second.
const RENEWALS: Duration = Duration::from_secs(6);
const CONNECTIONS: usize = 4;

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many revocations, one after the other, with each number of edges.
    #[arg(long, default_value_t = 1_000)]
    samples: usize,
    /// How many revocations at once.
    #[arg(long, default_value_t = 20_000)]
    revocations: usize,
    /// How many calls wait for their receipts at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256, 500])]
    in_flight: Vec<usize>,
    /// How many edges die, one after the other.
    #[arg(long, default_value_t = 3)]
    deaths: usize,
}

#[derive(Default)]
struct Report {
    busy: String,
    bus: Timings,
    commit: Timings,
    latency: Vec<Latency>,
    renewals: Vec<Renewing>,
    throughput: Vec<Throughput>,
    fence: Timings,
}

struct Latency {
    edges: usize,
    receipt: Timings,
    /// For one revocation.
    cost: Usage,
    /// In a second without any.
    idle: Usage,
}

/// Both in a second.
struct Renewing {
    edges: usize,
    asked: f64,
    statements: f64,
}

struct Throughput {
    in_flight: usize,
    per_second: f64,
    receipt: Timings,
    cost: Usage,
}

/// Measures all of it and prints.
pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let mut fleet = Fleet::default();
    let mut report = Report { busy: others(), ..Report::default() };

    progress("round trips on the bus");
    report.bus = round_trips(&stage, options.samples).await?;
    progress("commits");
    report.commit = commits(&stage, options.samples).await?;

    for edges in LATENCY_WITH {
        progress(&format!("one revocation after the other, {edges} edges"));
        fleet.resize(&stage, edges).await?;
        report.latency.push(latency(&stage, edges, options.samples).await?);
    }
    for edges in RENEWALS_WITH {
        progress(&format!("renewals of {edges} edges"));
        fleet.resize(&stage, edges).await?;
        report.renewals.push(renewals(&stage, edges).await?);
    }
    fleet.resize(&stage, FEW).await?;
    for in_flight in &options.in_flight {
        progress(&format!("{} revocations, {in_flight} at a time", options.revocations));
        report.throughput.push(throughput(&stage, options.revocations, *in_flight).await?);
    }
    for death in 1..=options.deaths {
        progress(&format!("the death of an edge, {death} of {}", options.deaths));
        report.fence.add(fence(&stage, &mut fleet).await?);
    }
    fleet.resize(&stage, 0).await?;
    stage.strike().await;
    report.print();
    Ok(())
}

fn progress(what: &str) {
    eprintln!("{what} …");
}

fn now() -> Monotonic {
    SystemClock.monotonic()
}

/// A request and its reply, between two clients of the same server.
async fn round_trips(stage: &Stage, samples: usize) -> anyhow::Result<Timings> {
    let (asker, echo) = (stage.raw_bus().await?, stage.raw_bus().await?);
    let mut requests = echo.subscribe("bench.echo").await?;
    // Once it has heard itself, the server knows of its subscription.
    echo.publish("bench.echo", "".into()).await?;
    requests.next().await.context("the server took the subscription")?;
    let answers = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(inbox) = request.reply {
                let _ = echo.publish(inbox, request.payload).await;
            }
        }
    });
    let mut timings = Timings::default();
    for sample in 0..samples * 2 {
        let asked_at = now();
        asker.request("bench.echo", vec![b'x'; 200].into()).await?;
        // The first ones warm up.
        if sample >= samples {
            timings.add(now().since(asked_at));
        }
    }
    answers.abort();
    Ok(timings)
}

/// A transaction that changes one row.
async fn commits(stage: &Stage, samples: usize) -> anyhow::Result<Timings> {
    sqlx::raw_sql("CREATE TABLE bench_commit AS SELECT 0 AS n").execute(&stage.pool).await?;
    let mut connection = stage.pool.acquire().await?;
    let mut timings = Timings::default();
    for sample in 0..samples * 2 {
        let begun_at = now();
        sqlx::query("UPDATE bench_commit SET n = n + 1").execute(&mut *connection).await?;
        if sample >= samples {
            timings.add(now().since(begun_at));
        }
    }
    Ok(timings)
}

async fn latency(stage: &Stage, edges: usize, samples: usize) -> anyhow::Result<Latency> {
    let bus = stage.bus().await?;
    let warm_up = 1 + samples / 10;
    let victims = stage.victims(samples + warm_up).await?;
    let (warm_up, victims) = victims.split_at(warm_up);
    let mut last = 0;
    for victim in warm_up {
        last = revoke(&bus, *victim, edges, 0).await?.revision;
    }
    let before = stage.usage();
    tokio::time::sleep(IDLE).await;
    let idle = per(stage.usage().since(before), IDLE.as_secs_f64());

    let mut receipt = Timings::default();
    let (before, begun_at) = (stage.usage(), now());
    for victim in victims {
        let asked_at = now();
        let received = revoke(&bus, *victim, edges, 0).await?;
        receipt.add(now().since(asked_at));
        ensure!(received.revision == last + 1, "{received:?} comes after revision {last}");
        last = received.revision;
    }
    let used = per(stage.usage().since(before), samples as f64);
    let each = now().since(begun_at).as_secs_f64() / samples as f64;
    let meanwhile = per(idle, 1.0 / each);
    Ok(Latency { edges, receipt, cost: used.since(meanwhile), idle })
}

/// Revokes, and fails unless all edges enforce it.
async fn revoke(bus: &Bus, victim: Victim, edges: usize, dead: usize) -> anyhow::Result<Receipt> {
    let caller = Caller { token: victim.caller, origin: Origin::default(), unattended: false };
    let request = Revoke { caller, user_id: None, session_id: victim.session };
    let receipt = bus.request(&request).await.map_err(anyhow::Error::new)?.receipt;
    let count = |edges| u32::try_from(edges).context("few edges");
    let whole = ReceiptEdges {
        total: count(edges)?,
        acknowledged: count(edges - dead)?,
        fenced: count(dead)?,
        waiting: Vec::new(),
    };
    ensure!(receipt.enforced && receipt.edges == whole, "not what {edges} edges give: {receipt:?}");
    Ok(receipt)
}

/// Statements for renewals: what is committed in a second, without what the worker does anyway.
async fn renewals(stage: &Stage, edges: usize) -> anyhow::Result<Renewing> {
    // The worker's own: a beat every 250 ms reads the head and the rows.
    const BEATS: f64 = 8.0;
    let counted = "SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
                          (SELECT sum(lease_seq)::bigint FROM edges WHERE NOT fenced AND NOT has_left)";
    let mut connection = stage.pool.acquire().await?;
    let mut both = Vec::new();
    for pause in [Duration::from_secs(2), RENEWALS] {
        tokio::time::sleep(pause).await;
        let (commits, renewals): (i64, i64) =
            sqlx::query_as(counted).fetch_one(&mut *connection).await?;
        both.push((now(), commits, renewals));
    }
    let [(begun_at, commits, renewals), (ended_at, more_commits, more_renewals)] = both[..] else {
        anyhow::bail!("it was counted twice");
    };
    let seconds = ended_at.since(begun_at).as_secs_f64();
    let per_second = |before: i64, after: i64| (after - before) as f64 / seconds;
    Ok(Renewing {
        edges,
        asked: per_second(renewals, more_renewals),
        statements: per_second(commits, more_commits) - BEATS,
    })
}

/// Many revocations at once, each of another user's session, each with its own receipt.
async fn throughput(stage: &Stage, count: usize, in_flight: usize) -> anyhow::Result<Throughput> {
    let mut buses = Vec::new();
    for _ in 0..CONNECTIONS {
        buses.push(stage.bus().await?);
    }
    let victims = stage.victims(count).await?;
    let buses = Arc::new(buses);
    let (before, begun_at) = (stage.usage(), now());
    let calls = victims.into_iter().enumerate().map(|(n, victim)| {
        let buses = Arc::clone(&buses);
        // In tasks of their own, so that both processors ask.
        tokio::spawn(async move {
            let asked_at = now();
            let receipt = revoke(&buses[n % CONNECTIONS], victim, FEW, 0).await?;
            anyhow::Ok((victim, receipt, now().since(asked_at)))
        })
    });
    let mut done = Vec::with_capacity(count);
    let mut calls = stream::iter(calls).buffer_unordered(in_flight);
    while let Some(call) = calls.next().await {
        done.push(call??);
    }
    let took = now().since(begun_at);
    let cost = per(stage.usage().since(before), count as f64);

    let revisions: Vec<_> =
        done.iter().map(|(_, receipt, _)| receipt.revision.cast_signed()).collect();
    let rows: Vec<(i64, Vec<Uuid>)> =
        sqlx::query_as("SELECT revision, sessions FROM revocations WHERE revision = ANY($1)")
            .bind(&revisions)
            .fetch_all(&stage.pool)
            .await?;
    let revoked: BTreeMap<_, _> = rows.into_iter().collect();
    ensure!(revoked.len() == count, "{count} calls share {} revisions", revoked.len());
    for (victim, receipt, _) in &done {
        let sessions = &revoked[&receipt.revision.cast_signed()];
        ensure!(sessions == &[victim.session.0], "{receipt:?} is that of another session");
    }
    Ok(Throughput {
        in_flight,
        per_second: count as f64 / took.as_secs_f64(),
        receipt: done.into_iter().map(|(_, _, took)| took).collect(),
        cost,
    })
}

/// An edge dies, and at once something is revoked.
async fn fence(stage: &Stage, fleet: &mut Fleet) -> anyhow::Result<Duration> {
    fleet.resize(stage, FEW).await?;
    let bus = stage.bus().await?;
    let victims = stage.victims(1).await?;
    fleet.kill_one().await?;
    let asked_at = now();
    for victim in victims {
        revoke(&bus, victim, FEW, 1).await?;
    }
    Ok(now().since(asked_at))
}

fn per(usage: Usage, units: f64) -> Usage {
    let share = |used: Duration| used.div_f64(units);
    Usage {
        worker: share(usage.worker),
        nats: share(usage.nats),
        postgres: share(usage.postgres),
        edges: share(usage.edges),
    }
}

/// What is to be reached.
struct Goal {
    what: String,
    measured: String,
    met: bool,
}

impl Report {
    fn print(&self) {
        let parts = self.bus.p50() * 2 + self.commit.p50();
        println!(
            "\nOne session-worker, one NATS, one Postgres with fsync and synchronous_commit on,"
        );
        println!("{} processors for all of them and the edges. {}\n", processors(), self.busy);

        println!("{:<34}{:>10}{:>10}{:>10}", "milliseconds", "p50", "p99", "p99.9");
        println!("{:<34}{}", "request and reply on the bus", self.bus);
        println!("{:<34}{}", "one commit", self.commit);
        for row in &self.latency {
            let what = format!("revocation to receipt, {} edges", row.edges);
            let ratio = ms(row.receipt.p50()) / ms(parts);
            println!("{what:<34}{}   p50 is {ratio:.1} × (2 bus + commit)", row.receipt);
        }
        for row in &self.throughput {
            let what = format!("the same, 10 edges, {} at a time", row.in_flight);
            println!("{what:<34}{}   {:.0} sessions/s", row.receipt, row.per_second);
        }
        if self.fence.slowest().is_some() {
            println!("{:<34}{}", "the same after a death, 10 edges", self.fence);
        }

        let columns = |title: &str| {
            println!(
                "\n{title:<34}{:>10}{:>10}{:>10}{:>10}",
                "worker", "NATS", "Postgres", "edges"
            );
        };
        let costs = |what: String, cost: &Usage| {
            let parts = [cost.worker, cost.nats, cost.postgres, cost.edges].map(us);
            println!(
                "{what:<34}{:>10.0}{:>10.0}{:>10.0}{:>10.0}",
                parts[0], parts[1], parts[2], parts[3]
            );
        };
        columns("processor µs per revocation");
        for row in &self.latency {
            costs(format!("one at a time, {} edges", row.edges), &row.cost);
        }
        for row in &self.throughput {
            costs(format!("{} at a time, 10 edges", row.in_flight), &row.cost);
        }
        columns("processor µs per idle second");
        for row in &self.latency {
            costs(format!("{} edges", row.edges), &row.idle);
        }

        println!(
            "\n{:<34}{:>10}{:>10}{:>10}",
            "renewals per second", "renewals", "statements", "each"
        );
        for row in &self.renewals {
            let each = row.asked / row.statements;
            let (renewals, statements) = (row.asked, row.statements);
            println!(
                "{:<34}{renewals:>10.0}{statements:>12.1}{each:>10.1}",
                format!("{} edges", row.edges)
            );
        }

        println!("\n{:<58}{:<34}", "goal", "measured");
        for Goal { what, measured, met } in self.goals(parts) {
            println!("{what:<58}{measured:<34}{}", if met { "met" } else { "NOT MET" });
        }
    }

    fn goals(&self, parts: Duration) -> Vec<Goal> {
        let mut goals = Vec::new();
        let mut goal = |what: &str, measured: String, met| {
            goals.push(Goal { what: what.to_owned(), measured, met });
        };
        for row in &self.latency {
            let (p50, p99) = (row.receipt.p50(), row.receipt.p99());
            let took = |p: Duration| format!("{:.2} ms", ms(p));
            match row.edges {
                10 => {
                    let most = parts.mul_f64(1.5);
                    let what = format!("10 edges: p50 ≤ 1.5 × (2 bus + commit) = {}", took(most));
                    goal(&what, took(p50), p50 <= most);
                    goal("10 edges: p99 ≤ 10 ms", took(p99), p99 <= Duration::from_millis(10));
                }
                200 => goal("200 edges: p99 ≤ 50 ms", took(p99), p99 <= Duration::from_millis(50)),
                _ => {}
            }
        }
        let points: Vec<_> =
            self.latency.iter().map(|row| (row.edges as f64, us(row.cost.worker))).collect();
        let (start, slope) = line(&points);
        let off = points.iter().map(|(x, y)| (y - start - slope * x).abs() / y).fold(0.0, f64::max);
        let constant = format!("{start:.0} + {slope:.1} × edges, {:.0} % off", off * 100.0);
        goal("worker µs per revocation linear in edges, within 25 %", constant, off <= 0.25);
        for row in self.renewals.iter().filter(|row| row.edges == 1_000) {
            let statements = row.statements;
            // One in 20 ms, and what a count that lags may be off.
            let measured = format!("{statements:.1}");
            goal(
                "1,000 edges: ≤ 50 statements for renewals per second",
                measured,
                statements <= 52.0,
            );
        }
        let best = self.throughput.iter().map(|row| row.per_second).fold(0.0, f64::max);
        let what = "10 edges: ≥ 10,000 sessions per second, a receipt each";
        goal(what, format!("{best:.0}"), best >= 10_000.0);
        // Lease, margin, and the beats at which rows are read and read again.
        let lease = Duration::from_secs(3);
        let most = lease + Margin::default().of(lease) + Duration::from_millis(350);
        if let Some(slowest) = self.fence.slowest() {
            let what =
                format!("a death: receipt within lease + margin + 350 ms = {:.0} ms", ms(most));
            goal(&what, format!("{:.0} ms", ms(slowest)), slowest <= most);
        }
        goals
    }
}

/// What else the machine does, as numbers mean little on a busy one.
fn others() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("Load of the machine before: {load}.")
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}
