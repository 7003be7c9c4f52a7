//! What edges do while they are cut off, and what receipts say of it.

use reqwest::Method;
use shared::role::Role;
use tests::{Answer, Options, World, assert_whole, eventually, receipt};

use crate::problem::assert_problem;

fn options(flags: &[(&'static str, &str)]) -> Options {
    let flags = flags.iter().map(|(service, flag)| (*service, vec![(*flag).to_owned()])).collect();
    Options { flags, ..Options::default() }
}

#[tokio::test]
async fn an_edge_that_may_allow_while_cut_off_does_so_for_what_it_has_cached() -> anyhow::Result<()>
{
    let world = World::start_with(options(&[
        ("session-worker", "--lease-ms=1000"),
        ("gateway-3", "--on-partition=allow-cached=60"),
    ]))
    .await?;
    let (member, manager) =
        (world.sign_in(Role::Member).await?, world.sign_in(Role::Manager).await?);
    assert_eq!(world.authorize(&member).await?.len(), 3);
    let [first, third] = [world.edge(1), world.edge(3)];

    world.kill_for_good("nats").await;
    eventually("an edge that is cut off denies", || async {
        let answer = member.at(&first).get("/authorize").await.expect("an answer");
        answer.status == 503 && answer.code() == "edge-fenced"
    })
    .await?;
    eventually("the lease of the third is over as well", || async {
        let unknown = manager.at(&third).get("/authorize").await.expect("an answer");
        unknown.status == 503 && unknown.code() == "edge-fenced"
    })
    .await?;
    member.at(&third).get("/authorize").await?.expect(200);
    assert_problem(&third_ready(&world).await?, 503, "unavailable");
    world.end().await;
    Ok(())
}

async fn third_ready(world: &World) -> anyhow::Result<Answer> {
    Answer::to(world.anonymous().at(&world.edge(3)).request(Method::GET, "/readyz")).await
}

#[tokio::test]
async fn an_edge_that_may_still_allow_is_waited_for_and_never_counted() -> anyhow::Result<()> {
    let world = World::start_with(options(&[
        ("session-worker", "--lease-ms=1000"),
        ("gateway-3", "--on-partition=allow-cached=5"),
    ]))
    .await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    assert_whole(&receipt(&granted)?, 3, 0);

    world.kill_for_good("gateway-3").await;
    // The receipt of a lease of 1 s is due after 2.5 s; the edge may allow for 5 s and more.
    let ended = member.revoke_grant(&granted["grant"], "It works again").await?.expect(200).body;
    let first = receipt(&ended)?;
    assert!(!first.enforced);
    assert_eq!((first.edges.total, first.edges.acknowledged, first.edges.fenced), (3, 2, 0));
    assert_eq!(first.edges.waiting, ["gateway-3".parse()?]);
    let again = || async {
        let path = format!("/v1/receipts/{}", first.revision);
        let body = member.get(&path).await.expect("an answer").expect(200).body;
        receipt(&body).expect("a receipt")
    };
    eventually("the edge is fenced", || async { again().await.enforced }).await?;
    assert_whole(&again().await, 2, 1);
    world.end().await;
    Ok(())
}
