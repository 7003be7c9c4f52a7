//! The end by the clock: edges go by it whether or not a worker runs; expiry-worker makes it official.

use serde_json::{Value, json};
use shared::role::Role;
use sqlx::PgPool;
use tests::{Client, Options, World, eventually};

/// Long enough for all edges to show it first, on a busy machine.
const SECONDS: u32 = 8;

const ALL_WORKERS: [&str; 3] = ["session-worker", "grant-worker", "expiry-worker"];

/// Waits until a grant has been over for a second, by the clock that decides.
async fn a_second_after(world: &World, grant: &Value) -> anyhow::Result<()> {
    let id = grant["id"].as_str().unwrap_or_default();
    let over = "SELECT clock_timestamp() > expires_at + interval '1 second' FROM emergency_grants WHERE id = $1::uuid";
    eventually("a grant has been over for a second", || async {
        sqlx::query_scalar(over).bind(id).fetch_one(&world.pool).await.unwrap_or(false)
    })
    .await
}

/// How a grant is stored, how many timers are left but that of its review, and how many grants are on record as expired.
async fn official(pool: &PgPool, grant: &Value) -> Result<(String, i64, i64), sqlx::Error> {
    sqlx::query_as(
        "SELECT state, (SELECT count(*) FROM timers WHERE subject_id = g.id AND kind <> 'review-overdue'),
                (SELECT count(*) FROM audit WHERE action = 'grant.expired' AND target = 'grant:' || g.id)
         FROM emergency_grants g WHERE id = $1::uuid",
    )
    .bind(grant["id"].as_str())
    .fetch_one(pool)
    .await
}

async fn show(client: &Client, grant: &Value) -> anyhow::Result<Value> {
    let id = grant["id"].as_str().unwrap_or_default();
    Ok(client.get(&format!("/v1/emergency/grants/{id}")).await?.expect(200).body["grant"].take())
}

#[tokio::test]
async fn without_expiry_worker_a_grant_ends_and_with_it_officially() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    world.stack.stop_service("expiry-worker").await;
    let granted = member.request_grant("Checkout is down since the release", SECONDS).await?;
    let grant = &granted["grant"];
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    a_second_after(&world, grant).await?;
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    for edge in world.at_all_edges(&member) {
        let answer = edge.get("/authorize").await?.expect(200);
        assert_eq!(answer.header("x-auth-role"), "member");
        assert_eq!(answer.header("x-auth-emergency-grant"), "");
        assert_eq!(answer.header("x-auth-emergency-expires"), "");
    }
    let shown = show(&member, grant).await?;
    assert_eq!((&shown["state"], &shown["remaining_seconds"]), (&json!("expired"), &Value::Null));
    let listed = async |state: &str| {
        let listed = member.get(&format!("/v1/emergency/grants?state={state}")).await?.expect(200);
        anyhow::Ok(listed.body["grants"].as_array().map_or(0, Vec::len))
    };
    assert_eq!((listed("active").await?, listed("expired").await?), (0, 1));
    let late = member.revoke_grant(grant, "Too late for this").await?.expect(409);
    assert_eq!(late.code(), "grant-ended");
    // All that by the clock alone.
    assert_eq!(official(&world.pool, grant).await?, ("active".to_owned(), 1, 0));

    world.stack.start_service("expiry-worker").await;
    eventually("the end of the grant is official", || async {
        official(&world.pool, grant).await.is_ok_and(|now| now == ("expired".to_owned(), 0, 1))
    })
    .await?;
    let shown = show(&member, grant).await?;
    assert_eq!(shown["state"], "expired");
    assert_eq!(shown["ended_at"], grant["expires_at"]);
    assert_eq!(shown["ended_by"], Value::Null);
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    let manager = world.sign_in(Role::Manager).await?;
    let record = manager.get("/v1/audit?action=grant.expired").await?.expect(200).body;
    assert_eq!(record["entries"].as_array().map(Vec::len), Some(1));
    assert_eq!(record["entries"][0]["actor"], "expiry-worker");

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn with_every_worker_stopped_edges_that_hold_a_lease_go_by_the_clock() -> anyhow::Result<()> {
    // A lease that outlives the grant: the edges decide all the time, alone.
    let lease = vec!["--lease-ms".to_owned(), "60000".to_owned()];
    let flags = vec![("session-worker", lease)];
    let world = World::start_with(Options { flags, ..Options::default() }).await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", SECONDS).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    for worker in ALL_WORKERS {
        world.stack.stop_service(worker).await;
    }

    a_second_after(&world, &granted["grant"]).await?;
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    assert_eq!(world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn with_every_worker_stopped_edges_refuse_what_is_over_and_then_everything()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", SECONDS).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    for worker in ALL_WORKERS {
        world.stack.stop_service(worker).await;
    }

    // By then the leases of 3 s have run out besides, and 503 is a refusal too.
    a_second_after(&world, &granted["grant"]).await?;
    for edge in world.at_all_edges(&member) {
        let answer = edge.get("/authorize?role=admin").await?;
        assert!([403, 503].contains(&answer.status.as_u16()), "{answer:?}");
    }
    eventually("no edge holds a lease", || async {
        world.demand_admin(&member).await.is_ok_and(|said| said == [503; 3])
    })
    .await?;

    for worker in ALL_WORKERS {
        world.stack.start_service(worker).await;
    }
    world.all_ready().await?;
    eventually("the end of the grant is official", || async {
        let now = official(&world.pool, &granted["grant"]).await;
        now.is_ok_and(|now| now == ("expired".to_owned(), 0, 1))
    })
    .await?;
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    assert_eq!(world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn two_expiry_workers_end_each_grant_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.stack.stop_service("expiry-worker").await;
    let mut grants = Vec::new();
    for role in [Role::Member, Role::Manager, Role::Admin] {
        let client = world.sign_in(role).await?;
        for what in ["Checkout", "The warehouse", "The mail server"] {
            let reason = format!("{what} is down since the release of today");
            grants.push(client.request_grant(&reason, 5).await?["grant"].take());
        }
    }
    a_second_after(&world, &grants[8]).await?;

    let more = world.another("expiry-worker")?;
    world.stack.start_service("expiry-worker").await;
    for grant in &grants {
        eventually("the end of a grant is official", || async {
            official(&world.pool, grant).await.is_ok_and(|now| now == ("expired".to_owned(), 0, 1))
        })
        .await?;
    }
    // Both stop the kind way, so nothing that they began is still on its way.
    assert!(more.terminate().await);
    world.stack.stop_service("expiry-worker").await;
    for grant in &grants {
        assert_eq!(official(&world.pool, grant).await?, ("expired".to_owned(), 0, 1));
    }
    let of_expiry = "SELECT count(*) FROM revocations WHERE cause = 'grant-expired'";
    let revisions: i64 = sqlx::query_scalar(of_expiry).fetch_one(&world.pool).await?;
    assert_eq!(revisions, 9);

    world.end().await;
    Ok(())
}
