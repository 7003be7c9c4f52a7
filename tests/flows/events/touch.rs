//! An edge that is out of touch says so; once it is back, pages fetch everything.

use shared::role::Role;
use tests::{
    Options, World, eventually,
    faults::{
        proxy::{Condition, Proxy},
        rig::{Rig, Server},
    },
};

use super::REASON;

#[tokio::test]
async fn an_edge_without_a_lease_is_stale_until_it_has_one() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let mut streams = Vec::new();
    for edge in world.at_all_edges(&member) {
        streams.push(edge.events().await?);
    }
    world.stack.stop_service("session-worker").await;
    for stream in &mut streams {
        let came = stream.until(|event| event.name == "stale").await?;
        assert_eq!(came.len(), 1, "{came:?}");
    }
    let refused = member.get("/v1/events").await?.expect(503);
    assert_eq!(refused.code(), "edge-fenced");
    world.stack.start_service("session-worker").await;
    for stream in &mut streams {
        let came = stream.until(|event| event.name == "live").await?;
        assert_eq!(came.last().map(|live| live.data["server_time"].is_string()), Some(true));
    }
    member.request_grant(REASON, 600).await?;
    for stream in &mut streams {
        stream.until(|event| event.tells("grant.activated")).await?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_missed_something_without_the_bus_is_told_to_fetch_everything() -> anyhow::Result<()> {
    let rig = Rig::start(Options::default()).await?;
    let world = &rig.world;
    let member = world.sign_in(Role::Member).await?;
    let mut stream = member.at(&world.edge(2)).events().await?;
    // For moments in which nobody may have looked.
    for times in 1..=5 {
        rig.link("gateway-2", Server::Nats, |link| link.set(Condition::cut()));
        let log = world.stack.data().join("log/gateway-2.log");
        eventually("the gateway has lost the bus", || async {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            log.matches("disconnected").count() >= times
        })
        .await?;
        rig.link("gateway-2", Server::Nats, Proxy::heal);
        stream.until(|event| event.name == "live").await?;
    }

    rig.link("gateway-2", Server::Nats, |link| link.set(Condition::cut()));
    stream.until(|event| event.name == "stale").await?;
    member.request_grant(REASON, 600).await?;
    rig.link("gateway-2", Server::Nats, Proxy::heal);
    let came = stream.until(|event| event.name == "live").await?;
    assert!(came.iter().all(|event| event.name != "change"), "{came:?}");
    let elevated = member.at(&world.edge(2)).authorize().await?;
    assert_eq!(elevated, (200, "admin".to_owned()), "what is fetched now is new");
    rig.end().await;
    Ok(())
}
