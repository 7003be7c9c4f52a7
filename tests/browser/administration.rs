//! Users, the record and the edges.

use anyhow::{Context as _, ensure};
use serde_json::json;
use shared::role::Role;
use tests::Options;

use crate::{
    account::{HOME, TENANT},
    find::Kind,
    stage::{play, play_with},
};

/// From the invitation to the first sign-in, by the link and nothing else.
#[tokio::test]
async fn an_admin_invites_somebody_who_sets_a_password_and_signs_in() -> anyhow::Result<()> {
    play(async |stage| {
        let admin = stage.signed_in(Role::Admin).await?;
        admin.visit("Users").await?;
        let page = admin.page();
        page.click(Kind::Action, "Invite a user").await?;
        let dialog = page.dialog();
        dialog.fill("Email", "nora@acme.test").await?;
        dialog.fill("Name", "Nora New").await?;
        dialog.fill("Role", "manager").await?;
        dialog.click(Kind::Button, "Invite").await?;
        page.shows("It is shown this once.").await?;
        let link = page.within("#link").text().await?.trim().to_owned();
        // Nobody who logs requests may see the token.
        let url: reqwest::Url = link.parse().with_context(|| link.clone())?;
        assert!(url.query().is_none() && url.fragment().is_some(), "{link}");
        admin.good("user-link").await?;

        let nora = stage.browser().await?;
        nora.go(&link).await?;
        nora.page().fill("New password", "short").await?;
        nora.run("document.querySelector('form').noValidate = true", vec![]).await?;
        nora.page().click(Kind::Button, "Set password").await?;
        nora.page().problem("New password").await?;
        nora.page().fill("New password", "an uncommon set of words").await?;
        nora.page().click(Kind::Button, "Set password").await?;
        nora.page().shows("Your password is set. Sign in with it.").await?;
        nora.sign_in(TENANT, "nora@acme.test", "an uncommon set of words").await?;
        nora.arrives(HOME).await?;
        nora.page().within("header").shows("Nora New").await?;
        // Once.
        let again = stage.browser().await?;
        again.go(&link).await?;
        again.page().fill("New password", "another set of uncommon words").await?;
        again.page().click(Kind::Button, "Set password").await?;
        again.page().shows("link").await?;
        assert!(again.place().await?.starts_with("/password-reset"));
        Ok(())
    })
    .await
}

/// A smaller role counts at once, and who is disabled is shown the door and told why.
#[tokio::test]
async fn an_admin_lowers_and_disables_somebody_who_sees_it_at_once() -> anyhow::Result<()> {
    play(async |stage| {
        let admin = stage.signed_in(Role::Admin).await?;
        let manager = stage.signed_in(Role::Manager).await?;
        let client = stage.world.sign_in(Role::Manager).await?;
        admin.visit("Users").await?;
        admin.page().row(&stage.user(Role::Manager)?.0).click(Kind::Link, "Max Manager").await?;
        let page = admin.page();
        page.click(Kind::Action, "Change").await?;
        page.dialog().fill("Role", "member").await?;
        page.dialog().click(Kind::Button, "Save changes").await?;
        page.shows("3 of 3 edges enforce this").await?;
        for client in stage.world.at_all_edges(&client) {
            assert_eq!(client.authorize().await?, (200, "member".to_owned()));
        }
        page.click(Kind::Action, "Disable").await?;
        page.dialog().shows("Max Manager").await?;
        page.dialog().click(Kind::Button, "Disable Max Manager").await?;
        manager.page().shows("This account was disabled.").await?;
        for client in stage.world.at_all_edges(&client) {
            assert_eq!(client.authorize().await?.0, 401);
        }
        Ok(())
    })
    .await
}

/// Everything that was done is on record, and found by what it is.
#[tokio::test]
async fn a_manager_finds_in_the_record_what_was_done() -> anyhow::Result<()> {
    play(async |stage| {
        let member = stage.world.sign_in(Role::Member).await?;
        let grant = member.request_grant("This will be found in the record", 900).await?;
        let id = grant["grant"]["id"].as_str().context("an id")?;
        let browser = stage.signed_in(Role::Manager).await?;
        browser.visit("Audit Logs").await?;
        let page = browser.page();
        page.fill("Action", "grant.activated").await?;
        page.click(Kind::Button, "Filter").await?;
        let entry = page.section("Entries").row("grant.activated");
        entry.shows("Mia Member").await?;
        entry.click(Kind::Link, "Entry…").await?;
        page.find(Kind::Heading, "Entry…").await?;
        page.shows(id).await?;
        page.shows("127.0.0.1").await
    })
    .await
}

/// What is done meanwhile shows by itself, the signature over it too, and what is being typed in the
/// filter stays.
#[tokio::test]
async fn the_record_follows_by_itself_and_leaves_the_filter_alone() -> anyhow::Result<()> {
    let each_second = vec!["--audit-head-seconds".to_owned(), "1".to_owned()];
    let options = Options { flags: vec![("session-worker", each_second)], ..Options::default() };
    play_with(options, async |stage| {
        let member = stage.world.sign_in(Role::Member).await?;
        let browser = stage.signed_in(Role::Manager).await?;
        browser.visit("Audit Logs").await?;
        let page = browser.page();
        page.fill("Action", "grant.acti").await?;
        browser.run("document.querySelector('#record').isTheSame = true", vec![]).await?;
        member.request_grant("The record shows this by itself", 900).await?;
        let entry = page.section("Entries").row("grant.activated");
        entry.shows("Mia Member").await?;
        let number = browser.run(NUMBER_OF_THE_ACTIVATION, vec![]).await?;
        let number = number.as_str().context("the number of the entry")?;
        let state = page.section("State of the record");
        state.shows(&format!("entry {number}")).await?;
        state.shows("nothing has come after it").await?;
        let typed = "return [document.activeElement.id, document.activeElement.value]";
        ensure!(browser.run(typed, vec![]).await? == json!(["action", "grant.acti"]));
        // Whoever is marking its hash, or has the focus in it, keeps on.
        let same = "return document.querySelector('#record').isTheSame === true";
        ensure!(browser.run(same, vec![]).await? == json!(true), "the state is made anew");
        Ok(())
    })
    .await
}

/// The first column of the row in which a grant was activated.
const NUMBER_OF_THE_ACTIVATION: &str = "
    return [...document.querySelectorAll('#entries-table tr')]
        .find(row => row.textContent.includes('grant.activated')).querySelector('a').text;
";

/// The page of the edges follows by itself what becomes of one.
#[tokio::test]
async fn the_page_of_the_edges_tells_when_one_is_out_of_touch() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Manager).await?;
        browser.visit("Edges").await?;
        browser.page().find(Kind::Heading, "3 of 3 edges decide…").await?;
        let paused = stage.world.pause("gateway-3")?;
        browser.page().find(Kind::Heading, "2 of 3 edges decide…").await?;
        drop(paused);
        browser.page().find(Kind::Heading, "3 of 3 edges decide…").await?;
        Ok(())
    })
    .await
}
