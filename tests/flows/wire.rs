//! What a key on the bus can do, and what it cannot: hostile messages from those who may send them.

mod forged;
mod key;
mod malformed;

use async_nats::ConnectOptions;
use local::keys;
use tests::{World, scratch};

use self::key::Key;

const GATEWAY: &[&str] = &["gateway-1"];
const SESSION: &[&str] = &["session-worker"];
const GRANT: &[&str] = &["grant-worker"];
const EXPIRY: &[&str] = &["expiry-worker"];

/// Every subject: who may publish to it, and who may subscribe to it.
#[rustfmt::skip]
const SUBJECTS: &[(&str, &[&str], &[&str])] = &[
    ("edge.join.gateway-1",    GATEWAY, SESSION),
    ("edge.renew.gateway-1",   GATEWAY, SESSION),
    ("edge.leave.gateway-1",   GATEWAY, SESSION),
    ("edge.ack.gateway-1",     GATEWAY, SESSION),
    ("edge.join.gateway-2",    &[],     SESSION),
    ("edge.renew.gateway-2",   &[],     SESSION),
    ("edge.leave.gateway-2",   &[],     SESSION),
    ("edge.ack.gateway-2",     &[],     SESSION),
    ("edge.ack.gateway-1.x",   &[],     &[]),
    ("edge.ack",               &[],     &[]),
    ("revocation.broadcast",   SESSION, GATEWAY),
    ("revocation.since",       GATEWAY, SESSION),
    ("revocation.enforce",     GRANT,   SESSION),
    ("revocation.receipt",     GATEWAY, SESSION),
    ("edge.list",              GATEWAY, SESSION),
    ("session.sign-in",        GATEWAY, SESSION),
    ("session.sign-out",       GATEWAY, SESSION),
    ("session.resolve",        GATEWAY, SESSION),
    ("session.list",           GATEWAY, SESSION),
    ("session.revoke",         GATEWAY, SESSION),
    ("session.revoke-all",     GATEWAY, SESSION),
    ("session.touch",          GATEWAY, SESSION),
    ("account.me",             GATEWAY, SESSION),
    ("audit.list",             GATEWAY, SESSION),
    ("audit.export",           GATEWAY, SESSION),
    ("audit.head",             GATEWAY, SESSION),
    ("grant.request",          GATEWAY, GRANT),
    ("grant.list",             GATEWAY, GRANT),
    ("grant.get",              GATEWAY, GRANT),
    ("grant.revoke",           GATEWAY, GRANT),
    ("grant.expire-all",       EXPIRY,  GRANT),
    ("account.issue-reset",    GRANT,   SESSION),
    ("notification.create",    GATEWAY, GRANT),
    ("notification.test",      GATEWAY, GRANT),
    ("event.grant.requested",  GRANT,   GATEWAY),
    ("event.audit.head-signed", GRANT,  GATEWAY),
    ("event",                  &[],     &[]),
    ("made.up",                &[],     &[]),
];

/// Subjects past those of services, which no key may touch, and wildcards that hold more than one.
const OUTSIDE: [&str; 8] = [
    ">",
    "*.v1.>",
    "*.v1.session.*",
    "*.v1.edge.ack.*.*",
    "$SYS.>",
    "_INBOX.>",
    "_INBOX.*.>",
    "other.v1.revocation.broadcast",
];

/// What can be asked of `JetStream`, and who may ask it.
fn jetstream(prefix: &str) -> Vec<(String, &'static [&'static str])> {
    let stream = format!("{prefix}-events");
    let subject = |path: &str, who| (format!("$JS.{path}"), who);
    vec![
        subject(&format!("API.STREAM.INFO.{stream}"), GRANT),
        subject(&format!("API.STREAM.CREATE.{stream}"), GRANT),
        subject(&format!("API.CONSUMER.INFO.{stream}.notifications"), GRANT),
        subject(&format!("API.CONSUMER.MSG.NEXT.{stream}.notifications"), GRANT),
        subject(&format!("ACK.{stream}.notifications.1.2.3.4.5"), GRANT),
        subject(&format!("API.STREAM.DELETE.{stream}"), &[]),
        subject(&format!("API.STREAM.UPDATE.{stream}"), &[]),
        subject(&format!("API.STREAM.PURGE.{stream}"), &[]),
        subject(&format!("API.STREAM.MSG.GET.{stream}"), &[]),
        subject(&format!("API.STREAM.MSG.DELETE.{stream}"), &[]),
        subject(&format!("API.DIRECT.GET.{stream}"), &[]),
        subject(&format!("API.CONSUMER.DELETE.{stream}.notifications"), &[]),
        subject(&format!("API.CONSUMER.CREATE.{stream}.another"), &[]),
        subject(&format!("API.CONSUMER.MSG.NEXT.{stream}.another"), &[]),
        subject("API.STREAM.CREATE.another", &[]),
        subject("API.STREAM.LIST", &[]),
        subject("API.INFO", &[]),
    ]
}

#[tokio::test]
async fn every_key_is_for_its_own_subjects_alone() -> anyhow::Result<()> {
    let world = World::start().await?;
    let services = ["gateway-1", "session-worker", "grant-worker", "expiry-worker"];
    let mut wrong = Vec::new();
    for service in services {
        let mut key = Key::of(&world, service).await?;
        let mut check = |allowed: bool, expected: bool, verb: &str, subject: &str| {
            if allowed != expected {
                wrong.push(format!("{service} may {verb} {subject}: {allowed}"));
            }
        };
        for (path, publishers, subscribers) in SUBJECTS {
            let subject = key.subject(path);
            let may = publishers.contains(&service);
            check(key.may_publish(&subject).await?, may, "publish to", &subject);
            let may = subscribers.contains(&service);
            check(key.may_subscribe(&subject).await?, may, "subscribe to", &subject);
            let queued = key.may_join_queue(&subject, "session-worker").await?;
            check(queued, may, "join the queue of", &subject);
        }
        for subject in OUTSIDE {
            check(key.may_subscribe(subject).await?, false, "subscribe to", subject);
        }
        for other in services.into_iter().chain(["gateway-2"]) {
            let inbox = format!("_INBOX.{other}.x");
            check(key.may_publish(&inbox).await?, false, "publish to", &inbox);
            check(key.may_subscribe(&inbox).await?, other == service, "subscribe to", &inbox);
        }
        for (subject, publishers) in jetstream(world.prefix()) {
            let may = publishers.contains(&service);
            check(key.may_publish(&subject).await?, may, "publish to", &subject);
            check(key.may_subscribe(&subject).await?, false, "subscribe to", &subject);
        }
        let own = format!("_INBOX.{service}x.y");
        check(key.may_subscribe(&own).await?, false, "subscribe to", &own);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_of_a_service() -> anyhow::Result<()> {
    let world = World::start().await?;
    let url = world.stack.nats_url();
    assert!(ConnectOptions::new().connect(url).await.is_err(), "no key");
    let stranger = scratch::dir("bg-key-")?;
    let stranger = keys::load_or_create(stranger.path(), "gateway-1")?;
    let seed = std::fs::read_to_string(&stranger.path)?;
    let with_key = |seed: &str| ConnectOptions::with_nkey(seed.trim().to_owned());
    assert!(with_key(&seed).connect(url).await.is_err(), "another key");
    let password = ConnectOptions::with_user_and_password("gateway-1".into(), String::new());
    assert!(password.connect(url).await.is_err(), "a password");
    assert!(ConnectOptions::with_token(stranger.public).connect(url).await.is_err(), "a token");
    let own = std::fs::read_to_string(world.stack.nkey_path("gateway-1"))?;
    assert!(with_key(&own).connect(url).await.is_ok(), "the right key");
    world.end().await;
    Ok(())
}
