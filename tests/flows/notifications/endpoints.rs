//! Managing endpoints: who may, what is shown, and what no tenant sees of another.

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Client, World, eventually};

use super::{
    ENDPOINTS, Receiver, create, create_user, deliveries, emit, path, webhook, world_with,
};

async fn change(admin: &Client, endpoint: &Value, to: Value) -> anyhow::Result<tests::Answer> {
    admin.send(Method::PATCH, &path(endpoint), Some(to)).await
}

#[tokio::test]
async fn no_tenant_sees_or_hears_another() -> anyhow::Result<()> {
    let world = world_with(&[]).await?;
    world.create_tenant("other").await?;
    let admin = world.sign_in(Role::Admin).await?;
    let stranger = world.sign_in_to("other", Role::Admin).await?;
    let (ours, theirs) = (Receiver::start().await?, Receiver::start().await?);
    let (endpoint, _) = webhook(&admin, &ours, &[]).await?;
    webhook(&stranger, &theirs, &[]).await?;
    create_user(&admin, "ada@acme.test").await?;
    ours.wait_for(1).await?;
    create_user(&stranger, "eve@other.test").await?;
    let heard = theirs.wait_for(1).await?;
    assert_eq!(heard[0].body["data"]["user"]["email"], "eve@other.test");
    eventually("ours is delivered", || async {
        deliveries(&admin, &endpoint).await.is_ok_and(|all| all[0]["state"] == "delivered")
    })
    .await?;
    let delivery = deliveries(&admin, &endpoint).await?[0]["id"].clone();
    let delivery = delivery.as_str().expect("an id");
    let place = path(&endpoint);
    stranger.get(&place).await?.expect(404);
    change(&stranger, &endpoint, json!({"enabled": false})).await?.expect(404);
    stranger.delete(&place).await?.expect(404);
    for call in ["test", "rotate-secret", &format!("deliveries/{delivery}/retry")] {
        stranger.post(&format!("{place}/{call}"), json!({})).await?.expect(404);
    }
    stranger.get(&format!("{place}/deliveries")).await?.expect(404);
    // One's own endpoint with another's delivery is as wrong.
    let listed = stranger.get(ENDPOINTS).await?.expect(200).body;
    let own = path(&listed["endpoints"][0]);
    stranger.post(&format!("{own}/deliveries/{delivery}/retry"), json!({})).await?.expect(404);
    assert_eq!(listed["endpoints"].as_array().map(Vec::len), Some(1));
    let shown = admin.get(&place).await?.expect(200).body;
    assert_eq!(shown["endpoint"]["enabled"], true);
    assert_eq!((ours.received().len(), theirs.received().len()), (1, 1));
    // A manager may nothing of it, and trying is on record.
    let manager = world.sign_in(Role::Manager).await?;
    manager.get(ENDPOINTS).await?.expect(403);
    change(&manager, &endpoint, json!({"enabled": false})).await?.expect(403);
    let refused = manager.get("/v1/audit?action=access.refused").await?.expect(200).body;
    assert_eq!(refused["entries"][0]["detail"]["request"], "notification.change");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn secrets_are_shown_once_and_are_nowhere_else() -> anyhow::Result<()> {
    let world = world_with(&[]).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let receiver = Receiver::start().await?;
    let (hook, first) = webhook(&admin, &receiver, &[]).await?;
    let slack_url = format!("{}/T0/B0/hidden-part-of-slack", receiver.url);
    let (slack, none) = create(&admin, json!({"kind": "slack", "url": slack_url})).await?;
    assert_eq!(none, "", "Slack is not signed");
    let rotated =
        admin.post(&format!("{}/rotate-secret", path(&hook)), json!({})).await?.expect(200);
    let second = rotated.body["secret"].as_str().expect("a secret").to_owned();
    assert_ne!(first, second);
    change(&admin, &slack, json!({"description": "The channel", "url": slack_url}))
        .await?
        .expect(200);
    create_user(&admin, "ada@acme.test").await?;
    let heard = receiver.wait_for(2).await?;
    let hooked = heard.iter().find(|one| one.kind() == "user.created").expect("the webhook");
    // Both sign for a day.
    assert!(hooked.is_signed_with(&first) && hooked.is_signed_with(&second));
    let mut seen = String::new();
    for place in [ENDPOINTS.to_owned(), path(&hook), path(&slack), "/v1/audit?limit=200".to_owned()]
    {
        seen += &admin.get(&place).await?.expect(200).body.to_string();
    }
    for endpoint in [&hook, &slack] {
        seen += &json!(deliveries(&admin, endpoint).await?).to_string();
        seen += &admin
            .post(&format!("{}/test", path(endpoint)), json!({}))
            .await?
            .expect(200)
            .body
            .to_string();
    }
    assert!(seen.contains("notification-endpoint.secret-rotated"), "{seen}");
    assert!(seen.contains("notification-endpoint.changed"), "{seen}");
    for table in ["notification_endpoints", "notification_deliveries", "outbox", "audit"] {
        let rows = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t");
        seen += &sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(rows))
            .fetch_one(&world.pool)
            .await?;
    }
    for log in std::fs::read_dir(world.stack.data().join("log"))? {
        seen += &std::fs::read_to_string(log?.path())?;
    }
    for secret in [first.as_str(), second.as_str(), "hidden-part-of-slack"] {
        let bare = secret.trim_start_matches("whsec_");
        assert!(!seen.contains(bare), "{bare} is shown");
    }
    assert!(seen.contains("…"), "what is shown of Slack's URL");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_endpoint_is_tested_disabled_and_deleted() -> anyhow::Result<()> {
    let world = world_with(&[]).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let receiver = Receiver::start().await?;
    let (endpoint, secret) = webhook(&admin, &receiver, &["grant.*"]).await?;
    let test = format!("{}/test", path(&endpoint));
    receiver.answer_with(&[503, 302]);
    let failed = admin.post(&test, json!({})).await?.expect(200).body;
    assert_eq!((&failed["delivered"], &failed["status"]), (&json!(false), &json!(503)));
    let failed = admin.post(&test, json!({})).await?.expect(200).body;
    assert_eq!(failed["error"], "it answered 302; redirects are not followed");
    let passed = admin.post(&test, json!({})).await?.expect(200).body;
    assert_eq!((&passed["delivered"], &passed["status"]), (&json!(true), &json!(204)));
    let heard = receiver.received();
    assert_eq!(heard.len(), 3);
    assert!(
        heard.iter().all(|one| one.kind() == "notification.test" && one.is_signed_with(&secret))
    );
    assert_eq!(heard[2].body["data"]["by"]["email"], "admin@acme.test");
    assert_eq!(deliveries(&admin, &endpoint).await?.len(), 0, "tests are not kept");

    // What waits is set aside, nothing more comes, and it can be sent again later.
    receiver.answer_with(&[500]);
    emit(&world, "acme", "grant.expired", json!({})).await?;
    receiver.wait_for(4).await?;
    change(&admin, &endpoint, json!({"enabled": false})).await?.expect(200);
    let set_aside = &deliveries(&admin, &endpoint).await?[0];
    assert_eq!(set_aside["state"], "set-aside");
    let shown = admin.get(&path(&endpoint)).await?.expect(200).body;
    assert_eq!(
        (&shown["endpoint"]["set_aside"], &shown["endpoint"]["pending"]),
        (&json!(1), &json!(0))
    );
    let retry = format!(
        "{}/deliveries/{}/retry",
        path(&endpoint),
        set_aside["id"].as_str().expect("an id")
    );
    admin.post(&retry, json!({})).await?.expect(409);
    change(&admin, &endpoint, json!({"enabled": true})).await?.expect(200);
    let again = admin.post(&retry, json!({})).await?.expect(200).body;
    assert_eq!(again["delivery"]["state"], "pending");
    let heard = receiver.wait_for(5).await?;
    assert_eq!(heard[3].id(), heard[4].id());
    eventually("it counts as delivered", || async {
        deliveries(&admin, &endpoint).await.is_ok_and(|all| all[0]["state"] == "delivered")
    })
    .await?;
    let filtered =
        admin.get(&format!("{}/deliveries?state=set-aside", path(&endpoint))).await?.expect(200);
    assert_eq!(filtered.body["deliveries"], json!([]));

    admin.delete(&path(&endpoint)).await?.expect(204);
    admin.get(&path(&endpoint)).await?.expect(404);
    let actions: Vec<String> = sqlx::query_scalar(
        "SELECT action FROM audit WHERE action LIKE 'notification-endpoint.%' ORDER BY seq",
    )
    .fetch_all(&world.pool)
    .await?;
    assert_eq!(
        actions.iter().map(|action| action.rsplit('.').next().expect("a word")).collect::<Vec<_>>(),
        ["created", "tested", "tested", "tested", "changed", "changed", "retried", "deleted"]
    );
    let changed: Value = sqlx::query_scalar(
        "SELECT detail FROM audit WHERE action = 'notification-endpoint.changed' ORDER BY seq LIMIT 1",
    )
    .fetch_one(&world.pool)
    .await?;
    assert_eq!(changed, json!({"enabled": {"before": true, "after": false}}));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled() -> anyhow::Result<()> {
    let world = world_with(&[]).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let (receiver, other) = (Receiver::start().await?, Receiver::start().await?);
    let (endpoint, _) = webhook(&admin, &receiver, &["user.*"]).await?;
    webhook(&admin, &other, &["notification-endpoint.*"]).await?;
    receiver.answer_with(&[410]);
    create_user(&admin, "ada@acme.test").await?;
    let told = other.wait_for(1).await?;
    assert_eq!(told[0].kind(), "notification-endpoint.disabled");
    assert_eq!(told[0].body["data"]["endpoint"], endpoint["id"]);
    let shown = admin.get(&path(&endpoint)).await?.expect(200).body;
    assert_eq!(shown["endpoint"]["enabled"], false);
    assert_eq!(shown["endpoint"]["disabled_because"], "it answered 410 Gone");
    assert_eq!(deliveries(&admin, &endpoint).await?[0]["state"], "set-aside");
    let audit =
        admin.get("/v1/audit?action=notification-endpoint.disabled").await?.expect(200).body;
    assert_eq!(audit["entries"][0]["actor"], "grant-worker");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn endpoints_are_checked_and_bounded() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = world.sign_in(Role::Admin).await?;
    let good = "https://8.8.8.8/hook";
    for (body, word) in [
        (json!({"kind": "webhook"}), "`url` is missing"),
        (json!({"kind": "webhook", "url": good, "addresses": ["a@x.test"]}), "for mail alone"),
        (json!({"kind": "webhook", "url": good, "events": ["Grant.*"]}), "`events`"),
        (json!({"kind": "webhook", "url": good, "events": ["*"]}), "`events`"),
        (json!({"kind": "webhook", "url": good, "events": vec!["a"; 51]}), "`events`"),
        (json!({"kind": "webhook", "url": good, "description": "a\nb"}), "`description`"),
        (json!({"kind": "webhook", "url": good, "description": "x".repeat(201)}), "`description`"),
        (json!({"kind": "webhook", "url": good, "secret": "mine"}), "unknown field"),
        (json!({"kind": "pager", "url": good}), "unknown variant"),
        (json!({"kind": "mail", "url": good}), "`addresses`"),
    ] {
        let refused = admin.post(ENDPOINTS, body.clone()).await?.expect(400);
        let detail = refused.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(word), "{body}: {detail}");
    }
    let mail = json!({"kind": "mail", "addresses": ["a@x.test"]});
    let refused = admin.post(ENDPOINTS, mail).await?.expect(409);
    assert_eq!(refused.body["detail"], "Mail is not configured here.");
    // At once, so that counting alone would not do.
    let body =
        json!({"kind": "webhook", "url": good, "events": ["grant.*", "grant.*", "user.created"]});
    let made = (0..25).map(|_| admin.post(ENDPOINTS, body.clone()));
    let made = futures_util::future::try_join_all(made).await?;
    let statuses = |status| made.iter().filter(|answer| answer.status == status).count();
    assert_eq!((statuses(201), statuses(409)), (20, 5));
    let listed = admin.get(ENDPOINTS).await?.expect(200).body;
    assert_eq!(listed["endpoints"].as_array().map(Vec::len), Some(20));
    assert_eq!(listed["endpoints"][0]["events"], json!(["grant.*", "user.created"]));
    world.end().await;
    Ok(())
}
