//! Each use that ended is reviewed by somebody else; an overdue review blocks the next request.

use serde_json::{Value, json};
use shared::role::Role;
use tests::{World, eventually};

use super::{REASON, act, ask, events, id_of, set_policy, show};

fn found(outcome: &str) -> Value {
    json!({"note": "Looked at the record, all as it should be", "outcome": outcome})
}

#[tokio::test]
async fn a_use_is_reviewed_once_it_has_ended_by_somebody_else() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("other").await?;
    let member = world.sign_in(Role::Member).await?;
    let manager = world.sign_in(Role::Manager).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let granted = manager.request_grant(REASON, 600).await?;
    let grant = &granted["grant"];
    assert_eq!(grant["review"], Value::Null);
    let early = act(&admin, grant, "review", found("justified")).await?.expect(409);
    assert_eq!(early.code(), "conflict");
    let ended = act(&manager, grant, "revoke", json!({})).await?.expect(200).body;
    let review = &ended["grant"]["review"];
    assert_eq!((&review["state"], &review["reviewer"]), (&json!("due"), &Value::Null));

    let own = act(&manager, grant, "review", found("justified")).await?.expect(403);
    assert_eq!(own.code(), "self-approval");
    act(&member, grant, "review", found("justified")).await?.expect(403);
    let stranger = world.sign_in_to("other", Role::Admin).await?;
    act(&stranger, grant, "review", found("justified")).await?.expect(404);
    for (body, status, code) in [
        (json!({"outcome": "justified"}), 422, "reason-required"),
        (json!({"outcome": "justified", "note": "  "}), 422, "reason-required"),
        (json!({"note": "Fine as far as one can see"}), 400, "bad-request"),
        (json!({"note": "Fine", "outcome": "fine"}), 400, "bad-request"),
    ] {
        assert_eq!(act(&admin, grant, "review", body).await?.expect(status).code(), code);
    }
    let reviewed = act(&admin, grant, "review", found("misuse")).await?.expect(200).body;
    let review = &reviewed["grant"]["review"];
    assert_eq!(
        (&review["state"], &review["reviewer"]["email"]),
        (&json!("misuse"), &json!("admin@acme.test"))
    );
    assert!(review["at"].is_string());
    let again = act(&admin, grant, "review", found("justified")).await?.expect(409);
    assert_eq!(again.code(), "already-decided");
    assert_eq!(show(&admin, grant).await?["review"]["state"], "misuse");
    let record = admin.get("/v1/audit?action=grant.reviewed").await?.expect(200).body;
    assert_eq!(record["entries"][0]["detail"]["outcome"], "misuse");
    let timers: i64 =
        sqlx::query_scalar("SELECT count(*) FROM timers").fetch_one(&world.pool).await?;
    assert_eq!(timers, 0, "nobody is reminded of it any more");

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_overdue_review_is_told_and_blocks_all_but_a_bypass() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(&world, json!({"review_within_hours": 0})).await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 600).await?;
    let grant = &granted["grant"];
    let second = member.request_grant("The database has to be repaired too", 600).await?;
    act(&member, grant, "revoke", json!({})).await?.expect(200);
    assert_eq!(show(&admin, grant).await?["review"]["state"], "overdue");
    eventually("people are reminded of the review", || async {
        events(&world, "grant.review-overdue").await.is_ok_and(|told| told.len() == 1)
    })
    .await?;
    let told = events(&world, "grant.review-overdue").await?;
    let recipients = told[0]["recipients"].as_array().cloned().unwrap_or_default();
    assert!(recipients.contains(&id_of(&admin).await?));
    assert!(!recipients.contains(&id_of(&member).await?));

    let body = json!({"reason": "It is down once more, other cause"});
    let refused = ask(&member, body.clone()).await?.expect(403);
    assert_eq!(refused.code(), "review-overdue");
    let more = json!({"reason": "Not done yet, takes some time", "duration_seconds": 60});
    let refused = act(&member, &second["grant"], "extend", more).await?.expect(403);
    assert_eq!(refused.code(), "review-overdue");
    assert_eq!(show(&member, &second["grant"]).await?["state"], "active");
    // What is live is not touched, and what is urgent has its way.
    set_policy(&world, json!({"bypass": {"allowed": true, "max_duration_seconds": 300}})).await?;
    let bypass = json!({"reason": "It is down, and nobody is awake", "bypass_approval": true});
    ask(&member, bypass).await?.expect(201);
    assert_eq!(ask(&member, body.clone()).await?.expect(403).code(), "review-overdue");
    // Nobody else is blocked by it.
    world.sign_in(Role::Manager).await?.request_grant("Something else is broken here", 60).await?;
    act(&admin, grant, "review", found("justified")).await?.expect(200);
    ask(&member, body).await?.expect(201);

    world.end().await;
    Ok(())
}
