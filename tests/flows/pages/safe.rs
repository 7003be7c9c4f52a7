//! What holds for pages of whatever kind: whom they are for, and that nobody's words do anything in them.

use reqwest::Url;
use shared::role::{ROLES, Role};
use tests::World;

use super::visitor::{Page, Visitor};

/// Text that is a program, markup and nonsense at once.
pub(super) const HOSTILE: &str = r#"<script>alert(1)</script>"'&<img src=x>"#;
/// What a page makes of it.
pub(super) const HARMLESS: &str =
    "&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;&#60;img src=x&#62;";

impl Page {
    /// Hostile text is there, and does nothing.
    #[track_caller]
    pub(super) fn harmless(self) -> Self {
        self.shows(HARMLESS).hides("<script>").hides("<img")
    }
}

impl Visitor {
    /// The user of a role in a tenant of [`World::create_tenant`], signed in by the form.
    pub(super) async fn of(world: &World, slug: &str, role: Role) -> anyhow::Result<Self> {
        let visitor = Self::at(&world.edge(1))?;
        let (email, password) = (format!("{role}@{slug}.test"), format!("{role}{role}"));
        visitor.sign_in(slug, &email, &password).await?;
        Ok(visitor)
    }

    /// Signs in by the form.
    pub(super) async fn sign_in(
        &self,
        tenant: &str,
        email: &str,
        password: &str,
    ) -> anyhow::Result<()> {
        let form = [("tenant", tenant), ("email", email), ("password", password)];
        self.post("/login", &form).await?.leads_to("/dashboard?view=rbac-emergency-access");
        Ok(())
    }
}

/// A page is for these roles, and refused to the others; who is not signed in comes to the sign-in, and
/// then back.
pub(super) async fn assert_for(
    world: &World,
    slug: &str,
    path: &str,
    roles: &[Role],
) -> anyhow::Result<()> {
    for role in ROLES {
        let page = Visitor::of(world, slug, role).await?.get(path).await?;
        let status = if roles.contains(&role) { 200 } else { 403 };
        assert_eq!(page.status, status, "{path} for {role}: {}", page.text);
        let policy = page.headers["content-security-policy"].to_str()?;
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    }
    let page = Visitor::at(&world.edge(1))?.get(path).await?.expect(303);
    let to = Url::parse(&world.edge(1))?.join(page.location())?;
    let pairs: Vec<_> = to.query_pairs().collect();
    assert_eq!((to.path(), pairs), ("/login", vec![("next".into(), path.into())]));
    Ok(())
}
