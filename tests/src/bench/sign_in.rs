//! A storm of sign-ins: what it costs those who are signed in, and how near it comes to what argon2
//! alone does on as many threads.

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use serde_json::json;
use shared::{
    clock::{Clock as _, SystemClock},
    id::UserId,
    role::Role,
};
use tests::{Client, Options as WorldOptions, World};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::numbers::{Timings, ms};

/// How long, and how hard.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Seconds for each part.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Sign-ins that are tried, as a multiple of what argon2 alone does.
    #[arg(long, default_value_t = 3.0)]
    times: f64,
    /// Decisions asked for per second.
    #[arg(long, default_value_t = 200)]
    decisions: u64,
}

/// So many different users sign in, so that none has too many sessions.
const USERS: usize = 200;
/// Password of all of them.
const PASSWORD: &str = "storm-harbour-7";

pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (cores - 1).max(1);
    let seconds = Duration::from_secs(options.seconds);
    let hash = Argon2::default().hash_password_with_salt(PASSWORD.as_bytes(), &[7; 16]);
    let hash = hash.map_err(|error| anyhow::anyhow!("{error}"))?.to_string();
    let world = World::start_with(WorldOptions {
        edges: Some(1),
        flags: vec![("gateway-1", vec!["--address-failures-per-minute".into(), "0".into()])],
        ..WorldOptions::default()
    })
    .await?;
    add_users(&world, &hash).await?;
    let client = world.sign_in(Role::Member).await?;
    decide(&client, Duration::from_secs(2), options.decisions).await?;

    eprintln!("argon2 alone, {threads} of {cores} processors …");
    let bare = argon2_alone(threads, &hash, seconds);
    eprintln!("decisions while it is quiet …");
    let quiet = decide(&client, seconds, options.decisions).await?;
    eprintln!("decisions while argon2 alone keeps {threads} processors busy …");
    let beside = {
        let (hash, busy) = (hash.clone(), seconds + Duration::from_secs(1));
        let noise = tokio::task::spawn_blocking(move || argon2_alone(threads, &hash, busy));
        let beside = decide(&client, seconds, options.decisions).await?;
        noise.await?;
        beside
    };
    eprintln!("decisions in a storm of sign-ins at {} times that …", options.times);
    let (storm, stormy) = tokio::join!(
        storm(&world, bare * options.times, seconds),
        decide(&client, seconds, options.decisions)
    );
    let (storm, stormy) = (storm?, stormy?);
    world.end().await;

    let rate = storm.done as f64 / storm.took.as_secs_f64();
    println!("\n{cores} processors for all of it, {threads} of them for hashing.\n");
    println!("{:<34}{:>10}{:>10}{:>10}", "a decision, milliseconds", "p50", "p99", "p99.9");
    for (name, spread) in
        [("quiet", &quiet), ("beside argon2 alone", &beside), ("in a storm of sign-ins", &stormy)]
    {
        println!("{name:<34}{spread}");
    }
    println!("\n{:<34}{:>10}{:>10}{:>10}", "sign-ins", "done/s", "refused", "failed");
    println!("{:<34}{bare:>10.1}", "argon2 alone");
    println!(
        "{:<34}{rate:>10.1}{:>10}{:>10}",
        format!("through the gateway, {} asked", storm.asked),
        storm.refused,
        storm.failed
    );
    println!("\n{:<58}{:<14}", "goal", "measured");
    let goal = |name: &str, measured: f64, met: bool| {
        println!("{name:<58}{measured:<14.2}{}", if met { "met" } else { "NOT MET" });
    };
    let ratio = ms(stormy.p99()) / ms(quiet.p99());
    goal("p99 of a decision in the storm / quiet ≤ 2", ratio, ratio <= 2.0);
    goal("sign-ins per second / argon2 alone ≥ 0.9", rate / bare, rate / bare >= 0.9);
    anyhow::ensure!(storm.failed == 0, "{} sign-ins failed", storm.failed);
    Ok(())
}

async fn add_users(world: &World, hash: &str) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = (0..USERS).map(|_| UserId::new(SystemClock.wall()).0).collect();
    sqlx::query(
        "INSERT INTO users (id, tenant_id, email, name, role, password_hash)
         SELECT id, (SELECT id FROM tenants WHERE slug = 'acme'), 'storm-' || n || '@acme.test', 'Storm', 'member', $2
         FROM unnest($1::uuid[]) WITH ORDINALITY AS new (id, n)",
    )
    .bind(ids)
    .bind(hash)
    .execute(&world.pool)
    .await?;
    Ok(())
}

/// Hashes verified per second.
fn argon2_alone(threads: usize, hash: &str, time: Duration) -> f64 {
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let clock = SystemClock;
    let begun = clock.monotonic();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let verified = Argon2::default().verify_password(PASSWORD.as_bytes(), hash);
                    assert!(verified.is_ok(), "the password is right");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    count.load(Ordering::Relaxed) as f64 / clock.monotonic().since(begun).as_secs_f64()
}

/// Asks for decisions at a steady rate, whatever the answers take.
async fn decide(client: &Client, time: Duration, rate: u64) -> anyhow::Result<Timings> {
    let client = client.kept_alive()?;
    let mut due = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate)?);
    let until = tokio::time::Instant::now() + time;
    let mut asked = JoinSet::new();
    loop {
        let at = due.tick().await;
        if at >= until {
            break;
        }
        let client = client.clone();
        asked.spawn(async move {
            let answer = client.authorize().await;
            let took = at.elapsed();
            answer.map(|(status, _)| (status, took))
        });
    }
    let mut took = Vec::new();
    for answer in asked.join_all().await {
        let (status, time) = answer?;
        anyhow::ensure!(status == 200, "a decision was {status}");
        took.push(time);
    }
    Ok(took.into_iter().collect())
}

#[derive(Default)]
struct Storm {
    asked: usize,
    done: usize,
    refused: usize,
    failed: usize,
    took: Duration,
}

/// Signs in at a steady rate, whatever the answers take.
async fn storm(world: &World, rate: f64, time: Duration) -> anyhow::Result<Storm> {
    let client = Arc::new(world.anonymous().kept_alive()?);
    let mut due = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    let begun = tokio::time::Instant::now();
    let mut asked = JoinSet::new();
    let mut storm = Storm::default();
    loop {
        if due.tick().await >= begun + time {
            break;
        }
        let email = format!("storm-{}@acme.test", 1 + storm.asked % USERS);
        storm.asked += 1;
        let client = Arc::clone(&client);
        asked.spawn(async move {
            let login = json!({
                "tenant": "acme", "email": email, "password": PASSWORD, "transport": "token",
            });
            client.post("/v1/login", login).await.map(|answer| answer.status.as_u16())
        });
    }
    for answer in asked.join_all().await {
        match answer? {
            200 => storm.done += 1,
            503 | 429 => storm.refused += 1,
            _ => storm.failed += 1,
        }
    }
    storm.took = begun.elapsed();
    Ok(storm)
}
