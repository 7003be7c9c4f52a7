//! What stops guessing.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::try_join_all;
use serde_json::json;
use shared::{
    clock::{Clock as _, SystemClock},
    role::Role,
};
use tests::{Answer, World};

use super::Tenant;
use crate::problem::assert_problem;

/// What finds the queue full is refused sooner than this.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// The answers by status.
fn counted(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.status.as_u16()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn two_hundred_parallel_guesses_evaluate_no_more_than_the_limit() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "guesses").await?;
    // The right one among them is not found by so many.
    for email in ["member@guesses.test", "nobody@guesses.test"] {
        let spellings = [email.to_owned(), email.to_uppercase(), format!(" {email} ")];
        let guesses = (0..200).map(|n| {
            let spelling = spellings[n % 3].clone();
            let tenant = &tenant;
            async move { tenant.login(&spelling, &format!("guess-number-{n}")).await }
        });
        let answers = try_join_all(guesses).await?;
        // Some may find no place to be hashed in; they count all the same.
        let counts = counted(&answers);
        assert!(counts.keys().all(|status| [401, 429, 503].contains(status)), "{counts:?}");
        assert!(counts[&401] <= 10, "{counts:?}");
        let failures: i32 = sqlx::query_scalar("SELECT max(failures) FROM sign_in_failures")
            .fetch_one(&world.pool)
            .await?;
        assert_eq!(failures, 10, "{counts:?}");
        let locked = answers.iter().find(|answer| answer.status == 429).expect("some");
        let wait: u32 = locked.header("retry-after").parse()?;
        assert!((1..=30).contains(&wait), "{wait}");
        assert_problem(locked, 429, "too-many-attempts");
    }
    // Told nothing different on the right password, at whichever edge.
    let right = tenant.login("member@guesses.test", "membermember").await?;
    let wrong = tenant.login("member@guesses.test", "membermembe").await?;
    let nobody = tenant.login("nobody@guesses.test", "membermember").await?;
    for answer in [&right, &wrong, &nobody] {
        assert_problem(answer, 429, "too-many-attempts");
        assert_eq!(answer.body["detail"], right.body["detail"]);
    }
    // Others of the tenant are not concerned.
    tenant.sign_in(Role::Manager).await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn delays_grow_from_30_seconds_to_an_hour_and_a_completed_sign_in_alone_resets()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "delays").await?;
    let email = tenant.email(Role::Member);
    for _ in 0..10 {
        assert_problem(&tenant.login(&email, "wrong-guess").await?, 401, "invalid-credentials");
    }
    let pass = async |seconds: f64| -> anyhow::Result<()> {
        sqlx::query("UPDATE sign_in_failures SET last_at = last_at - make_interval(secs => $1)")
            .bind(seconds)
            .execute(&world.pool)
            .await?;
        Ok(())
    };
    for delay in [30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1_920.0, 3_600.0, 3_600.0] {
        pass(delay - 5.0).await?;
        let locked = tenant.login(&email, "membermember").await?;
        assert_problem(&locked, 429, "too-many-attempts");
        let wait: u32 = locked.header("retry-after").parse()?;
        assert!((1..=5).contains(&wait), "{delay}: {wait}");
        pass(5.0).await?;
        assert_problem(&tenant.login(&email, "wrong-guess").await?, 401, "invalid-credentials");
    }
    pass(3_600.0).await?;
    tenant.login(&email, "membermember").await?.expect(200);
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sign_in_failures").fetch_one(&world.pool).await?;
    assert_eq!(rows, 0);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn failures_are_counted_over_password_code_and_backup_code_alike() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "alike").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let (member, app, codes) = member.enroll(&world, "membermember").await?;
    let email = tenant.email(Role::Member);
    // Three passwords, three codes, two backup codes, and two where one is signed in: ten.
    for _ in 0..3 {
        assert_problem(&tenant.login(&email, "wrong-guess").await?, 401, "invalid-credentials");
    }
    // A right password alone is no failure, and forgives none.
    let challenge = tenant.challenge(Role::Member).await?;
    for code in ["000000", "111111", "22 22 22", "AAAA-AAAA-AAAA-AAAA", "ZZZZ-ZZZZ-ZZZZ-ZZZZ"] {
        assert_problem(&tenant.answer(1, &challenge, code).await?, 401, "invalid-credentials");
    }
    let change = json!({"current_password": "wrong-guess", "new_password": "plum-harbour-9", "code": "000000"});
    assert_problem(&member.post("/v1/me/password", change).await?, 401, "invalid-credentials");
    let renew = json!({"password": "membermember", "code": "000000"});
    assert_problem(&member.post("/v1/mfa/backup-codes", renew).await?, 401, "invalid-credentials");
    // Now everything is refused, right or not.
    let locked = tenant.login(&email, "membermember").await?;
    assert_problem(&locked, 429, "too-many-attempts");
    let renew = json!({"password": "membermember", "code": app.code(&world, 0).await?});
    assert_problem(&member.post("/v1/mfa/backup-codes", renew).await?, 429, "too-many-attempts");
    // After the delay the user comes in, by password and code.
    sqlx::query("UPDATE sign_in_failures SET last_at = last_at - interval '30 seconds'")
        .execute(&world.pool)
        .await?;
    let challenge = tenant.challenge(Role::Member).await?;
    tenant.answer(2, &challenge, &codes[0]).await?.expect(200);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_was_not_wrong_is_not_counted() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "counted").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let failures = async || -> anyhow::Result<i64> {
        let sum =
            sqlx::query_scalar("SELECT coalesce(sum(failures), 0)::bigint FROM sign_in_failures");
        Ok(sum.fetch_one(&world.pool).await?)
    };
    // The password is right, and there is nothing to disable.
    let both = json!({"password": "membermember", "code": "123456"});
    let remove = member.send(reqwest::Method::DELETE, "/v1/mfa/totp", Some(both.clone())).await?;
    assert_problem(&remove, 404, "not-found");
    assert_problem(&member.post("/v1/mfa/backup-codes", both).await?, 404, "not-found");
    assert_eq!(failures().await?, 0);
    // A code in place of what is required, though the policy forbids it.
    let (member, app, _) = member.enroll(&world, "membermember").await?;
    let policy = json!({"require_2fa": true, "required_roles": [], "grace_period_days": 9});
    let admin = tenant.sign_in(Role::Admin).await?;
    admin.send(reqwest::Method::PUT, "/v1/mfa-policy", Some(policy)).await?.expect(200);
    let both = json!({"password": "membermember", "code": app.code(&world, 0).await?});
    let remove = member.send(reqwest::Method::DELETE, "/v1/mfa/totp", Some(both)).await?;
    assert_problem(&remove, 409, "mfa-required-by-policy");
    assert_eq!(failures().await?, 0);
    // In a storm those whose password nobody had the time to look at: at most one failure, the wrong one.
    let storm = (0..150).map(|n| {
        let tenant = &tenant;
        async move {
            let asked = SystemClock.monotonic();
            let answer = tenant.login(&format!("nobody-{n}@counted.test"), "wrong-guess").await?;
            anyhow::Ok((answer, SystemClock.monotonic().since(asked)))
        }
    });
    let (answers, took): (Vec<_>, Vec<_>) = try_join_all(storm).await?.into_iter().unzip();
    let wrong = answers.iter().filter(|answer| answer.status == 401).count();
    // Those that were given up later, for want of time, may have been looked at by then.
    let unknown = answers.iter().zip(&took);
    let unknown = unknown.filter(|(answer, took)| answer.status == 503 && **took >= GIVEN_UP);
    let most = wrong + unknown.count();
    let counts = counted(&answers);
    assert!(counts.contains_key(&503), "the queue was never full: {counts:?}");
    let failures = usize::try_from(failures().await?)?;
    assert!((wrong..=most).contains(&failures), "{failures} of {wrong} to {most}: {counts:?}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn parameters_of_a_hash_are_upgraded_at_sign_in() -> anyhow::Result<()> {
    use argon2::PasswordHasher as _;
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "upgrade").await?;
    let weak = argon2::Params::new(8_192, 1, 1, None).map_err(|e| anyhow::anyhow!("{e}"))?;
    let weak = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, weak);
    let hash = weak.hash_password_with_salt(b"membermember", &[7; 16]);
    let hash = hash.map_err(|error| anyhow::anyhow!("{error}"))?.to_string();
    sqlx::query("UPDATE users SET password_hash = $1 WHERE email = 'member@upgrade.test'")
        .bind(hash)
        .execute(&world.pool)
        .await?;
    tenant.sign_in(Role::Member).await?;
    let hash: String =
        sqlx::query_scalar("SELECT password_hash FROM users WHERE email = 'member@upgrade.test'")
            .fetch_one(&world.pool)
            .await?;
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    tenant.sign_in(Role::Member).await?;
    world.end().await;
    Ok(())
}
