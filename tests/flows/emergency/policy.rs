//! Every field of the policy does what it says.

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::World;

use super::{act, ask, colleague, set_policy};

const PATH: &str = "/v1/emergency/policy";

#[tokio::test]
async fn the_default_is_break_glass_and_put_takes_what_get_gives() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = world.sign_in(Role::Admin).await?;
    let expected = json!({
        "role": "admin", "applies_to": "user", "requesters": ["member", "manager", "admin"],
        "max_duration_seconds": 14_400, "default_duration_seconds": 3_600,
        "approvals_needed": 0, "approvers": ["manager", "admin"], "require_fresh_mfa": true,
        "min_reason_length": 15, "ticket_pattern": null, "max_active_per_user": 3,
        "cooldown_seconds": 0, "pending_timeout_seconds": 3_600, "review_within_hours": 24,
        "extensions_allowed": 3, "bypass": {"allowed": false, "max_duration_seconds": 1_800},
    });
    for role in [Role::Member, Role::Manager, Role::Admin] {
        let policy = world.sign_in(role).await?.get(PATH).await?.expect(200).body;
        assert_eq!(policy, expected, "{role}");
    }
    let put = async |body: Value| admin.send(Method::PUT, PATH, Some(body)).await;
    assert_eq!(put(expected.clone()).await?.expect(200).body["policy"], expected);

    let mut changed = expected.clone();
    changed["approvals_needed"] = 2.into();
    changed["ticket_pattern"] = "INC-[0-9]+".into();
    assert_eq!(put(changed.clone()).await?.expect(200).body["policy"], changed);
    assert_eq!(admin.get(PATH).await?.expect(200).body, changed);
    // On record, once, with before and after.
    let record = admin.get("/v1/audit?action=emergency-policy.changed").await?.expect(200).body;
    assert_eq!(record["entries"].as_array().map(Vec::len), Some(1));
    let detail = &record["entries"][0]["detail"];
    assert_eq!((&detail["before"], &detail["after"]), (&expected, &changed));

    // What cannot be is refused, and changes nothing.
    let with = |field: &str, value: Value| {
        let mut policy = changed.clone();
        policy[field] = value;
        policy
    };
    let mut without = changed.clone();
    without.as_object_mut().map(|fields| fields.remove("role"));
    for wrong in [
        with("unknown", json!(1)),
        with("bypass", json!({"allowed": true, "max_duration_seconds": 60, "always": true})),
        with("role", json!("root")),
        with("approvals_needed", json!(-1)),
        with("approvals_needed", json!(21)),
        with("approvers", json!([])),
        with("approvers", json!(["member"])),
        with("default_duration_seconds", json!(14_401)),
        with("ticket_pattern", json!("(")),
        without,
        json!({}),
        json!(null),
    ] {
        assert_eq!(put(wrong.clone()).await?.expect(400).code(), "bad-request", "{wrong}");
    }
    assert_eq!(admin.get(PATH).await?.expect(200).body, changed);
    for role in [Role::Member, Role::Manager] {
        let client = world.sign_in(role).await?;
        let refused = client.send(Method::PUT, PATH, Some(expected.clone())).await?.expect(403);
        assert_eq!(refused.code(), "forbidden");
    }
    assert_eq!(admin.get(PATH).await?.expect(200).body, changed);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_may_ask_for_what_and_how_it_has_to_be_said() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = set_policy(
        &world,
        json!({
            "role": "manager", "requesters": ["member"], "min_reason_length": 30,
            "ticket_pattern": "INC-[0-9]{1,6}", "max_duration_seconds": 120,
            "default_duration_seconds": 60, "max_active_per_user": 1,
        }),
    )
    .await?;
    let member = world.sign_in(Role::Member).await?;
    let refused = ask(&admin, json!({})).await?.expect(403);
    assert_eq!(refused.code(), "not-a-requester");
    let reason = "The queue of payments has stopped moving since three";
    for (body, status, code) in [
        (json!({"reason": "Not thirty letters long", "ticket": "INC-1"}), 422, "reason-too-weak"),
        (json!({"reason": reason}), 422, "ticket-invalid"),
        (json!({"reason": reason, "ticket": "INC-1 and more"}), 422, "ticket-invalid"),
        (json!({"reason": reason, "ticket": "INC-1", "role": "admin"}), 400, "bad-request"),
        (
            json!({"reason": reason, "ticket": "INC-1", "duration_seconds": 121}),
            422,
            "duration-too-long",
        ),
    ] {
        let refused = ask(&member, body.clone()).await?.expect(status);
        assert_eq!(refused.code(), code, "{body}");
    }
    let granted = ask(&member, json!({"reason": reason, "ticket": "INC-4711"})).await?.expect(201);
    let grant = &granted.body["grant"];
    assert_eq!((&grant["role"], &grant["ticket"]), (&json!("manager"), &json!("INC-4711")));
    assert_eq!(grant["duration_seconds"], 60);
    assert_eq!(member.authorize().await?.1, "manager");
    let another = "Some other thing has broken here, and badly so";
    let refused = ask(&member, json!({"reason": another, "ticket": "INC-1"})).await?.expect(409);
    assert_eq!(refused.code(), "too-many-active");

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_cool_down_is_waited_for_after_the_end() -> anyhow::Result<()> {
    let world = World::start().await?;
    set_policy(&world, json!({"cooldown_seconds": 600})).await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    // Beside one that lives there is nothing to cool down from.
    let second = member.request_grant("The database has to be repaired too", 600).await?;
    act(&member, &granted["grant"], "revoke", json!({})).await?.expect(200);
    let body = json!({"reason": "One more thing has broken over there"});
    let refused = ask(&member, body.clone()).await?.expect(429);
    assert_eq!(refused.code(), "cooling-down");
    let seconds: u64 = refused.header("retry-after").parse()?;
    assert!((1..=600).contains(&seconds), "{seconds}");
    // It is the person's, and nobody else's.
    let other = colleague(&world, "olive", Role::Member).await?;
    ask(&other, body.clone()).await?.expect(201);
    // As if the time had passed.
    sqlx::query(
        "UPDATE emergency_grants SET ended_at = ended_at - interval '601 seconds' WHERE id = $1::uuid",
    )
    .bind(granted["grant"]["id"].as_str())
    .execute(&world.pool)
    .await?;
    ask(&member, body).await?.expect(201);
    assert!(second["grant"]["id"].is_string());

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn of_parallel_requests_no_more_are_granted_than_the_policy_allows() -> anyhow::Result<()> {
    let world = World::start().await?;
    set_policy(&world, json!({"max_active_per_user": 2})).await?;
    let member = world.sign_in(Role::Member).await?;
    let asked = (0..5).map(|n| {
        let client = member.clone();
        async move {
            ask(&client, json!({"reason": format!("Incident number {n} of this night")})).await
        }
    });
    let answers = futures_util::future::try_join_all(asked).await?;
    let granted = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(granted, 2);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.code(), "too-many-active");
    }

    world.end().await;
    Ok(())
}
