//! Emergency access beyond the plain grant: policy, approvals, bypass, extensions, fresh codes, reviews,
//! and what time does.

mod approvals;
mod bypass;
mod codes;
mod evidence;
mod extensions;
mod policy;
mod property;
mod reviews;
mod scope;
mod time;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Client, World};

const REASON: &str = "Checkout is down since the release";

/// Changes some fields of the policy of `acme`, as its admin would.
pub(crate) async fn set_policy(world: &World, changes: Value) -> anyhow::Result<Client> {
    let admin = world.sign_in(Role::Admin).await?;
    let mut policy = admin.get("/v1/emergency/policy").await?.expect(200).body;
    let changes = changes.as_object().context("an object")?;
    for (field, value) in changes {
        policy[field] = value.clone();
    }
    let set = admin.send(Method::PUT, "/v1/emergency/policy", Some(policy.clone())).await?;
    assert_eq!(set.expect(200).body["policy"], policy);
    Ok(admin)
}

/// Asks for emergency access.
async fn ask(client: &Client, body: Value) -> anyhow::Result<Answer> {
    client.post("/v1/emergency/grants", body).await
}

/// Does something about a grant.
async fn act(client: &Client, grant: &Value, verb: &str, body: Value) -> anyhow::Result<Answer> {
    let id = grant["id"].as_str().context("a grant")?;
    client.post(&format!("/v1/emergency/grants/{id}/{verb}"), body).await
}

/// A grant as it is shown now.
async fn show(client: &Client, grant: &Value) -> anyhow::Result<Value> {
    let id = grant["id"].as_str().context("a grant")?;
    let shown = client.get(&format!("/v1/emergency/grants/{id}")).await?.expect(200);
    Ok(shown.body["grant"].clone())
}

/// A user of `acme` besides those that were seeded, signed in.
async fn colleague(world: &World, name: &str, role: Role) -> anyhow::Result<Client> {
    let admin = world.sign_in(Role::Admin).await?;
    let email = format!("{name}@acme.test");
    let created = admin
        .post("/v1/users", json!({"email": email, "name": name, "role": role}))
        .await?
        .expect(201);
    let password = format!("{name} has a password");
    let token = &created.body["set_password_token"];
    let set = json!({"token": token, "new_password": password});
    world.anonymous().post("/v1/password-reset", set).await?.expect(200);
    world.anonymous().sign_in("acme", &email, &password).await
}

/// The id of whoever is signed in.
async fn id_of(client: &Client) -> anyhow::Result<Value> {
    Ok(client.get("/v1/me").await?.expect(200).body["user"]["id"].clone())
}

/// Events of a kind, the earliest first.
async fn events(world: &World, kind: &str) -> anyhow::Result<Vec<Value>> {
    let events = sqlx::query_scalar("SELECT payload FROM outbox WHERE kind = $1 ORDER BY id")
        .bind(kind)
        .fetch_all(&world.pool)
        .await?;
    Ok(events)
}
