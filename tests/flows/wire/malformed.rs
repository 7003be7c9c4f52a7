//! Messages that do not parse, or parse and mean nothing: dropped or refused, and the service goes on.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::{random, role::Role, token::Token};
use tests::World;

use super::key::{self, Key};

/// What each key may send, and so what each service has to withstand.
const SENT: [(&str, &[&str]); 4] = [
    (
        "gateway-1",
        &[
            "edge.join.gateway-1",
            "edge.renew.gateway-1",
            "edge.leave.gateway-1",
            "edge.ack.gateway-1",
            "revocation.since",
            "revocation.receipt",
            "edge.list",
            "session.sign-in",
            "session.sign-out",
            "session.resolve",
            "session.list",
            "session.revoke",
            "session.revoke-all",
            "session.touch",
            "account.me",
            "audit.list",
            "audit.export",
            "audit.head",
            "grant.request",
            "grant.list",
            "grant.get",
            "grant.revoke",
        ],
    ),
    ("session-worker", &["revocation.broadcast"]),
    ("grant-worker", &["revocation.enforce"]),
    ("expiry-worker", &["grant.expire-all"]),
];

fn garbage() -> Vec<Vec<u8>> {
    let texts = [
        "",
        " ",
        "null",
        "[]",
        "0",
        "\"\"",
        "true",
        "{",
        "{}",
        "{\"caller\":",
        "{\"caller\": 5}",
        "{\"caller\": {\"token\": \"x\", \"origin\": {}}}",
        "{\"edge\": \"gateway-1\"}",
        "{\"edge\": 7, \"incarnation\": -1, \"applied\": \"no\"}",
        "{\"head\": {\"timeline\": -1, \"number\": -1}}",
        "{\"head\": {\"timeline\": 1}}",
        "{\"used\": [[1, 2]]}",
        "{\"used\": {}}",
        "{\"token\": \"\\ud800\"}",
        "{\"entry\": []}",
        "{\"grant_id\": \"not an id\"}",
        "\u{feff}{}",
        "{\"a\": 1e999}",
    ];
    let mut garbage: Vec<_> = texts.map(|text| text.as_bytes().to_vec()).into();
    garbage.push(b"\xff\xfe\x00\x80".to_vec());
    garbage.push((0..8).flat_map(|_| random::bytes::<128>()).collect());
    garbage.push(vec![b'x'; 200 * 1024]);
    garbage.push(vec![b'['; 200 * 1024]);
    garbage.push([b"{\"caller\":".repeat(20_000), b"}".repeat(20_000)].concat());
    garbage
}

#[tokio::test]
async fn garbage_is_dropped_and_the_services_go_on() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let pids = pids(&world);
    let before = everything(&world).await?;
    for (name, paths) in SENT {
        let key = Key::of(&world, name).await?;
        let mut answers = key.client.subscribe(format!("_INBOX.{name}.garbage")).await?;
        for path in paths {
            for body in garbage() {
                let reply = format!("_INBOX.{name}.garbage");
                key.client.publish_with_reply(key.subject(path), reply, body.into()).await?;
            }
            key.client.flush().await?;
        }
        // What comes after the garbage is answered, so the garbage has been read.
        assert_works(&world, &member).await?;
        let answered = tokio::time::timeout(std::time::Duration::from_millis(200), async {
            futures_util::StreamExt::next(&mut answers).await
        });
        let answered = answered.await.ok().flatten();
        assert!(answered.is_none(), "garbage was answered: {answered:?}");
    }
    assert_eq!(self::pids(&world), pids, "a service died of garbage");
    assert_eq!(everything(&world).await?, before);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn messages_that_parse_and_mean_nothing_are_refused() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let manager = world.sign_in(Role::Manager).await?;
    let pids = pids(&world);
    let key = Key::of(&world, "gateway-1").await?;
    let hash = |client: &tests::Client| -> anyhow::Result<String> {
        let token: Token = client.token.as_deref().unwrap_or_default().parse()?;
        Ok(token.hash().into())
    };
    let caller =
        |token: String| json!({"token": token, "origin": {"ip": null, "user_agent": "\u{0}\r\nx"}});
    let (member_hash, manager_hash) = (caller(hash(&member)?), caller(hash(&manager)?));
    let unknown: String = Token::generate().hash().into();
    let nil = uuid::Uuid::nil();
    let far = json!({"timeline": u32::MAX, "number": u64::MAX});
    let before = everything(&world).await?;
    let sign_in = |email: &str, tenant: &str, password: &str| json!({"tenant": tenant, "email": email, "password": password, "token": unknown, "origin": {}});
    let long = "x".repeat(100_000);
    let requests = [
        ("session.sign-in", sign_in("member@acme.test\u{0}", "acme", "x")),
        ("session.sign-in", sign_in("member@acme.test", "acme\u{0}", "x")),
        ("session.sign-in", sign_in("member@acme.test", "acme", &long)),
        ("session.sign-in", sign_in(&long, "acme", "x")),
        ("session.resolve", json!({"token": unknown, "primary": true, "unknown": {}})),
        ("session.revoke", json!({"caller": member_hash, "user_id": nil, "session_id": nil})),
        ("session.revoke-all", json!({"caller": member_hash, "user_id": nil})),
        ("session.list", json!({"caller": caller(unknown.clone()), "user_id": null})),
        ("account.me", json!({"caller": caller(unknown.clone())})),
        ("audit.list", json!({"caller": manager_hash, "limit": 0})),
        ("audit.list", json!({"caller": manager_hash, "limit": u32::MAX})),
        ("audit.list", json!({"caller": manager_hash, "limit": 1, "actor": "a\u{0}b"})),
        ("audit.list", json!({"caller": manager_hash, "limit": 1, "cursor": u64::MAX})),
        (
            "audit.export",
            json!({"caller": manager_hash, "cursor": {"after": u64::MAX, "last": u64::MAX}}),
        ),
        ("audit.export", json!({"caller": manager_hash, "cursor": {"after": 5, "last": 1}})),
        (
            "audit.list",
            json!({"caller": manager_hash, "limit": 1, "after": "0000-01-01T00:00:00Z", "before": "9999-12-31T23:59:59.999999999Z"}),
        ),
        (
            "grant.request",
            json!({"caller": member_hash, "grant_id": nil, "reason": "\u{0}", "duration_seconds": 60}),
        ),
        (
            "grant.request",
            json!({"caller": member_hash, "grant_id": nil, "reason": "The queue is not moving", "duration_seconds": 0}),
        ),
        (
            "grant.request",
            json!({"caller": member_hash, "grant_id": nil, "reason": "The queue is not moving", "duration_seconds": u32::MAX}),
        ),
        (
            "grant.request",
            json!({"caller": member_hash, "grant_id": nil, "reason": "The queue is not moving", "ticket": "\u{0}"}),
        ),
        ("grant.request", json!({"caller": member_hash, "grant_id": nil, "reason": long})),
        ("grant.list", json!({"caller": member_hash, "limit": 0})),
        ("grant.list", json!({"caller": member_hash, "limit": u32::MAX})),
        ("grant.get", json!({"caller": member_hash, "grant_id": nil})),
        ("grant.revoke", json!({"caller": member_hash, "grant_id": nil, "comment": "\u{0}"})),
        ("revocation.since", json!({"after": far, "limit": u32::MAX})),
        ("edge.renew.gateway-1", json!({"edge": "gateway-1", "incarnation": nil, "applied": far})),
        ("edge.leave.gateway-1", json!({"edge": "gateway-1", "incarnation": nil})),
    ];
    let mut wrong = Vec::new();
    for (path, body) in requests {
        let Some(answer) = key.ask(path, serde_json::to_vec(&body)?).await else {
            wrong.push(format!("{path} {:.150}: no answer", body.to_string()));
            continue;
        };
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        if answer["refused"]["code"] == "internal" {
            wrong.push(format!("{path} {:.150}: a fault of ours", body.to_string()));
        }
    }
    // Events: nobody answers.
    let own = key::incarnation(&world, "gateway-1").await?;
    for (path, body) in [
        (
            "session.touch",
            json!({"used": [[nil, "9999-12-31T23:59:59Z"], [nil, "0000-01-01T00:00:00Z"]]}),
        ),
        ("edge.ack.gateway-1", json!({"edge": "gateway-1", "incarnation": nil, "applied": far})),
        (
            "edge.ack.gateway-1",
            json!({"edge": "gateway-1", "incarnation": own, "applied": {"timeline": 0, "number": 0}}),
        ),
        ("edge.ack.gateway-1", json!({"edge": "gateway-2", "incarnation": own, "applied": far})),
    ] {
        key.publish(path, serde_json::to_vec(&body)?).await?;
    }
    assert_works(&world, &member).await?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(self::pids(&world), pids, "a service died");
    assert_eq!(everything(&world).await?, before);
    world.end().await;
    Ok(())
}

/// Each edge decides, each worker answers.
async fn assert_works(world: &World, member: &tests::Client) -> anyhow::Result<()> {
    for edge in 1..=3 {
        let member = member.at(&world.edge(edge));
        assert_eq!(member.authorize().await?, (200, "member".to_owned()), "edge {edge}");
        member.get("/v1/me").await?.expect(200);
        member.get("/v1/emergency/grants").await?.expect(200);
    }
    Ok(())
}

fn pids(world: &World) -> BTreeMap<String, Option<u32>> {
    world.stack.names().map(|name| (name.to_owned(), world.stack.pid(name))).collect()
}

/// All that a message could have changed.
async fn everything(world: &World) -> anyhow::Result<Value> {
    let all = "SELECT jsonb_build_array(
        (SELECT revision FROM revocation_head),
        (SELECT jsonb_agg(to_jsonb(s) - 'last_active_at' ORDER BY id) FROM sessions s),
        (SELECT jsonb_agg(to_jsonb(g) ORDER BY id) FROM emergency_grants g),
        (SELECT jsonb_agg(to_jsonb(u) ORDER BY id) FROM users u),
        (SELECT jsonb_agg(edge_id ORDER BY edge_id) FROM edges),
        (SELECT jsonb_agg(to_jsonb(t) ORDER BY subject_id) FROM timers t))";
    Ok(sqlx::query_scalar(all).fetch_one(&world.pool).await?)
}
