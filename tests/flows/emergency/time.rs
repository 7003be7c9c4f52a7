//! What time alone does: requests that nobody decides, warnings before the end.

use serde_json::{Value, json};
use shared::role::Role;
use tests::{World, eventually};

use super::{REASON, act, ask, events, id_of, set_policy, show};

#[tokio::test]
async fn a_request_that_nobody_decides_times_out() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin =
        set_policy(&world, json!({"approvals_needed": 1, "pending_timeout_seconds": 5})).await?;
    let member = world.sign_in(Role::Member).await?;
    world.stack.stop_service("expiry-worker").await;
    let asked = ask(&member, json!({"reason": REASON})).await?.expect(201).body;
    let grant = &asked["grant"];
    eventually("the request has timed out, by the clock alone", || async {
        show(&member, grant).await.is_ok_and(|grant| grant["state"] == "expired")
    })
    .await?;
    let late = act(&admin, grant, "approve", json!({})).await?.expect(409);
    assert_eq!(late.code(), "grant-ended");
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    let listed = async |state: &str| {
        let path = format!("/v1/emergency/grants?state={state}");
        let listed = admin.get(&path).await?.expect(200).body;
        anyhow::Ok(listed["grants"].as_array().map_or(0, Vec::len))
    };
    assert_eq!((listed("pending").await?, listed("expired").await?), (0, 1));
    let recorded = || async {
        let records =
            sqlx::query_scalar("SELECT count(*) FROM audit WHERE action = 'grant.expired'");
        records.fetch_one(&world.pool).await.unwrap_or(-1_i64)
    };
    assert_eq!(recorded().await, 0);
    world.stack.start_service("expiry-worker").await;
    eventually("it is on record", || async { recorded().await == 1 }).await?;
    let shown = show(&member, grant).await?;
    assert_eq!((&shown["ended_at"], &shown["ended_by"]), (&grant["pending_until"], &Value::Null));
    assert_eq!(shown["review"], Value::Null, "it was never used");

    world.end().await;
    Ok(())
}

/// Moves a grant so that it ends in so many seconds, and what is set for before its end with it.
async fn ends_in(world: &World, grant: &Value, seconds: f64) -> anyhow::Result<()> {
    sqlx::query(
        "WITH moved AS (
             UPDATE emergency_grants g SET expires_at = clock_timestamp() + make_interval(secs => $2)
             FROM emergency_grants old WHERE g.id = $1::uuid AND old.id = g.id
             RETURNING g.id, old.expires_at - g.expires_at AS by)
         UPDATE timers SET due_at = due_at - moved.by FROM moved WHERE subject_id = moved.id",
    )
    .bind(grant["id"].as_str())
    .bind(seconds)
    .execute(&world.pool)
    .await?;
    Ok(())
}

#[tokio::test]
async fn ten_and_two_minutes_before_the_end_its_user_is_told() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 3_600).await?;
    let grant = &granted["grant"];
    let minutes = || async {
        let told = events(&world, "grant.expiring").await.unwrap_or_default();
        told.iter().map(|event| event["minutes_left"].clone()).collect::<Vec<_>>()
    };
    ends_in(&world, grant, 601.0).await?;
    eventually("ten minutes are told", || async { minutes().await == [json!(10)] }).await?;
    assert_eq!(events(&world, "grant.expiring").await?[0]["user"], id_of(&member).await?);
    ends_in(&world, grant, 121.0).await?;
    eventually("two minutes are told", || async { minutes().await == [json!(10), json!(2)] })
        .await?;
    let timers: Vec<String> =
        sqlx::query_scalar("SELECT kind FROM timers ORDER BY kind").fetch_all(&world.pool).await?;
    assert_eq!(timers, ["grant-expiry"]);

    // One that is over by the time that anybody could tell it is not told.
    let short = member.request_grant("Something short has to be done", 130).await?;
    act(&member, &short["grant"], "revoke", json!({})).await?.expect(200);
    let timers: i64 =
        sqlx::query_scalar("SELECT count(*) FROM timers WHERE kind = 'grant-warning'")
            .fetch_one(&world.pool)
            .await?;
    assert_eq!(timers, 0);

    world.end().await;
    Ok(())
}
