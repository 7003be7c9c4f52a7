//! Break glass beside approval.

use serde_json::json;
use shared::role::Role;
use tests::{World, assert_whole, receipt};

use super::{REASON, act, ask, colleague, events, id_of, set_policy};

#[tokio::test]
async fn a_bypass_is_at_once_shorter_and_told_to_everybody_skipped() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"approvals_needed": 2})).await?;
    let member = world.sign_in(Role::Member).await?;
    let manager = world.sign_in(Role::Manager).await?;
    let second = colleague(&world, "mia", Role::Manager).await?;
    let body = json!({"reason": REASON, "bypass_approval": true});
    // Off by default.
    assert_eq!(ask(&member, body.clone()).await?.expect(403).code(), "forbidden");
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    set_policy(&world, json!({"bypass": {"allowed": true, "max_duration_seconds": 300}})).await?;
    let mut long = body.clone();
    long["duration_seconds"] = 301.into();
    assert_eq!(ask(&member, long).await?.expect(422).code(), "duration-too-long");
    let granted = ask(&member, body).await?.expect(201).body;
    assert_whole(&receipt(&granted)?, 3, 0);
    let grant = &granted["grant"];
    assert_eq!((&grant["state"], &grant["bypassed"]), (&json!("active"), &json!(true)));
    assert_eq!((&grant["duration_seconds"], &grant["approvals_needed"]), (&json!(300), &json!(0)));
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    let told = events(&world, "grant.bypassed").await?;
    assert_eq!(told.len(), 1);
    let mut recipients = told[0]["recipients"].as_array().cloned().unwrap_or_default();
    let mut expected = vec![id_of(&admin).await?, id_of(&manager).await?, id_of(&second).await?];
    recipients.sort_by_key(ToString::to_string);
    expected.sort_by_key(ToString::to_string);
    assert_eq!(recipients, expected);
    let record = admin.get("/v1/audit?action=grant.bypassed").await?.expect(200).body;
    assert_eq!(record["entries"][0]["detail"]["bypassed"], true);

    // Reviewed in a quarter of the time.
    let ended = act(&member, grant, "revoke", json!({})).await?.expect(200).body;
    let hours: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM review_due_at - ended_at)::float8 / 3600
         FROM emergency_grants WHERE id = $1::uuid",
    )
    .bind(grant["id"].as_str())
    .fetch_one(&world.pool)
    .await?;
    assert!((hours - 6.0).abs() < 0.001, "{hours}");
    assert_eq!(ended["grant"]["review"]["state"], "due");
    // Without the wish it waits, as the policy says.
    let waits = ask(&member, json!({"reason": "It is down once more, other cause"})).await?;
    assert_eq!(waits.expect(201).body["grant"]["state"], "pending");

    world.end().await;
    Ok(())
}
