//! The end by the clock: edges go by it whether or not a worker runs; expiry-worker makes it official.

use std::time::Duration;

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

/// Waits until the end of a grant by the clock is on record, once, and no timer of it is left.
async fn officially_expired(world: &World, grant: &Value) -> anyhow::Result<()> {
    eventually("the end of a grant is official", || async {
        official(&world.pool, grant).await.is_ok_and(|now| now == ("expired".to_owned(), 0, 1))
    })
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
    officially_expired(&world, grant).await?;
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
    officially_expired(&world, &granted["grant"]).await?;
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
        officially_expired(&world, grant).await?;
    }
    // Both stop the kind way, so nothing that they began is still on its way.
    assert!(more.terminate().await);
    world.stack.stop_service("expiry-worker").await;
    for grant in &grants {
        assert_eq!(official(&world.pool, grant).await?, ("expired".to_owned(), 0, 1));
    }
    let users = "SELECT count(DISTINCT user_id) FROM revocations WHERE cause = 'grant-expired'";
    let users: i64 = sqlx::query_scalar(users).fetch_one(&world.pool).await?;
    assert_eq!(users, 3);
    let events = "SELECT count(*) FROM outbox WHERE kind = 'grant.expired'";
    let events: i64 = sqlx::query_scalar(events).fetch_one(&world.pool).await?;
    assert_eq!(events, 9);

    world.end().await;
    Ok(())
}

/// expiry-worker looks once a minute here, longer than a flow waits: what is due before its next look,
/// it has to be told.
async fn that_looks_once_a_minute() -> anyhow::Result<World> {
    let rarely = vec!["--look-every-seconds".to_owned(), "60".to_owned()];
    World::start_with(Options { flags: vec![("expiry-worker", rarely)], ..Options::default() })
        .await
}

#[tokio::test]
async fn a_timer_that_is_due_before_the_next_look_is_told() -> anyhow::Result<()> {
    let world = that_looks_once_a_minute().await?;
    let member = world.sign_in(Role::Member).await?;
    // The first look was before there was any.
    world.all_ready().await?;
    for what in ["Checkout", "The warehouse"] {
        let reason = format!("{what} is down since the release of today");
        let granted = member.request_grant(&reason, SECONDS).await?;
        a_second_after(&world, &granted["grant"]).await?;
        officially_expired(&world, &granted["grant"]).await?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_a_killed_worker_had_in_hand_is_done_by_the_next() -> anyhow::Result<()> {
    let world = that_looks_once_a_minute().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", SECONDS).await?;
    let in_hand = "SELECT due_at > clock_timestamp() AND claimed_until > due_at FROM timers
                   WHERE kind = 'grant-expiry' AND subject_id = $1::uuid";
    eventually("its timer is in hand before it is due", || async {
        let id = granted["grant"]["id"].as_str();
        sqlx::query_scalar(in_hand).bind(id).fetch_one(&world.pool).await.unwrap_or(false)
    })
    .await?;
    world.kill_for_good("expiry-worker").await;
    // One that looks as often as usual: it finds the timer when the claim has run out.
    let next = world.another("expiry-worker")?;
    a_second_after(&world, &granted["grant"]).await?;
    officially_expired(&world, &granted["grant"]).await?;
    assert!(next.terminate().await);
    world.end().await;
    Ok(())
}

/// A database clock that ran ahead has ended a grant which is not over yet by the edges' reckoning.
#[tokio::test]
async fn what_is_over_officially_is_over_at_every_edge_whatever_its_clock_says()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    let grant = &granted["grant"];
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    let over = "WITH over AS (
                    UPDATE emergency_grants SET expires_at = clock_timestamp() WHERE id = $1::uuid
                    RETURNING id, expires_at)
                UPDATE timers SET due_at = over.expires_at, claimed_until = NULL
                FROM over WHERE kind = 'grant-expiry' AND subject_id = over.id";
    sqlx::query(over).bind(grant["id"].as_str()).execute(&world.pool).await?;
    eventually("its end is official", || async {
        official(&world.pool, grant).await.is_ok_and(|now| now.0 == "expired")
    })
    .await?;
    eventually("no edge allows what it allowed", || async {
        world.demand_admin(&member).await.is_ok_and(|said| said == [403; 3])
    })
    .await?;
    world.end().await;
    Ok(())
}

/// Active grants, as many as stated, that end within a second.
const MANY_GRANTS: &str = "
    WITH grants AS (
        INSERT INTO emergency_grants (id, tenant_id, user_id, session_id, state, role, reason,
            duration_seconds, request_digest, activated_at, expires_at, first_activated_at)
        SELECT lpad(to_hex(n), 32, '0')::uuid, s.tenant_id, s.user_id, s.id, 'active', 'admin', 'One of many',
               3600, decode(repeat('00', 32), 'hex'), now, now + make_interval(secs => n / $1::float8), now
        FROM generate_series(1, $1) n, (SELECT clock_timestamp() AS now) clock,
             (SELECT *, row_number() OVER (ORDER BY id) AS place FROM sessions) s
        WHERE s.place = n % 3 + 1
        RETURNING id, expires_at)
    INSERT INTO timers (kind, subject_id, due_at) SELECT 'grant-expiry', id, expires_at FROM grants";

/// How many of them have ended, and how many entries and events there are of that, all and different.
const ENDS: &str = "
    SELECT (SELECT count(*) FROM emergency_grants WHERE state = 'expired'),
           (SELECT count(*) FROM audit WHERE action = 'grant.expired'),
           (SELECT count(DISTINCT target) FROM audit WHERE action = 'grant.expired'),
           (SELECT count(*) FROM outbox WHERE kind = 'grant.expired'),
           (SELECT count(DISTINCT payload ->> 'grant') FROM outbox WHERE kind = 'grant.expired')";

#[tokio::test]
async fn workers_killed_in_the_midst_of_many_ends_lose_none_and_do_none_twice() -> anyhow::Result<()>
{
    const MANY: i32 = 6_000;
    let world = World::start().await?;
    for role in [Role::Member, Role::Manager, Role::Admin] {
        world.sign_in(role).await?;
    }
    let ends =
        async || sqlx::query_as::<_, (i64, i64, i64, i64, i64)>(ENDS).fetch_one(&world.pool).await;
    // What was told to a worker as it died is free again only when the wait for its answer is over.
    let until = async |count: i64| {
        let ended = async {
            while ends().await?.0 < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_mins(1), ended).await?
    };
    sqlx::query(MANY_GRANTS).bind(MANY).execute(&world.pool).await?;
    for (worker, some) in [("grant-worker", 1_000), ("expiry-worker", 3_500)] {
        until(some).await?;
        world.kill_and_await(worker).await?;
    }
    let all = i64::from(MANY);
    until(all).await?;
    assert_eq!(ends().await?, (all, all, all, all, all));
    let left = "SELECT count(*) FROM timers WHERE kind = 'grant-expiry'";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&world.pool).await?;
    assert_eq!(left, 0);
    world.end().await;
    Ok(())
}
