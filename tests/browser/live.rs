//! Pages that follow what happens, in more circumstances than one page of one browser.

use anyhow::ensure;
use serde_json::json;
use shared::role::Role;

use crate::{account::HOME, find::Kind, stage::play};

/// A browser opens six connections to a server, over HTTP/1.1; each page that follows holds one.
#[tokio::test]
async fn many_tabs_of_one_browser_all_work() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Member).await?;
        let member = stage.world.sign_in(Role::Member).await?;
        for _ in 0..8 {
            let tab = browser.client().new_window(true).await?.handle;
            browser.client().switch_to_window(tab).await?;
            stage.open(&browser, 1, HOME).await?;
            browser.page().find(Kind::Heading, "Emergency Access").await?;
        }
        member.request_grant("The tab in front shows this", 900).await?;
        browser.page().shows("The tab in front shows this").await
    })
    .await
}

/// The server is gone for a while: the page says so, and shows what it missed when it is back.
#[tokio::test]
async fn a_page_says_that_it_is_not_live_and_catches_up_by_itself() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Member).await?;
        let member = stage.world.sign_in(Role::Member).await?;
        let page = browser.page();
        member.request_grant("The page follows what happens", 900).await?;
        page.shows("The page follows what happens").await?;
        stage.world.stack.stop_service("gateway-1").await;
        page.shows("Not live. Reconnecting…").await?;
        let second = member.at(&stage.world.edge(2));
        second.request_grant("This happened meanwhile elsewhere", 900).await?;
        stage.world.stack.start_service("gateway-1").await;
        page.shows("This happened meanwhile elsewhere").await?;
        page.hides("Not live. Reconnecting…").await?;
        // A server that was gone is no fault of the page.
        browser.quiet().await.ok();
        browser.console.lock().clear();
        Ok(())
    })
    .await
}

/// What a page fetches by itself must not be seen while it is under way: nobody has done anything.
#[tokio::test]
async fn what_is_fetched_by_itself_dims_nothing() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Member).await?;
        let member = stage.world.sign_in(Role::Member).await?;
        member.request_grant("Nothing flickers while I do this", 900).await?;
        browser.page().find(Kind::Button, "End now").await?;
        let dimmed = browser.client().execute_async(DIMMED_WHILE_FETCHING, vec![]).await?;
        ensure!(dimmed == json!([]), "while the page fetches by itself, {dimmed} are dimmed");
        Ok(())
    })
    .await
}

/// The buttons that are less than opaque while the page fetches what is live.
const DIMMED_WHILE_FETCHING: &str = "
    const done = arguments[0];
    document.addEventListener('htmx:beforeSend', () => {
        done([...document.querySelectorAll('button, .button')]
            .filter(e => e.checkVisibility() && getComputedStyle(e).opacity !== '1').map(e => e.textContent));
    }, {once: true});
    htmx.trigger('#live', 'refresh');
";
