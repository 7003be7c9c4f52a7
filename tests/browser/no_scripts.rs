//! Everything works without scripts: links lead to pages, and forms are sent and answered.

use shared::role::Role;

use crate::{account::HOME, browser::Scripts, find::Kind, stage::play};

#[tokio::test]
async fn without_scripts_one_signs_in_requests_revokes_and_signs_out() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in_with(Role::Member, Scripts::AreOff, &[]).await?;
        let page = browser.page();
        let reason = "No script has run for this";
        page.click(Kind::Action, "Request emergency access").await?;
        browser.arrives("/emergency/request").await?;
        page.fill("Reason", ".").await?;
        page.click(Kind::Button, "Request access").await?;
        browser.page().problem("Reason").await?;
        page.fill("Reason", reason).await?;
        page.click(Kind::Button, "Request access").await?;
        browser.arrives(HOME).await?;
        page.shows("Emergency access was granted.").await?;
        page.shows("3 of 3 edges enforce this").await?;
        let row = page.section("Active emergency sessions").row(reason);
        row.shows("remaining").await?;
        row.click(Kind::Action, "Revoke…").await?;
        page.within("main").shows(reason).await?;
        page.click(Kind::Button, "Revoke access").await?;
        browser.arrives(HOME).await?;
        page.shows("Emergency access was revoked.").await?;
        page.section("History").row(reason).shows("Revoked").await?;
        browser.visit("Security").await?;
        browser.sign_out().await
    })
    .await
}
