//! Signing in and out by the pages, and what every page is sent with.

use secrecy::ExposeSecret as _;
use serde_json::json;
use shared::role::Role;
use tests::{World, eventually};

use super::visitor::Visitor;

#[tokio::test]
async fn one_comes_to_where_one_was_going() -> anyhow::Result<()> {
    let world = World::start().await?;
    let visitor = Visitor::at(&world.edge(1))?;
    let login = "/login?next=%2Fdashboard%3Fview%3Drbac-security";
    visitor.get("/dashboard?view=rbac-security").await?.leads_to(login);
    let page = visitor.get(login).await?.expect(200);
    let page = page.shows("name=\"next\" value=\"/dashboard?view=rbac-security\"");
    for (name, value) in [
        ("content-security-policy", "default-src 'none'; script-src 'self'; style-src 'self'"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        let header = page.headers.get(name).and_then(|value| value.to_str().ok());
        assert!(header.is_some_and(|header| header.starts_with(value)), "{name}: {header:?}");
    }
    let page = page.hides("style=").hides("onclick").hides("<script>");
    // What it is made of is kept for as long as it is the same.
    let script = format!("/assets/{}", page.between("<script src=\"/assets/", "\""));
    let kept = visitor.get(&script).await?.expect(200).shows("htmx");
    assert_eq!(kept.headers["cache-control"], "public, max-age=31536000, immutable");
    let old = visitor.get("/assets/0000/pages.js").await?.expect(200);
    assert_eq!(old.headers["cache-control"], "no-cache");
    visitor.get("/assets/0000/Cargo.toml").await?.expect(404);

    let user = world.stack.credentials().and_then(|all| all.of(Role::Member)).expect("a user");
    let form = |password: &'static str| {
        [
            ("tenant", "acme"),
            ("email", "member@acme.test"),
            ("password", password),
            ("next", "//evil.test"),
        ]
    };
    let wrong = visitor.post("/login", &form("not the password")).await?.expect(401);
    wrong
        .shows("role=\"alert\"")
        .shows("value=\"member@acme.test\"")
        .hides("not the password")
        .hides("evil.test");
    let password = user.password.expose_secret().to_owned();
    let mut form = form("");
    form[2].1 = Box::leak(password.into_boxed_str());
    visitor.post_from_elsewhere("/login", &form).await?.expect(403);
    visitor.post("/login", &form).await?.leads_to("/dashboard?view=rbac-emergency-access");
    visitor.get("/").await?.leads_to("/dashboard?view=rbac-emergency-access");
    visitor.get("/dashboard").await?.expect(200).shows("Mia Member").hides("Audit Logs");
    visitor.get("/dashboard?view=nothing").await?.expect(404);

    visitor.post_from_elsewhere("/logout", &[]).await?.expect(403);
    visitor.get("/dashboard").await?.expect(200);
    visitor.post("/logout", &[]).await?.leads_to("/login");
    visitor.get("/login").await?.expect(200).shows("You are signed out.");
    visitor.get("/login").await?.expect(200).hides("You are signed out.");
    visitor.get("/dashboard").await?.expect(303);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_second_factor_is_set_up_used_and_taken_away_by_forms() -> anyhow::Result<()> {
    let world = World::start().await?;
    let visitor = Visitor::signed_in(&world, Role::Member).await?;
    let credentials = world.stack.credentials().expect("credentials");
    let password = credentials.of(Role::Member).expect("a user").password.expose_secret();
    let wrong = [("password", "not the password")];
    visitor.post("/security/mfa/set-up", &wrong).await?.expect(401).shows("id=\"password-wrong\"");
    let begun = visitor.post("/security/mfa/set-up", &[("password", password)]).await?.expect(200);
    let begun = begun.shows("<svg").hides("style=");
    let app = tests::Authenticator::new(begun.between("class=\"key\">", "<"), "member@acme.test")?;
    let bad = visitor.post("/security/mfa/confirm", &[("code", "000000")]).await?.expect(401);
    bad.shows("id=\"code-wrong\"");
    let code = app.code(&world, 0).await?;
    let spaced = format!("{} {}", &code[..3], &code[3..]);
    let done = visitor.post("/security/mfa/confirm", &[("code", &spaced)]).await?.expect(200);
    assert_eq!(done.text.matches("<li><code>").count(), 10, "{}", done.text);
    let backup = done.between("<li><code>", "<").to_owned();
    let page = visitor.get("/settings/security").await?.expect(200);
    page.shows("10 of 10 backup codes are left").hides(&backup);

    let other = Visitor::at(&world.edge(2))?;
    let form = [("tenant", "acme"), ("email", "member@acme.test"), ("password", password)];
    let asked = other.post("/login", &form).await?.expect(200).shows("Two-factor sign-in");
    let challenge = asked.between("name=\"challenge\" value=\"", "\"").to_owned();
    let answer =
        |code| [("challenge", challenge.as_str()), ("code", code), ("next", "/settings/security")];
    other.post("/login/code", &answer("000000")).await?.expect(401).shows("id=\"code-wrong\"");
    other.post("/login/code", &answer(&backup)).await?.leads_to("/settings/security");
    let page = other.get("/settings/security").await?.expect(200);
    page.shows("9 of 10 backup codes are left").shows("backup-code");

    let code = app.code(&world, 0).await?;
    let proof = [("password", password), ("code", code.as_str())];
    let renewed = other.post("/security/mfa/backup-codes", &proof).await?.expect(200);
    assert_eq!(renewed.text.matches("<li><code>").count(), 10);
    let code = app.code(&world, 0).await?;
    let proof = [("password", password), ("code", code.as_str())];
    other.post("/security/mfa/disable", &proof).await?.leads_to("/dashboard?view=rbac-security");
    other.get("/dashboard?view=rbac-security").await?.expect(200).shows("Enable 2FA");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_has_to_set_up_a_second_factor_sees_nothing_else() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = Visitor::signed_in(&world, Role::Member).await?;
    let admin = world.sign_in(Role::Admin).await?;
    let policy = |days| json!({"require_2fa": true, "required_roles": ["member"], "grace_period_days": days});
    let put = |days| admin.send(reqwest::Method::PUT, "/v1/mfa-policy", Some(policy(days)));
    put(3).await?.expect(200);
    let page = member.get("/dashboard").await?.expect(200);
    page.shows("Your organisation requires two-factor sign-in. Set it up by");
    put(0).await?.expect(200);
    eventually("only setting up is left", async || {
        let page = member.get("/dashboard").await;
        page.is_ok_and(|page| page.location() == "/security/mfa/set-up")
    })
    .await?;
    for page in ["/settings/security", "/emergency/request", "/dashboard?view=rbac-security"] {
        member.get(page).await?.leads_to("/security/mfa/set-up");
    }
    let page = member.get("/security/mfa/set-up").await?.expect(200);
    page.shows("nothing else is possible before");
    world.end().await;
    Ok(())
}
