//! Users, as admins manage them.

use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use shared::role::Role;
use tests::World;

use super::{Tenant, assert_enforced, decided};
use crate::problem::assert_problem;

#[tokio::test]
async fn a_user_is_created_sets_a_password_once_and_signs_in() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "users").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let new = json!({"email": " Ada@Users.test ", "name": "Ada", "role": "member"});
    let created = admin.post("/v1/users", new.clone()).await?.expect(201);
    let user = &created.body["user"];
    assert_eq!((&user["email"], &user["role"]), (&json!("ada@users.test"), &json!("member")));
    assert_eq!(user["password_set"], false);
    let path = created.header("location").to_owned();
    assert_eq!(admin.get(&path).await?.expect(200).body["user"], *user);
    assert_problem(&admin.post("/v1/users", new).await?, 409, "conflict");

    let token = created.body["set_password_token"].as_str().expect("a token").to_owned();
    assert!(token.starts_with("bgp_") && token.len() == 47, "a token has 256 bits");
    let anonymous = world.anonymous();
    let set = |password: &str| json!({"token": token, "new_password": password});
    let weak = anonymous.post("/v1/password-reset", set("password1")).await?;
    assert_problem(&weak, 422, "password-too-weak");
    // Ten at once: one wins, and the token is gone.
    let at_once = (0..10).map(|_| anonymous.post("/v1/password-reset", set("plum-harbour-9")));
    let mut statuses: Vec<_> =
        try_join_all(at_once).await?.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401, 401, 401, 401, 401, 401, 401, 401]);
    assert_problem(
        &anonymous.post("/v1/password-reset", set("other-harbour-9")).await?,
        401,
        "invalid-credentials",
    );
    let ada = anonymous.sign_in("users", "ada@users.test", "plum-harbour-9").await?;
    assert_eq!(decided(&world, &ada).await?, [200, 200, 200]);
    let stored: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT to_jsonb(a)::text AS row FROM audit a UNION ALL SELECT to_jsonb(o)::text FROM outbox o
         UNION ALL SELECT to_jsonb(p)::text FROM password_tokens p) all_rows WHERE row LIKE '%' || $1 || '%'",
    )
    .bind(&token[4..])
    .fetch_one(&world.pool)
    .await?;
    assert_eq!(stored, 0, "a token is stored nowhere");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn users_are_listed_page_by_page_to_admins_alone() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "pages").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    for number in 0..5 {
        let new = json!({"email": format!("u{number}@pages.test"), "name": "U", "role": "member"});
        admin.post("/v1/users", new).await?.expect(201);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("/v1/users?limit=3{cursor}")).await?.expect(200).body;
        let users = page["users"].as_array().expect("a list");
        assert!((1..=3).contains(&users.len()));
        seen.extend(users.iter().map(|user| user["email"].as_str().expect("one").to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 8);
    assert!(seen.iter().all(|email| email.ends_with("@pages.test")), "{seen:?}");
    for role in [Role::Member, Role::Manager] {
        let client = tenant.sign_in(role).await?;
        assert_problem(&client.get("/v1/users").await?, 403, "forbidden");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn disabling_ends_everything_everywhere_with_a_receipt() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "disable").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let (one, two) = (tenant.sign_in(Role::Member).await?, tenant.sign_in(Role::Member).await?);
    assert_eq!(decided(&world, &one).await?, [200, 200, 200]);
    assert_eq!(decided(&world, &two).await?, [200, 200, 200]);
    let path = format!("/v1/users/{}", tenant.user(Role::Member).await?);
    let change = |body| admin.send(Method::PATCH, &path, Some(body));
    let disabled = change(json!({"disabled": true})).await?.expect(200).body;
    assert_enforced(&disabled["receipt"]);
    assert_eq!(disabled["user"]["disabled"], true);
    for client in [&one, &two] {
        assert_eq!(decided(&world, client).await?, [401, 401, 401]);
    }
    let email = tenant.email(Role::Member);
    assert_problem(&tenant.login(&email, "membermember").await?, 401, "invalid-credentials");
    let enabled = change(json!({"disabled": false})).await?.expect(200).body;
    assert!(enabled["receipt"].is_null(), "no right was narrowed: {enabled}");
    assert_eq!(decided(&world, &one).await?, [401, 401, 401], "what ended stays ended");
    tenant.sign_in(Role::Member).await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_changed_role_changes_living_sessions_everywhere_with_a_receipt() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "roles").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let manager = tenant.sign_in(Role::Manager).await?;
    let at_all = world.at_all_edges(&manager);
    for client in &at_all {
        assert_eq!(client.authorize().await?, (200, "manager".to_owned()));
    }
    let path = format!("/v1/users/{}", tenant.user(Role::Manager).await?);
    let lowered = admin.send(Method::PATCH, &path, Some(json!({"role": "member"}))).await?;
    assert_enforced(&lowered.expect(200).body["receipt"]);
    for client in &at_all {
        assert_eq!(client.authorize().await?, (200, "member".to_owned()));
        assert_problem(&client.get("/v1/audit").await?, 403, "forbidden");
    }
    let raised = admin.send(Method::PATCH, &path, Some(json!({"role": "admin"}))).await?;
    assert_enforced(&raised.expect(200).body["receipt"]);
    for client in &at_all {
        assert_eq!(client.authorize().await?, (200, "admin".to_owned()));
    }
    let same = admin.send(Method::PATCH, &path, Some(json!({"role": "admin"}))).await?.expect(200);
    assert!(same.body["receipt"].is_null(), "nothing has changed");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_last_admin_stays_also_when_two_lower_each_other() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "last").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let own = format!("/v1/users/{}", tenant.user(Role::Admin).await?);
    for body in [json!({"role": "manager"}), json!({"disabled": true})] {
        assert_problem(&admin.send(Method::PATCH, &own, Some(body)).await?, 409, "last-admin");
    }
    for _ in 0..5 {
        let other = format!("/v1/users/{}", tenant.user(Role::Manager).await?);
        admin.send(Method::PATCH, &other, Some(json!({"role": "admin"}))).await?.expect(200);
        let second = tenant.sign_in(Role::Manager).await?;
        let lower = || Some(json!({"role": "member"}));
        let (one, two) = tokio::try_join!(
            admin.send(Method::PATCH, &other, lower()),
            second.send(Method::PATCH, &own, lower()),
        )?;
        let admins: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM users u JOIN tenants t ON t.id = u.tenant_id
             WHERE t.slug = 'last' AND u.role = 'admin' AND u.disabled_at IS NULL",
        )
        .fetch_one(&world.pool)
        .await?;
        assert_eq!(admins, 1, "{} {}", one.body, two.body);
        sqlx::query("UPDATE users SET role = 'admin' WHERE email = 'admin@last.test'")
            .execute(&world.pool)
            .await?;
        sqlx::query("UPDATE users SET role = 'member' WHERE email = 'manager@last.test'")
            .execute(&world.pool)
            .await?;
    }
    world.end().await;
    Ok(())
}
