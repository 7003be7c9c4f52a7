//! A user has so many live sessions at most.

use serde_json::{Value, json};
use shared::role::Role;
use sqlx::PgPool;
use tests::{Client, World, eventually};

use super::{ALIVE, DEAD, said, session_id};

const LIVE: &str = "SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id
    WHERE u.email = 'member@crowd.test' AND s.ended_at IS NULL AND s.expires_at > now()
      AND s.last_active_at + make_interval(secs => s.idle_seconds + 75) > now()";

async fn live(pool: &PgPool) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(LIVE).fetch_one(pool).await?)
}

/// Sessions that nobody has the tokens of, like the member's first, but for some columns.
async fn add(
    pool: &PgPool,
    count: i32,
    last_active: &str,
    expires: &str,
    ended: &str,
) -> anyhow::Result<()> {
    let add = format!(
        "INSERT INTO sessions (id, tenant_id, user_id, token_hash, methods, idle_seconds,
                               created_at, last_active_at, expires_at, ended_at)
         SELECT gen_random_uuid(), s.tenant_id, s.user_id, sha256(gen_random_uuid()::text::bytea), s.methods,
                s.idle_seconds, clock_timestamp(), {last_active}, {expires}, {ended}
         FROM generate_series(1, $1),
              (SELECT s.* FROM sessions s JOIN users u ON u.id = s.user_id
               WHERE u.email = 'member@crowd.test' ORDER BY s.created_at LIMIT 1) s"
    );
    sqlx::query(sqlx::AssertSqlSafe(add)).bind(count).execute(pool).await?;
    Ok(())
}

async fn is_dead_everywhere(world: &World, client: &Client) -> anyhow::Result<()> {
    eventually("the session that was opened first is dead everywhere", || async {
        said(world, client).await.is_ok_and(|said| said == [DEAD; 3])
    })
    .await
}

#[tokio::test]
async fn the_session_opened_first_makes_room_for_the_101st() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.create_tenant("crowd").await?;
    let first = world.sign_in_to("crowd", Role::Member).await?;
    let second = world.sign_in_to("crowd", Role::Member).await?;
    let neighbour = world.sign_in_to("crowd", Role::Manager).await?;
    let id = session_id(&first).await?;
    add(&world.pool, 97, "now()", "now() + interval '1 h'", "NULL").await?;
    // What is dead takes no room.
    add(&world.pool, 10, "now()", "now() + interval '1 h'", "now()").await?;
    add(&world.pool, 10, "now()", "now() - interval '1 s'", "NULL").await?;
    add(&world.pool, 10, "now() - interval '1 day'", "now() + interval '1 h'", "NULL").await?;

    let hundredth = world.sign_in_to("crowd", Role::Member).await?;
    assert_eq!(live(&world.pool).await?, 100);
    for client in [&first, &second, &hundredth, &neighbour] {
        assert_eq!(said(&world, client).await?, [ALIVE; 3]);
    }
    let revisions = "SELECT count(*) FROM revocations WHERE cause = 'session-displaced'";
    assert_eq!(sqlx::query_scalar::<_, i64>(revisions).fetch_one(&world.pool).await?, 0);

    // Used just now, and opened first all the same.
    let one_more = world.sign_in_to("crowd", Role::Member).await?;
    is_dead_everywhere(&world, &first).await?;
    assert_eq!(live(&world.pool).await?, 100);
    for client in [&second, &hundredth, &one_more, &neighbour] {
        assert_eq!(said(&world, client).await?, [ALIVE; 3]);
    }
    let listed = one_more.get("/v1/sessions").await?.expect(200).body;
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(100));
    let by = session_id(&one_more).await?;
    let record = neighbour.get("/v1/audit?action=session.displaced").await?.expect(200).body;
    let [entry] = record["entries"].as_array().expect("a list").as_slice() else {
        panic!("one entry: {record}");
    };
    assert_eq!(entry["target"], format!("session:{id}"));
    assert_eq!((&entry["detail"]["by"], &entry["detail"]["user"]), (&json!(by), &entry["actor"]));

    // At once, on all edges: each gets in, and no more than 100 live.
    let sign_ins = (0..9).map(|number| {
        let at = world.anonymous().at(&world.edge(1 + number % 3));
        async move { at.sign_in("crowd", "member@crowd.test", "membermember").await }
    });
    let mut signed_in = Vec::new();
    for client in futures_util::future::join_all(sign_ins).await {
        signed_in.push(client?);
    }
    assert_eq!(live(&world.pool).await?, 100);
    is_dead_everywhere(&world, &second).await?;
    for client in &signed_in {
        assert_eq!(said(&world, client).await?, [ALIVE; 3]);
    }
    let displaced: Vec<Value> = sqlx::query_scalar(
        "SELECT to_jsonb(sessions) FROM revocations WHERE cause = 'session-displaced' ORDER BY revision",
    )
    .fetch_all(&world.pool)
    .await?;
    assert_eq!(displaced.len(), 10, "one revision for each");
    assert!(displaced.iter().all(|sessions| sessions.as_array().map(Vec::len) == Some(1)));
    world.end().await;
    Ok(())
}
