//! Receipts: asked again, had at the commit, shared by many, and those of edges that may allow
//! while they are cut off.

mod one_batch;
mod partition;
mod shared_commit;

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Client, World, assert_whole, eventually, receipt};

use crate::problem::assert_problem;

/// Sends with `Prefer: respond-async`.
async fn at_commit(client: &Client, method: Method, path: &str) -> anyhow::Result<Answer> {
    Answer::to(client.request(method, path).header("Prefer", "respond-async")).await
}

async fn receipt_again(client: &Client, revision: &Value) -> anyhow::Result<Answer> {
    client.get(&format!("/v1/receipts/{revision}")).await
}

#[tokio::test]
async fn a_receipt_can_be_asked_for_again_by_its_tenant() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("other").await?;
    let (member, other) =
        (world.sign_in(Role::Member).await?, world.sign_in_to("other", Role::Admin).await?);
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    let revision = &granted["receipt"]["revision"];

    let again = receipt_again(&member, revision).await?.expect(200).body;
    assert_whole(&receipt(&again)?, 3, 0);
    assert_eq!(&again["receipt"]["revision"], revision);
    assert_problem(&receipt_again(&other, revision).await?, 404, "not-found");
    assert_problem(&receipt_again(&world.anonymous(), revision).await?, 401, "unauthenticated");
    for nothing in ["0", "4711", "-1", "x", "18446744073709551615", "99999999999999999999"] {
        let answer = member.get(&format!("/v1/receipts/{nothing}")).await?;
        assert_problem(&answer, 404, "not-found");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_wanted_at_the_commit_is_answered_before_every_edge_has_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    let paused = world.pause("gateway-3")?;
    let id = granted["grant"]["id"].as_str().expect("an id");
    let path = format!("/v1/emergency/grants/{id}/revoke");
    let ended = at_commit(&member, Method::POST, &path).await?.expect(202);
    assert_eq!(ended.header("preference-applied"), "respond-async");
    assert_eq!(ended.body["grant"]["state"], "revoked");
    let first = receipt(&ended.body)?;
    assert!(!first.enforced);
    assert!(first.edges.waiting.iter().any(|edge| edge.as_str() == "gateway-3"), "{first:?}");

    // Asked again it is as it stands: the edge that stands still is fenced in the end.
    eventually("the receipt is whole", || async {
        let again = receipt_again(&member, &json!(first.revision)).await.expect("an answer");
        again.body["receipt"]["enforced"] == true
    })
    .await?;
    let again = receipt_again(&member, &json!(first.revision)).await?.expect(200).body;
    assert_whole(&receipt(&again)?, 2, 1);
    drop(paused);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn every_call_that_waits_for_edges_can_be_answered_at_the_commit() -> anyhow::Result<()> {
    let world = World::start().await?;
    let [a, b, c] = [
        world.sign_in(Role::Member).await?,
        world.sign_in(Role::Member).await?,
        world.sign_in(Role::Member).await?,
    ];
    let me = b.get("/v1/me").await?.expect(200).body;
    let session = me["session"]["id"].as_str().expect("an id");
    let revoke = format!("/v1/sessions/{session}");
    let revoked = at_commit(&a, Method::DELETE, &revoke).await?.expect(202).body;
    assert_eq!(receipt(&revoked)?.edges.total, 3);
    assert_problem(&at_commit(&a, Method::DELETE, &revoke).await?, 404, "not-found");
    let others = at_commit(&a, Method::POST, "/v1/sessions/revoke-others").await?.expect(202).body;
    assert_eq!(others["revoked"], 1);
    at_commit(&a, Method::POST, "/v1/logout").await?.expect(202);
    eventually("all of them are signed out everywhere", || async {
        for client in [&a, &b, &c] {
            let said = world.authorize(client).await.expect("answers");
            if said.iter().any(|(status, _)| *status != 401) {
                return false;
            }
        }
        true
    })
    .await?;
    // Where nothing waits for edges the preference changes nothing.
    let manager = world.sign_in(Role::Manager).await?;
    at_commit(&manager, Method::GET, "/v1/sessions").await?.expect(200);
    world.end().await;
    Ok(())
}

fn edge<'a>(edges: &'a Value, id: &str) -> Option<&'a Value> {
    edges["edges"].as_array().expect("edges").iter().find(|edge| edge["id"] == id)
}

#[tokio::test]
async fn the_edges_show_how_they_stand() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (member, manager) =
        (world.sign_in(Role::Member).await?, world.sign_in(Role::Manager).await?);
    assert_problem(&member.get("/v1/edges").await?, 403, "forbidden");
    assert_problem(&world.anonymous().get("/v1/edges").await?, 401, "unauthenticated");
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    let revision = &granted["receipt"]["revision"];
    world.authorize(&member).await?;
    let list = || async { manager.get("/v1/edges").await.expect("an answer").expect(200).body };
    let edges = list().await;
    for number in 1..=3 {
        let edge = edge(&edges, &format!("gateway-{number}")).expect("it is listed");
        assert_eq!((&edge["applied"], &edge["head"]), (revision, revision), "{edge}");
        assert_eq!(edge["fenced"], false);
        assert!((1..=3_000).contains(&edge["lease_remaining_ms"].as_u64().expect("a number")));
        assert!(edge["region"].is_string());
    }
    eventually("the edges tell how many sessions they hold", || async {
        let edges = list().await;
        (1..=3).all(|n| edge(&edges, &format!("gateway-{n}")).expect("it")["cached_sessions"] == 1)
    })
    .await?;

    world.stack.stop_service("gateway-2").await;
    let paused = world.pause("gateway-3")?;
    eventually("the one that stands still is fenced", || async {
        edge(&list().await, "gateway-3").expect("it is listed")["fenced"] == true
    })
    .await?;
    let edges = list().await;
    assert_eq!(edge(&edges, "gateway-3").expect("it is listed")["lease_remaining_ms"], 0);
    assert_eq!(edge(&edges, "gateway-2"), None, "it left in order");
    drop(paused);
    eventually("it has joined anew", || async {
        edge(&list().await, "gateway-3").expect("it is listed")["fenced"] == false
    })
    .await?;
    world.end().await;
    Ok(())
}
