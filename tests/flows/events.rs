//! The stream of events: who hears what, at every edge, within a second; and when it ends.

use std::time::Duration;

use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    role::Role,
};
use tests::{Client, Event, World};

/// What pages may show is this old at most. The rest is for a busy machine.
const SOON: Duration = Duration::from_secs(3);

/// A member at one edge, and the manager's client.
async fn people(world: &World) -> anyhow::Result<(Client, Client)> {
    Ok((world.sign_in(Role::Member).await?, world.sign_in(Role::Manager).await?))
}

async fn user_id(client: &Client) -> anyhow::Result<Value> {
    Ok(client.get("/v1/me").await?.expect(200).body["user"]["id"].clone())
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|event| event.data["kind"].as_str()).collect()
}

#[tokio::test]
async fn what_happens_at_one_edge_is_heard_at_all_within_a_second() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (member, manager) = people(&world).await?;
    let mut streams = Vec::new();
    for edge in world.at_all_edges(&manager) {
        streams.push(edge.events().await?);
    }
    let headers = streams[0].headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(headers.get("content-encoding").is_none());

    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    let done_at = SystemClock.monotonic();
    for stream in &mut streams {
        let events = stream.until(|event| event.tells("grant.activated")).await?;
        let Some(event) = events.last() else { panic!("it came") };
        assert_eq!(event.data["grant"], granted["grant"]["id"]);
        assert_eq!(event.data["user"], user_id(&member).await?);
        assert!(event.id.is_some());
        // Ids alone: the reason is for who asks for it.
        let mut members: Vec<_> =
            event.data.as_object().into_iter().flatten().map(|m| m.0).collect();
        members.sort();
        assert_eq!(members, ["at", "grant", "kind", "user"]);
    }
    let took = SystemClock.monotonic().since(done_at);
    assert!(took < SOON, "{took:?}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn whoever_is_signed_out_is_told_why_at_every_edge() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (member, manager) = people(&world).await?;
    let other = world.sign_in(Role::Member).await?;
    let mut streams = Vec::new();
    for edge in world.at_all_edges(&member) {
        streams.push(edge.events().await?);
    }
    let mut others = other.at(&world.edge(2)).events().await?;
    let me = member.get("/v1/me").await?.expect(200).body;
    let session = me["session"]["id"].as_str().unwrap_or_default();
    other.delete(&format!("/v1/sessions/{session}")).await?.expect(200);
    let revoked_at = SystemClock.monotonic();
    for stream in &mut streams {
        assert_eq!(stream.signed_out().await?, "session-revoked");
    }
    let took = SystemClock.monotonic().since(revoked_at);
    assert!(took < SOON, "{took:?}");
    // Their other page hears that the list of sessions is another one, and goes on.
    let heard = others.until(|event| event.tells("session.ended")).await?;
    assert_eq!(kinds(&heard), ["session.ended"]);
    assert_eq!(heard[0].data["user"], me["user"]["id"]);
    other.post("/v1/logout", json!({})).await?.expect(204);
    assert_eq!(others.signed_out().await?, "signed-out");
    assert!(manager.events().await.is_ok());
    world.end().await;
    Ok(())
}
