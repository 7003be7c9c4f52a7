//! Telling others what happened: from the outbox over the stream to webhooks, Slack and mail.

mod delivery;
mod endpoints;
mod mail;
mod outages;
mod receiver;
mod shown;
mod targets;

use anyhow::Context as _;
use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    id::EventId,
    role::Role,
};
use tests::{Client, Options, World};

use self::receiver::Receiver;

const ENDPOINTS: &str = "/v1/notifications/endpoints";

/// Flags of grant-worker with which webhooks may go to this machine.
fn loopback() -> Vec<String> {
    ["--allow-private-targets", "127.0.0.0/8"].map(str::to_owned).to_vec()
}

/// A world of one edge whose webhooks may go to this machine.
async fn world_with(more: &[&str]) -> anyhow::Result<World> {
    let more = more.iter().map(|flag| (*flag).to_owned());
    let flags = loopback().into_iter().chain(more).collect();
    let flags = vec![("grant-worker", flags)];
    World::start_with(Options { flags, edges: Some(1), ..Options::default() }).await
}

/// A new endpoint: what the answer says of it, and the secret.
async fn create(admin: &Client, body: Value) -> anyhow::Result<(Value, String)> {
    let created = admin.post(ENDPOINTS, body).await?.expect(201).body;
    let secret = created["secret"].as_str().unwrap_or_default().to_owned();
    Ok((created["endpoint"].clone(), secret))
}

/// A webhook for some kinds of events.
async fn webhook(
    admin: &Client,
    receiver: &Receiver,
    events: &[&str],
) -> anyhow::Result<(Value, String)> {
    create(admin, json!({"kind": "webhook", "url": receiver.url, "events": events})).await
}

fn path(endpoint: &Value) -> String {
    format!("{ENDPOINTS}/{}", endpoint["id"].as_str().unwrap_or_default())
}

/// Somebody is created, which is an event; the answer is the action's own.
async fn create_user(admin: &Client, email: &str) -> anyhow::Result<Value> {
    let new = json!({"email": email, "name": "New", "role": "member"});
    Ok(admin.post("/v1/users", new).await?.expect(201).body["user"].clone())
}

/// Writes an event into the outbox as a service does.
async fn emit(world: &World, tenant: &str, kind: &str, payload: Value) -> anyhow::Result<EventId> {
    let id = EventId::new(SystemClock.wall());
    let insert = "INSERT INTO outbox (id, tenant_id, kind, payload)
                  SELECT $1, id, $2, $3 FROM tenants WHERE slug = $4";
    let inserted = sqlx::query(insert).bind(id.0).bind(kind).bind(payload).bind(tenant);
    let inserted = inserted.execute(&world.pool).await?.rows_affected();
    anyhow::ensure!(inserted == 1, "there is no tenant {tenant}");
    Ok(id)
}

/// The id of the user of a role.
async fn user_id(world: &World, role: Role) -> anyhow::Result<String> {
    let id = sqlx::query_scalar(
        "SELECT u.id::text FROM users u JOIN tenants t ON t.id = u.tenant_id WHERE t.slug = 'acme' AND u.role = $1",
    );
    id.bind(role.as_str()).fetch_one(&world.pool).await.context("a user")
}

/// What was sent to an endpoint.
async fn deliveries(admin: &Client, endpoint: &Value) -> anyhow::Result<Vec<Value>> {
    let answer = admin.get(&format!("{}/deliveries", path(endpoint))).await?.expect(200).body;
    Ok(answer["deliveries"].as_array().cloned().unwrap_or_default())
}
