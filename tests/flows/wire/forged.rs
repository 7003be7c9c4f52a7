//! Messages that are well made and false: forged, late, twice, or of a future that never comes.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use shared::{role::Role, subject::Subject, token::Token};
use tests::{Client, Options, World, assert_whole, eventually, observer, receipt};
use uuid::Uuid;

use super::key::{self, Key, head, incarnation};

/// A session to be revoked, and what the revocation answers.
async fn revoke_another_session(world: &World, member: &Client) -> anyhow::Result<Value> {
    let other = world.sign_in(Role::Member).await?;
    assert_eq!(other.authorize().await?.0, 200);
    let answer = member.post("/v1/sessions/revoke-others", json!({})).await?.expect(200);
    assert_eq!(world.authorize(&other).await?[..1], [(401, String::new())]);
    Ok(answer.body)
}

#[tokio::test]
async fn one_edge_cannot_ack_for_another() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let (key, head) = (Key::of(&world, "gateway-1").await?, head(&world).await?);
    let other = incarnation(&world, "gateway-2").await?;
    let paused = world.pause("gateway-2")?;
    let applied = json!({"timeline": head.timeline, "number": head.number + 10});
    for claimed in ["gateway-1", "gateway-2"] {
        let ack = json!({"edge": claimed, "incarnation": other, "applied": applied});
        key.publish("edge.ack.gateway-1", ack.to_string()).await?;
    }
    let other_session = world.sign_in(Role::Member).await?;
    let answer = member.post("/v1/sessions/revoke-others", json!({})).await?.expect(200);
    assert_whole(&receipt(&answer.body)?, 2, 1);
    assert_eq!(other_session.authorize().await?.0, 401);
    drop(paused);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn one_edge_cannot_renew_or_end_anothers_lease() -> anyhow::Result<()> {
    let world = World::start().await?;
    let key = Key::of(&world, "gateway-1").await?;
    let other = incarnation(&world, "gateway-2").await?;
    let head = serde_json::to_value(head(&world).await?)?;
    let renew = json!({"edge": "gateway-1", "incarnation": other, "applied": head});
    let answer =
        key.ask("edge.renew.gateway-1", renew.to_string().into()).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    assert_eq!(answer["ok"]["renewal"], "fenced", "{answer}");
    let leave = json!({"edge": "gateway-1", "incarnation": other});
    key.ask("edge.leave.gateway-1", leave.to_string().into()).await.expect("an answer");
    assert_eq!(incarnation(&world, "gateway-2").await?, other, "it is alive");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_answer_sent_to_a_subject_of_others_does_nothing() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let key = Key::of(&world, "gateway-1").await?;
    let resolve = json!({"token": String::from(Token::generate().hash())}).to_string();
    for reply in [
        "revocation.broadcast",
        "revocation.enforce",
        "edge.ack.gateway-2",
        "edge.renew.gateway-2",
        "session.resolve",
        "session.sign-out",
        "grant.expire-all",
    ] {
        let (to, reply) = (key.subject("session.resolve"), key.subject(reply));
        key.client.publish_with_reply(to, reply, resolve.clone().into()).await?;
    }
    key.client.flush().await?;
    assert_whole(&receipt(&revoke_another_session(&world, &member).await?)?, 3, 0);
    assert_eq!(world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn broadcasts_that_come_again_or_late_change_nothing() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let key = Key::of(&world, "session-worker").await?;
    let gateway = Key::of(&world, "gateway-1").await?;
    let mut heard = gateway.client.subscribe(gateway.subject("revocation.broadcast")).await?;
    gateway.client.flush().await?;
    for _ in 0..3 {
        revoke_another_session(&world, &member).await?;
    }
    let mut broadcasts = Vec::new();
    while broadcasts.len() < 3 {
        let message = heard.next().await.expect("a broadcast").payload;
        let broadcast: Value = serde_json::from_slice(&message)?;
        if !broadcast["entries"].as_array().is_none_or(Vec::is_empty) {
            broadcasts.push(message);
        }
    }
    for message in broadcasts.iter().rev().chain(&broadcasts).cycle().take(60) {
        key.client.publish(key.subject("revocation.broadcast"), message.clone()).await?;
    }
    key.client.flush().await?;
    assert_eq!(world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);
    assert_whole(&receipt(&revoke_another_session(&world, &member).await?)?, 3, 0);
    world.end().await;
    Ok(())
}

/// How often the edges ask for what they missed, in a second.
async fn fetches_in_a_second(world: &World) -> anyhow::Result<usize> {
    let mut since = world.observe(Subject::RevocationSince).await?;
    let mut count = 0;
    let counting = async {
        while since.next().await.is_some() {
            count += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), counting).await;
    Ok(count)
}

#[tokio::test]
async fn a_head_that_never_comes_does_not_keep_edges_busy() -> anyhow::Result<()> {
    let options = Options { bus_users: vec![observer()], ..Options::default() };
    let world = World::start_with(options).await?;
    let member = world.sign_in(Role::Member).await?;
    let (key, head) = (Key::of(&world, "session-worker").await?, head(&world).await?);
    let future = json!({"timeline": head.timeline, "number": head.number + 1_000_000});
    key.publish("revocation.broadcast", json!({"head": future}).to_string()).await?;
    assert_eq!(world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);
    assert_whole(&receipt(&revoke_another_session(&world, &member).await?)?, 3, 0);
    assert_eq!(world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);
    let fetches = fetches_in_a_second(&world).await?;
    assert!(fetches <= 60, "three edges fetched {fetches} times in a second");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_entry_that_was_never_committed_does_not_lock_a_tenant_out() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    revoke_another_session(&world, &member).await?;
    let head = head(&world).await?;
    // grant-worker may ask for the enforcement of what was committed, and of nothing else.
    let key = Key::of(&world, "grant-worker").await?;
    for (timeline, number) in [
        (head.timeline, head.number + 1),
        (head.timeline, head.number + 1_000_000),
        (head.timeline, u64::MAX),
        (head.timeline, 0),
        (head.timeline + 1, head.number),
    ] {
        let enforce = json!({"revision": {"timeline": timeline, "number": number}});
        let answer =
            key.ask("revocation.enforce", enforce.to_string().into()).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        assert_eq!(answer["refused"]["code"], "not-found", "{enforce}: {answer}");
        assert_eq!(world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);
    }
    assert_eq!(key::head(&world).await?, head);
    assert_whole(&receipt(&revoke_another_session(&world, &member).await?)?, 3, 0);
    let granted = member.request_grant("The invoices have the wrong year", 60).await?;
    assert_whole(&receipt(&granted)?, 3, 0);
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_timeline_that_never_comes_is_survived() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let key = Key::of(&world, "session-worker").await?;
    let lives = incarnation(&world, "gateway-1").await?;
    let future = json!({"timeline": u32::MAX, "number": u64::MAX});
    key.publish("revocation.broadcast", json!({"head": future}).to_string()).await?;
    let (world_ref, member_ref) = (&world, &member);
    eventually("all edges decide again", || async move {
        let said = world_ref.authorize(member_ref).await;
        said.is_ok_and(|said| said.iter().all(|(status, _)| *status == 200))
            && world_ref.live_edges().await.is_ok_and(|live| live == 3)
    })
    .await?;
    let newer = "SELECT max(incarnation::text) FROM edges WHERE edge_id = 'gateway-1'";
    let newer: String = sqlx::query_scalar(newer).fetch_one(&world.pool).await?;
    assert_ne!(newer, lives.to_string(), "it joined anew");
    assert_whole(&receipt(&revoke_another_session(&world, &member).await?)?, 3, 0);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_same_request_twice_happens_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("twice").await?;
    let key = Key::of(&world, "gateway-1").await?;
    let token = Token::generate();
    let hash = String::from(token.hash());
    let caller = json!({"token": hash, "origin": {}});
    let twice = async |path: &str, body: Value| -> anyhow::Result<[Value; 2]> {
        let body = body.to_string().into_bytes();
        let (a, b) = tokio::join!(key.ask(path, body.clone()), key.ask(path, body));
        let [a, b] = [a, b].map(|answer| answer.expect("an answer").payload);
        Ok([serde_json::from_slice(&a)?, serde_json::from_slice(&b)?])
    };
    let count = async |what: &'static str| -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(what).fetch_one(&world.pool).await?)
    };
    let sign_in = json!({
        "tenant": "twice", "email": "member@twice.test", "password": "membermember",
        "token": hash, "origin": {},
    });
    let [a, b] = twice("session.sign-in", sign_in).await?;
    assert_eq!(a["ok"]["session"]["id"], b["ok"]["session"]["id"], "{a} {b}");
    assert_eq!(count("SELECT count(*) FROM sessions").await?, 1);
    assert_eq!(count("SELECT count(*) FROM audit WHERE action = 'session.opened'").await?, 1);

    let id = Uuid::from_u128(0x0199_f0a0_0000_7000_8000_0000_0000_0001);
    let request =
        json!({"caller": caller, "grant_id": id, "reason": "The ledger does not balance"});
    let [a, b] = twice("grant.request", request).await?;
    assert_eq!((&a["ok"]["grant"]["id"], &b["ok"]["grant"]["id"]), (&json!(id), &json!(id)));
    assert_eq!(count("SELECT count(*) FROM emergency_grants").await?, 1);
    assert_eq!(count("SELECT count(*) FROM audit WHERE action = 'grant.activated'").await?, 1);

    let [a, b] = twice("grant.revoke", json!({"caller": caller, "grant_id": id})).await?;
    let codes = [&a["refused"]["code"], &b["refused"]["code"]];
    assert_eq!(codes.iter().filter(|code| **code == "grant-ended").count(), 1, "{a} {b}");
    assert_eq!(count("SELECT count(*) FROM audit WHERE action = 'grant.revoked'").await?, 1);

    let timers = Key::of(&world, "expiry-worker").await?;
    for _ in 0..2 {
        let expire = json!({"grant_ids": [id]}).to_string();
        let answer = timers.ask("grant.expire-all", expire.into()).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        assert_eq!(answer["ok"]["ended"], json!([]), "{answer}");
    }
    assert_eq!(count("SELECT count(*) FROM audit WHERE action = 'grant.expired'").await?, 0);

    let [a, b] = twice("session.sign-out", json!({"caller": caller})).await?;
    let codes = [&a["refused"]["code"], &b["refused"]["code"]];
    assert_eq!(codes.iter().filter(|code| **code == "unauthenticated").count(), 1, "{a} {b}");
    assert_eq!(count("SELECT count(*) FROM audit WHERE action = 'session.signed-out'").await?, 1);
    assert_eq!(count("SELECT revision FROM revocation_head").await?, 3);
    world.end().await;
    Ok(())
}
