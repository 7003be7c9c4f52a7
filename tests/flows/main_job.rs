//! The whole job over three edges.

use serde_json::json;
use shared::role::Role;
use tests::World;

const REASON: &str = "Checkout is down, need to roll back the release";

#[tokio::test]
async fn the_whole_main_job_over_three_edges() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let edges = [member.at(&world.edge(1)), member.at(&world.edge(2)), member.at(&world.edge(3))];
    for edge in &edges {
        assert_eq!(edge.authorize().await?, (200, "member".to_owned()));
    }

    let granted = member.request_grant(REASON, 1_800).await?;
    assert_eq!(granted["grant"]["state"], "active");
    assert_eq!(granted["grant"]["role"], "admin");
    assert_eq!(granted["receipt"]["enforced"], true);
    assert_eq!(granted["receipt"]["edges"]["acknowledged"], 3);
    for edge in &edges {
        let answer = edge.get("/authorize?role=admin").await?.expect(200);
        assert_eq!(answer.header("x-auth-role"), "admin");
        assert_eq!(answer.header("x-auth-emergency-grant"), granted["grant"]["id"]);
        assert_eq!(answer.header("x-auth-emergency-expires"), granted["grant"]["expires_at"]);
    }

    let listed = edges[1].get("/v1/emergency/grants?state=active").await?.expect(200).body;
    assert_eq!(listed["grants"][0]["reason"], REASON);
    let remaining = listed["grants"][0]["remaining_seconds"].as_u64().expect("a number");
    assert!((1_790..=1_800).contains(&remaining), "{remaining}");
    let me = edges[2].get("/v1/me").await?.expect(200).body;
    assert_eq!(me["elevation"]["id"], granted["grant"]["id"]);
    assert_eq!(me["user"]["role"], "member");

    let revoke =
        format!("/v1/emergency/grants/{}/revoke", granted["grant"]["id"].as_str().expect("an id"));
    let revoked = edges[2].post(&revoke, json!({"comment": "Rolled back"})).await?.expect(200).body;
    assert_eq!(revoked["grant"]["state"], "revoked");
    assert_eq!(revoked["receipt"]["enforced"], true);
    for edge in &edges {
        edge.get("/authorize?role=admin").await?.expect(403);
        let answer = edge.get("/authorize").await?.expect(200);
        assert_eq!(answer.header("x-auth-role"), "member");
        assert_eq!(answer.header("x-auth-emergency-grant"), "");
    }
    assert_eq!(member.post(&revoke, json!({})).await?.expect(409).code(), "grant-ended");

    let manager = world.sign_in(Role::Manager).await?;
    let audit = manager.get("/v1/audit").await?.expect(200).body;
    let actions: Vec<_> =
        audit["entries"].as_array().expect("a list").iter().map(|e| e["action"].clone()).collect();
    assert_eq!(actions[..3], ["session.opened", "grant.revoked", "grant.activated"]);
    assert_eq!(audit["entries"][2]["detail"]["reason"], REASON);

    world.end().await;
    Ok(())
}
