//! Passwords: which may be set, and what a new one ends.

use serde_json::json;
use shared::role::Role;
use tests::World;

use super::{Tenant, assert_enforced, decided, with_token};
use crate::problem::assert_problem;

#[tokio::test]
async fn a_password_change_ends_every_other_session_everywhere_with_a_receipt() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "change").await?;
    let (here, there) = (tenant.sign_in(Role::Member).await?, tenant.sign_in(Role::Member).await?);
    assert_eq!(decided(&world, &there).await?, [200, 200, 200]);
    let change = |current: &str, new: &str| {
        here.post("/v1/me/password", json!({"current_password": current, "new_password": new}))
    };
    let wrong = change("membermembe", "plum-harbour-9").await?;
    assert_problem(&wrong, 401, "invalid-credentials");
    for weak in ["short", "password1", "membermember", "member@change.test", &"x".repeat(129)] {
        assert_problem(&change("membermember", weak).await?, 422, "password-too-weak");
    }
    assert_eq!(decided(&world, &there).await?, [200, 200, 200], "nothing has changed yet");
    let changed = change("membermember", " plüm harbour 9 ").await?.expect(200);
    assert_enforced(&changed.body["receipt"]);
    assert_eq!(decided(&world, &here).await?, [200, 200, 200]);
    assert_eq!(decided(&world, &there).await?, [401, 401, 401]);
    let email = tenant.email(Role::Member);
    assert_problem(&tenant.login(&email, "membermember").await?, 401, "invalid-credentials");
    // Verbatim: not trimmed, not normalised.
    assert_problem(&tenant.login(&email, "plüm harbour 9").await?, 401, "invalid-credentials");
    tenant.login(&email, " plüm harbour 9 ").await?.expect(200);
    assert_eq!(tenant.recorded("account.password-changed").await?, 1);
    assert_eq!(tenant.recorded("account.proof-refused").await?, 1);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_reset_neither_signs_in_nor_removes_the_factor_and_ends_all_sessions()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "reset").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let member = tenant.sign_in(Role::Member).await?;
    let (member, app, _) = member.enroll(&world, "membermember").await?;
    let challenge = tenant.challenge(Role::Member).await?;
    let path = format!("/v1/users/{}/reset-password", tenant.user(Role::Member).await?);
    let first = admin.post(&path, json!({})).await?.expect(200).body;
    let second = admin.post(&path, json!({})).await?.expect(200).body;
    assert_eq!(decided(&world, &member).await?, [200, 200, 200], "nothing ends before it is used");
    let anonymous = world.anonymous();
    let set = |token: &serde_json::Value| {
        let body = json!({"token": token, "new_password": "plum-harbour-9"});
        anonymous.post("/v1/password-reset", body)
    };
    let replaced = set(&first["set_password_token"]).await?;
    assert_problem(&replaced, 401, "invalid-credentials");
    let answer = set(&second["set_password_token"]).await?.expect(200);
    assert_enforced(&answer.body["receipt"]);
    assert!(answer.body["token"].is_null() && answer.header("set-cookie").is_empty());
    assert_eq!(decided(&world, &member).await?, [401, 401, 401]);
    // What was begun with the old password is over, and the factor is still wanted.
    let code = app.code(&world, 0).await?;
    assert_problem(&tenant.answer(1, &challenge, &code).await?, 401, "invalid-credentials");
    let email = tenant.email(Role::Member);
    let login = tenant.login(&email, "plum-harbour-9").await?.expect(200);
    assert_eq!(login.body["status"], "mfa-required");
    assert!(login.body["token"].is_null() && login.body["session"].is_null());
    let challenge = login.body["challenge"].as_str().expect("a challenge");
    let code = app.code(&world, 0).await?;
    let signed_in = tenant.answer(2, challenge, &code).await?.expect(200);
    assert_eq!(decided(&world, &with_token(&anonymous, &signed_in)).await?, [200, 200, 200]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_reset_token_lives_30_minutes_and_not_for_the_disabled() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "token").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let path = format!("/v1/users/{}/reset-password", tenant.user(Role::Member).await?);
    let issue = async || -> anyhow::Result<serde_json::Value> {
        Ok(admin.post(&path, json!({})).await?.expect(200).body["set_password_token"].clone())
    };
    let token = issue().await?;
    let lives: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM password_tokens",
    )
    .fetch_one(&world.pool)
    .await?;
    assert!((1_700.0..=1_800.0).contains(&lives), "{lives}");
    sqlx::query("UPDATE password_tokens SET expires_at = clock_timestamp()")
        .execute(&world.pool)
        .await?;
    let set = |token: serde_json::Value| {
        let body = json!({"token": token, "new_password": "plum-harbour-9"});
        async { world.anonymous().post("/v1/password-reset", body).await }
    };
    assert_problem(&set(token).await?, 401, "invalid-credentials");
    let token = issue().await?;
    sqlx::query("UPDATE users SET disabled_at = now() WHERE email = 'member@token.test'")
        .execute(&world.pool)
        .await?;
    assert_problem(&set(token).await?, 401, "invalid-credentials");
    let request = json!({"tenant": "token", "email": "nobody@token.test"});
    world.anonymous().post("/v1/password-reset/request", request).await?.expect(202);
    world.end().await;
    Ok(())
}
