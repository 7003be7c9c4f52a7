//! Signing in and out.

use shared::role::{ROLES, Role};

use crate::{
    account::{HOME, TENANT},
    find::Kind,
    stage::play,
};

#[tokio::test]
async fn everybody_signs_in_finds_their_pages_and_signs_out() -> anyhow::Result<()> {
    play(async |stage| {
        for role in ROLES {
            let browser = stage.signed_in(role).await?;
            let mut links = vec!["Emergency Access", "Security"];
            if role == Role::Admin {
                links.push("Users");
            }
            if role >= Role::Manager {
                links.extend(["Audit Logs", "Edges"]);
            }
            let nav = browser.page().within("nav");
            assert_eq!(nav.names(Kind::Link).await?, links, "{role}");
            // The cookie goes to the whole host, as it does behind one name for all edges.
            stage.open(&browser, 3, "/dashboard").await?;
            browser.page().find(Kind::Heading, "Emergency Access").await?;
            browser.sign_out().await?;
            browser.page().shows("You are signed out.").await?;
            stage.open(&browser, 2, HOME).await?;
            browser.page().find(Kind::Button, "Sign in").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wrong_password_is_said_and_nothing_else_is_to_be_typed_again() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.browser().await?;
        let (email, password) = stage.user(Role::Member)?;
        stage.open(&browser, 1, "/login").await?;
        browser.sign_in(TENANT, &email, "not the password").await?;
        let page = browser.page();
        page.within("[role=alert]").shows("password").await?;
        assert_eq!(
            page.find(Kind::Field, "Email").await?.prop("value").await?,
            Some(email.clone())
        );
        assert_eq!(
            page.find(Kind::Field, "Password").await?.prop("value").await?,
            Some(String::new())
        );
        page.fill("Password", &password).await?;
        page.click(Kind::Button, "Sign in").await?;
        browser.arrives(HOME).await
    })
    .await
}

#[tokio::test]
async fn the_sign_in_leads_to_where_one_was_going_but_to_no_other_site() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.browser().await?;
        let (email, password) = stage.user(Role::Manager)?;
        let edges = "/dashboard?view=edges";
        for (asked, comes) in [
            (edges, edges),
            ("/login?next=https://evil.test/", HOME),
            ("/login?next=//evil.test/", HOME),
            ("/login?next=/%5Cevil.test/", HOME),
        ] {
            stage.open(&browser, 1, asked).await?;
            browser.sign_in(TENANT, &email, &password).await?;
            browser.arrives(comes).await?;
            browser.sign_out().await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_second_step_takes_the_code_of_the_app_or_a_backup_code() -> anyhow::Result<()> {
    play(async |stage| {
        let world = &stage.world;
        let (email, password) = stage.user(Role::Member)?;
        let member = world.sign_in(Role::Member).await?;
        let (_, app, codes) = member.enroll(world, &password).await?;
        let browser = stage.browser().await?;
        stage.open(&browser, 1, "/login").await?;
        for right in [app.code(world, 0).await?, codes[0].clone()] {
            browser.sign_in(TENANT, &email, &password).await?;
            let page = browser.page();
            page.fill("Code", "000000").await?;
            page.click(Kind::Button, "Continue").await?;
            page.problem("Code").await?;
            page.fill("Code", &right).await?;
            page.click(Kind::Button, "Continue").await?;
            browser.arrives(HOME).await?;
            browser.sign_out().await?;
        }
        Ok(())
    })
    .await
}

/// Who was revoked elsewhere sees it at once, not at the next click.
#[tokio::test]
async fn a_page_whose_session_was_revoked_goes_to_the_sign_in_and_says_why() -> anyhow::Result<()> {
    play(async |stage| {
        let browser = stage.signed_in(Role::Member).await?;
        let member = stage.world.sign_in(Role::Member).await?;
        // What happens elsewhere is shown: the page follows it.
        member.request_grant("The page shows this by itself", 900).await?;
        browser.page().shows("The page shows this by itself").await?;
        let sessions = member.get("/v1/sessions").await?.expect(200).body;
        let sessions = sessions["sessions"].as_array().expect("a list");
        let theirs = sessions.iter().find(|session| session["current"] == false).expect("one");
        let path = format!("/v1/sessions/{}", theirs["id"].as_str().expect("an id"));
        member.delete(&path).await?.expect(200);
        browser.page().shows("This session was revoked. Sign in again.").await?;
        assert!(browser.place().await?.starts_with("/login"));
        Ok(())
    })
    .await
}
