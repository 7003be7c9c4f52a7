//! Signing in from a device that a user has never used is told to somebody.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, World};

const WINDOWS: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

async fn sign_in(world: &World, who: &str, agent: &str, password: &str) -> anyhow::Result<Answer> {
    let login = json!({
        "tenant": "devices", "email": format!("{who}@devices.test"), "password": password, "transport": "token",
    });
    let request = world.anonymous().request(Method::POST, "/v1/login").header("user-agent", agent);
    Answer::to(request.json(&login)).await
}

async fn told(world: &World) -> anyhow::Result<Vec<Value>> {
    let events = "SELECT to_jsonb(o) FROM outbox o ORDER BY created_at";
    Ok(sqlx::query_scalar(events).fetch_all(&world.pool).await?)
}

#[tokio::test]
async fn a_device_never_seen_for_a_user_is_told_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("devices").await?;
    let member = async |agent: &str| -> anyhow::Result<Value> {
        let answer = sign_in(&world, "member", agent, "membermember").await?.expect(200);
        Ok(answer.body["session"].clone())
    };
    member(WINDOWS).await?;
    assert_eq!(told(&world).await?.len(), 0, "the very first sign-in is no news");
    member(&WINDOWS.replace("131", "140")).await?;
    assert_eq!(told(&world).await?.len(), 0, "an update makes no new device");

    // A wrong password tells nobody of the device.
    sign_in(&world, "member", "curl/8.5.0", "a wrong one").await?.expect(401);
    let session = member("curl/8.5.0").await?;
    let events = told(&world).await?;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(event["kind"], "session.new-device");
    assert_eq!(event["payload"]["session"], session["id"]);
    assert_eq!(event["payload"]["device"], session["device"]);
    assert_eq!(event["payload"]["device"]["label"], "curl");
    assert_eq!(event["payload"]["ip"], "127.0.0.1");
    let of: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM users u JOIN outbox o ON o.tenant_id = u.tenant_id
                        WHERE u.email = 'member@devices.test' AND o.payload ->> 'user' = u.id::text
                          AND o.traceparent IS NOT NULL)",
    )
    .fetch_one(&world.pool)
    .await?;
    assert!(of, "{event}");

    // Both are known now, to this user alone.
    for agent in [WINDOWS, "curl/8.6.0"] {
        member(agent).await?;
    }
    sign_in(&world, "manager", "Wget/1.24.5", "managermanager").await?.expect(200);
    assert_eq!(told(&world).await?.len(), 1);
    sign_in(&world, "manager", WINDOWS, "managermanager").await?.expect(200);
    assert_eq!(told(&world).await?.len(), 2);

    // At once it is still new once.
    let at_once = (0..6).map(|_| member("Go-http-client/2.0"));
    for signed_in in futures_util::future::join_all(at_once).await {
        signed_in?;
    }
    assert_eq!(told(&world).await?.len(), 3);

    // Of many devices those of the latest use are remembered.
    sqlx::query(
        "INSERT INTO known_devices (user_id, fingerprint, last_seen_at)
         SELECT u.id, sha256(n::text::bytea), now() + interval '1 min'
         FROM users u, generate_series(1, 198) n WHERE u.email = 'member@devices.test'",
    )
    .execute(&world.pool)
    .await?;
    member("Wget/1.24.5").await?;
    let count = "SELECT count(*) FROM known_devices d JOIN users u ON u.id = d.user_id WHERE u.email = 'member@devices.test'";
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&world.pool).await?, 200);
    assert_eq!(told(&world).await?.len(), 4);
    member("Wget/1.24.5").await?;
    assert_eq!(told(&world).await?.len(), 4);
    member("curl/8.5.0").await?;
    assert_eq!(told(&world).await?.len(), 5, "forgotten, and so new again");
    world.end().await;
    Ok(())
}
