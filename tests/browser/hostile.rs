//! Text that somebody typed to do harm is shown as text, and breaks no layout.

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::json;
use shared::role::Role;
use tests::{Answer, Client};

use crate::{account::HOME, browser::Browser, screen::SIZES, stage::play};

/// Each sets `window.__pwned`, would be evaluated by a template, or disturbs what is around it.
fn payloads() -> Vec<String> {
    let long: String = "unbreakable0123456789".chars().cycle().take(2_000).collect();
    [
        "<script>window.__pwned = 1</script>",
        "<img src=x onerror=\"window.__pwned = 1\">",
        "\"><svg onload=window.__pwned=1>",
        "' autofocus onfocus='window.__pwned=1",
        "</textarea></title><script>window.__pwned = 1</script>",
        "no sum {{7*7}} ${7*7} <%= 7*7 %> #{7*7}",
        "javascript:window.__pwned=1//",
        "&lt;b&gt; is not bold &amp;amp;",
        "\u{202e}this is turned round\u{2066}",
        &long,
    ]
    .map(ToOwned::to_owned)
    .into()
}

/// Text with an override of its direction that shares a line with other text.
const TURNED_ROUND: &str = "
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; node = walker.nextNode();) {
        if (!/[\\u202a-\\u202e\\u2066-\\u2069]/.test(node.data) || !node.parentElement.checkVisibility()) continue;
        let around = node.parentElement;
        const alone = e => {
            const style = getComputedStyle(e);
            return style.unicodeBidi.includes('isolate') || style.unicodeBidi === 'plaintext' || style.display !== 'inline';
        };
        while (!alone(around)) around = around.parentElement;
        if (around.innerText.trim() !== node.data.trim()) found.push(around.outerHTML.slice(0, 200));
    }
    return found;
";

/// Nothing ran, nothing is wider than a phone, and nothing else is turned round.
async fn harmless(browser: &Browser) -> anyhow::Result<()> {
    for (width, height) in SIZES.into_iter().rev() {
        browser.resize(width, height).await?;
        browser.fits().await?;
    }
    let place = browser.place().await?;
    let pwned = browser.run("return window.__pwned ?? null", vec![]).await?;
    ensure!(pwned.is_null(), "{place}: what was typed has run");
    let turned = browser.run(TURNED_ROUND, vec![]).await?;
    ensure!(turned == json!([]), "{place}: turned round: {turned:#}");
    browser.quiet().await
}

/// Waits until a text can be read to the letter.
async fn reads(browser: &Browser, text: &str) -> anyhow::Result<()> {
    let seen: String = text.split_whitespace().collect();
    let read = async || {
        let text: String = browser.page().text().await?.split_whitespace().collect();
        Ok(text.contains(&seen))
    };
    browser.until(&format!("{text:?} to the letter"), read).await
}

/// What a list shows of a reason.
fn beginning(reason: &str) -> &str {
    reason.get(..100).unwrap_or(reason)
}

async fn without_bounds(admin: &Client) -> anyhow::Result<()> {
    let mut policy = admin.get("/v1/emergency/policy").await?.expect(200).body;
    policy["max_active_per_user"] = json!(20);
    policy["min_reason_length"] = json!(1);
    admin.send(Method::PUT, "/v1/emergency/policy", Some(policy)).await?.expect(200);
    Ok(())
}

#[tokio::test]
async fn reasons_are_shown_as_text() -> anyhow::Result<()> {
    play(async |stage| {
        let admin = stage.world.sign_in(Role::Admin).await?;
        without_bounds(&admin).await?;
        let member = stage.world.sign_in(Role::Member).await?;
        let mut grants = Vec::new();
        for reason in payloads() {
            let grant = member.request_grant(&reason, 3600).await?;
            grants.push((grant["grant"]["id"].as_str().context("an id")?.to_owned(), reason));
        }
        let browser = stage.signed_in(Role::Admin).await?;
        for (_, reason) in &grants {
            reads(&browser, beginning(reason)).await?;
        }
        harmless(&browser).await?;
        for (id, reason) in &grants {
            for path in
                [format!("/emergency/grants/{id}"), format!("/emergency/grants/{id}/revoke")]
            {
                stage.open(&browser, 1, &path).await?;
                reads(&browser, reason).await.with_context(|| path.clone())?;
                harmless(&browser).await?;
            }
            // In the history as well.
            let revoked = json!({"comment": reason});
            let revoked = if reason.len() > 500 { json!({}) } else { revoked };
            admin.post(&format!("/v1/emergency/grants/{id}/revoke"), revoked).await?.expect(200);
        }
        for path in [HOME, "/dashboard?view=audit-logs"] {
            stage.open(&browser, 1, path).await?;
            for (_, reason) in &grants {
                // The record is long.
                if path == HOME {
                    reads(&browser, beginning(reason)).await?;
                }
            }
            harmless(&browser).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_was_typed_comes_back_as_text() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Member).await?;
        stage.open(&browser, 1, "/emergency/request").await?;
        for payload in payloads() {
            browser.page().fill("Ticket…", &payload.chars().take(200).collect::<String>()).await?;
            browser.page().fill("Reason", "").await?;
            browser.run("document.querySelector('main form').noValidate = true", vec![]).await?;
            browser.page().click(crate::find::Kind::Button, "Request access").await?;
            browser.page().problem("Reason").await?;
            harmless(&browser).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn names_and_browsers_are_shown_as_text() -> anyhow::Result<()> {
    play(async |stage| {
        let admin = stage.world.sign_in(Role::Admin).await?;
        let me = admin.get("/v1/me").await?.expect(200).body["user"]["id"].clone();
        let (email, password) = stage.user(Role::Admin)?;
        let browser = stage.signed_in(Role::Admin).await?;
        for payload in payloads() {
            let name: String = payload.chars().filter(|c| !c.is_control()).take(100).collect();
            let path = format!("/v1/users/{}", me.as_str().context("an id")?);
            let body = json!({"name": name});
            admin.send(Method::PATCH, &path, Some(body)).await?.expect(200);
            // A session that says so of its browser.
            let login = json!({
                "tenant": "acme", "email": email, "password": password, "transport": "token",
            });
            let mut login = stage.world.anonymous().request(Method::POST, "/v1/login").json(&login);
            if let Ok(agent) = reqwest::header::HeaderValue::from_bytes(payload.as_bytes()) {
                login = login.header("user-agent", agent);
            }
            Answer::to(login).await?.expect(200);
            for path in [HOME, "/dashboard?view=rbac-security", "/dashboard?view=users"] {
                stage.open(&browser, 1, path).await?;
                reads(&browser, &name).await.with_context(|| path.to_owned())?;
                harmless(&browser).await?;
            }
        }
        // What the record says of it all.
        stage.open(&browser, 1, "/dashboard?view=audit-logs").await?;
        harmless(&browser).await
    })
    .await
}
