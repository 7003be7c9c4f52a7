//! The stream of events: who hears what, at every edge, within a second; and when it ends.

mod audience;
mod crowd;
mod endings;
mod touch;

use std::time::Duration;

use serde_json::Value;
use shared::{
    clock::{Clock as _, SystemClock},
    role::Role,
};
use tests::{Client, Event, World};

/// What pages may show is this old at most. The rest is for a busy machine.
const SOON: Duration = Duration::from_secs(3);

const REASON: &str = "Checkout is down since the release";

async fn user_id(client: &Client) -> anyhow::Result<Value> {
    Ok(client.get("/v1/me").await?.expect(200).body["user"]["id"].clone())
}

/// The path of what the caller does about a grant.
fn about(grant: &Value, verb: &str) -> String {
    format!("/v1/emergency/grants/{}/{verb}", grant["id"].as_str().unwrap_or_default())
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|event| event.data["kind"].as_str()).collect()
}

#[tokio::test]
async fn what_happens_at_one_edge_is_heard_at_all_within_a_second() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (member, manager) =
        (world.sign_in(Role::Member).await?, world.sign_in(Role::Manager).await?);
    let mut streams = Vec::new();
    for edge in world.at_all_edges(&manager) {
        streams.push(edge.events().await?);
    }
    let headers = streams[0].headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(headers.get("content-encoding").is_none());

    let granted = member.request_grant(REASON, 600).await?;
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
