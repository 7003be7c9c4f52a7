//! What the audit record says of sessions that were ended, and of what was refused.

use serde_json::{Value, json};
use shared::role::Role;
use tests::{Client, World, assert_whole, receipt};

use super::session_id;
use crate::problem::assert_problem;

/// The entries of an action, newest first.
async fn entries(manager: &Client, action: &str) -> anyhow::Result<Vec<Value>> {
    let body = manager.get(&format!("/v1/audit?action={action}")).await?.expect(200).body;
    Ok(body["entries"].as_array().expect("a list").clone())
}

#[tokio::test]
async fn a_session_that_was_unused_too_long_is_none_to_end() -> anyhow::Result<()> {
    let world = World::start().await?;
    let manager = world.sign_in(Role::Manager).await?;
    let keep = world.sign_in(Role::Member).await?;
    let idle = session_id(&world.sign_in(Role::Member).await?).await?;
    let unused = "UPDATE sessions SET last_active_at = now() - interval '90 days'
                  WHERE id::text = $1";
    assert_eq!(sqlx::query(unused).bind(&idle).execute(&world.pool).await?.rows_affected(), 1);
    assert_problem(&keep.delete(&format!("/v1/sessions/{idle}")).await?, 404, "not-found");
    assert!(entries(&manager, "session.revoked").await?.is_empty());

    let other = session_id(&world.sign_in(Role::Member).await?).await?;
    let answer = keep.post("/v1/sessions/revoke-others", json!({})).await?.expect(200).body;
    assert_eq!(answer["revoked"], 1);
    assert_whole(&receipt(&answer)?, 3, 0);
    let recorded = entries(&manager, "session.revoked-all").await?;
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    let detail = recorded[0]["detail"].to_string();
    assert!(detail.contains(&other) && !detail.contains(&idle), "{detail}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn others_that_were_one_are_recorded_as_others() -> anyhow::Result<()> {
    let world = World::start().await?;
    let manager = world.sign_in(Role::Manager).await?;
    let (keep, other) = (world.sign_in(Role::Member).await?, world.sign_in(Role::Member).await?);
    let other = session_id(&other).await?;
    let answer = keep.post("/v1/sessions/revoke-others", json!({})).await?.expect(200).body;
    assert_eq!(answer["revoked"], 1);
    let recorded = entries(&manager, "session.revoked-all").await?;
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert!(recorded[0]["detail"].to_string().contains(&other), "{}", recorded[0]);
    assert!(entries(&manager, "session.revoked").await?.is_empty());
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_a_member_may_not_do_is_recorded() -> anyhow::Result<()> {
    let world = World::start().await?;
    let manager = world.sign_in(Role::Manager).await?;
    let member = world.sign_in(Role::Member).await?;
    let me = member.get("/v1/me").await?.expect(200).body;
    let them = manager.get("/v1/me").await?.expect(200).body;
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    let (user, session) = (text(&them["user"]["id"]), text(&them["session"]["id"]));

    let end = format!("/v1/users/{user}/sessions/{session}");
    assert_problem(&member.delete(&end).await?, 403, "forbidden");
    assert_problem(&member.get("/v1/audit").await?, 403, "forbidden");

    let recorded = entries(&manager, "access.refused").await?;
    assert_eq!(recorded.len(), 2, "{recorded:?}");
    for entry in recorded {
        assert_eq!(entry["actor"], me["user"]["id"], "{entry}");
        assert_eq!(entry["detail"]["code"], "forbidden", "{entry}");
    }
    assert_eq!(manager.authorize().await?, (200, "manager".to_owned()));
    world.end().await;
    Ok(())
}
