//! Without a mouse: Tab, Enter and Escape, with a focus that can be seen.

use anyhow::{bail, ensure};
use fantoccini::key::Key;
use shared::role::Role;

use crate::{
    account::{HOME, TENANT},
    browser::Browser,
    stage::play,
};

/// More stops than a page has.
const STOPS: usize = 60;

/// Whether what has the focus looks like it, and is within the window.
const FOCUS_IS_SEEN: &str = "
    const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
    const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
        || style.boxShadow !== 'none';
    return ring && box.bottom > 0 && box.top < innerHeight && box.width > 0;
";

/// Presses Tab until something has the focus. Every stop on the way has to be seen.
async fn tab_to(browser: &Browser, wanted: &str) -> anyhow::Result<()> {
    let mut stops = Vec::new();
    for _ in 0..STOPS {
        browser.press(&[Key::Tab]).await?;
        let focus = browser.focus().await?;
        // The window itself is a stop between the last and the first.
        if !focus.starts_with("generic") && !focus.starts_with("RootWebArea") && focus != "none " {
            let seen = browser.run(FOCUS_IS_SEEN, vec![]).await?;
            ensure!(seen == true, "the focus on {focus:?} cannot be seen");
        }
        let found = match wanted.strip_suffix('…') {
            Some(beginning) => focus.starts_with(beginning),
            None => focus == wanted,
        };
        stops.push(focus);
        if found {
            return Ok(());
        }
    }
    bail!("{wanted:?} is not among {stops:#?}")
}

async fn is_in_dialog(browser: &Browser) -> anyhow::Result<bool> {
    let inside = "return !!document.activeElement.closest('dialog[open]')";
    Ok(browser.run(inside, vec![]).await? == true)
}

#[tokio::test]
async fn the_request_and_its_end_by_keyboard_alone() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.browser().await?;
        let (email, password) = stage.user(Role::Member)?;
        stage.open(&browser, 1, "/login").await?;
        for (field, text) in [("Organisation", TENANT), ("Email", &email), ("Password", &password)]
        {
            if browser.focus().await? != format!("textbox {field}") {
                tab_to(&browser, &format!("textbox {field}")).await?;
            }
            browser.type_text(text).await?;
        }
        browser.press(&[Key::Enter]).await?;
        browser.arrives(HOME).await?;

        // The first stop leads past the navigation.
        browser.press(&[Key::Tab]).await?;
        assert_eq!(browser.focus().await?, "link Skip to the content");
        browser.press(&[Key::Enter]).await?;
        tab_to(&browser, "link Request emergency access").await?;
        browser.press(&[Key::Enter]).await?;
        browser.until("the focus in the dialog", async || is_in_dialog(&browser).await).await?;
        // Escape closes it, and the focus is where it was.
        browser.press(&[Key::Escape]).await?;
        let back = async || Ok(browser.focus().await? == "link Request emergency access");
        browser.until("the focus back at the link", back).await?;

        browser.press(&[Key::Enter]).await?;
        browser.until("the focus in the dialog", async || is_in_dialog(&browser).await).await?;
        if browser.focus().await? != "textbox Reason" {
            tab_to(&browser, "textbox Reason").await?;
        }
        browser.type_text("Nobody here has a mouse").await?;
        tab_to(&browser, "button Request access").await?;
        browser.press(&[Key::Enter]).await?;
        browser.page().shows("Emergency access was granted.").await?;

        tab_to(&browser, "link Revoke…").await?;
        browser.press(&[Key::Enter]).await?;
        browser.until("the focus in the dialog", async || is_in_dialog(&browser).await).await?;
        tab_to(&browser, "button Revoke access").await?;
        browser.press(&[Key::Enter]).await?;
        browser.page().shows("Emergency access was revoked.").await
    })
    .await
}
