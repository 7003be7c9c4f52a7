//! One trace from the click to the last edge, and what is in none.

mod collector;

use std::{collections::HashMap, fs};

use anyhow::Context as _;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use shared::{role::Role, token::Token};
use tests::{Answer, Options, World, eventually};

use self::collector::{Collector, Span, hex};

/// Of the W3C's own example.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLICK: &str = "00f067aa0ba902b7";

const REASON: &str = "Checkout is down since the release of noon";
const COMMENT: &str = "The release of noon is rolled back";
const WRONG_PASSWORD: &str = "correct-horse-battery-staple";

/// What a revocation is made of: the service, the span, its kind, and the span above it.
const EXPECTED: [(&str, &str, SpanKind, &str); 13] = [
    ("gateway", "POST /v1/emergency/grants/{id}/revoke", SpanKind::Server, ""),
    ("gateway", "request grant.revoke", SpanKind::Client, "POST /v1/emergency/grants/{id}/revoke"),
    ("grant-worker", "process grant.revoke", SpanKind::Server, "request grant.revoke"),
    ("grant-worker", "grant.revoke", SpanKind::Internal, "process grant.revoke"),
    ("grant-worker", "transaction.begin", SpanKind::Internal, "grant.revoke"),
    ("grant-worker", "caller.lock", SpanKind::Internal, "grant.revoke"),
    ("grant-worker", "grant.end", SpanKind::Internal, "grant.revoke"),
    ("grant-worker", "audit.append", SpanKind::Internal, "grant.revoke"),
    ("grant-worker", "revocation.commit", SpanKind::Internal, "grant.revoke"),
    ("grant-worker", "request revocation.enforce", SpanKind::Client, "revocation.enforce"),
    (
        "session-worker",
        "process revocation.enforce",
        SpanKind::Server,
        "request revocation.enforce",
    ),
    ("session-worker", "revocation.enforce", SpanKind::Internal, "process revocation.enforce"),
    ("session-worker", "edge.select-live", SpanKind::Internal, "revocation.enforce"),
];

#[tokio::test]
async fn what_is_exported_nowhere_is_in_the_record_and_on_the_way_to_every_edge_all_the_same()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let traced = |method, path: &str| {
        member.request(method, path).header("traceparent", format!("00-{TRACE}-{CLICK}-01"))
    };
    let unknown = traced(Method::DELETE, &format!("/v1/sessions/{}", uuid::Uuid::nil()));
    let refused = Answer::to(unknown).await?.expect(404).body;
    assert_eq!(refused["trace_id"], TRACE);
    Answer::to(traced(Method::POST, "/v1/sessions/revoke-others")).await?.expect(200);
    let (recorded, sent): (String, String) = sqlx::query_as(
        "SELECT trace_id, traceparent FROM audit, revocations
         WHERE action = 'session.revoked-all' AND cause = 'sessions-revoked'",
    )
    .fetch_one(&world.pool)
    .await?;
    assert_eq!(recorded, TRACE);
    assert!(sent.starts_with(&format!("00-{TRACE}-")), "{sent}");
    assert!(!sent.contains(CLICK), "it names the span that ended the sessions: {sent}");

    let own = member.delete("/v1/sessions/x").await?;
    let id = own.body["trace_id"].as_str().context("one of its own")?;
    assert!(id.len() == 32 && id != "0".repeat(32) && id != TRACE, "{id}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_revocation_is_one_trace_to_every_edge_and_holds_no_secret() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let otlp_endpoint = Some(collector.endpoint.clone());
    let world = World::start_with(Options { otlp_endpoint, ..Options::default() }).await?;
    let login = json!({"tenant": "acme", "email": "member@acme.test", "password": WRONG_PASSWORD});
    world.anonymous().post("/v1/login", login).await?.expect(401);
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant(REASON, 600).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    let id = granted["grant"]["id"].as_str().context("a grant has an id")?;
    let revoke = member.request(Method::POST, &format!("/v1/emergency/grants/{id}/revoke"));
    let revoke = revoke.header("traceparent", format!("00-{TRACE}-{CLICK}-01"));
    let ended = Answer::to(revoke.json(&json!({"comment": COMMENT}))).await?.expect(200).body;
    assert_eq!(ended["receipt"]["enforced"], true);
    let manager = world.sign_in(Role::Manager).await?;
    let record = manager.get("/v1/audit?action=grant.revoked").await?.expect(200).body;
    assert_eq!(record["entries"][0]["trace_id"], TRACE, "the record leads to the trace");

    let token: Token = member.token.as_deref().context("a token")?.parse()?;
    let user = world.stack.credentials().and_then(|all| all.of(Role::Member)).context("a user")?;
    let secrets = secrets(&token, user.password.expose_secret());
    for log in fs::read_dir(world.stack.data().join("log"))? {
        let log = log?.path();
        assert_holds_none(&secrets, &fs::read(&log)?, &log.display().to_string());
    }
    // Services send what is left when they stop.
    world.end().await;

    let all = collector.spans()?;
    let trace: Vec<_> = all.iter().filter(|span| span.trace_id == TRACE).collect();
    assert_is_whole(&trace);
    for (service, name, kind, above) in EXPECTED {
        let [span] = named(&trace, service, name)[..] else {
            panic!("one {name} of {service} in {}", tree(&trace));
        };
        assert_eq!(span.kind, kind, "{name}");
        let parent = trace.iter().find(|other| other.id == span.parent);
        assert_eq!(
            parent.map_or("", |parent| &parent.name),
            above,
            "above {name} in {}",
            tree(&trace)
        );
    }
    let applied = named(&trace, "gateway", "revocation.apply");
    let mut edges: Vec<_> = applied.iter().filter_map(|span| span.attribute("edge.id")).collect();
    edges.sort();
    assert_eq!(edges, ["gateway-1", "gateway-2", "gateway-3"], "{}", tree(&trace));
    let [change] = named(&trace, "grant-worker", "grant.revoke")[..] else { unreachable!() };
    for span in applied {
        assert_eq!(span.parent, change.id, "each edge goes on from the change");
    }

    assert!(named(&all.iter().collect::<Vec<_>>(), "session-worker", "session.sign-in").len() >= 2);
    for body in collector.received() {
        assert_holds_none(&secrets, &body, "what was exported");
    }
    Ok(())
}

#[tokio::test]
async fn the_span_of_a_stream_ends_when_the_stream_begins() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let otlp_endpoint = Some(collector.endpoint.clone());
    let world = World::start_with(Options { otlp_endpoint, ..Options::default() }).await?;
    let member = world.sign_in(Role::Member).await?;
    let mut events = member.events().await?;
    let exported =
        || collector.spans().is_ok_and(|all| all.iter().any(|span| span.name == "GET /v1/events"));
    eventually("its span is exported while it is open", async || exported()).await?;
    // What is looked up for it later is in traces of its own.
    member.request_grant(REASON, 600).await?;
    events.until(|event| event.tells("grant.activated")).await?;
    world.end().await;
    let all = collector.spans()?;
    let all: Vec<_> = all.iter().collect();
    let [stream] = named(&all, "gateway", "GET /v1/events")[..] else { panic!("one of it") };
    let loads = named(&all, "gateway", "session.load");
    let below = loads.iter().filter(|span| span.trace_id == stream.trace_id).count();
    assert_eq!((loads.len(), below), (2, 1), "{}", tree(&loads));
    Ok(())
}

/// Fails unless every span's parent is in the trace, except the one that the click came with.
fn assert_is_whole(trace: &[&Span]) {
    let by_id: HashMap<_, _> = trace.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(by_id.len(), trace.len(), "each span comes once");
    let roots: Vec<_> =
        trace.iter().filter(|span| !by_id.contains_key(span.parent.as_str())).collect();
    let [root] = roots[..] else { panic!("one root in {}", tree(trace)) };
    assert_eq!(root.parent, CLICK, "{root:?}");
}

fn named<'a>(trace: &[&'a Span], service: &str, name: &str) -> Vec<&'a Span> {
    let is_it = |span: &&&Span| span.service == service && span.name == name;
    trace.iter().filter(is_it).copied().collect()
}

/// For people: a line for each span.
fn tree(trace: &[&Span]) -> String {
    let line = |span: &&Span| {
        let Span { service, name, kind, id, parent, .. } = span;
        format!("\n{parent:16} > {id} {service}: {name} ({kind:?})")
    };
    trace.iter().map(line).collect()
}

/// What must be found nowhere, with what to call it.
fn secrets(token: &Token, password: &str) -> Vec<(&'static str, Vec<u8>)> {
    let hash = token.hash();
    let random = token.expose().trim_start_matches("bgs_");
    vec![
        ("the token", random.as_bytes().to_vec()),
        ("the token's hash, in base64", String::from(hash).into_bytes()),
        ("the token's hash, in hex", hex(&hash.0).into_bytes()),
        ("the token's hash", hash.0.to_vec()),
        ("the password", password.as_bytes().to_vec()),
        ("a wrong password", WRONG_PASSWORD.as_bytes().to_vec()),
        ("the reason", REASON.as_bytes().to_vec()),
        ("the comment", COMMENT.as_bytes().to_vec()),
    ]
}

#[track_caller]
fn assert_holds_none(secrets: &[(&str, Vec<u8>)], content: &[u8], place: &str) {
    for (what, secret) in secrets {
        let found = content.windows(secret.len()).any(|window| window == secret);
        assert!(!found, "{what} is in {place}");
    }
}
