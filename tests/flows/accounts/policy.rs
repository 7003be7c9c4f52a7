//! The policy: of whom a second factor is required, and until when they may do without.

use reqwest::Method;
use serde_json::{Value, json};
use shared::role::Role;
use tests::{Client, World, eventually};

use super::{Tenant, assert_enforced, decided, with_token};
use crate::problem::assert_problem;

async fn set(admin: &Client, required: bool, roles: &[&str], days: u32) -> anyhow::Result<Value> {
    let policy =
        json!({"require_2fa": required, "required_roles": roles, "grace_period_days": days});
    let answer = admin.send(Method::PUT, "/v1/mfa-policy", Some(policy.clone())).await?.expect(200);
    assert_eq!(answer.body["policy"], policy);
    assert_enforced(&answer.body["receipt"]);
    Ok(answer.body)
}

async fn mfa(client: &Client) -> anyhow::Result<Value> {
    Ok(client.get("/v1/me").await?.expect(200).body["mfa"].clone())
}

/// The routes that an enrolment session may use.
const ENROLLING: [&str; 5] = [
    "GET /v1/me",
    "POST /v1/logout",
    "POST /v1/mfa/totp",
    "POST /v1/mfa/totp/confirm",
    // Without a session.
    "POST /v1/login",
];

#[tokio::test]
async fn after_the_deadline_only_enrolment_is_possible_whichever_route_is_tried()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "deadline").await?;
    let (admin, member) = (tenant.sign_in(Role::Admin).await?, tenant.sign_in(Role::Member).await?);
    let manager = tenant.sign_in(Role::Manager).await?;
    assert_eq!(decided(&world, &member).await?, [200, 200, 200]);
    let policy = admin.get("/v1/mfa-policy").await?.expect(200).body;
    assert_eq!(policy, json!({"require_2fa": false, "required_roles": [], "grace_period_days": 7}));
    let put = |client: &Client, body: Value| {
        let client = client.clone();
        async move { client.send(Method::PUT, "/v1/mfa-policy", Some(body)).await }
    };
    assert_problem(&put(&manager, policy.clone()).await?, 403, "forbidden");
    let long = json!({"require_2fa": true, "required_roles": [], "grace_period_days": 91});
    assert_problem(&put(&admin, long).await?, 400, "bad-request");
    set(&admin, true, &["member"], 0).await?;

    // At once, at every edge, for whoever is in scope.
    assert_eq!(decided(&world, &member).await?, [403, 403, 403]);
    assert_eq!(decided(&world, &manager).await?, [200, 200, 200]);
    let standing = mfa(&member).await?;
    assert_eq!((&standing["enabled"], &standing["required"]), (&json!(false), &json!(true)));
    assert!(standing["grace_ends_at"].is_string());
    let login = tenant.login("member@deadline.test", "membermember").await?.expect(200);
    assert_eq!(login.body["status"], "enrollment-required");
    let fresh = with_token(&member, &login);

    let document = member.get("/openapi.json").await?.expect(200).body;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let route = format!("{} {path}", method.to_uppercase());
            let is_open = operation["security"].as_array().is_some_and(|list| {
                list.iter().any(|way| way.as_object().is_some_and(serde_json::Map::is_empty))
            });
            if is_open || ENROLLING.contains(&route.as_str()) {
                continue;
            }
            let id = tenant.user(Role::Member).await?;
            let path = path.replace("{id}", &id).replace("{sid}", &id).replace("{revision}", "1");
            let body = match route.as_str() {
                "POST /v1/me/password" => {
                    json!({"current_password": "membermember", "new_password": "plum-harbour-9"})
                }
                "DELETE /v1/mfa/totp" | "POST /v1/mfa/backup-codes" => {
                    json!({"password": "membermember", "code": "000000"})
                }
                "DELETE /v1/users/{id}/mfa" => json!({"password": "membermember"}),
                "PUT /v1/mfa-policy" => policy.clone(),
                "POST /v1/users" => json!({"email": "a@b.test", "name": "A", "role": "member"}),
                "POST /v1/emergency/grants" => json!({"reason": "Orders are not being paid out"}),
                "POST /v1/notifications/endpoints" => {
                    json!({"kind": "webhook", "url": "https://8.8.8.8/"})
                }
                "POST /v1/emergency/grants/{id}/extend" => {
                    json!({"reason": "Orders are still not paid", "duration_seconds": 60})
                }
                "POST /v1/emergency/grants/{id}/review" => {
                    json!({"note": "Fine", "outcome": "justified"})
                }
                "PUT /v1/emergency/policy" => crate::permissions::emergency_policy(),
                _ => json!({}),
            };
            let answer = fresh.send(method.to_uppercase().parse()?, &path, Some(body)).await?;
            assert_eq!(answer.status, 403, "{route}: {}", answer.body);
            if method != "head" {
                assert_problem(&answer, 403, "enrollment-required");
            }
        }
    }
    // It enrols, and is a full session under a new token.
    let (full, ..) = fresh.enroll(&world, "membermember").await?;
    assert_eq!(decided(&world, &full).await?, [200, 200, 200]);
    assert_eq!(decided(&world, &fresh).await?, [401, 401, 401]);
    assert_eq!(decided(&world, &member).await?, [401, 401, 401]);
    let body = json!({"password": "membermember", "code": "000000"});
    let again = full.send(Method::DELETE, "/v1/mfa/totp", Some(body)).await?;
    assert_problem(&again, 401, "invalid-credentials");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_factor_that_the_policy_requires_cannot_be_disabled() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "required").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let (admin, app, _) = admin.enroll(&world, "adminadmin").await?;
    set(&admin, true, &[], 3).await?;
    let proof = json!({"password": "adminadmin", "code": app.code(&world, 0).await?});
    let refused = admin.send(Method::DELETE, "/v1/mfa/totp", Some(proof)).await?;
    assert_problem(&refused, 409, "mfa-required-by-policy");
    set(&admin, true, &["member"], 3).await?;
    let proof = json!({"password": "adminadmin", "code": app.code(&world, 0).await?});
    admin.send(Method::DELETE, "/v1/mfa/totp", Some(proof)).await?.expect(204);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn at_the_deadline_sessions_drop_to_enrolment_on_every_edge_with_a_record()
-> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "timer").await?;
    let (admin, member) = (tenant.sign_in(Role::Admin).await?, tenant.sign_in(Role::Member).await?);
    set(&admin, true, &["member"], 1).await?;
    assert_eq!(decided(&world, &member).await?, [200, 200, 200], "the day of grace");
    // The day is nearly over: as if the deadline had been set so.
    sqlx::query(
        "WITH due AS (UPDATE users SET mfa_due_at = clock_timestamp() + interval '2 seconds'
                      WHERE email = 'member@timer.test' RETURNING id, mfa_due_at)
         UPDATE timers SET due_at = mfa_due_at FROM due WHERE subject_id = id",
    )
    .execute(&world.pool)
    .await?;
    sqlx::query("DELETE FROM timers WHERE subject_id NOT IN (SELECT id FROM users WHERE email = 'member@timer.test')")
        .execute(&world.pool)
        .await?;
    eventually("the deadline is in the record", || async {
        tenant.recorded("mfa.grace-ended").await.is_ok_and(|count| count == 1)
    })
    .await?;
    eventually("every edge refuses", || async {
        decided(&world, &member).await.is_ok_and(|statuses| statuses == [403, 403, 403])
    })
    .await?;
    let timers: i64 =
        sqlx::query_scalar("SELECT count(*) FROM timers").fetch_one(&world.pool).await?;
    assert_eq!(timers, 0);
    assert_problem(&member.get("/v1/sessions").await?, 403, "enrollment-required");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn edges_act_on_the_deadline_by_the_clock_without_any_timer() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "clockwork").await?;
    let (admin, member) = (tenant.sign_in(Role::Admin).await?, tenant.sign_in(Role::Member).await?);
    world.stack.stop_service("expiry-worker").await;
    set(&admin, true, &["member"], 1).await?;
    sqlx::query("UPDATE users SET mfa_due_at = clock_timestamp() + interval '1500 milliseconds' WHERE email = 'member@clockwork.test'")
        .execute(&world.pool)
        .await?;
    eventually("the edge refuses by itself", || async {
        member.authorize().await.is_ok_and(|(status, _)| status == 403)
    })
    .await?;
    assert_eq!(tenant.recorded("mfa.grace-ended").await?, 0);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn nothing_moves_a_deadline_later() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "later").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let (admin, app, _) = admin.enroll(&world, "adminadmin").await?;
    let member = format!("/v1/users/{}", tenant.user(Role::Member).await?);
    let role = async |role: &str| -> anyhow::Result<()> {
        admin.send(Method::PATCH, &member, Some(json!({"role": role}))).await?.expect(200);
        Ok(())
    };
    let due = async || -> anyhow::Result<Option<f64>> {
        let due = sqlx::query_scalar(
            "SELECT extract(epoch FROM mfa_due_at)::float8 FROM users WHERE email = 'member@later.test'",
        );
        Ok(due.fetch_one(&world.pool).await?)
    };
    assert_eq!(due().await?, None);
    set(&admin, true, &["manager"], 30).await?;
    assert_eq!(due().await?, None, "not in scope");
    role("manager").await?;
    let first = due().await?.expect("a deadline");
    for (required, roles, days) in [
        (true, vec!["manager"], 90),
        (false, vec![], 90),
        (true, vec![], 60),
        (true, vec!["manager"], 30),
    ] {
        set(&admin, required, &roles, days).await?;
        assert_eq!(due().await?, Some(first), "{required} {roles:?} {days}");
    }
    role("member").await?;
    role("manager").await?;
    assert_eq!(due().await?, Some(first), "back and forth");
    tenant.login("member@later.test", "membermember").await?.expect(200);
    let reset = json!({"password": "adminadmin", "code": app.code(&world, 0).await?});
    admin.send(Method::DELETE, &format!("{member}/mfa"), Some(reset)).await?.expect(200);
    assert_eq!(due().await?, Some(first), "a reset of the factor");
    set(&admin, true, &["manager"], 10).await?;
    let shorter = due().await?.expect("a deadline");
    assert!((first - shorter - 20.0 * 86_400.0).abs() < 1.0, "ten days from the same beginning");
    set(&admin, true, &["manager"], 0).await?;
    let client = tenant.sign_in(Role::Member).await?;
    assert_eq!(decided(&world, &client).await?, [403, 403, 403], "earlier at once");
    world.end().await;
    Ok(())
}
