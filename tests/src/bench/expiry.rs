//! The end of many grants at once, made official: how late, and at what cost. Edges end them by the
//! clock, whatever comes of this.

use std::{fs, time::Duration};

use anyhow::Context as _;
use shared::{
    clock::{Clock as _, SystemClock},
    role::Role,
};
use tests::{Options as WorldOptions, World};
use uuid::Uuid;

/// How many.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Grants that end much later.
    #[arg(long, default_value_t = 1_000_000)]
    pending: u32,
    /// Grants that end within one second.
    #[arg(long, default_value_t = 100_000)]
    due: u32,
    /// Seconds to wait for all of them.
    #[arg(long, default_value_t = 600)]
    patience: u64,
}

/// Users, each with a session, over which the grants are spread.
const USERS: u32 = 10_000;
/// Rows made in one statement, which takes well below the time-out.
const AT_ONCE: u32 = 20_000;

/// How late the ends were on record, in seconds.
#[derive(Debug, sqlx::FromRow)]
struct Lateness {
    ended: i64,
    p50: f64,
    p99: f64,
    last: f64,
}

pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    let world =
        World::start_with(WorldOptions { edges: Some(1), ..WorldOptions::default() }).await?;
    let client = world.sign_in(Role::Member).await?;
    world.stack.stop_service("expiry-worker").await;
    eprintln!("{USERS} users, {} grants and {} more …", options.pending, options.due);
    add_users(&world).await?;
    let took = add_grants(&world, 0, options.pending, End::Later).await?;
    sqlx::raw_sql("ANALYZE users, emergency_grants, timers").execute(&world.pool).await?;
    world.stack.start_service("expiry-worker").await;
    // They all have to be there before the first one ends.
    let each = took / f64::from(options.pending.max(1));
    let lead = 5.0 + 1.5 * each * f64::from(options.due);
    let took = add_grants(&world, options.pending, options.due, End::Soon(lead)).await?;
    anyhow::ensure!(
        took < lead,
        "too slow: the first ended {:.1} s before all were there",
        took - lead
    );
    eprintln!("the end of {} of them …", options.due);
    let clock = SystemClock;
    let began = clock.monotonic();
    let patience = Duration::from_secs(options.patience);
    let mut slowest = Duration::ZERO;
    loop {
        let asked = clock.monotonic();
        client.get("/v1/me").await?.expect(200);
        slowest = slowest.max(clock.monotonic().since(asked));
        // The latest that ends soon, not a count: that would take more than a tenth of the machine.
        let left: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM timers WHERE kind = 'grant-expiry' AND subject_id = $1)
                 OR EXISTS (SELECT FROM timers WHERE kind = 'grant-expiry'
                            AND due_at < clock_timestamp() + interval '30 minutes')",
        )
        .bind(Uuid::from_u128((options.pending + options.due - 1).into()))
        .fetch_one(&world.pool)
        .await?;
        if !left {
            break;
        }
        let waited = clock.monotonic().since(began);
        anyhow::ensure!(waited < patience, "some are left after {} s", waited.as_secs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let memory = resident_mebibytes(&world)?;
    let late = lateness(&world).await?;
    world.end().await;
    anyhow::ensure!(
        late.ended == i64::from(options.due),
        "{} of {} are on record",
        late.ended,
        options.due
    );
    println!(
        "\n{} grants that end within one second, beside {} others:\n",
        options.due, options.pending
    );
    println!(
        "on record after their end, seconds: p50 {:.2}, p99 {:.2}, last {:.2}",
        late.p50, late.p99, late.last
    );
    println!("on record in a second: {:.0}", late.ended as f64 / late.last.max(0.001));
    println!("slowest request to the API meanwhile: {} ms", slowest.as_millis());
    println!("memory of expiry-worker at most: {memory} MiB\n");
    let goal =
        |name: &str, met: bool| println!("{name:<44}{}", if met { "met" } else { "NOT MET" });
    goal("p99 of lateness ≤ 1 s", late.p99 <= 1.0);
    goal("memory of expiry-worker ≤ 200 MiB", memory <= 200);
    Ok(())
}

async fn add_users(world: &World) -> anyhow::Result<()> {
    for statement in [
        "INSERT INTO users (id, tenant_id, email, name, role)
         SELECT lpad(to_hex(n), 32, '0')::uuid, (SELECT id FROM tenants WHERE slug = 'acme'),
                n || '@bench.test', 'User ' || n, 'member'
         FROM generate_series(1, $1) n",
        "INSERT INTO sessions (id, tenant_id, user_id, token_hash, methods, idle_seconds, expires_at)
         SELECT lpad(to_hex(n), 32, '0')::uuid, (SELECT id FROM tenants WHERE slug = 'acme'),
                lpad(to_hex(n), 32, '0')::uuid, decode(lpad(to_hex(n), 64, '0'), 'hex'), '{password}', 3600,
                clock_timestamp() + interval '12 hours'
         FROM generate_series(1, $1) n",
    ] {
        sqlx::query(statement).bind(USERS.cast_signed()).execute(&world.pool).await?;
    }
    Ok(())
}

/// When grants end.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Much later.
    Later,
    /// Within the second that begins so many seconds after the first of them is made.
    Soon(f64),
}

/// Active grants with their timers, numbered from `first`; says how many seconds that took.
async fn add_grants(world: &World, first: u32, count: u32, end: End) -> anyhow::Result<f64> {
    let grants = "INSERT INTO emergency_grants (id, tenant_id, user_id, session_id, state, role, reason,
                      duration_seconds, request_digest, activated_at, expires_at, first_activated_at)
                  SELECT lpad(to_hex(n), 32, '0')::uuid, (SELECT id FROM tenants WHERE slug = 'acme'),
                         lpad(to_hex(n % $3 + 1), 32, '0')::uuid, lpad(to_hex(n % $3 + 1), 32, '0')::uuid,
                         'active', 'admin', 'A benchmark', 3600, decode(repeat('00', 32), 'hex'), now,
                         $4::timestamptz + make_interval(secs => $5 + $6 * (n - $7)::float8 / $8), now
                  FROM generate_series($1, $2) n, (SELECT clock_timestamp() AS now) clock";
    let timers = "INSERT INTO timers (kind, subject_id, due_at)
                  SELECT 'grant-expiry', id, expires_at FROM emergency_grants
                  WHERE id BETWEEN lpad(to_hex($1::int), 32, '0')::uuid AND lpad(to_hex($2::int), 32, '0')::uuid";
    let (lead, spread) = match end {
        End::Later => (7_200.0, 0.0),
        End::Soon(lead) => (lead, 1.0),
    };
    let begins: String =
        sqlx::query_scalar("SELECT clock_timestamp()::text").fetch_one(&world.pool).await?;
    let mut next = first;
    while next < first + count {
        let last = (next + AT_ONCE).min(first + count) - 1;
        let (from, to) = (next.cast_signed(), last.cast_signed());
        sqlx::query(grants)
            .bind(from)
            .bind(to)
            .bind(USERS.cast_signed())
            .bind(&begins)
            .bind(lead)
            .bind(spread)
            .bind(first.cast_signed())
            .bind(count.cast_signed())
            .execute(&world.pool)
            .await?;
        sqlx::query(timers).bind(from).bind(to).execute(&world.pool).await?;
        next = last + 1;
    }
    let took = "SELECT extract(epoch FROM clock_timestamp() - $1::timestamptz)::float8";
    Ok(sqlx::query_scalar(took).bind(begins).fetch_one(&world.pool).await?)
}

async fn lateness(world: &World) -> anyhow::Result<Lateness> {
    let mut tx = world.pool.begin().await?;
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    let late = sqlx::query_as(
        "SELECT count(*) AS ended, coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY late), 0) AS p50,
                coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY late), 0) AS p99,
                coalesce(max(late), 0) AS last
         FROM (SELECT extract(epoch FROM a.at - g.ended_at)::float8 AS late
               FROM audit a JOIN emergency_grants g ON a.target = 'grant:' || g.id
               WHERE a.action = 'grant.expired') ended",
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok(late)
}

/// The most memory that expiry-worker has held, where the system tells it (Linux).
fn resident_mebibytes(world: &World) -> anyhow::Result<u64> {
    let pid = world.stack.process("expiry-worker").context("expiry-worker runs")?.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes =
        peak.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kibibytes.context("it tells its memory")? / 1_024)
}
