//! In which sessions a grant holds, and whose it stops being.

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::World;

use super::{REASON, act, ask, events, id_of, set_policy, show};

#[tokio::test]
async fn by_policy_a_grant_holds_in_the_session_that_asked_alone() -> anyhow::Result<()> {
    let world = World::start().await?;
    set_policy(&world, json!({"applies_to": "session"})).await?;
    let asking = world.sign_in(Role::Member).await?;
    let other = world.sign_in(Role::Member).await?;
    assert_eq!(world.demand_admin(&other).await?, [403; 3]);
    let granted = asking.request_grant(REASON, 600).await?;
    assert_eq!(granted["grant"]["applies_to"], "session");
    assert_eq!(world.demand_admin(&asking).await?, [200; 3]);
    assert_eq!(world.demand_admin(&other).await?, [403; 3]);
    assert_eq!(other.get("/v1/me").await?.expect(200).body["elevation"], Value::Null);
    // Inside Breakglass as well.
    other.get("/v1/audit").await?.expect(403);
    asking.get("/v1/audit").await?.expect(200);
    // It is theirs to end from anywhere.
    act(&other, &granted["grant"], "revoke", json!({})).await?.expect(200);
    assert_eq!(world.demand_admin(&asking).await?, [403; 3]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_is_disabled_holds_and_waits_for_nothing() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = world.sign_in(Role::Admin).await?;
    let member = world.sign_in(Role::Member).await?;
    let active = member.request_grant(REASON, 600).await?;
    set_policy(&world, json!({"approvals_needed": 1})).await?;
    let body = json!({"reason": "The database has to be repaired too"});
    let pending = ask(&member, body).await?.expect(201).body;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    let id = id_of(&member).await?;
    let path = format!("/v1/users/{}", id.as_str().unwrap_or_default());
    admin.send(Method::PATCH, &path, Some(json!({"disabled": true}))).await?.expect(200);

    assert_eq!(world.demand_admin(&member).await?, [401; 3]);
    let ended = show(&admin, &active["grant"]).await?;
    assert_eq!(
        (&ended["state"], &ended["end_reason"]),
        (&json!("revoked"), &json!("The user was disabled."))
    );
    assert_eq!(ended["ended_by"]["email"], "admin@acme.test");
    assert_eq!(ended["review"]["state"], "due");
    assert_eq!(show(&admin, &pending["grant"]).await?["state"], "cancelled");
    for (action, grant) in [("grant.revoked", &active), ("grant.cancelled", &pending)] {
        let record = admin.get(&format!("/v1/audit?action={action}")).await?.expect(200).body;
        let target = format!("grant:{}", grant["grant"]["id"].as_str().unwrap_or_default());
        assert_eq!(record["entries"][0]["target"], target);
        assert_eq!(events(&world, action).await?.len(), 1);
    }
    // Enabled again, nothing of it comes back.
    admin.send(Method::PATCH, &path, Some(json!({"disabled": false}))).await?.expect(200);
    let member = world.sign_in(Role::Member).await?;
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    let refused = act(&admin, &pending["grant"], "approve", json!({})).await?.expect(409);
    assert_eq!(refused.code(), "grant-ended");

    world.end().await;
    Ok(())
}
