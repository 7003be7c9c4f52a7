//! The bus or the database away: refused in plain words, soon, never a false success; and all of it
//! comes back by itself.

use std::time::Duration;

use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    role::Role,
    token::Token,
};
use tests::{Answer, Client, Options, World, assert_whole, eventually, receipt};

/// What "within a few seconds" may come to: the deadline of a request, and a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// Fails unless this is the problem document of something that is out of reach.
#[track_caller]
fn assert_out_of_reach(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("retry-after"), "1");
    assert!(["unavailable", "edge-fenced"].contains(&answer.code()), "{answer:?}");
    assert_eq!(answer.body["status"], 503);
    let kind = format!("urn:breakglass:problem:{}", answer.code());
    assert_eq!(answer.body["type"], kind);
    // 5xx say nothing about the inside.
    let text = answer.body.to_string().to_lowercase();
    for inside in ["nats", "postgres", "sql", "worker", "pool"] {
        assert!(!text.contains(inside), "{text}");
    }
}

/// Every kind of call is refused, soon.
async fn everything_is_refused(
    world: &World,
    member: &Client,
    grant: &Value,
) -> anyhow::Result<()> {
    let revoke =
        format!("/v1/emergency/grants/{}/revoke", grant["id"].as_str().unwrap_or_default());
    let reason = json!({"reason": "Something else is down as well now"});
    let login = json!({"tenant": "acme", "email": "member@acme.test", "password": "wrong", "transport": "token"});
    let nobody = world.anonymous();
    let asked_at = SystemClock.monotonic();
    let (me, list, request, end, sign_in) = tokio::join!(
        member.get("/v1/me"),
        member.get("/v1/emergency/grants"),
        member.post("/v1/emergency/grants", reason),
        member.post(&revoke, json!({})),
        nobody.post("/v1/login", login),
    );
    for answer in [me, list, request, end, sign_in] {
        assert_out_of_reach(&answer?);
    }
    let took = SystemClock.monotonic().since(asked_at);
    assert!(took < SOON, "{took:?}");
    Ok(())
}

/// Every edge ends up without a lease, and says so, to the one who is known as to who is not.
async fn every_edge_stops_deciding(world: &World, member: &Client) -> anyhow::Result<()> {
    let mut stranger = member.clone();
    stranger.token = Some(Token::generate().expose().to_owned());
    for edge in world.at_all_edges(member) {
        eventually("an edge holds no lease", || async {
            edge.get("/authorize").await.is_ok_and(|answer| answer.code() == "edge-fenced")
        })
        .await?;
        assert_out_of_reach(&edge.get("/authorize?role=admin").await?);
        assert_out_of_reach(&edge.get("/readyz").await?);
        edge.get("/healthz").await?.expect(200);
    }
    for edge in world.at_all_edges(&stranger) {
        assert_out_of_reach(&edge.get("/authorize").await?);
    }
    Ok(())
}

/// Nothing was restarted, and everything is as before the outage.
async fn everything_is_back(
    world: &World,
    member: &Client,
    before: &[(String, u32)],
) -> anyhow::Result<()> {
    world.all_ready().await?;
    eventually("the grant holds at every edge again", || async {
        world.demand_admin(member).await.is_ok_and(|said| said == [200; 3])
    })
    .await?;
    assert_eq!(services(world), before, "services recover without a restart");
    member.get("/v1/me").await?.expect(200);
    let active = member.get("/v1/emergency/grants?state=active").await?.expect(200).body;
    let [grant] = active["grants"].as_array().map_or(&[][..], Vec::as_slice) else {
        panic!("the grant from before, and no other: {active}");
    };
    // Edges that were fenced are not counted any more, those that joined anew are.
    let ended = member.revoke_grant(grant, "It works again").await?.expect(200).body;
    let ended = receipt(&ended)?;
    assert_whole(&ended, 3, ended.edges.fenced);
    assert_eq!(world.demand_admin(member).await?, [403; 3]);
    Ok(())
}

fn services(world: &World) -> Vec<(String, u32)> {
    let service = |name: &&str| *name != "nats" && *name != "postgres";
    let names = world.stack.names().filter(service);
    names.map(|name| (name.to_owned(), world.stack.pid(name).expect("it is running"))).collect()
}

async fn elevated(world: &World) -> anyhow::Result<(Client, Value)> {
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 3_600).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    Ok((member, granted["grant"].clone()))
}

#[tokio::test]
async fn nats_is_down() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (member, grant) = elevated(&world).await?;
    let before = services(&world);

    world.stack.stop_service("nats").await;
    everything_is_refused(&world, &member, &grant).await?;
    every_edge_stops_deciding(&world, &member).await?;
    everything_is_refused(&world, &member, &grant).await?;

    world.stack.start_service("nats").await;
    everything_is_back(&world, &member, &before).await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn nats_answers_nothing() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (member, grant) = elevated(&world).await?;
    let before = services(&world);

    let paused = world.pause("nats")?;
    everything_is_refused(&world, &member, &grant).await?;
    every_edge_stops_deciding(&world, &member).await?;
    drop(paused);

    // What was sent meanwhile was still in the pipe: the grant may have ended, whatever was said.
    eventually("everybody is on the bus again", || async {
        member.get("/v1/me").await.is_ok_and(|answer| answer.status == 200)
    })
    .await?;
    world.all_ready().await?;
    assert_eq!(services(&world), before, "services recover without a restart");
    let manager = world.sign_in(Role::Manager).await?;
    let granted = manager.request_grant("Another one, to see that it works", 600).await?;
    assert_eq!(granted["receipt"]["enforced"], true);
    eventually("all edges decide again", || async {
        world.demand_admin(&manager).await.is_ok_and(|said| said == [200; 3])
    })
    .await?;
    let ended = manager.revoke_grant(&granted["grant"], "It works again").await?.expect(200).body;
    assert_eq!(ended["receipt"]["enforced"], true);
    assert_eq!(world.demand_admin(&manager).await?, [403; 3]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn postgres_is_down() -> anyhow::Result<()> {
    let world = World::start_with(Options { own_postgres: true, ..Options::default() }).await?;
    let (member, grant) = elevated(&world).await?;
    let before = services(&world);

    world.stack.stop_service("postgres").await;
    everything_is_refused(&world, &member, &grant).await?;
    every_edge_stops_deciding(&world, &member).await?;
    everything_is_refused(&world, &member, &grant).await?;

    world.stack.start_service("postgres").await;
    everything_is_back(&world, &member, &before).await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn postgres_answers_nothing() -> anyhow::Result<()> {
    let world = World::start_with(Options { own_postgres: true, ..Options::default() }).await?;
    let (member, grant) = elevated(&world).await?;
    let before = services(&world);

    let paused = world.pause("postgres")?;
    everything_is_refused(&world, &member, &grant).await?;
    every_edge_stops_deciding(&world, &member).await?;
    everything_is_refused(&world, &member, &grant).await?;
    drop(paused);

    // None of what was given up was committed later.
    everything_is_back(&world, &member, &before).await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_revocation_whose_broadcast_was_lost_is_found_by_the_beacon() -> anyhow::Result<()> {
    // A lease so long that no renewal comes meanwhile, which would tell of it too.
    let lease = vec!["--lease-ms".to_owned(), "60000".to_owned()];
    let flags = vec![("session-worker", lease)];
    let world = World::start_with(Options { flags, ..Options::default() }).await?;
    let member = world.sign_in(Role::Member).await?;
    let other = world.sign_in(Role::Member).await?;
    for client in [&member, &other] {
        assert_eq!(world.authorize(client).await?, vec![(200, "member".to_owned()); 3]);
    }
    let me = member.get("/v1/me").await?.expect(200).body;
    let session = me["session"]["id"].as_str().unwrap_or_default();

    // As a worker leaves it that dies between the commit and the broadcast.
    let mut tx = world.pool.begin().await?;
    let ended = "UPDATE sessions SET ended_at = clock_timestamp() WHERE id = $1::uuid";
    assert_eq!(sqlx::query(ended).bind(session).execute(&mut *tx).await?.rows_affected(), 1);
    let numbered =
        "WITH head AS (UPDATE revocation_head SET revision = revision + 1 RETURNING revision)
         INSERT INTO revocations (revision, tenant_id, user_id, sessions, cause)
         SELECT revision, s.tenant_id, s.user_id, ARRAY[s.id], 'session-revoked'
         FROM head, sessions s WHERE s.id = $1::uuid";
    assert_eq!(sqlx::query(numbered).bind(session).execute(&mut *tx).await?.rows_affected(), 1);
    tx.commit().await?;

    let committed_at = SystemClock.monotonic();
    eventually("every edge refuses", || async {
        world
            .authorize(&member)
            .await
            .is_ok_and(|said| said.iter().all(|(status, _)| *status == 401))
    })
    .await?;
    let took = SystemClock.monotonic().since(committed_at);
    // Beacons come four times a second, renewals every twenty seconds.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(world.authorize(&other).await?, vec![(200, "member".to_owned()); 3]);

    world.end().await;
    Ok(())
}
