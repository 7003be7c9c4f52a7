//! The audit record as a chain: what is written can be verified from an export, whatever is changed in
//! the database afterwards is found.

mod agreement;
mod export;
mod heads;
mod tampering;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::Value;
use session_worker::keys;
use shared::{
    chain::{PublicKey, Report, SignedHead, verify},
    role::Role,
};
use sqlx::Row as _;
use tests::{Client, Options, World, eventually};

/// One edge, and heads as often as they can be.
async fn world() -> anyhow::Result<World> {
    World::start_with(options()).await
}

fn options() -> Options {
    Options {
        edges: Some(1),
        flags: vec![("session-worker", vec!["--audit-head-seconds".into(), "1".into()])],
        ..Options::default()
    }
}

/// The key that a world's record is signed with.
fn key(world: &World) -> anyhow::Result<PublicKey> {
    Ok(keys::audit::read(&world.stack.data().join("keys").join("audit-key"))?.public())
}

/// The lines of an export.
async fn export(client: &Client) -> anyhow::Result<Vec<String>> {
    let response = client.request(Method::GET, "/v1/audit/export").send().await?;
    anyhow::ensure!(response.status() == 200, "{}", response.status());
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    Ok(response.text().await?.lines().map(ToOwned::to_owned).collect())
}

/// What the verifier says of an export that is made now.
async fn verified(world: &World, reader: &Client, seen: &[SignedHead]) -> anyhow::Result<Report> {
    Ok(verify(export(reader).await?, &[key(world)?], seen))
}

/// Refused attempts, each of them an entry.
async fn attempts(member: &Client, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        member.get("/v1/audit").await?.expect(403);
    }
    Ok(())
}

/// The last signed head, once it covers an entry, or is that entry.
async fn head_of(reader: &Client, seq: u64) -> anyhow::Result<SignedHead> {
    let head = async || -> anyhow::Result<Value> { Ok(reader.get("/v1/audit/head").await?.body) };
    eventually("a head covers the entry", || async {
        head().await.is_ok_and(|head| head["seq"].as_u64().is_some_and(|signed| signed + 1 >= seq))
    })
    .await?;
    Ok(serde_json::from_value(head().await?)?)
}

/// The number of a tenant's last entry.
async fn last(world: &World, slug: &str) -> anyhow::Result<u64> {
    let row = sqlx::query("SELECT audit_seq FROM tenants WHERE slug = $1").bind(slug);
    Ok(row.fetch_one(&world.pool).await?.try_get::<i64, _>(0)?.try_into()?)
}

/// Changes the database by hand, while nobody else writes the record; each statement has to change
/// something.
async fn by_hand(world: &World, statements: &[&'static str]) -> anyhow::Result<()> {
    let mut tx = world.pool.begin().await?;
    sqlx::query("SELECT FROM tenants ORDER BY id FOR UPDATE").execute(&mut *tx).await?;
    for statement in statements {
        let changed = sqlx::query(*statement).execute(&mut *tx).await?.rows_affected();
        anyhow::ensure!(changed > 0, "nothing was changed by {statement}");
    }
    tx.commit().await?;
    Ok(())
}

/// Somebody who reads the record of `acme`, and somebody whose attempts go into it.
async fn people(world: &World) -> anyhow::Result<(Client, Client)> {
    Ok((world.sign_in(Role::Manager).await?, world.sign_in(Role::Member).await?))
}

fn field<'a>(line: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    line[name].as_str().with_context(|| format!("no {name} in {line}"))
}
