//! What the checks find, tried on pages that have it; and pages that have nothing of it.

use std::fs;

use axum::{Router, response::Html, routing::get};
use fantoccini::key::Key;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{
    browser::{Browser, Scripts},
    find::Kind,
    stage::play,
    tools::target,
};

const GOOD: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Good</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<main><h1>Good</h1>
<form><label for="a">Reason</label><textarea id="a" name="a"></textarea>
<p><button>Send</button> <a href="/other">Elsewhere</a></p></form>
<ul><li>first <button aria-label="Revoke the first" type="button">Revoke</button></li>
<li>second <button aria-label="Revoke the second" type="button">Revoke</button></li></ul>
<button hidden>Secret</button><p id="later" role="status">It is early</p>
<section aria-labelledby="h"><h2 id="h">Below</h2><button type="button" onclick="d.showModal()">Send</button></section>
<dialog id="d" aria-label="Really?"><input aria-label="Answer"><button onclick="d.close()">Close</button></dialog></main>
<script>setTimeout(() => later.textContent = 'It is later', 200)</script>"#;

/// A picture without words, text too pale, a field without a name.
const INACCESSIBLE: &str = r#"<!doctype html><html lang="en"><title>Bad</title><link rel="icon" href="data:,">
<main><h1>Bad</h1><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">
<p style="color:#ccc;background:#fff">pale</p><input></main>"#;

const WIDE: &str = r#"<!doctype html><html lang="en"><title>Wide</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><div style="width:500px">wide</div>"#;

const LOUD: &str = r#"<!doctype html><html lang="en"><title>Loud</title><link rel="icon" href="data:,">
<script>throw new Error('oh no')</script>"#;

const MANY_FILES: &str = r#"<!doctype html><html lang="en"><title>Many</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/a.css"><link rel="stylesheet" href="/b.css"><script src="/c.js"></script>"#;

async fn serve() -> anyhow::Result<String> {
    let policy = [("content-security-policy", "script-src 'none'")];
    let pages = Router::new()
        .route("/good", get(Html(GOOD)))
        .route("/inaccessible", get(Html(INACCESSIBLE)))
        .route("/wide", get(Html(WIDE)))
        .route("/loud", get(Html(LOUD)))
        .route("/forbidden", get((policy, Html(LOUD))))
        .route("/many", get(Html(MANY_FILES)))
        .route("/heavy", get(Html("x".repeat(151_000))))
        .fallback(get(""));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, pages).into_future());
    Ok(url)
}

#[tokio::test]
async fn the_checks_find_what_they_are_for_and_nothing_else() -> anyhow::Result<()> {
    let url = serve().await?;
    let browser = Browser::start(Scripts::Run, &[]).await?;
    let open = async |page: &str| browser.go(&format!("{url}/{page}")).await;

    open("good").await?;
    assert_eq!(browser.light().await?.1, 1);
    browser.good("selftest").await?;

    open("inaccessible").await?;
    let found = browser.accessible().await.expect_err("it is bad").to_string();
    for rule in ["image-alt", "color-contrast", "label"] {
        assert!(found.contains(rule), "{found}");
    }
    open("wide").await?;
    browser.fits().await?;
    browser.resize(360, 740).await?;
    let found = browser.fits().await.expect_err("it is wide").to_string();
    assert!(found.contains("width:500px"), "{found}");
    open("many").await?;
    let found = browser.light().await.expect_err("these are many").to_string();
    assert!(found.contains("needs 4 files"), "{found}");
    open("heavy").await?;
    assert!(browser.light().await.expect_err("it is heavy").to_string().contains("151000 bytes"));
    browser.quiet().await?;
    for (page, said) in [("loud", "oh no"), ("forbidden", "Content Security Policy")] {
        browser.console.lock().clear();
        open(page).await?;
        let found = browser.quiet().await.expect_err("it is loud").to_string();
        assert!(found.contains(said), "{found}");
    }
    browser.close().await
}

#[tokio::test]
async fn things_are_found_by_what_they_are_called_where_they_are() -> anyhow::Result<()> {
    let url = serve().await?;
    let browser = Browser::start(Scripts::Run, &[]).await?;
    browser.go(&format!("{url}/good")).await?;
    let page = browser.page();
    page.hides("It is early").await?;
    page.find(Kind::Status, "").await?;
    page.shows("It is later").await?;
    page.find(Kind::Heading, "Below").await?;
    page.find(Kind::Region, "Below").await?;
    let buttons = ["Send", "Revoke the first", "Revoke the second", "Send"];
    assert_eq!(page.names(Kind::Button).await?, buttons);
    assert_eq!(page.all(Kind::Button, "Revoke…").await?.len(), 2);
    assert_eq!(page.row("second").names(Kind::Button).await?, ["Revoke the second"]);
    assert_eq!(page.all(Kind::Link, "Send").await?.len(), 0);
    page.section("Below").click(Kind::Button, "Send").await?;
    page.find(Kind::Dialog, "Really?").await?;
    // What is behind a dialog can be seen, but not be used.
    assert_eq!(page.all(Kind::Button, "Send").await?.len(), 0);
    browser.type_text("yes").await?;
    assert_eq!(
        page.dialog().find(Kind::Field, "Answer").await?.prop("value").await?,
        Some("yes".into())
    );
    browser.press(&[Key::Escape]).await?;
    assert_eq!(browser.focus().await?, "button Send");
    page.fill("Reason", "a reason").await?;
    browser.press(&[Key::Tab]).await?;
    assert_eq!(browser.focus().await?, "button Send");
    browser.press(&[Key::Enter]).await?;
    browser.arrives("/good?a=a+reason").await?;
    page.click(Kind::Link, "Elsewhere").await?;
    browser.arrives("/other").await?;
    browser.close().await
}

#[tokio::test]
async fn scripts_can_be_off() -> anyhow::Result<()> {
    let url = serve().await?;
    let browser = Browser::start(Scripts::AreOff, &[]).await?;
    browser.go(&format!("{url}/loud")).await?;
    browser.quiet().await?;
    browser.go(&format!("{url}/good")).await?;
    browser.page().find(Kind::Button, "Revoke the first").await?;
    assert!(!browser.page().text().await?.contains("later"));
    browser.close().await
}

#[tokio::test]
async fn a_test_that_panics_fails_and_leaves_a_picture_but_no_browser() -> anyhow::Result<()> {
    let picture =
        "failed/selftest-a_test_that_panics_fails_and_leaves_a_picture_but_no_browser-0.png";
    let picture = target("screenshots")?.join(picture);
    // That of an earlier run.
    let _ = fs::remove_file(&picture);
    let found = Mutex::new(None);
    let played = play(async |stage| {
        let browser = stage.browser().await?;
        stage.open(&browser, 2, "/healthz").await?;
        browser.page().shows("alive").await?;
        *found.lock() = Some(browser);
        panic!("this panic is part of the test");
    })
    .await;
    assert!(played.is_err());
    let browser = found.into_inner().expect("it came that far");
    assert!(browser.place().await.is_err(), "it has ended");
    assert!(picture.exists());
    Ok(())
}
