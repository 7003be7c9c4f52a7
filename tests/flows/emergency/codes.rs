//! Fresh codes: verified for this very request, used up by it, and by nothing that is refused.

use serde_json::{Value, json};
use shared::role::Role;
use tests::World;

use super::{REASON, act, ask, set_policy};

fn password(world: &World, role: Role) -> String {
    use secrecy::ExposeSecret as _;
    let credentials = world.stack.credentials().and_then(|c| c.of(role)).expect("a seeded user");
    credentials.password.expose_secret().to_owned()
}

#[tokio::test]
async fn who_has_a_factor_shows_a_code_with_each_request() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let password = password(&world, Role::Member);
    let (member, app, backup) = member.enroll(&world, &password).await?;
    let body = |reason: &str, code: &Value| json!({"reason": reason, "code": code});

    let refused = ask(&member, body(REASON, &Value::Null)).await?.expect(403);
    assert_eq!(refused.code(), "fresh-mfa-required");
    // The enrolment was no request.
    let used = app.code_as_is(&world, 0).await?;
    sqlx::query("UPDATE totp_factors SET last_step = last_step + 1").execute(&world.pool).await?;
    let refused = ask(&member, body(REASON, &json!(used))).await?.expect(403);
    assert_eq!(refused.code(), "fresh-mfa-required", "a used code does not count");
    for wrong in ["000000", "", "12345", "abcdefgh", "1234567890123456"] {
        let refused = ask(&member, body(REASON, &json!(wrong))).await?.expect(403);
        assert_eq!(refused.code(), "fresh-mfa-required", "{wrong}");
    }
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    // A request that is refused for something else uses no code up.
    let code = json!(app.code(&world, 0).await?);
    assert_eq!(ask(&member, body("short", &code)).await?.expect(422).code(), "reason-too-weak");
    let granted = ask(&member, body(REASON, &code)).await?.expect(201).body;
    assert_eq!(granted["grant"]["factor"], "totp");
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    let again = ask(&member, body("The same code for another thing", &code)).await?.expect(403);
    assert_eq!(again.code(), "fresh-mfa-required");

    // Extending wants one as well; a backup code does.
    let more = |code: &Value| json!({"reason": "Still at it, needs some time", "duration_seconds": 60, "code": code});
    let refused = act(&member, &granted["grant"], "extend", more(&Value::Null)).await?.expect(403);
    assert_eq!(refused.code(), "fresh-mfa-required");
    let extended = act(&member, &granted["grant"], "extend", more(&json!(backup[0]))).await?;
    let extended = extended.expect(201).body;
    assert_eq!(extended["grant"]["factor"], "backup-code");
    let mut again = more(&json!(backup[0]));
    again["reason"] = "Still not done, needs some more".into();
    let refused = act(&member, &extended["grant"], "extend", again).await?;
    assert_eq!(refused.expect(403).code(), "fresh-mfa-required");

    // A policy that wants none takes none, and one that is wrong is still wrong.
    set_policy(&world, json!({"require_fresh_mfa": false})).await?;
    ask(&member, body("The third thing that is broken", &Value::Null)).await?.expect(201);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn one_code_in_parallel_makes_one_grant() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let password = password(&world, Role::Member);
    let (member, app, _) = member.enroll(&world, &password).await?;
    let code = app.code(&world, 0).await?;
    let asked = (0..6).map(|n| {
        let body = json!({"reason": format!("Incident number {n} of this night"), "code": code});
        let client = &member;
        async move { ask(client, body).await }
    });
    let answers = futures_util::future::try_join_all(asked).await?;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.code(), "fresh-mfa-required");
    }

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn guesses_at_codes_with_requests_are_counted_like_any_other() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let password = password(&world, Role::Member);
    let (member, app, _) = member.enroll(&world, &password).await?;
    let guess = |n: u32| json!({"reason": REASON, "code": format!("{n:06}")});
    let mut waits = false;
    for n in 0..12 {
        let answer = ask(&member, guess(n)).await?;
        waits = answer.status == 429;
        if waits {
            assert_eq!(answer.code(), "too-many-attempts");
            assert!(answer.header("retry-after").parse::<u32>()? > 0);
            break;
        }
        assert_eq!(answer.expect(403).code(), "fresh-mfa-required");
    }
    assert!(waits, "guesses without end");
    // Nor does the right one count then.
    let code = app.code(&world, 0).await?;
    ask(&member, json!({"reason": REASON, "code": code})).await?.expect(429);
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    world.end().await;
    Ok(())
}
