//! What ends sessions against those who are signing in just then, at every edge: after the receipt
//! nothing works that was had by what is no more.

use futures_util::future::{join_all, try_join};
use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Answer, Client, World};

use super::{Tenant, assert_enforced, decided, with_token};

const ROUNDS: usize = 8;
/// Who sign in beside each other in each round.
const AT_ONCE: usize = 6;

/// Many sign-ins with a password at all edges, the later ones a little later.
async fn sign_ins(tenant: &Tenant<'_>, email: &str, password: &str) -> anyhow::Result<Vec<Answer>> {
    let login = json!({
        "tenant": tenant.slug, "email": email, "password": password, "transport": "token",
    });
    let all = (0..AT_ONCE).map(|n| {
        let client = tenant.world.anonymous().at(&tenant.world.edge(1 + n % 3));
        let login = login.clone();
        async move { client.post("/v1/login", login).await }
    });
    join_all(all).await.into_iter().collect()
}

/// No token among the answers works at any edge.
async fn assert_dead(world: &World, answers: &[Answer], round: usize) -> anyhow::Result<()> {
    for answer in answers.iter().filter(|answer| answer.body["token"].is_string()) {
        let client = with_token(&world.anonymous(), answer);
        assert_eq!(decided(world, &client).await?, [401; 3], "round {round}: {}", answer.body);
    }
    Ok(())
}

fn user_id(answer: &Answer) -> String {
    answer.body["user"]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn no_session_outlives_the_disabling_of_its_user() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "racedisable").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let path = format!("/v1/users/{}", tenant.user(Role::Member).await?);
    let change =
        |disabled: bool| admin.send(Method::PATCH, &path, Some(json!({"disabled": disabled})));
    let email = tenant.email(Role::Member);
    for round in 0..ROUNDS {
        let (answers, disabled) =
            try_join(sign_ins(&tenant, &email, "membermember"), change(true)).await?;
        assert_enforced(&disabled.expect(200).body["receipt"]);
        assert_dead(&world, &answers, round).await?;
        change(false).await?.expect(200);
        assert_dead(&world, &answers, round).await?;
        tenant.sign_in(Role::Member).await?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn no_session_outlives_the_password_that_it_was_had_by() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "racepassword").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let member = tenant.sign_in(Role::Member).await?;
    let email = tenant.email(Role::Member);
    let reset = format!("/v1/users/{}/reset-password", tenant.user(Role::Member).await?);
    let mut password = "membermember".to_owned();
    let mut here = member;
    for round in 0..ROUNDS {
        let new = format!("plum-harbour-{round}");
        let by_change = round % 2 == 0;
        let changed = async {
            if by_change {
                let body = json!({"current_password": password, "new_password": new});
                here.post("/v1/me/password", body).await
            } else {
                let issued = admin.post(&reset, json!({})).await?.expect(200);
                let token = &issued.body["set_password_token"];
                let body = json!({"token": token, "new_password": new});
                world.anonymous().post("/v1/password-reset", body).await
            }
        };
        let (answers, changed) = try_join(sign_ins(&tenant, &email, &password), changed).await?;
        assert_enforced(&changed.expect(200).body["receipt"]);
        assert_dead(&world, &answers, round).await?;
        assert_eq!(decided(&world, &here).await?, if by_change { [200; 3] } else { [401; 3] });
        // Some of them came too late, with a password that was wrong by then.
        sqlx::query("DELETE FROM sign_in_failures").execute(&world.pool).await?;
        here = world.anonymous().sign_in(tenant.slug, &email, &new).await?;
        password = new;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn no_session_by_password_alone_outlives_the_setting_up_of_a_factor() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "racefactor").await?;
    let email = tenant.email(Role::Member);
    for round in 0..ROUNDS {
        let member = tenant.sign_in(Role::Member).await?;
        let (answers, enrolled) = try_join(
            sign_ins(&tenant, &email, "membermember"),
            member.enroll(&world, "membermember"),
        )
        .await?;
        let (full, app, _) = enrolled;
        assert_dead(&world, &answers, round).await?;
        assert_eq!(decided(&world, &full).await?, [200; 3]);
        // And challenges that were had before it are gone or lead to both factors.
        for answer in answers.iter().filter(|answer| answer.body["challenge"].is_string()) {
            let challenge = answer.body["challenge"].as_str().expect("one");
            let code = app.code(&world, 0).await?;
            let signed_in = tenant.answer(1, challenge, &code).await?.expect(200);
            assert_eq!(signed_in.body["session"]["methods"], json!(["password", "totp"]));
        }
        let proof = json!({"password": "membermember", "code": app.code(&world, 0).await?});
        full.send(Method::DELETE, "/v1/mfa/totp", Some(proof)).await?.expect(204);
    }
    world.end().await;
    Ok(())
}

/// A code that is on its way while the password, the factor or the user goes.
#[tokio::test]
async fn no_challenge_outlives_what_it_was_had_by() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "racecode").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let id = tenant.user(Role::Member).await?;
    let (user, mfa) = (format!("/v1/users/{id}"), format!("/v1/users/{id}/mfa"));
    let disable =
        |disabled: bool| admin.send(Method::PATCH, &user, Some(json!({"disabled": disabled})));
    let reset_mfa = || admin.send(Method::DELETE, &mfa, Some(json!({"password": "adminadmin"})));
    let email = tenant.email(Role::Member);
    let mut password = Tenant::password(Role::Member);
    for round in 0..=ROUNDS {
        let anonymous = world.anonymous();
        let member = anonymous.sign_in(tenant.slug, &email, &password).await?;
        let (member, _, codes) = member.enroll(&world, &password).await?;
        let mut challenges = Vec::new();
        for _ in 0..AT_ONCE {
            challenges.push(anonymous.challenge(tenant.slug, &email, &password).await?);
        }
        let issued = admin.post(&format!("{user}/reset-password"), json!({})).await?.expect(200);
        let new = format!("plum-harbour-{round}");
        let set = json!({"token": issued.body["set_password_token"], "new_password": new});

        let with_codes = challenges.iter().zip(&codes).enumerate();
        let answers = join_all(
            with_codes.map(|(n, (challenge, code))| tenant.answer(1 + n % 3, challenge, code)),
        );
        let end = async {
            match round % 3 {
                0 => reset_mfa().await,
                1 => disable(true).await,
                _ => anonymous.post("/v1/password-reset", set).await,
            }
        };
        let (answers, ended) = tokio::join!(answers, end);
        let answers = answers.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        assert_enforced(&ended?.expect(200).body["receipt"]);
        assert_dead(&world, &answers, round).await?;
        assert_eq!(decided(&world, &member).await?, [401; 3], "round {round}");
        match round % 3 {
            0 => {}
            1 => {
                disable(false).await?.expect(200);
                assert_dead(&world, &answers, round).await?;
            }
            _ => password = new,
        }
        // A challenge is gone with what it was had by, whether its code came or not.
        for (challenge, code) in challenges.iter().zip(codes.iter().rev()) {
            let late = tenant.answer(1, challenge, code).await?;
            assert_eq!(late.status, 401, "round {round}: {}", late.body);
            sqlx::query("DELETE FROM sign_in_failures").execute(&world.pool).await?;
        }
        reset_mfa().await?.expect(200);
    }
    world.end().await;
    Ok(())
}

/// Locks are taken in one order: policy, users by id, the rest. Everything that takes several of them
/// goes on beside each other, and nothing is given up.
#[tokio::test]
async fn changes_of_policy_roles_users_and_sign_ins_beside_each_other_never_deadlock()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "order").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let other = admin.post("/v1/users", new_user("second", "admin")).await?.expect(201);
    let set = json!({"token": other.body["set_password_token"], "new_password": "plum-harbour-9"});
    world.anonymous().post("/v1/password-reset", set).await?.expect(200);
    let (anonymous, email) = (world.anonymous(), "second@order.test");
    let second = anonymous.sign_in(tenant.slug, email, "plum-harbour-9").await?;
    let second_id = user_id(&other);
    let [own, manager, member] = [
        tenant.user(Role::Admin).await?,
        tenant.user(Role::Manager).await?,
        tenant.user(Role::Member).await?,
    ];
    let modify = |client: &Client, id: &str, body: Value| {
        let (client, path) = (client.clone(), format!("/v1/users/{id}"));
        async move { client.send(Method::PATCH, &path, Some(body)).await }
    };
    let policy = |client: &Client, days: usize| {
        let (client, body) = (
            client.clone(),
            json!({"require_2fa": true, "required_roles": ["manager"], "grace_period_days": 1 + days}),
        );
        async move { client.send(Method::PUT, "/v1/mfa-policy", Some(body)).await }
    };
    let end = |client: &Client, id: &str| {
        let (client, path) = (client.clone(), format!("/v1/users/{id}/sessions/revoke-all"));
        async move { client.post(&path, json!({})).await }
    };
    for round in 0..ROUNDS {
        let role = if round % 2 == 0 { "manager" } else { "member" };
        let name = |who: &str| json!({"name": format!("{who} {round}")});
        let reset = |client: &Client, password: &str, id: &str| {
            let (client, path) = (client.clone(), format!("/v1/users/{id}/mfa"));
            let proof = Some(json!({"password": password}));
            async move { client.send(Method::DELETE, &path, proof).await }
        };
        let (a, b) = (&admin, &second);
        let email = tenant.email(Role::Member);
        let all: Vec<futures_util::future::LocalBoxFuture<'_, anyhow::Result<Answer>>> = vec![
            Box::pin(policy(a, round)),
            Box::pin(policy(b, round + 1)),
            Box::pin(modify(a, &member, json!({"role": role}))),
            Box::pin(modify(b, &manager, json!({"role": role}))),
            // Each the other one.
            Box::pin(modify(a, &second_id, name("a"))),
            Box::pin(modify(b, &own, name("b"))),
            Box::pin(reset(a, "adminadmin", &manager)),
            Box::pin(reset(b, "plum-harbour-9", &member)),
            Box::pin(end(a, &member)),
            Box::pin(end(b, &manager)),
            Box::pin(a.post("/v1/users", new_user(&format!("u{round}"), "manager"))),
            Box::pin(tenant.login(&email, "membermember")),
            Box::pin(tenant.login("second@order.test", "plum-harbour-9")),
        ];
        for (place, answer) in join_all(all).await.into_iter().enumerate() {
            let answer = answer?;
            // A session that another one ends meanwhile is told so; nobody is told of a failure.
            let is_well = answer.status.is_success() || answer.status == 401;
            assert!(is_well, "round {round}, {place}: {} {}", answer.status, answer.body);
        }
    }
    let deadlocks: i64 = sqlx::query_scalar(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    )
    .fetch_one(&world.pool)
    .await?;
    assert_eq!(deadlocks, 0);
    world.end().await;
    Ok(())
}

fn new_user(name: &str, role: &str) -> Value {
    json!({"email": format!("{name}@order.test"), "name": name, "role": role})
}
