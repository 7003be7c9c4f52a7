//! TOTP and backup codes.

use std::collections::HashSet;

use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use shared::role::Role;
use tests::{Authenticator, World};

use super::{Tenant, assert_enforced, decided, with_token};
use crate::problem::assert_problem;

#[tokio::test]
async fn enabling_rotates_the_token_and_ends_the_users_other_sessions() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "enable").await?;
    let (here, there) = (tenant.sign_in(Role::Member).await?, tenant.sign_in(Role::Member).await?);
    let wrong = here.post("/v1/mfa/totp", json!({"password": "membermembe"})).await?;
    assert_problem(&wrong, 401, "invalid-credentials");
    assert_problem(&here.post("/v1/mfa/totp", json!({})).await?, 400, "bad-request");
    let nothing = here.post("/v1/mfa/totp/confirm", json!({"code": "123456"})).await?;
    assert_problem(&nothing, 404, "not-found");
    assert_eq!(decided(&world, &here).await?, [200, 200, 200]);
    assert_eq!(decided(&world, &there).await?, [200, 200, 200]);

    let begun = here.post("/v1/mfa/totp", json!({"password": "membermember"})).await?.expect(201);
    let me = here.get("/v1/me").await?.expect(200).body;
    assert_eq!(me["mfa"]["enabled"], false, "nothing is enabled before the first code");
    // Another session cannot confirm what this one began.
    let app =
        Authenticator::new(begun.body["secret"].as_str().expect("one"), "member@enable.test")?;
    let code = app.code(&world, 0).await?;
    let elsewhere = there.post("/v1/mfa/totp/confirm", json!({"code": code})).await?;
    assert_problem(&elsewhere, 404, "not-found");
    let wrong = here.post("/v1/mfa/totp/confirm", json!({"code": "000000"})).await?;
    assert_problem(&wrong, 401, "invalid-credentials");

    let code = app.code(&world, 0).await?;
    let confirmed = here.post("/v1/mfa/totp/confirm", json!({"code": code})).await?.expect(200);
    let renewed = with_token(&here, &confirmed);
    assert_ne!(renewed.token, here.token);
    assert_eq!(decided(&world, &here).await?, [401, 401, 401], "the old token is dead");
    assert_eq!(decided(&world, &there).await?, [401, 401, 401], "the other session is dead");
    assert_eq!(decided(&world, &renewed).await?, [200, 200, 200]);
    assert_eq!(confirmed.body["session"]["methods"], json!(["password", "totp"]));
    let codes: HashSet<_> = confirmed.body["backup_codes"]
        .as_array()
        .expect("codes")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(codes.len(), 10);
    let me = renewed.get("/v1/me").await?.expect(200).body;
    assert_eq!(
        me["mfa"],
        json!({"enabled": true, "required": false, "grace_ends_at": null, "backup_codes_left": 10})
    );
    // The code that enrolled counts no more.
    let challenge = tenant.challenge(Role::Member).await?;
    assert_problem(&tenant.answer(2, &challenge, &code).await?, 401, "invalid-credentials");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_cookie_stays_a_cookie_when_the_token_is_rotated() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "cookie").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let begun = member.post("/v1/mfa/totp", json!({"password": "membermember"})).await?.expect(201);
    let app =
        Authenticator::new(begun.body["secret"].as_str().expect("one"), "member@cookie.test")?;
    let code = app.code(&world, 0).await?;
    let cookie = format!("__Host-breakglass={}", member.token.as_deref().expect("one"));
    let confirm = || world.anonymous().request(Method::POST, "/v1/mfa/totp/confirm");
    let request = confirm().header("cookie", &cookie).json(&json!({"code": code}));
    assert_problem(&tests::Answer::to(request).await?, 403, "csrf");
    let request = confirm()
        .header("cookie", &cookie)
        .header("sec-fetch-site", "same-origin")
        .json(&json!({"code": code}));
    let answer = tests::Answer::to(request).await?.expect(200);
    assert!(answer.body["token"].is_null());
    let set = answer.header("set-cookie");
    assert!(set.starts_with("__Host-breakglass=bgs_"), "{set}");
    assert!(!set.contains(member.token.as_deref().expect("one")), "it is a new token");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_code_counts_once_in_parallel_and_through_another_gateway() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "once").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let (_, app, _) = member.enroll(&world, "membermember").await?;
    let challenges = try_join_all((0..9).map(|_| tenant.challenge(Role::Member))).await?;
    let code = app.code(&world, 0).await?;
    let tries = challenges.iter().enumerate();
    let answers =
        try_join_all(tries.map(|(n, challenge)| tenant.answer(1 + n % 3, challenge, &code)))
            .await?;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1, "one of nine wins");
    let replayed = tenant.challenge(Role::Member).await?;
    assert_problem(&tenant.answer(3, &replayed, &code).await?, 401, "invalid-credentials");
    // The step before is dead as well, the next one counts.
    let before = app.code_as_is(&world, -1).await?;
    assert_problem(&tenant.answer(2, &replayed, &before).await?, 401, "invalid-credentials");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_by_how_much_after_a_right_password_alone() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "clock").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let (member, app, codes) = member.enroll(&world, "membermember").await?;
    let challenge = tenant.challenge(Role::Member).await?;
    let late = app.code(&world, -6).await?;
    let answer = tenant.answer(1, &challenge, &late).await?;
    assert_problem(&answer, 401, "invalid-credentials");
    let detail = answer.body["detail"].as_str().expect("words");
    assert!(detail.contains("behind") && detail.contains("minutes"), "{detail}");
    let far = app.code(&world, 40).await?;
    let answer = tenant.answer(1, &challenge, &far).await?;
    assert!(!answer.body["detail"].as_str().expect("words").contains("clock of your device"));
    // The same where one is signed in.
    let proof = json!({"password": "membermember", "code": app.code(&world, 7).await?});
    let answer = member.post("/v1/mfa/backup-codes", proof).await?;
    assert!(answer.body["detail"].as_str().expect("words").contains("ahead"), "{}", answer.body);
    let proof = json!({"password": "membermembe", "code": app.code(&world, 7).await?});
    let answer = member.post("/v1/mfa/backup-codes", proof).await?;
    assert!(!answer.body["detail"].as_str().expect("words").contains("ahead"), "{}", answer.body);
    // A backup code helps meanwhile.
    let signed_in = tenant.answer(1, &challenge, &codes[0]).await?.expect(200);
    assert_eq!(signed_in.body["session"]["methods"], json!(["password", "backup-code"]));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn of_thirty_parallel_uses_of_a_backup_code_one_wins() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "backup").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let (member, app, codes) = member.enroll(&world, "membermember").await?;
    // Six challenges with five tries each.
    let challenges = try_join_all((0..6).map(|_| tenant.challenge(Role::Member))).await?;
    // So many that the account's own bound does not decide.
    let uses = (0..30).map(|n| tenant.answer(1 + n % 3, &challenges[n / 5], &codes[0]));
    let answers = try_join_all(uses).await?;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1);
    sqlx::query("DELETE FROM sign_in_failures").execute(&world.pool).await?;
    let left = member.get("/v1/me").await?.expect(200).body["mfa"]["backup_codes_left"].clone();
    assert_eq!(left, 9);
    // New ones kill the old.
    let proof = json!({"password": "membermember", "code": app.code(&world, 0).await?});
    let renewed = member.post("/v1/mfa/backup-codes", proof).await?.expect(200).body;
    let new = renewed["backup_codes"][0].as_str().expect("a code").to_owned();
    let challenge = tenant.challenge(Role::Member).await?;
    assert_problem(&tenant.answer(1, &challenge, &codes[1]).await?, 401, "invalid-credentials");
    tenant.answer(1, &challenge, &new.to_lowercase().replace('-', " ")).await?.expect(200);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_challenge_allows_five_tries_and_a_user_ten_of_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "tries").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let (_, app, _) = member.enroll(&world, "membermember").await?;
    let challenge = tenant.challenge(Role::Member).await?;
    for _ in 0..5 {
        let wrong = tenant.answer(1, &challenge, "000000").await?;
        assert_problem(&wrong, 401, "invalid-credentials");
    }
    let code = app.code(&world, 0).await?;
    assert_problem(&tenant.answer(1, &challenge, &code).await?, 401, "invalid-credentials");
    let first = tenant.challenge(Role::Member).await?;
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(tenant.challenge(Role::Member).await?);
    }
    let code = app.code(&world, 0).await?;
    assert_problem(&tenant.answer(1, &first, &code).await?, 401, "invalid-credentials");
    sqlx::query(
        "UPDATE sign_in_challenges SET expires_at = clock_timestamp() WHERE token_hash IN (
                     SELECT token_hash FROM sign_in_challenges ORDER BY created_at DESC LIMIT 1)",
    )
    .execute(&world.pool)
    .await?;
    let code = app.code(&world, 0).await?;
    assert_problem(&tenant.answer(1, &others[9], &code).await?, 401, "invalid-credentials");
    let code = app.code(&world, 0).await?;
    tenant.answer(1, &others[0], &code).await?.expect(200);
    let code = app.code(&world, 0).await?;
    assert_problem(&tenant.answer(1, &others[0], &code).await?, 401, "invalid-credentials");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn disabling_and_replacing_need_password_and_current_factor() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "disablemfa").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let (member, app, codes) = member.enroll(&world, "membermember").await?;
    let no_code = member.post("/v1/mfa/totp", json!({"password": "membermember"})).await?;
    assert_problem(&no_code, 403, "fresh-mfa-required");
    let remove = |body| member.send(Method::DELETE, "/v1/mfa/totp", Some(body));
    let code = app.code(&world, 0).await?;
    for (body, status, refusal) in [
        (json!({"code": code}), 400, "bad-request"),
        (json!({"password": "membermember"}), 400, "bad-request"),
        (json!({"password": "membermembe", "code": code}), 401, "invalid-credentials"),
        (json!({"password": "membermember", "code": "000000"}), 401, "invalid-credentials"),
    ] {
        assert_problem(&remove(body).await?, status, refusal);
    }
    // A new phone: the backup code allows it, and the old app is dead after that.
    let proof = json!({"password": "membermember", "code": codes[3]});
    let begun = member.post("/v1/mfa/totp", proof).await?.expect(201);
    let new =
        Authenticator::new(begun.body["secret"].as_str().expect("one"), "member@disablemfa.test")?;
    let code = new.code(&world, 0).await?;
    let confirmed = member.post("/v1/mfa/totp/confirm", json!({"code": code})).await?.expect(200);
    let member = with_token(&member, &confirmed);
    let remove = |body| member.send(Method::DELETE, "/v1/mfa/totp", Some(body));
    let old = json!({"password": "membermember", "code": app.code(&world, 0).await?});
    assert_problem(&remove(old).await?, 401, "invalid-credentials");
    let right = json!({"password": "membermember", "code": new.code(&world, 0).await?});
    remove(right.clone()).await?.expect(204);
    assert_problem(&remove(right).await?, 404, "not-found");
    let login = tenant.login("member@disablemfa.test", "membermember").await?.expect(200);
    assert_eq!(login.body["status"], "authenticated");
    let told: Vec<String> =
        sqlx::query_scalar("SELECT kind FROM outbox WHERE kind LIKE 'mfa%' ORDER BY id")
            .fetch_all(&world.pool)
            .await?;
    assert_eq!(told, ["mfa.enabled", "mfa.replaced", "mfa.disabled"]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_admin_takes_a_factor_away_with_their_own_proof_and_all_sessions_die()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "adminreset").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let (admin, app, _) = admin.enroll(&world, "adminadmin").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let (member, _, codes) = member.enroll(&world, "membermember").await?;
    assert_eq!(decided(&world, &member).await?, [200, 200, 200]);
    let path = format!("/v1/users/{}/mfa", tenant.user(Role::Member).await?);
    let reset = |body| admin.send(Method::DELETE, &path, Some(body));
    let no_code = reset(json!({"password": "adminadmin"})).await?;
    assert_problem(&no_code, 403, "fresh-mfa-required");
    let wrong = json!({"password": "membermember", "code": app.code(&world, 0).await?});
    assert_problem(&reset(wrong).await?, 401, "invalid-credentials");
    let right = json!({"password": "adminadmin", "code": app.code(&world, 0).await?});
    let answer = reset(right).await?.expect(200);
    assert_enforced(&answer.body["receipt"]);
    assert_eq!(decided(&world, &member).await?, [401, 401, 401]);
    assert_eq!(decided(&world, &admin).await?, [200, 200, 200]);
    let login = tenant.login("member@adminreset.test", "membermember").await?.expect(200);
    assert_eq!(login.body["status"], "authenticated", "without a second factor");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM backup_codes b JOIN users u ON u.id = b.user_id WHERE u.email = 'member@adminreset.test'")
        .fetch_one(&world.pool)
        .await?;
    assert_eq!((left, codes.len()), (0, 10));
    let told: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox WHERE kind = 'mfa.reset'")
        .fetch_one(&world.pool)
        .await?;
    assert_eq!(told, 1);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_secret_is_sealed_at_rest_and_never_readable_after_enrolment() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "rest").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let begun = member.post("/v1/mfa/totp", json!({"password": "membermember"})).await?.expect(201);
    let secret = begun.body["secret"].as_str().expect("one").to_owned();
    let uri = begun.body["otpauth_uri"].as_str().expect("one");
    assert!(uri.starts_with("otpauth://totp/Breakglass:member%40rest.test?"), "{uri}");
    assert!(uri.contains(&format!("secret={secret}")));
    let app = Authenticator::new(&secret, "member@rest.test")?;
    let stored = async |table: &str| -> anyhow::Result<Vec<u8>> {
        let select = format!("SELECT secret FROM {table}");
        Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(select)).fetch_one(&world.pool).await?)
    };
    let sealed = stored("totp_enrollments").await?;
    // 24 bytes of nonce, 20 of secret, 16 of tag.
    assert_eq!(sealed.len(), 60);
    let code = app.code(&world, 0).await?;
    member.post("/v1/mfa/totp/confirm", json!({"code": code})).await?.expect(200);
    assert_eq!(stored("totp_factors").await?.len(), 60);
    let enrolling: i64 =
        sqlx::query_scalar("SELECT count(*) FROM totp_enrollments").fetch_one(&world.pool).await?;
    assert_eq!(enrolling, 0);
    // Put into another user's row, it opens nothing.
    sqlx::query("INSERT INTO totp_factors (user_id, secret, key_id, last_step)
                 SELECT u.id, f.secret, f.key_id, 0 FROM totp_factors f, users u WHERE u.email = 'manager@rest.test'")
        .execute(&world.pool)
        .await?;
    let challenge = tenant.challenge(Role::Manager).await?;
    let code = app.code(&world, 0).await?;
    assert_problem(&tenant.answer(1, &challenge, &code).await?, 500, "internal");
    world.end().await;
    Ok(())
}
