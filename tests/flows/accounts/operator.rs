//! The operator's command line, for when nobody can sign in.

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use serde_json::json;
use shared::role::Role;
use tests::{World, eventually, program};
use tokio::process::Command;

use super::{Tenant, decided};
use crate::problem::assert_problem;

/// What the command line prints, or why it failed.
async fn operator(world: &World, words: &[&str]) -> anyhow::Result<Result<String, String>> {
    let url = world.stack.database_url().context("a database")?;
    let mut command = Command::new(program("session-worker")?);
    command.arg("operator").args(words).env("BREAKGLASS_DATABASE_URL", url.expose_secret());
    let output = command.output().await?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    Ok(if output.status.success() { Ok(out) } else { Err(err) })
}

fn token(printed: &str) -> anyhow::Result<String> {
    let token = printed.split_whitespace().find(|word| word.starts_with("bgp_"));
    Ok(token.context("a token")?.to_owned())
}

#[tokio::test]
async fn a_tenant_is_created_with_its_first_admin() -> anyhow::Result<()> {
    let world = World::start().await?;
    let create = [
        "create-tenant",
        "--tenant",
        "fresh",
        "--name",
        "Fresh",
        "--admin-email",
        "Ada@Fresh.test",
        "--admin-name",
        "Ada",
    ];
    let printed = operator(&world, &create).await?.expect("it works");
    let again = operator(&world, &create).await?.expect_err("it is there");
    assert!(again.contains("there is a tenant fresh already"), "{again}");
    let mut bad = create;
    bad[2] = "Not A Slug";
    let refused = operator(&world, &bad).await?.expect_err("no short name");
    assert!(refused.contains("short name"), "{refused}");
    assert!(printed.contains("within 72 hours"), "{printed}");
    let anonymous = world.anonymous();
    let set = json!({"token": token(&printed)?, "new_password": "plum-harbour-9"});
    anonymous.post("/v1/password-reset", set).await?.expect(200);
    let ada = anonymous.sign_in("fresh", "ada@fresh.test", "plum-harbour-9").await?;
    let me = ada.get("/v1/me").await?.expect(200).body;
    assert_eq!(me["user"]["role"], "admin");
    // A new tenant can do what any tenant can.
    ada.get("/v1/mfa-policy").await?.expect(200);
    ada.request_grant("The new tenant tries its emergency access", 60).await?;
    let actors: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT actor FROM audit a JOIN tenants t ON t.id = a.tenant_id
         WHERE slug = 'fresh' AND action IN ('tenant.created', 'user.created', 'user.password-reset-issued')",
    )
    .fetch_all(&world.pool)
    .await?;
    assert_eq!(actors, ["operator"]);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_admins_factor_is_reset_and_their_sessions_end_on_every_edge() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "stranded").await?;
    let admin = tenant.sign_in(Role::Admin).await?;
    let (admin, ..) = admin.enroll(&world, "adminadmin").await?;
    assert_eq!(decided(&world, &admin).await?, [200, 200, 200]);
    let whom = ["--tenant", "stranded", "--email", "admin@stranded.test"];
    let printed = operator(&world, &[&["reset-mfa"], &whom[..]].concat()).await?.expect("it works");
    assert!(printed.contains("has no second factor any more"), "{printed}");
    eventually("every edge knows", || async {
        decided(&world, &admin).await.is_ok_and(|statuses| statuses == [401, 401, 401])
    })
    .await?;
    let login = tenant.login("admin@stranded.test", "adminadmin").await?.expect(200);
    assert_eq!(login.body["status"], "authenticated");
    let printed =
        operator(&world, &[&["reset-password"], &whom[..]].concat()).await?.expect("it works");
    assert!(printed.contains("within 30 minutes"), "{printed}");
    let set = json!({"token": token(&printed)?, "new_password": "plum-harbour-9"});
    world.anonymous().post("/v1/password-reset", set).await?.expect(200);
    let old = tenant.login("admin@stranded.test", "adminadmin").await?;
    assert_problem(&old, 401, "invalid-credentials");
    let nobody = ["reset-mfa", "--tenant", "stranded", "--email", "nobody@stranded.test"];
    let refused = operator(&world, &nobody).await?.expect_err("there is nobody");
    assert!(refused.contains("there is no user nobody@stranded.test"), "{refused}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn who_is_kept_out_by_anothers_guesses_is_let_in_again() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "keptout").await?;
    let email = tenant.email(Role::Admin);
    for _ in 0..10 {
        assert_problem(&tenant.login(&email, "wrong-guess").await?, 401, "invalid-credentials");
    }
    assert_problem(&tenant.login(&email, "adminadmin").await?, 429, "too-many-attempts");
    eventually("it is on record, once", || async {
        tenant.recorded("account.locked").await.is_ok_and(|count| count == 1)
    })
    .await?;
    let told: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox WHERE kind = 'account.locked'")
        .fetch_one(&world.pool)
        .await?;
    assert_eq!(told, 1);
    let unlock = ["unlock", "--tenant", "keptout", "--email", "Admin@KeptOut.test"];
    let printed = operator(&world, &unlock).await?.expect("it works");
    assert!(printed.contains("10 failed attempts"), "{printed}");
    tenant.sign_in(Role::Admin).await?;
    assert_eq!(tenant.recorded("user.unlocked").await?, 1);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn keys_rotate_though_the_command_is_stopped_half_way() -> anyhow::Result<()> {
    let world = World::start().await?;
    let tenant = Tenant::new(&world, "rotate").await?;
    let member = tenant.sign_in(Role::Member).await?;
    let (_, app, _) = member.enroll(&world, "membermember").await?;
    let keys = world.stack.data().join("keys").join("secret-keys");
    let old = tokio::fs::read_to_string(&keys).await?;
    let new = operator(&world, &["new-key"]).await?.expect("a line");
    let write = async |text: String| -> anyhow::Result<()> {
        tokio::fs::write(&keys, text).await?;
        world.stack.kill("session-worker").await;
        world.stack.wait_ready("session-worker").await?;
        Ok(())
    };
    let ids = async || -> anyhow::Result<Vec<String>> {
        Ok(sqlx::query_scalar("SELECT DISTINCT key_id FROM totp_factors ORDER BY 1")
            .fetch_all(&world.pool)
            .await?)
    };
    let id = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let signs_in = async || -> anyhow::Result<()> {
        let challenge = tenant.challenge(Role::Member).await?;
        let code = app.code(&world, 0).await?;
        tenant.answer(1, &challenge, &code).await?.expect(200);
        Ok(())
    };
    let rotate = ["rotate-keys", "--secret-keys", keys.to_str().context("a path")?];
    write(format!("{old}{new}")).await?;
    signs_in().await?;
    assert_eq!(ids().await?, [id(&old)]);
    write(format!("{new}{old}")).await?;
    signs_in().await?;
    let printed = operator(&world, &rotate).await?.expect("it works");
    assert!(printed.contains("1 sealed anew"), "{printed}");
    assert_eq!(ids().await?, [id(&new)]);
    operator(&world, &rotate).await?.expect("again, with nothing to do");
    write(new.clone()).await?;
    signs_in().await?;
    // With a key that is gone it stops, says whose secret it is, and has changed nothing.
    let stranger = operator(&world, &["new-key"]).await?.expect("a line");
    tokio::fs::write(&keys, stranger).await?;
    let refused = operator(&world, &rotate).await?.expect_err("it cannot open");
    assert!(refused.contains("cannot be opened") && refused.contains(&id(&new)), "{refused}");
    assert_eq!(ids().await?, [id(&new)]);
    world.end().await;
    Ok(())
}
