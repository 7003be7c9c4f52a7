//! The stream away: actions go on, and events arrive later.

use std::{fs, path::PathBuf};

use local::{process::Launch, stack::Arrange};
use serde_json::json;
use shared::role::Role;
use tests::{Options, World, eventually};

use super::{Receiver, create_user, emit, loopback, webhook, world_with};

async fn unpublished(world: &World) -> anyhow::Result<i64> {
    let count = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
    Ok(sqlx::query_scalar(count).fetch_one(&world.pool).await?)
}

#[tokio::test]
async fn what_happens_while_the_bus_is_down_is_told_afterwards() -> anyhow::Result<()> {
    let world = world_with(&[]).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let receiver = Receiver::start().await?;
    webhook(&admin, &receiver, &[]).await?;
    create_user(&admin, "before@acme.test").await?;
    receiver.wait_for(1).await?;
    world.kill_for_good("nats").await;
    // The operator needs no bus.
    for number in 0..30 {
        emit(&world, "acme", "user.changed", json!({"number": number})).await?;
    }
    assert_eq!(unpublished(&world).await?, 30);
    world.stack.start_service("nats").await;
    let heard = receiver.wait_for(31).await?;
    let mut numbers: Vec<_> =
        heard[1..].iter().filter_map(|one| one.body["data"]["number"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    eventually("all is marked", || async { unpublished(&world).await.is_ok_and(|n| n == 0) })
        .await?;
    world.end().await;
    Ok(())
}

/// The file that a nats-server is started with.
fn config_of(launch: &Launch) -> PathBuf {
    launch.args.last().map(PathBuf::from).expect("the configuration")
}

#[tokio::test]
async fn without_jetstream_all_works_and_events_wait() -> anyhow::Result<()> {
    let arrange = Arrange::new(|name, launch| {
        if name == "nats" {
            let path = config_of(launch);
            let text = fs::read_to_string(&path).expect("a configuration");
            fs::write(path.with_extension("whole"), &text).expect("written");
            let (before, rest) = text.split_once("jetstream {").expect("it has JetStream");
            let (_, after) = rest.split_once("}\n").expect("an end");
            fs::write(path, format!("{before}{after}")).expect("written");
        }
    });
    let options = Options {
        flags: vec![("grant-worker", loopback())],
        edges: Some(1),
        arrange: Some(arrange),
        ..Options::default()
    };
    let world = World::start_with(options).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let receiver = Receiver::start().await?;
    webhook(&admin, &receiver, &[]).await?;
    create_user(&admin, "ada@acme.test").await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Orders are not being paid out", 60).await?;
    assert_eq!(granted["receipt"]["enforced"], true);
    let id = granted["grant"]["id"].as_str().expect("an id");
    member.post(&format!("/v1/emergency/grants/{id}/revoke"), json!({})).await?.expect(200);
    assert!(unpublished(&world).await? >= 1);
    assert_eq!(receiver.received().len(), 0);
    let conf = world.stack.data().join("nats.conf");
    fs::copy(conf.with_extension("whole"), &conf)?;
    world.stack.kill("nats").await;
    eventually("the event arrived", || async {
        receiver.received().iter().any(|one| one.kind() == "user.created")
    })
    .await?;
    world.end().await;
    Ok(())
}
