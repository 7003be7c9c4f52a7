//! More time: a new request that replaces the old grant in one step.

use serde_json::{Value, json};
use shared::role::Role;
use tests::{World, assert_whole, receipt};

use super::{REASON, act, ask, colleague, set_policy, show};

fn more(seconds: u32) -> Value {
    json!({"reason": "Not done yet, the index is still building", "duration_seconds": seconds})
}

#[tokio::test]
async fn an_extension_replaces_the_grant_in_one_step_within_the_cap() -> anyhow::Result<()> {
    let world = World::start().await?;
    set_policy(&world, json!({"max_duration_seconds": 1_000, "default_duration_seconds": 600}))
        .await?;
    let member = world.sign_in(Role::Member).await?;
    let granted =
        ask(&member, json!({"reason": REASON, "ticket": "INC-1"})).await?.expect(201).body;
    let first = &granted["grant"];
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    let refused = act(&member, first, "extend", more(1_000)).await?.expect(422);
    assert_eq!(refused.code(), "duration-too-long", "the whole counts");
    for (body, status) in [
        (json!({"duration_seconds": 60}), 422),
        (json!({"reason": REASON, "duration_seconds": 60}), 422),
        (json!({"reason": "Not done yet, it takes some time"}), 400),
        (more(4), 400),
    ] {
        act(&member, first, "extend", body).await?.expect(status);
    }
    let extended = act(&member, first, "extend", more(900)).await?.expect(201).body;
    assert_whole(&receipt(&extended)?, 3, 0);
    let second = &extended["grant"];
    assert_eq!(second["extended_from"], first["id"]);
    assert_eq!((&second["state"], &second["ticket"]), (&json!("active"), &json!("INC-1")));
    let left = second["remaining_seconds"].as_u64().unwrap_or(0);
    assert!((895..=900).contains(&left), "counted from the activation of the extension: {left}");
    let old = show(&member, first).await?;
    assert_eq!((&old["state"], &old["end_reason"]), (&json!("revoked"), &json!("Extended.")));
    assert_eq!(old["review"], Value::Null, "it is reviewed with what replaced it");
    let active = member.get("/v1/emergency/grants?state=active").await?.expect(200).body;
    assert_eq!(active["grants"].as_array().map(Vec::len), Some(1), "no second live grant is left");
    for edge in world.at_all_edges(&member) {
        let answer = edge.get("/authorize?role=admin").await?.expect(200);
        assert_eq!(answer.header("x-auth-emergency-grant"), second["id"].as_str().unwrap_or(""));
    }
    let refused = act(&member, first, "extend", more(60)).await?.expect(409);
    assert_eq!(refused.code(), "grant-ended");
    // Ended, nothing of it is left, neither of the first nor of the second.
    act(&member, second, "revoke", json!({})).await?.expect(200);
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn ones_own_alone_and_so_often_as_the_policy_says() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("other").await?;
    let admin = set_policy(&world, json!({"extensions_allowed": 1})).await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 60).await?;
    let first = &granted["grant"];
    act(&admin, first, "extend", more(60)).await?.expect(403);
    let other = colleague(&world, "olive", Role::Member).await?;
    act(&other, first, "extend", more(60)).await?.expect(403);
    let stranger = world.sign_in_to("other", Role::Admin).await?;
    act(&stranger, first, "extend", more(60)).await?.expect(404);
    let second = act(&member, first, "extend", more(60)).await?.expect(201).body;
    let reason = json!({"reason": "And once more, for the last step", "duration_seconds": 60});
    let refused = act(&member, &second["grant"], "extend", reason).await?.expect(409);
    assert_eq!(refused.code(), "conflict");

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_extension_takes_the_same_approvals_and_the_grant_lives_until_then() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 600).await?;
    let first = &granted["grant"];
    let admin = set_policy(&world, json!({"approvals_needed": 1})).await?;
    let asked = act(&member, first, "extend", more(900)).await?.expect(201).body;
    let second = &asked["grant"];
    assert_eq!((&second["state"], &asked["receipt"]), (&json!("pending"), &Value::Null));
    assert_eq!(show(&member, first).await?["state"], "active");
    let body = json!({"reason": "And another one beside the first", "duration_seconds": 60});
    let refused = act(&member, first, "extend", body).await?.expect(409);
    assert_eq!(refused.code(), "conflict", "one waits already");
    let approved = act(&admin, second, "approve", json!({})).await?.expect(200).body;
    assert_whole(&receipt(&approved)?, 3, 0);
    assert_eq!(approved["grant"]["state"], "active");
    assert_eq!(show(&member, first).await?["state"], "revoked");
    let active = member.get("/v1/emergency/grants?state=active").await?.expect(200).body;
    assert_eq!(active["grants"].as_array().map(Vec::len), Some(1));

    // One that is revoked takes what was to extend it along: no approval brings it back.
    let body = json!({"reason": "A third time, for the clean-up", "duration_seconds": 600});
    let asked = act(&member, second, "extend", body).await?.expect(201).body;
    act(&admin, second, "revoke", json!({"comment": "Enough"})).await?.expect(200);
    assert_eq!(show(&member, &asked["grant"]).await?["state"], "cancelled");
    let refused = act(&admin, &asked["grant"], "approve", json!({})).await?.expect(409);
    assert_eq!(refused.code(), "grant-ended");
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn extensions_in_parallel_leave_one_live_grant() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 600).await?;
    let asked = (0..6).map(|n| {
        let (client, grant) = (&member, &granted["grant"]);
        let reason = format!("Not done yet, step {n} is missing");
        async move {
            act(client, grant, "extend", json!({"reason": reason, "duration_seconds": 600})).await
        }
    });
    let answers = futures_util::future::try_join_all(asked).await?;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.code(), "grant-ended");
    }
    let active = member.get("/v1/emergency/grants?state=active").await?.expect(200).body;
    assert_eq!(active["grants"].as_array().map(Vec::len), Some(1));

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_approval_that_comes_late_gives_no_more_than_the_cap() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 600).await?;
    let admin = set_policy(
        &world,
        json!({"approvals_needed": 1, "max_duration_seconds": 1_000, "default_duration_seconds": 600}),
    )
    .await?;
    let asked = act(&member, &granted["grant"], "extend", more(900)).await?.expect(201).body;
    // As if 500 seconds had passed since.
    sqlx::query("UPDATE emergency_grants SET first_activated_at = first_activated_at - interval '500 seconds' WHERE state = 'active'")
        .execute(&world.pool)
        .await?;
    let approved = act(&admin, &asked["grant"], "approve", json!({})).await?.expect(200).body;
    let left = approved["grant"]["remaining_seconds"].as_u64().unwrap_or(0);
    assert!((480..=500).contains(&left), "{left}");

    world.end().await;
    Ok(())
}
