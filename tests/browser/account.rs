//! The people at the browsers.

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use shared::role::Role;

use crate::{
    browser::{Browser, Scripts},
    find::Kind,
    stage::Stage,
};

/// The tenant of the seeded users.
pub(crate) const TENANT: &str = "acme";

/// Where one comes to after signing in.
pub(crate) const HOME: &str = "/dashboard?view=rbac-emergency-access";

impl Stage {
    /// The address and password of a role's seeded user.
    pub(crate) fn user(&self, role: Role) -> anyhow::Result<(String, String)> {
        let user = self.world.stack.credentials().and_then(|c| c.of(role)).context("a user")?;
        Ok((user.email.clone(), user.password.expose_secret().to_owned()))
    }

    /// A browser in which the user of a role has signed in.
    pub(crate) async fn signed_in(&self, role: Role) -> anyhow::Result<Browser> {
        self.signed_in_with(role, Scripts::Run, &[]).await
    }

    /// The same with scripts off, or more flags.
    pub(crate) async fn signed_in_with(
        &self,
        role: Role,
        scripts: Scripts,
        flags: &[String],
    ) -> anyhow::Result<Browser> {
        let browser = self.browser_with(scripts, flags).await?;
        let (email, password) = self.user(role)?;
        self.open(&browser, 1, "/login").await?;
        browser.sign_in(TENANT, &email, &password).await?;
        browser.arrives(HOME).await?;
        Ok(browser)
    }
}

impl Browser {
    /// Fills in the form of the sign-in and sends it.
    pub(crate) async fn sign_in(
        &self,
        tenant: &str,
        email: &str,
        password: &str,
    ) -> anyhow::Result<()> {
        let page = self.page();
        page.fill("Organisation", tenant).await?;
        page.fill("Email", email).await?;
        page.fill("Password", password).await?;
        page.click(Kind::Button, "Sign in").await
    }

    /// Signs out by the button that is on every page.
    pub(crate) async fn sign_out(&self) -> anyhow::Result<()> {
        self.page().within("header").click(Kind::Button, "Sign out").await?;
        self.arrives("/login").await
    }

    /// Goes to a page by the navigation.
    pub(crate) async fn visit(&self, name: &str) -> anyhow::Result<()> {
        self.page().within("nav").click(Kind::Link, name).await?;
        self.page().find(Kind::Heading, name).await?;
        Ok(())
    }
}
