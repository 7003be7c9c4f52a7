//! Sessions, the password and the policy for second factors, by the pages.

use reqwest::Method;
use secrecy::ExposeSecret as _;
use shared::role::Role;
use tests::World;

use super::visitor::Visitor;

const PAGE: &str = "/dashboard?view=rbac-security";

#[tokio::test]
async fn sessions_are_ended_by_forms() -> anyhow::Result<()> {
    let world = World::start().await?;
    let here = Visitor::signed_in(&world, Role::Member).await?;
    let there = Visitor::signed_in(&world, Role::Member).await?;
    let third = Visitor::signed_in(&world, Role::Member).await?;
    let page = here.get(PAGE).await?.expect(200).shows("this device");
    assert_eq!(page.text.matches("<li class=\"row\"").count(), 3);
    let mine = there.program(&world).get("/v1/me").await?.body["session"]["id"].clone();
    let path = format!("/security/sessions/{}/revoke", mine.as_str().expect("an id"));
    here.get(&path).await?.expect(200).shows("Revoke session");
    here.post_from_elsewhere(&path, &[]).await?.expect(403);
    there.get(PAGE).await?.expect(200);
    here.post(&path, &[]).await?.leads_to(PAGE);
    there.get(PAGE).await?.expect(303);
    let page = here.get(PAGE).await?.expect(200).shows("The session was revoked.");
    here.is_enforced(&page).await?;
    assert_eq!(page.text.matches("<li class=\"row\"").count(), 2);
    here.post("/security/sessions/revoke-others", &[]).await?.leads_to(PAGE);
    third.get(PAGE).await?.expect(303);
    here.get(PAGE).await?.expect(200).hides("Revoke all other sessions");

    // Another's is not there.
    let admin = Visitor::signed_in(&world, Role::Admin).await?;
    let theirs = admin.program(&world).get("/v1/me").await?.body["session"]["id"].clone();
    let path = format!("/security/sessions/{}/revoke", theirs.as_str().expect("an id"));
    here.get(&path).await?.expect(404);
    here.post(&path, &[]).await?.expect(404);
    admin.get(PAGE).await?.expect(200);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_page_that_follows_by_itself_keeps_no_session_alive() -> anyhow::Result<()> {
    let world = World::start().await?;
    let here = Visitor::signed_in(&world, Role::Member).await?;
    let quiet = "UPDATE sessions SET last_active_at = last_active_at - interval '5 minutes'
                 RETURNING extract(epoch FROM last_active_at)::float8";
    let last: f64 = sqlx::query_scalar(quiet).fetch_one(&world.pool).await?;
    let noted = async || -> anyhow::Result<f64> {
        let last = "SELECT extract(epoch FROM last_active_at)::float8 FROM sessions";
        Ok(sqlx::query_scalar(last).fetch_one(&world.pool).await?)
    };
    for path in [PAGE, "/dashboard", "/v1/me"] {
        let by_itself = here.request(Method::GET, path).header("hx-trigger", "live");
        here.send(by_itself).await?.expect(200);
    }
    assert!((noted().await? - last).abs() < 1e-6);
    here.get(PAGE).await?.expect(200);
    assert!(noted().await? > last + 200.0);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_password_is_changed_by_its_form() -> anyhow::Result<()> {
    let world = World::start().await?;
    let here = Visitor::signed_in(&world, Role::Member).await?;
    let there = Visitor::signed_in(&world, Role::Member).await?;
    let credentials = world.stack.credentials().expect("credentials");
    let old = credentials.of(Role::Member).expect("a user").password.expose_secret();
    let form = |old, new| [("password", old), ("new_password", new)];
    let path = "/security/password";
    here.post(path, &form("wrong", "a fine new password"))
        .await?
        .expect(401)
        .shows("id=\"password-wrong\"");
    here.post(path, &form(old, "short")).await?.expect(422).shows("id=\"new_password-wrong\"");
    here.post(path, &form(old, "a fine new password")).await?.leads_to(PAGE);
    let page = here.get(PAGE).await?.expect(200).shows("Your password was changed.");
    here.is_enforced(&page).await?;
    there.get(PAGE).await?.expect(303);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_policy_is_for_those_who_may() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = Visitor::signed_in(&world, Role::Admin).await?;
    let manager = Visitor::signed_in(&world, Role::Manager).await?;
    let form = [("require_2fa", "on"), ("required_roles", "manager"), ("grace_period_days", "7")];
    let path = "/security/mfa-policy";
    manager.get(PAGE).await?.expect(200).hides("MFA Policy");
    manager.post(path, &form).await?.expect(403);
    let bad = [("required_roles", "manager"), ("grace_period_days", "91")];
    let page = admin.post(path, &bad).await?.expect(400);
    page.shows("id=\"grace_period_days-wrong\"").shows("value=\"91\"");
    admin.get(PAGE).await?.expect(200).shows("Nobody: two-factor sign-in is not required.");
    admin.post(path, &form).await?.leads_to(PAGE);
    let page = admin.get(PAGE).await?.expect(200).shows("The MFA policy was saved.");
    page.shows("1 person, 1 of them without a second factor yet.").shows("in 6 days");
    manager.get(PAGE).await?.expect(200).shows("Your organisation requires two-factor sign-in.");
    world.end().await;
    Ok(())
}
