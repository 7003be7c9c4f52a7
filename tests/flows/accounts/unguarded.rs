//! What must not come of requests that are no guesses, come in a flood, or meet an odd clock.

use futures_util::future::{join_all, try_join_all};
use reqwest::Method;
use serde_json::json;
use shared::role::Role;
use tests::{World, eventually};

use super::{Tenant, assert_enforced};
use crate::problem::assert_problem;

/// What is refused for another reason than a wrong secret locks nobody out.
#[tokio::test]
async fn what_is_no_wrong_guess_is_no_failure() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "noguess").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let proof = json!({"password": "membermember", "code": "000000"});
    for _ in 0..5 {
        let confirm = json!({"code": "000000"});
        let answer = member.post("/v1/mfa/totp/confirm", confirm).await?;
        assert_problem(&answer, 404, "not-found");
        let answer = member.post("/v1/mfa/backup-codes", proof.clone()).await?;
        assert_problem(&answer, 404, "not-found");
        let answer = member.send(Method::DELETE, "/v1/mfa/totp", Some(proof.clone())).await?;
        assert_problem(&answer, 404, "not-found");
    }
    tenant.sign_in(Role::Member).await?;
    world.end().await;
    Ok(())
}

/// The database's clock was ahead when somebody mistyped a password, and was then set right.
#[tokio::test]
async fn a_clock_that_steps_back_keeps_nobody_waiting_who_may_still_try() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "stepback").await?;
    let email = tenant.email(Role::Member);
    assert_problem(&tenant.login(&email, "wrong-guess").await?, 401, "invalid-credentials");
    sqlx::query("UPDATE sign_in_failures SET last_at = clock_timestamp() + interval '1 hour'")
        .execute(&world.pool)
        .await?;
    tenant.login(&email, "membermember").await?.expect(200);
    world.end().await;
    Ok(())
}

/// What nobody waits for takes the place of nothing that somebody waits for.
#[tokio::test]
async fn a_flood_of_forgotten_passwords_keeps_nobody_from_signing_in() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "forgetful").await?;
    // Somebody's row is locked for a while, so that whoever asks for it waits.
    let mut held = world.pool.begin().await?;
    sqlx::query("SELECT FROM users WHERE email = 'member@forgetful.test' FOR UPDATE")
        .execute(&mut *held)
        .await?;
    let anonymous = world.anonymous();
    let forgot = json!({"tenant": tenant.slug, "email": tenant.email(Role::Member)});
    let asked =
        try_join_all((0..64).map(|_| anonymous.post("/v1/password-reset/request", forgot.clone())));
    for answer in asked.await? {
        assert_eq!(answer.status, 202, "{}", answer.body);
    }
    for _ in 0..3 {
        tenant.sign_in(Role::Manager).await?;
    }
    held.rollback().await?;
    eventually("it is noted once", || async {
        tenant.recorded("account.password-forgotten").await.is_ok_and(|count| count == 1)
    })
    .await?;
    world.end().await;
    Ok(())
}

/// Anybody can make rows for accounts that do not exist, faster than a fixed number of them goes.
#[tokio::test]
async fn what_is_old_goes_however_much_of_it_there_is() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.stack.stop_service("session-worker").await;
    sqlx::query(
        "INSERT INTO sign_in_failures (account, failures, last_at)
         SELECT sha256(n::text::bytea), 1, clock_timestamp() - interval '31 days'
         FROM generate_series(1, 25000) n",
    )
    .execute(&world.pool)
    .await?;
    world.stack.start_service("session-worker").await;
    eventually("all of it is gone", || async {
        let left = sqlx::query_scalar("SELECT count(*) FROM sign_in_failures");
        left.fetch_one(&world.pool).await.is_ok_and(|left: i64| left == 0)
    })
    .await?;
    world.end().await;
    Ok(())
}

/// A storm at addresses that do not exist fills no table with what was never looked at.
#[tokio::test]
async fn what_was_not_looked_at_leaves_nothing_behind() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "emptied").await?;
    let storm = (0..150).map(|n| {
        let tenant = &tenant;
        async move { tenant.login(&format!("nobody-{n}@emptied.test"), "wrong-guess").await }
    });
    let answers = try_join_all(storm).await?;
    let with = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert!(with(503) > 0, "the queue was never full");
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sign_in_failures").fetch_one(&world.pool).await?;
    assert_eq!(usize::try_from(rows)?, with(401), "of {} with 503", with(503));
    world.end().await;
    Ok(())
}

/// Two tabs sign in with a right password while its hash is made anew with better parameters.
#[tokio::test]
async fn a_hash_that_is_upgraded_refuses_nobody_who_signs_in_just_then() -> anyhow::Result<()> {
    use argon2::PasswordHasher as _;
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "tabs").await?;
    let weak = argon2::Params::new(8_192, 1, 1, None).map_err(|e| anyhow::anyhow!("{e}"))?;
    let weak = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, weak);
    let hash = weak.hash_password_with_salt(b"membermember", &[7; 16]);
    let hash = hash.map_err(|error| anyhow::anyhow!("{error}"))?.to_string();
    for _ in 0..3 {
        sqlx::query("UPDATE users SET password_hash = $1 WHERE email = 'member@tabs.test'")
            .bind(&hash)
            .execute(&world.pool)
            .await?;
        let email = tenant.email(Role::Member);
        let tabs = (0..4).map(|_| tenant.login(&email, "membermember"));
        for answer in join_all(tabs).await {
            answer?.expect(200);
        }
    }
    world.end().await;
    Ok(())
}

/// “A cookie alone is never enough” to change how one signs in, for admins neither.
#[tokio::test]
async fn nobody_resets_their_own_password_without_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "ownreset").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let own = format!("/v1/users/{}/reset-password", tenant.user(Role::Admin).await?);
    assert_problem(&admin.post(&own, json!({})).await?, 409, "conflict");
    let tokens: i64 =
        sqlx::query_scalar("SELECT count(*) FROM password_tokens").fetch_one(&world.pool).await?;
    assert_eq!(tokens, 0);
    world.end().await;
    Ok(())
}

/// A policy for ten thousand people is one transaction, within the time that a statement may take.
#[tokio::test]
async fn a_policy_for_ten_thousand_users_is_set_at_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "tenthousand").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    sqlx::query(
        "INSERT INTO users (id, tenant_id, email, name, role)
         SELECT gen_random_uuid(), t.id, 'u' || n || '@tenthousand.test', 'U', 'member'
         FROM tenants t, generate_series(1, 10000) n WHERE t.slug = 'tenthousand'",
    )
    .execute(&world.pool)
    .await?;
    for days in [30, 3, 3] {
        let policy = json!({"require_2fa": true, "required_roles": [], "grace_period_days": days});
        let set = admin.send(Method::PUT, "/v1/mfa-policy", Some(policy)).await?.expect(200);
        assert_enforced(&set.body["receipt"]);
    }
    let timers: i64 =
        sqlx::query_scalar("SELECT count(*) FROM timers").fetch_one(&world.pool).await?;
    assert_eq!(timers, 10_003);
    world.end().await;
    Ok(())
}
