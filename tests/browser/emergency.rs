//! The guide to Emergency Access, step by step, and what it leaves open.

use serde_json::json;
use shared::role::{ROLES, Role};
use tests::{Client, World};

use crate::{
    account::{HOME, TENANT},
    browser::Browser,
    find::Kind,
    stage::play,
};

/// Opens the dialog and fills it in; the dialog is still open.
pub(crate) async fn fill_in_request(browser: &Browser, reason: &str) -> anyhow::Result<()> {
    browser.page().click(Kind::Action, "Request emergency access").await?;
    let dialog = browser.page().dialog();
    dialog.fill("Reason", reason).await?;
    Ok(())
}

/// Asks for emergency access, and has it.
pub(crate) async fn request(browser: &Browser, reason: &str) -> anyhow::Result<()> {
    fill_in_request(browser, reason).await?;
    browser.page().dialog().click(Kind::Button, "Request access").await?;
    browser.page().shows("Emergency access was granted.").await?;
    browser.page().shows("3 of 3 edges enforce this").await
}

/// The role that a reverse proxy is told at each edge.
async fn roles(world: &World, client: &Client) -> anyhow::Result<Vec<String>> {
    let mut roles = Vec::new();
    for client in world.at_all_edges(client) {
        roles.push(client.authorize().await?.1);
    }
    Ok(roles)
}

/// The guide, for each role: open, request, view, revoke.
#[tokio::test]
async fn guide_emergency_access_for_each_role() -> anyhow::Result<()> {
    play(async |stage| {
        for role in ROLES {
            let browser = stage.signed_in(role).await?;
            let client = stage.world.sign_in(role).await?;
            let email = stage.user(role)?.0;
            // Where to find it: in the sidebar under “Advanced Access”.
            let page = browser.page();
            page.within("nav").shows("Advanced Access").await?;
            browser.visit("Emergency Access").await?;
            browser.arrives("/dashboard?view=rbac-emergency-access").await?;

            // Step 1: open Emergency Access.
            page.find(Kind::Action, "Request emergency access").await?;
            let active = page.section("Active emergency sessions");
            active.find(Kind::Heading, "Active emergency sessions…").await?;

            // Step 2: request it.
            let reason = format!("Production incident – need to change pipeline config ({role})");
            assert_eq!(roles(&stage.world, &client).await?, [role.as_str(); 3]);
            request(&browser, &reason).await?;
            assert_eq!(roles(&stage.world, &client).await?, ["admin"; 3]);
            page.find(Kind::Region, "Emergency access is active").await?;

            // Step 3: view it: who, reason, time remaining.
            let row = active.row(&reason);
            let shown = row.text().await?;
            assert!(shown.contains("remaining"), "{shown}");
            assert!(shown.contains("admin"), "{shown}");
            let me = client.get("/v1/me").await?.expect(200).body;
            let name = me["user"]["name"].as_str().expect("a name").to_owned();
            assert!(shown.contains(&name) || shown.contains(&email), "{shown}");

            // Step 4: revoke it, and it is gone at once.
            row.click(Kind::Action, "Revoke…").await?;
            let dialog = page.dialog();
            dialog.shows(&name).await?;
            dialog.click(Kind::Button, "Revoke access").await?;
            page.shows("Emergency access was revoked.").await?;
            page.shows("3 of 3 edges enforce this").await?;
            assert_eq!(roles(&stage.world, &client).await?, [role.as_str(); 3]);
            active.hides(&reason).await?;
            assert_eq!(page.all(Kind::Region, "Emergency access is active").await?.len(), 0);
            let past = page.section("History").row(&reason);
            past.shows("Revoked").await?;
        }
        Ok(())
    })
    .await
}

/// “An authorized user can click Revoke on that session”: a manager, but no other member.
#[tokio::test]
async fn others_see_it_at_once_and_end_it_if_they_may() -> anyhow::Result<()> {
    play(async |stage| {
        stage.world.create_tenant("globex").await?;
        let manager = stage.signed_in(Role::Manager).await?;
        let member = stage.signed_in(Role::Member).await?;
        let reason = "The pager of the manager went off";
        request(&member, reason).await?;
        let row = manager.page().section("Active emergency sessions").row(reason);
        row.shows("remaining").await?;
        row.click(Kind::Action, "Revoke…").await?;
        manager.page().dialog().click(Kind::Button, "Revoke access").await?;
        manager.page().shows("3 of 3 edges enforce this").await?;
        // The member's page says so without being asked.
        member.page().section("Active emergency sessions").hides(reason).await?;
        member.page().within("#elevation").hides("remaining").await?;

        // A member sees that a manager has it, but has no button to end it.
        let reason = "The member must not touch this one";
        request(&manager, reason).await?;
        let row = member.page().section("Active emergency sessions").row(reason);
        row.shows("remaining").await?;
        assert_eq!(row.names(Kind::Button).await?, <[String; 0]>::default());
        Ok(())
    })
    .await
}

/// “When time expires, the session ends automatically”, and the page says so by itself.
#[tokio::test]
async fn when_time_expires_the_page_says_so_by_itself() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Member).await?;
        let member = stage.world.sign_in(Role::Member).await?;
        let reason = "A short one, which ends by itself";
        member.request_grant(reason, 12).await?;
        let page = browser.page();
        let active = page.section("Active emergency sessions");
        active.shows(reason).await?;
        page.find(Kind::Region, "Emergency access is active").await?;
        active.hides(reason).await?;
        page.within("#elevation").hides("remaining").await?;
        page.section("History").row(reason).shows("Expired").await
    })
    .await
}

/// The bar on every page ends it with one click.
#[tokio::test]
async fn the_bar_ends_it_with_one_click() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Member).await?;
        let member = stage.world.sign_in(Role::Member).await?;
        request(&browser, "The bar will end this one").await?;
        browser.visit("Security").await?;
        let bar = browser.page().within("#elevation");
        bar.shows("remaining").await?;
        bar.click(Kind::Button, "End now").await?;
        browser.page().shows("Emergency access was revoked.").await?;
        browser.page().shows("3 of 3 edges enforce this").await?;
        assert_eq!(roles(&stage.world, &member).await?, ["member"; 3]);
        Ok(())
    })
    .await
}

/// What is wrong is said beside the field that it is about, and what was typed is still there.
#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_beside_its_field() -> anyhow::Result<()> {
    play(async |stage| {
        let admin = stage.world.sign_in(Role::Admin).await?;
        let mut policy = admin.get("/v1/emergency/policy").await?.expect(200).body;
        policy["ticket_pattern"] = json!("OPS-[0-9]+");
        admin.send(reqwest::Method::PUT, "/v1/emergency/policy", Some(policy)).await?.expect(200);
        let browser = stage.signed_in(Role::Member).await?;
        let page = browser.page();
        fill_in_request(&browser, "..........................").await?;
        let dialog = page.dialog();
        dialog.fill("Ticket…", "nonsense").await?;
        dialog.click(Kind::Button, "Request access").await?;
        dialog.problem("Reason").await?;
        let reason = "The build server is on fire";
        dialog.fill("Reason", reason).await?;
        dialog.click(Kind::Button, "Request access").await?;
        let said = dialog.problem("Ticket…").await?;
        assert!(said.contains("OPS-"), "{said}");
        let typed = dialog.find(Kind::Field, "Reason").await?.prop("value").await?;
        assert_eq!(typed.as_deref(), Some(reason));
        dialog.fill("Ticket…", "OPS-17").await?;
        dialog.click(Kind::Button, "Request access").await?;
        page.shows("Emergency access was granted.").await?;
        page.section("Active emergency sessions").row(reason).shows("OPS-17").await
    })
    .await
}

/// With approval: it waits, an approver sees it at once and decides over exactly what was asked.
#[tokio::test]
async fn a_request_that_needs_approval_waits_for_somebody_else() -> anyhow::Result<()> {
    play(async |stage| {
        let admin = stage.world.sign_in(Role::Admin).await?;
        let mut policy = admin.get("/v1/emergency/policy").await?.expect(200).body;
        policy["approvals_needed"] = json!(1);
        admin.send(reqwest::Method::PUT, "/v1/emergency/policy", Some(policy)).await?.expect(200);
        let member = stage.signed_in(Role::Member).await?;
        let manager = stage.signed_in(Role::Manager).await?;
        let client = stage.world.sign_in(Role::Member).await?;
        let reason = "The database of customers is read-only";
        fill_in_request(&member, reason).await?;
        member.page().dialog().click(Kind::Button, "Request access").await?;
        member.page().shows("Your request waits for approval.").await?;
        let waiting = "Waiting for approval";
        member.page().section(waiting).row(reason).find(Kind::Action, "Withdraw…").await?;
        assert_eq!(roles(&stage.world, &client).await?, ["member"; 3]);

        let row = manager.page().section(waiting).row(reason);
        row.click(Kind::Action, "Approve…").await?;
        manager.page().dialog().shows(reason).await?;
        manager.page().dialog().click(Kind::Button, "Approve request").await?;
        manager.page().shows("3 of 3 edges enforce this").await?;
        assert_eq!(roles(&stage.world, &client).await?, ["admin"; 3]);
        // The member's page shows it without being asked.
        member.page().section("Active emergency sessions").row(reason).shows("remaining").await?;
        member.page().find(Kind::Region, "Emergency access is active").await?;
        Ok(())
    })
    .await
}

/// A fresh code with each request, of those who have a second factor.
#[tokio::test]
async fn a_request_with_a_fresh_code() -> anyhow::Result<()> {
    play(async |stage| {
        let world = &stage.world;
        let admin = world.sign_in(Role::Admin).await?;
        let mut policy = admin.get("/v1/emergency/policy").await?.expect(200).body;
        policy["require_fresh_mfa"] = json!(true);
        admin.send(reqwest::Method::PUT, "/v1/emergency/policy", Some(policy)).await?.expect(200);
        let (email, password) = stage.user(Role::Member)?;
        let (_, app, _) = world.sign_in(Role::Member).await?.enroll(world, &password).await?;
        let browser = stage.browser().await?;
        stage.open(&browser, 1, "/login").await?;
        browser.sign_in(TENANT, &email, &password).await?;
        browser.page().fill("Code", &app.code(world, 0).await?).await?;
        browser.page().click(Kind::Button, "Continue").await?;
        browser.arrives(HOME).await?;
        fill_in_request(&browser, "The member has a code for this").await?;
        let dialog = browser.page().dialog();
        dialog.fill("Code from your authenticator app", "000000").await?;
        dialog.click(Kind::Button, "Request access").await?;
        dialog.problem("Code from your authenticator app").await?;
        dialog.fill("Code from your authenticator app", &app.code(world, 0).await?).await?;
        dialog.click(Kind::Button, "Request access").await?;
        browser.page().shows("Emergency access was granted.").await
    })
    .await
}

/// While an edge is out of touch the page says which one is awaited, and goes on by itself.
#[tokio::test]
async fn a_receipt_that_waits_names_the_edge_and_is_complete_by_itself() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Member).await?;
        let page = browser.page();
        let reason = "One edge will be out of touch at its end";
        request(&browser, reason).await?;
        let paused = stage.world.pause("gateway-3")?;
        page.section("Active emergency sessions")
            .row(reason)
            .click(Kind::Action, "Revoke…")
            .await?;
        page.dialog().click(Kind::Button, "Revoke access").await?;
        page.shows("2 of 3 edges enforce this").await?;
        page.shows("waiting for").await?;
        // Its lease runs out.
        page.shows("3 of 3 edges enforce this").await?;
        page.shows("cut off").await?;
        drop(paused);
        Ok(())
    })
    .await
}

/// What can become of a request and of a grant besides: withdrawn, denied, extended, reviewed.
#[tokio::test]
async fn requests_are_withdrawn_and_denied_and_grants_extended_and_reviewed() -> anyhow::Result<()>
{
    play(async |stage| {
        let admin = stage.signed_in(Role::Admin).await?;
        let member = stage.signed_in(Role::Member).await?;
        let (page, dialog) = (member.page(), member.page().dialog());

        let first = "Extended before its time was over";
        request(&member, first).await?;
        let active = page.section("Active emergency sessions");
        active.row(first).click(Kind::Action, "Extend").await?;
        dialog.fill("Reason", first).await?;
        dialog.fill("Duration", "2h").await?;
        dialog.click(Kind::Button, "Extend access").await?;
        // The same reason again is none.
        dialog.problem("Reason").await?;
        let second = "The repair takes two hours more";
        dialog.fill("Reason", second).await?;
        dialog.click(Kind::Button, "Extend access").await?;
        page.shows("Extended.").await?;
        active.row(second).shows("1h 59m remaining").await?;
        active.row(second).click(Kind::Action, "Revoke…").await?;
        dialog.click(Kind::Button, "Revoke access").await?;
        active.hides(second).await?;

        let to_review = admin.page().section("To be reviewed");
        to_review.row(second).click(Kind::Action, "Review…").await?;
        admin.page().dialog().fill("Note", "The repair is in the log of the shop").await?;
        admin.page().dialog().click(Kind::Field, "Justified").await?;
        admin.page().dialog().click(Kind::Button, "Save review").await?;
        admin.page().shows("The review is on record.").await?;
        admin.page().section("History").row(second).shows("Justified").await?;

        // From now on by approval: set by the form of the policy.
        admin.page().click(Kind::Action, "Policy").await?;
        admin.page().fill("Approvals needed…", "many").await?;
        admin.page().click(Kind::Button, "Save policy").await?;
        admin.page().problem("Approvals needed…").await?;
        admin.page().fill("Approvals needed…", "1").await?;
        admin.page().click(Kind::Button, "Save policy").await?;
        admin.page().shows("The policy for emergency access was saved.").await?;
        let waiting = page.section("Waiting for approval");
        let withdrawn = "Asked for by mistake, as it turns out";
        fill_in_request(&member, withdrawn).await?;
        dialog.click(Kind::Button, "Request access").await?;
        waiting.row(withdrawn).click(Kind::Action, "Withdraw…").await?;
        dialog.shows(withdrawn).await?;
        dialog.click(Kind::Button, "Withdraw request").await?;
        page.section("History").row(withdrawn).shows("Withdrawn").await?;
        let denied = "This can wait until the morning";
        fill_in_request(&member, denied).await?;
        dialog.click(Kind::Button, "Request access").await?;
        let waiting = admin.page().section("Waiting for approval");
        waiting.row(denied).click(Kind::Action, "Deny…").await?;
        admin.page().dialog().fill("Comment…", "It is six o'clock").await?;
        admin.page().dialog().click(Kind::Button, "Deny request").await?;
        admin.page().shows("The request was denied.").await?;
        page.section("History").row(denied).shows("Denied").await?;
        page.section("History").click(Kind::Link, denied).await?;
        page.section("Approvals").shows("It is six o'clock").await
    })
    .await
}
