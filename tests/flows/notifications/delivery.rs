//! From an action to the webhook: once, signed, again where it failed, whatever becomes of others.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use shared::{
    clock::{Clock as _, SystemClock},
    role::Role,
};
use tests::eventually;

use super::{Receiver, create_user, deliveries, emit, path, receiver::Silent, webhook, world_with};

#[tokio::test]
async fn an_event_arrives_once_with_the_right_signature() -> anyhow::Result<()> {
    let world = world_with(&[]).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let receiver = Receiver::start().await?;
    let (endpoint, secret) = webhook(&admin, &receiver, &["user.*"]).await?;
    let user = create_user(&admin, "ada@acme.test").await?;
    let heard = receiver.wait_for(1).await?;
    let event = &heard[0];
    assert!(event.is_signed_with(&secret), "{event:?}");
    assert!(!event.is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "of another secret");
    assert_eq!(event.header("content-type"), "application/json");
    let of = "SELECT id::text FROM outbox WHERE kind = 'user.created'";
    let of: String = sqlx::query_scalar(of).fetch_one(&world.pool).await?;
    assert_eq!(event.id(), of, "the message's id is that of the outbox");
    let sent_at: u64 = event.header("webhook-timestamp").parse()?;
    let now = SystemClock.wall().unix_millis() / 1_000;
    assert!(now.abs_diff(sent_at) < 30, "{sent_at} {now}");
    assert_eq!(event.kind(), "user.created");
    assert_eq!(event.body["data"]["user"]["id"], user["id"]);
    assert_eq!(event.body["data"]["user"]["email"], "ada@acme.test");
    assert_eq!(event.body["data"]["by"]["email"], "admin@acme.test");
    assert_eq!(event.body["data"]["tenant"]["slug"], "acme");
    // Another event shows that nothing came twice, and that nothing else is wanted.
    emit(&world, "acme", "session.new-device", json!({})).await?;
    emit(&world, "acme", "user.changed", json!({"user": user["id"]})).await?;
    let heard = receiver.wait_for(2).await?;
    assert_eq!(
        heard.iter().map(super::receiver::Received::kind).collect::<Vec<_>>(),
        ["user.created", "user.changed"]
    );
    let listed = deliveries(&admin, &endpoint).await?;
    eventually("both count as delivered", || async {
        deliveries(&admin, &endpoint)
            .await
            .is_ok_and(|all| all.len() == 2 && all.iter().all(|one| one["state"] == "delivered"))
    })
    .await?;
    assert_eq!(listed[1]["event_id"], event.id());
    assert_eq!(listed[1]["type"], "user.created");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_failed_is_sent_again_and_says_the_same() -> anyhow::Result<()> {
    let world = world_with(&[]).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let receiver = Receiver::start().await?;
    receiver.answer_with(&[500]);
    let (endpoint, secret) = webhook(&admin, &receiver, &[]).await?;
    create_user(&admin, "ada@acme.test").await?;
    receiver.wait_for(1).await?;
    eventually("the failure shows", || async {
        let endpoint = admin.get(&path(&endpoint)).await;
        endpoint.is_ok_and(|answer| {
            let endpoint = &answer.body["endpoint"];
            endpoint["last_error"] == "it answered 500"
                && endpoint["failing_since"].is_string()
                && endpoint["pending"] == 1
        })
    })
    .await?;
    let failed = &deliveries(&admin, &endpoint).await?[0];
    assert_eq!((&failed["state"], &failed["attempts"]), (&json!("pending"), &json!(1)));
    assert_eq!(
        (&failed["last_status"], &failed["last_error"]),
        (&json!(500), &json!("it answered 500"))
    );
    let heard = receiver.wait_for(2).await?;
    assert_eq!(heard[0].id(), heard[1].id());
    assert_eq!(heard[0].bytes, heard[1].bytes);
    assert!(heard.iter().all(|one| one.is_signed_with(&secret)));
    let times = [0, 1].map(|at| heard[at].header("webhook-timestamp").parse::<i64>());
    let [first, second] = times;
    assert!((4..=9).contains(&(second? - first?)), "after 5 s, or a fifth more or less");
    eventually("it is well again", || async {
        admin.get(&path(&endpoint)).await.is_ok_and(|answer| {
            let endpoint = &answer.body["endpoint"];
            endpoint["failing_since"].is_null() && endpoint["last_delivered_at"].is_string()
        })
    })
    .await?;
    let delivered = &deliveries(&admin, &endpoint).await?[0];
    assert_eq!((&delivered["state"], &delivered["attempts"]), (&json!("delivered"), &json!(2)));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_dead_endpoint_holds_up_nobody() -> anyhow::Result<()> {
    let world = world_with(&[]).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let (receiver, silent) = (Receiver::start().await?, Silent::start().await?);
    for _ in 0..2 {
        let body = json!({"kind": "webhook", "url": silent.url});
        super::create(&admin, body).await?;
    }
    webhook(&admin, &receiver, &[]).await?;
    for number in 0..12 {
        emit(&world, "acme", "user.changed", json!({"number": number})).await?;
    }
    let began = SystemClock.monotonic();
    create_user(&admin, "ada@acme.test").await?;
    let acted = SystemClock.monotonic().since(began);
    receiver.wait_for(13).await?;
    let told = SystemClock.monotonic().since(began);
    assert!(acted < Duration::from_secs(3), "the action took {acted:?}");
    // An attempt at the dead one takes ten.
    assert!(told < Duration::from_secs(8), "the others heard after {told:?}");
    assert!(silent.connections() <= 8, "{} connections to two dead ones", silent.connections());
    assert!(silent.connections() >= 2);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_was_under_way_when_the_worker_was_killed_arrives() -> anyhow::Result<()> {
    let world = world_with(&[]).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let receiver = Receiver::start().await?;
    let (endpoint, _) = webhook(&admin, &receiver, &[]).await?;
    let mut sent = BTreeSet::new();
    for number in 0..120 {
        sent.insert(
            emit(&world, "acme", "user.changed", json!({"number": number})).await?.to_string(),
        );
        if number == 60 {
            receiver.wait_for(1).await?;
            world.stack.kill("grant-worker").await;
        }
    }
    eventually("all were fanned out", || async {
        let count = "SELECT count(*) = 120 FROM notification_deliveries";
        sqlx::query_scalar(count).fetch_one(&world.pool).await.is_ok_and(|all: bool| all)
    })
    .await?;
    let ids = || receiver.received().iter().map(|one| one.id().to_owned()).collect::<BTreeSet<_>>();
    eventually("all arrived", || async { ids().len() >= sent.len() }).await?;
    assert_eq!(ids(), sent, "each of them, and under its own id");
    let count = "SELECT count(*), count(DISTINCT event_id) FROM notification_deliveries WHERE endpoint_id::text = $1";
    let count: (i64, i64) =
        sqlx::query_as(count).bind(endpoint["id"].as_str()).fetch_one(&world.pool).await?;
    assert_eq!(count, (120, 120), "one delivery for each event");
    // A second one would say something else: what comes twice is the same.
    let heard = receiver.received();
    for one in &heard {
        let same = heard.iter().filter(|other| other.id() == one.id());
        assert!(same.into_iter().all(|other| other.bytes == one.bytes));
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn two_workers_send_each_event_once() -> anyhow::Result<()> {
    let flags = ["grant-worker", "grant-worker-2"].map(|name| (name, super::loopback())).to_vec();
    let options =
        tests::Options { flags, edges: Some(1), workers: Some(2), ..tests::Options::default() };
    let world = tests::World::start_with(options).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let receiver = Receiver::start().await?;
    webhook(&admin, &receiver, &[]).await?;
    let mut sent = Vec::new();
    for number in 0..100 {
        sent.push(
            emit(&world, "acme", "user.changed", json!({"number": number})).await?.to_string(),
        );
    }
    receiver.wait_for(100).await?;
    emit(&world, "acme", "user.enabled", json!({})).await?;
    let heard = receiver.wait_for(101).await?;
    let mut ids: Vec<_> = heard
        .iter()
        .filter(|one| one.kind() == "user.changed")
        .map(|one| one.id().to_owned())
        .collect();
    ids.sort();
    sent.sort();
    assert_eq!(ids, sent);
    world.end().await;
    Ok(())
}
