//! Every page, at a desk and in a pocket, light and dark: accessible, narrow enough, light enough,
//! and with nothing to complain of in the console. Pictures are in `target/screenshots`.

use anyhow::Context as _;
use serde_json::json;
use shared::role::Role;

use crate::{
    browser::Browser,
    find::Kind,
    stage::{Stage, play},
};

/// Opens pages and looks at each of them.
async fn look(stage: &Stage, browser: &Browser, pages: &[(&str, String)]) -> anyhow::Result<()> {
    for (name, path) in pages {
        stage.open(browser, 1, path).await?;
        let (weight, files) = browser.light().await?;
        println!("{name}: {weight} bytes in {files} files");
        browser.good(name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn pages_before_the_sign_in() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.browser().await?;
        let pages = [
            ("login", "/login"),
            ("login-ended", "/login?why=session-revoked"),
            ("password-forgotten", "/password-forgotten"),
            ("password-reset", "/password-reset"),
        ];
        look(stage, &browser, &pages.map(|(name, path)| (name, path.to_owned()))).await?;
        stage.open(&browser, 1, "/login").await?;
        browser.sign_in("acme", "nobody@acme.test", "wrong wrong").await?;
        browser.page().within("[role=alert]").shows("password").await?;
        browser.good("login-refused").await?;
        let member = stage.world.sign_in(Role::Member).await?;
        let (email, password) = stage.user(Role::Member)?;
        member.enroll(&stage.world, &password).await?;
        stage.open(&browser, 1, "/login").await?;
        browser.sign_in("acme", &email, &password).await?;
        browser.page().find(Kind::Field, "Code").await?;
        browser.good("login-code").await
    })
    .await
}

#[tokio::test]
async fn pages_of_emergency_access() -> anyhow::Result<()> {
    play(async |stage| {
        let member = stage.world.sign_in(Role::Member).await?;
        let manager = stage.world.sign_in(Role::Manager).await?;
        let admin = stage.world.sign_in(Role::Admin).await?;
        let browser = stage.signed_in(Role::Manager).await?;
        let nothing = [("emergency-empty", "/dashboard?view=rbac-emergency-access".to_owned())];
        look(stage, &browser, &nothing).await?;

        let past = member.request_grant("The certificate of the shop has expired", 900).await?;
        let past = past["grant"]["id"].as_str().context("an id")?.to_owned();
        let revoked = json!({"comment": "It is renewed"});
        member.post(&format!("/v1/emergency/grants/{past}/revoke"), revoked).await?.expect(200);
        let active = member.request_grant("Production incident: pipeline config", 8_100).await?;
        let active = active["grant"]["id"].as_str().context("an id")?.to_owned();
        manager.request_grant("The key person is on a plane", 900).await?;
        let mut policy = admin.get("/v1/emergency/policy").await?.expect(200).body;
        policy["approvals_needed"] = json!(1);
        let put = reqwest::Method::PUT;
        admin.send(put, "/v1/emergency/policy", Some(policy)).await?.expect(200);
        let pending = member.request_grant("The backup of last night is missing", 900).await?;
        let pending = pending["grant"]["id"].as_str().context("an id")?.to_owned();

        let of = |id: &str, rest: &str| format!("/emergency/grants/{id}{rest}");
        let pages = [
            ("emergency", "/dashboard?view=rbac-emergency-access".to_owned()),
            ("emergency-request", "/emergency/request".to_owned()),
            ("grant-active", of(&active, "")),
            ("grant-past", of(&past, "")),
            ("grant-revoke", of(&active, "/revoke")),
            ("grant-approve", of(&pending, "/approve")),
            ("grant-review", of(&past, "/review")),
        ];
        look(stage, &browser, &pages).await?;
        stage.open(&browser, 1, "/dashboard?view=rbac-emergency-access").await?;
        browser.page().click(Kind::Action, "Request emergency access").await?;
        browser.page().dialog().find(Kind::Field, "Reason").await?;
        browser.good("emergency-request-dialog").await?;
        browser.page().dialog().fill("Reason", ".").await?;
        browser.page().dialog().click(Kind::Button, "Request access").await?;
        browser.page().problem("Reason").await?;
        browser.good("emergency-request-refused").await
    })
    .await
}

#[tokio::test]
async fn pages_of_security_and_administration() -> anyhow::Result<()> {
    play(async |stage| {
        // More than one session, and something in the record.
        let member = stage.world.sign_in(Role::Member).await?;
        member.request_grant("The mail server does not answer", 900).await?;
        stage.world.sign_in(Role::Admin).await?;
        let browser = stage.signed_in(Role::Admin).await?;
        let pages = [
            ("security", "/dashboard?view=rbac-security"),
            ("settings-security", "/settings/security"),
            ("mfa-set-up", "/security/mfa/set-up"),
            ("emergency-policy", "/emergency/policy"),
            ("users", "/dashboard?view=users"),
            ("users-invite", "/users/new"),
            ("audit-logs", "/dashboard?view=audit-logs"),
            ("edges", "/dashboard?view=edges"),
        ];
        look(stage, &browser, &pages.map(|(name, path)| (name, path.to_owned()))).await?;
        let me = member.get("/v1/me").await?.expect(200).body;
        let user = me["user"]["id"].as_str().context("an id")?;
        let pages = [
            ("user", format!("/users/{user}")),
            ("user-change", format!("/users/{user}/change")),
            ("user-disable", format!("/users/{user}/disable")),
            ("audit-entry", "/audit/1".to_owned()),
        ];
        look(stage, &browser, &pages).await
    })
    .await
}

#[tokio::test]
async fn pages_that_are_not_there() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Member).await?;
        for (name, path) in
            [("not-found", "/dashboard?view=nonsense"), ("forbidden", "/dashboard?view=audit-logs")]
        {
            stage.open(&browser, 1, path).await?;
            // The browser says that the page is not there, as it should.
            browser.quiet().await.ok();
            browser.console.lock().clear();
            browser.page().find(Kind::Link, "To the dashboard").await?;
            browser.good(name).await?;
        }
        Ok(())
    })
    .await
}
