//! The page of the edges.

use shared::role::Role;
use tests::{Options, World, eventually};

use super::{safe::assert_for, visitor::Visitor};

const PAGE: &str = "/dashboard?view=edges";

#[tokio::test]
async fn edges_are_shown_to_those_who_may_read_the_record() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("onlookers").await?;
    assert_for(&world, "onlookers", PAGE, &[Role::Manager, Role::Admin]).await?;
    let browser = Visitor::of(&world, "onlookers", Role::Manager).await?;
    let page = browser.get(PAGE).await?.expect(200);
    let page = page.shows("3 of 3 edges decide").shows("data-every=\"1000\"");
    for edge in ["gateway-1", "gateway-2", "gateway-3"] {
        assert!(page.text.contains(&format!("id=\"edge-{edge}\"")), "{}", page.text);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_edge_that_is_cut_off_is_said_to_be() -> anyhow::Result<()> {
    let world = World::start_with(Options { edges: Some(2), ..Options::default() }).await?;
    world.create_tenant("onlookers").await?;
    let browser = Visitor::of(&world, "onlookers", Role::Admin).await?;
    let says = async |text: &str| {
        let page = browser.get(PAGE).await;
        page.is_ok_and(|page| page.text.contains(text))
    };
    eventually("both decide", || says("2 of 2 edges decide")).await?;
    let paused = world.pause("gateway-2")?;
    eventually("its lease runs out", || says("1 of 2 edges decide")).await?;
    eventually("it is fenced", || says("<span class=\"tag warn\">Fenced</span>")).await?;
    drop(paused);
    eventually("it joins anew", || says("2 of 2 edges decide")).await?;
    world.end().await;
    Ok(())
}
