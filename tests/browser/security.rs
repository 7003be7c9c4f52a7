//! The guide to Security Settings, step by step, and what it leaves open.

use std::process::Command;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::json;
use shared::role::{ROLES, Role};
use tests::{Answer, Authenticator, Client, World, scratch};

use crate::{
    account::TENANT,
    browser::Browser,
    find::Kind,
    screen::SCHEMES,
    stage::{Stage, play},
};

const WINDOWS: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 \
     (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 \
     (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1";

/// A session of a role's user elsewhere.
async fn session_on(stage: &Stage, role: Role, agent: &str) -> anyhow::Result<Client> {
    let (email, password) = stage.user(role)?;
    let login =
        json!({"tenant": TENANT, "email": email, "password": password, "transport": "token"});
    let mut client = stage.world.anonymous();
    let request = client.request(Method::POST, "/v1/login").header("user-agent", agent);
    let answer = Answer::to(request.json(&login)).await?.expect(200);
    client.token = answer.body["token"].as_str().map(ToOwned::to_owned);
    Ok(client)
}

/// What each edge says of a session.
async fn decided(world: &World, client: &Client) -> anyhow::Result<Vec<u16>> {
    let mut statuses = Vec::new();
    for client in world.at_all_edges(client) {
        statuses.push(client.authorize().await?.0);
    }
    Ok(statuses)
}

/// Steps 1 and 4 of the guide, for each role: the sections, and the sessions of somebody who is
/// signed in at three places.
#[tokio::test]
async fn guide_security_sections_and_sessions_for_each_role() -> anyhow::Result<()> {
    play(async |stage| {
        for role in ROLES {
            let windows = session_on(stage, role, WINDOWS).await?;
            let iphone = session_on(stage, role, IPHONE).await?;
            let browser = stage.signed_in(role).await?;
            let page = browser.page();

            // Step 1: in the sidebar under “Security & Compliance”.
            page.within("nav").shows("Security & Compliance").await?;
            browser.visit("Security").await?;
            browser.arrives("/dashboard?view=rbac-security").await?;
            page.section("MFA Status").find(Kind::Action, "Enable 2FA").await?;
            let may_set = !page.all(Kind::Heading, "MFA Policy").await?.is_empty();
            assert_eq!(may_set, role == Role::Admin, "{role}");

            // Step 4: device and browser, location, last active.
            let sessions = page.section("Sessions");
            for label in ["Chrome on Windows", "Safari on iPhone"] {
                let row = sessions.row(label);
                row.shows("127.0.0.1").await?;
                row.shows("Last active").await?;
            }
            sessions.row("this device").shows("Active now").await?;

            // Revoke one session: signed out immediately.
            sessions.row("Chrome on Windows").click(Kind::Action, "Revoke…").await?;
            page.dialog().shows("Chrome on Windows").await?;
            page.dialog().click(Kind::Button, "Revoke session").await?;
            page.shows("The session was revoked.").await?;
            page.shows("3 of 3 edges enforce this").await?;
            assert_eq!(decided(&stage.world, &windows).await?, [401; 3]);
            assert_eq!(decided(&stage.world, &iphone).await?, [200; 3]);
            sessions.hides("Chrome on Windows").await?;

            // Revoke all other sessions: all but the one in use.
            page.click(Kind::Action, "Revoke all other sessions").await?;
            page.dialog().click(Kind::Button, "Revoke all other sessions").await?;
            page.shows("All other sessions were revoked.").await?;
            page.shows("3 of 3 edges enforce this").await?;
            assert_eq!(decided(&stage.world, &iphone).await?, [401; 3]);
            sessions.hides("Safari on iPhone").await?;
            sessions.row("this device").shows("Active now").await?;
            assert_eq!(page.all(Kind::Action, "Revoke all other sessions").await?.len(), 0);
            // At the other address of the guide, too.
            stage.open(&browser, 2, "/settings/security").await?;
            page.find(Kind::Heading, "MFA Status…").await?;
        }
        Ok(())
    })
    .await
}

/// What the camera of a phone reads from a QR code that is shown.
async fn scan(browser: &Browser) -> anyhow::Result<String> {
    let qr = browser.page().visible("[role=img][aria-label^='QR code']").await?;
    let dir = scratch::dir("qr-")?;
    let path = dir.path().join("qr.png");
    tokio::fs::write(&path, qr.first().context("a QR code")?.screenshot().await?).await?;
    let read = Command::new("zbarimg").args(["--quiet", "--raw"]).arg(&path).output()?;
    ensure!(read.status.success(), "no phone can read it: {read:?}");
    Ok(String::from_utf8(read.stdout)?.trim().to_owned())
}

/// The app that has scanned a code.
fn app_of(uri: &str, email: &str) -> anyhow::Result<Authenticator> {
    let uri: reqwest::Url = uri.parse()?;
    let secret = uri.query_pairs().find(|(key, _)| key == "secret").context("a secret")?.1;
    Authenticator::new(&secret, email)
}

/// Step 3 of the guide: enable, with what one does wrong on the way; the codes; disable.
#[tokio::test]
async fn guide_security_two_factor_sign_in_on_and_off() -> anyhow::Result<()> {
    play(async |stage| {
        let world = &stage.world;
        let (email, password) = stage.user(Role::Member)?;
        let elsewhere = session_on(stage, Role::Member, IPHONE).await?;
        let browser = stage.signed_in(Role::Member).await?;
        let page = browser.page();
        browser.visit("Security").await?;
        page.section("MFA Status").click(Kind::Action, "Enable 2FA").await?;
        let dialog = page.dialog();
        dialog.fill("Password", "not the password").await?;
        dialog.click(Kind::Button, "Continue").await?;
        dialog.problem("Password").await?;
        dialog.fill("Password", &password).await?;
        dialog.click(Kind::Button, "Continue").await?;
        dialog.find(Kind::Field, "6-digit code").await?;
        let mut scanned = Vec::new();
        for scheme in SCHEMES {
            browser.prefer(scheme).await?;
            browser.good(&format!("mfa-scan-{scheme}")).await?;
            browser.prefer(scheme).await?;
            scanned.push(scan(&browser).await?);
        }
        browser.prefer(SCHEMES[0]).await?;
        assert_eq!(scanned[0], scanned[1]);
        let app = app_of(&scanned[0], &email)?;
        dialog.fill("6-digit code", "000000").await?;
        dialog.click(Kind::Button, "Verify and enable").await?;
        dialog.problem("6-digit code").await?;
        // The QR code is still there, for who has not scanned it right.
        assert_eq!(scan(&browser).await?, scanned[0]);
        dialog.fill("6-digit code", &app.code(world, 0).await?).await?;
        dialog.click(Kind::Button, "Verify and enable").await?;

        // Backup codes, shown once.
        page.find(Kind::Heading, "Backup codes").await?;
        let codes = dialog.within("code").text().await?;
        let codes: Vec<_> = codes.split_whitespace().map(ToOwned::to_owned).collect();
        assert_eq!(codes.len(), 10, "{codes:?}");
        assert_eq!(decided(world, &elsewhere).await?, [401; 3]);
        browser.good("mfa-codes").await?;
        dialog.click(Kind::Action, "I have kept them").await?;
        // This session has gone on under another token.
        browser.arrives("/dashboard?view=rbac-security").await?;
        let status = page.section("MFA Status");
        status.shows("10 of 10 backup codes are left").await?;
        assert!(!page.text().await?.contains(&codes[0]));
        browser.good("security-mfa-on").await?;

        // One of them lets one in once, where the device is lost.
        let other = stage.browser().await?;
        stage.open(&other, 2, "/login").await?;
        other.sign_in(TENANT, &email, &password).await?;
        other.page().fill("Code", &codes[3]).await?;
        other.page().click(Kind::Button, "Continue").await?;
        other.visit("Security").await?;
        other.page().section("MFA Status").shows("9 of 10 backup codes are left").await?;

        // Off again: password and code.
        status.click(Kind::Action, "Disable 2FA").await?;
        dialog.fill("Password", &password).await?;
        dialog.fill("Code from your authenticator app", &app.code(world, 0).await?).await?;
        dialog.click(Kind::Button, "Disable 2FA").await?;
        page.shows("Two-factor sign-in is off.").await?;
        status.find(Kind::Action, "Enable 2FA").await?;
        Ok(())
    })
    .await
}

/// Step 2 of the guide: an admin requires it; whom it concerns has so many days, and after that can
/// do nothing else; and nobody whom it concerns switches it off.
#[tokio::test]
async fn guide_security_the_policy_for_the_organisation() -> anyhow::Result<()> {
    play(async |stage| {
        let world = &stage.world;
        let admin = stage.signed_in(Role::Admin).await?;
        let client = world.sign_in(Role::Admin).await?;
        let manager = stage.signed_in(Role::Manager).await?;
        admin.visit("Security").await?;
        let policy = admin.page().section("MFA Policy");
        policy.click(Kind::Field, "Require 2FA…").await?;
        policy.click(Kind::Field, "manager").await?;
        policy.fill("MFA grace period (days)", "91").await?;
        policy.click(Kind::Button, "Save").await?;
        policy.problem("MFA grace period (days)").await?;
        policy.fill("MFA grace period (days)", "7").await?;
        policy.click(Kind::Button, "Save").await?;
        admin.page().shows("The MFA policy was saved.").await?;
        admin.page().shows("3 of 3 edges enforce this").await?;
        let set = client.get("/v1/mfa-policy").await?.expect(200).body;
        let wanted =
            json!({"require_2fa": true, "required_roles": ["manager"], "grace_period_days": 7});
        assert_eq!(set, wanted);
        // The manager is told on every page; a member is not concerned.
        stage.open(&manager, 1, "/dashboard").await?;
        manager.page().shows("Your organisation requires two-factor sign-in.").await?;

        // No more time: nothing but setting it up is possible.
        admin.visit("Security").await?;
        admin.page().hides("3 of 3 edges enforce this").await?;
        policy.fill("MFA grace period (days)", "0").await?;
        policy.click(Kind::Button, "Save").await?;
        admin.page().shows("3 of 3 edges enforce this").await?;
        stage.open(&manager, 2, "/dashboard").await?;
        manager.arrives("/security/mfa/set-up").await?;
        let (email, password) = stage.user(Role::Manager)?;
        let page = manager.page();
        // Such a session hears of nothing, and so nothing is amiss.
        page.hides("Not live").await?;
        page.fill("Password", &password).await?;
        page.click(Kind::Button, "Continue").await?;
        page.find(Kind::Field, "6-digit code").await?;
        let app = app_of(&scan(&manager).await?, &email)?;
        page.fill("6-digit code", &app.code(world, 0).await?).await?;
        page.click(Kind::Button, "Verify and enable").await?;
        page.find(Kind::Heading, "Backup codes").await?;
        page.click(Kind::Action, "I have kept them").await?;
        manager.visit("Security").await?;

        // “If org policy requires MFA for your role, disabling may be blocked.”
        page.section("MFA Status").click(Kind::Action, "Disable 2FA").await?;
        page.dialog().fill("Password", &password).await?;
        let code = app.code(world, 0).await?;
        page.dialog().fill("Code from your authenticator app", &code).await?;
        page.dialog().click(Kind::Button, "Disable 2FA").await?;
        page.dialog().within("[role=alert]").shows("requires two-factor sign-in").await?;
        Ok(())
    })
    .await
}

/// A page that is open when the time is over goes to where the only thing is that is left to do.
#[tokio::test]
async fn a_page_whose_time_for_two_factor_sign_in_is_over_goes_to_its_set_up() -> anyhow::Result<()>
{
    play(async |stage| {
        let browser = stage.signed_in(Role::Manager).await?;
        let admin = stage.world.sign_in(Role::Admin).await?;
        // What happens elsewhere is shown: the page follows it.
        admin.request_grant("The page shows this by itself", 900).await?;
        browser.page().shows("The page shows this by itself").await?;
        let policy =
            json!({"require_2fa": true, "required_roles": ["manager"], "grace_period_days": 0});
        admin.send(Method::PUT, "/v1/mfa-policy", Some(policy)).await?.expect(200);
        browser.page().find(Kind::Heading, "Enable 2FA").await?;
        browser.arrives("/security/mfa/set-up").await
    })
    .await
}

/// A password is changed with the present one, and every other session ends.
#[tokio::test]
async fn a_new_password_ends_all_other_sessions() -> anyhow::Result<()> {
    play(async |stage| {
        let (email, password) = stage.user(Role::Member)?;
        let elsewhere = session_on(stage, Role::Member, WINDOWS).await?;
        let browser = stage.signed_in(Role::Member).await?;
        let page = browser.page();
        browser.visit("Security").await?;
        page.section("Password").click(Kind::Action, "Change password").await?;
        let dialog = page.dialog();
        dialog.fill("Current password", &password).await?;
        dialog.fill("New password", "password").await?;
        dialog.click(Kind::Button, "Change password").await?;
        dialog.problem("New password").await?;
        dialog.fill("Current password", &password).await?;
        dialog.fill("New password", "correct horse battery staple 7").await?;
        dialog.click(Kind::Button, "Change password").await?;
        page.shows("Your password was changed.").await?;
        page.shows("3 of 3 edges enforce this").await?;
        assert_eq!(decided(&stage.world, &elsewhere).await?, [401; 3]);
        browser.sign_out().await?;
        browser.sign_in(TENANT, &email, "correct horse battery staple 7").await?;
        browser.page().find(Kind::Heading, "Emergency Access").await?;
        Ok(())
    })
    .await
}
