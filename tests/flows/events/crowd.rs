//! Many streams on one gateway: the bounds, and what becomes of those that are too slow. The gateway's own
//! parts run in the flow, with the key of one that is stopped.

use std::{pin::pin, sync::Arc};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use gateway::{
    edge::{self, OnPartition},
    events::{self, Events, NotOpened, Stream},
};
use shared::{
    clock::SystemClock,
    role::Role,
    token::{Token, TokenHash},
};
use tests::{World, eventually};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Streams of an edge that runs here.
struct Here {
    events: Events,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Here {
    async fn start(world: &World) -> anyhow::Result<Self> {
        const EDGE: &str = "gateway-3";
        world.stack.stop_service(EDGE).await;
        let bus = world.bus_of(EDGE).await?;
        let options = edge::Options {
            id: EDGE.parse()?,
            region: "here".to_owned(),
            cached_sessions: 1_000,
            on_partition: OnPartition::Deny,
        };
        let (edge, driver) = edge::start(options, bus.clone(), Arc::new(SystemClock));
        let stop = CancellationToken::new();
        let (events, fan_out) = events::start(bus, edge.clone(), stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run(stop.clone()));
        tasks.spawn(fan_out.run());
        eventually("the edge has a lease", || async { edge.is_leased() }).await?;
        Ok(Self { events, stop, tasks })
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// So many more sessions of whoever is signed in; their tokens.
async fn sessions(world: &World, like: &str, count: usize) -> anyhow::Result<Vec<TokenHash>> {
    let hashes: Vec<_> = (0..count).map(|_| Token::generate().hash()).collect();
    let tokens: Vec<_> = hashes.iter().map(|hash| hash.0.to_vec()).collect();
    let more = "INSERT INTO sessions
                SELECT (jsonb_populate_record(s, jsonb_build_object(
                    'id', gen_random_uuid(), 'token_hash', '\\x' || encode(token, 'hex')))).*
                FROM sessions s, unnest($2::bytea[]) token WHERE s.id = $1::uuid";
    let more = sqlx::query(more).bind(like).bind(&tokens).execute(&world.pool).await?;
    anyhow::ensure!(more.rows_affected() == count as u64);
    Ok(hashes)
}

async fn session_of(world: &World, role: Role) -> anyhow::Result<(TokenHash, String)> {
    let client = world.sign_in(role).await?;
    let me = client.get("/v1/me").await?.expect(200).body;
    let id = me["session"]["id"].as_str().context("an id")?.to_owned();
    let token: Token = client.token.context("a token")?.parse().ok().context("a token")?;
    Ok((token.hash(), id))
}

/// Has events published, as many as wanted, as if they had happened.
async fn publish(world: &World, kind: &str, count: i32) -> anyhow::Result<()> {
    let happen = "INSERT INTO outbox (id, tenant_id, kind, payload)
                  SELECT gen_random_uuid(), t.id, $1, '{}' FROM tenants t, generate_series(1, $2)
                  WHERE t.slug = 'acme'";
    sqlx::query(happen).bind(kind).bind(count).execute(&world.pool).await?;
    Ok(())
}

/// What comes until some text has come so often.
async fn until(stream: Stream, last: &str, often: usize) -> anyhow::Result<String> {
    let mut stream = pin!(stream.text());
    let mut came = String::new();
    while came.matches(last).count() < often {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), stream.next()).await;
        let next = next.with_context(|| format!("only {came} came"))?.context("it ended")?;
        came += std::str::from_utf8(&next?)?;
    }
    Ok(came)
}

#[tokio::test]
async fn a_session_and_a_gateway_have_only_so_many_streams() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(member.events().await?);
    }
    let refused = member.get("/v1/events").await?.expect(429);
    assert_eq!((refused.code(), refused.header("retry-after")), ("too-many-attempts", "10"));
    world.sign_in(Role::Member).await?.events().await?;
    streams.pop();
    eventually("the place is free", || async {
        member.get("/v1/events").await.is_ok_and(|answer| answer.status == 200)
    })
    .await?;

    let here = Here::start(&world).await?;
    let (_, id) = session_of(&world, Role::Member).await?;
    // Not the same user: too many sessions push the oldest out.
    let (another, _) = session_of(&world, Role::Manager).await?;
    let mut streams = Vec::new();
    for token in sessions(&world, &id, 100).await? {
        for _ in 0..20 {
            streams.push(here.events.open(token).await?);
        }
        assert!(matches!(here.events.open(token).await, Err(NotOpened::TooMany | NotOpened::Full)));
    }
    assert!(matches!(here.events.open(another).await, Err(NotOpened::Full)));
    streams.pop();
    streams.push(here.events.open(another).await?);
    // All of them hear.
    publish(&world, "grant.activated", 1).await?;
    let mut hearing = JoinSet::new();
    for stream in streams {
        hearing.spawn(async move { until(stream, "grant.activated", 1).await.map(drop) });
    }
    while let Some(heard) = hearing.join_next().await {
        heard??;
    }
    here.end().await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_is_too_slow_is_told_to_fetch_everything_and_keeps_nobody_waiting() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let here = Here::start(&world).await?;
    let (token, _) = session_of(&world, Role::Member).await?;
    let slow = here.events.open(token).await?;
    let fast = here.events.open(token).await?;
    let fast = tokio::spawn(until(fast, "grant.activated", 1_000));
    // Far more than are kept.
    publish(&world, "grant.activated", 1_000).await?;
    let came = fast.await??;
    assert!(!came.contains("reset"), "{} bytes came", came.len());
    publish(&world, "emergency-policy.changed", 1).await?;
    let came = until(slow, "emergency-policy.changed", 1).await?;
    assert!(came.contains("event: reset\ndata: {}\n\n"), "{} bytes came", came.len());
    assert!(came.matches("grant.activated").count() < 300, "{} bytes came", came.len());
    here.end().await?;
    world.end().await;
    Ok(())
}
