//! Security.md: “Idle 60 min and absolute 12 h by default, both configurable, both enforced at every
//! edge: never early, idle at most 90 s late”; “`last_active_at` is written at most once per session
//! and minute”. Every order of uses is tried by `gateway/src/edge/cache/idle.rs`.

use shared::{role::Role, subject::Subject};
use sqlx::PgPool;
use tests::{
    Client, Options, eventually,
    faults::{
        proxy::{Condition, Proxy, Way},
        rig::{Rig, Server},
    },
};

use super::{ALIVE, DEAD, said, session_id};

const IDLE: i64 = 600;
const ABSOLUTE: i64 = 2_380;

/// Lets time pass by the clock that decides, and waits until each edge has read it twice.
async fn wind(rig: &Rig, to: i64) -> anyhow::Result<()> {
    let read = "SELECT lease_seq FROM edges WHERE NOT fenced AND NOT has_left ORDER BY edge_id";
    rig.set_clock("postgres", to)?;
    let before: Vec<i64> = sqlx::query_scalar(read).fetch_all(&rig.world.pool).await?;
    eventually("every edge has read the clock", || async {
        let now: Vec<i64> =
            sqlx::query_scalar(read).fetch_all(&rig.world.pool).await.unwrap_or_default();
        now.len() == 3 && now.iter().zip(&before).all(|(now, before)| *now > before + 2)
    })
    .await
}

/// How long ago a session was last used, as far as the database knows.
async fn unused(pool: &PgPool, client: &str) -> Result<f64, sqlx::Error> {
    let read = "SELECT extract(epoch FROM clock_timestamp() - last_active_at)::float8 FROM sessions WHERE id = $1::uuid";
    sqlx::query_scalar(read).bind(client).fetch_one(pool).await
}

/// Waits until the database knows of uses just now. They are on their way for seconds, which a clock that
/// is wound would make minutes.
async fn is_known(rig: &Rig, sessions: &[&str]) -> anyhow::Result<()> {
    for session in sessions {
        eventually("the database knows of the use", || async {
            unused(&rig.world.pool, session).await.is_ok_and(|seconds| seconds < 60.0)
        })
        .await?;
    }
    Ok(())
}

/// From now on each time at which a session was last used, as it is written.
async fn see_writes(pool: &PgPool) -> anyhow::Result<()> {
    for statement in [
        "CREATE TABLE seen (id uuid, at timestamptz)",
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO seen VALUES (NEW.id, NEW.last_active_at); RETURN NEW; END $$",
        "CREATE TRIGGER see AFTER UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION see()",
    ] {
        sqlx::query(statement).execute(pool).await?;
    }
    Ok(())
}

async fn at(rig: &Rig, edge: usize, client: &Client) -> anyhow::Result<u16> {
    Ok(client.at(&rig.world.edge(edge)).authorize().await?.0)
}

/// What the API says of one's own session.
async fn me(rig: &Rig, client: &Client) -> anyhow::Result<u16> {
    Ok(client.at(&rig.world.edge(1)).get("/v1/me").await?.status.as_u16())
}

#[tokio::test]
async fn sessions_end_when_they_are_due_at_every_edge_wherever_they_are_used() -> anyhow::Result<()>
{
    let flags =
        ["--session-idle-seconds", "600", "--session-seconds", "2380"].map(ToOwned::to_owned);
    let flags = vec![("session-worker", flags.to_vec())];
    let rig = Rig::start(Options { own_postgres: true, flags, ..Options::default() }).await?;
    let idle = rig.world.sign_in(Role::Member).await?;
    let busy = rig.world.sign_in(Role::Member).await?;
    let (idle_id, busy_id) = (session_id(&idle).await?, session_id(&busy).await?);
    for client in [&idle, &busy] {
        assert_eq!(said(&rig.world, client).await?, [ALIVE; 3]);
    }

    see_writes(&rig.world.pool).await?;

    // One is used at the first edge alone; the others have what they loaded.
    wind(&rig, IDLE - 40).await?;
    assert_eq!(at(&rig, 1, &idle).await?, ALIVE);
    // At all of them, of which each thinks that it has to tell.
    assert_eq!(said(&rig.world, &busy).await?, [ALIVE; 3]);
    assert_eq!(me(&rig, &busy).await?, ALIVE);
    is_known(&rig, &[&idle_id, &busy_id]).await?;
    wind(&rig, 2 * (IDLE - 40)).await?;
    assert_eq!(at(&rig, 3, &idle).await?, ALIVE, "not early: it was used at the first edge");
    assert_eq!(at(&rig, 2, &busy).await?, ALIVE, "not early: it was used at the first edge");
    is_known(&rig, &[&idle_id, &busy_id]).await?;

    // One is used on, the other is not.
    wind(&rig, 3 * (IDLE - 40)).await?;
    assert_eq!(at(&rig, 2, &busy).await?, ALIVE);
    is_known(&rig, &[&busy_id]).await?;
    wind(&rig, 2 * (IDLE - 40) + IDLE + 90).await?;
    assert_eq!(said(&rig.world, &idle).await?, [DEAD; 3], "unused for so long");
    assert_eq!(me(&rig, &idle).await?, DEAD);
    assert_eq!(said(&rig.world, &busy).await?, [ALIVE; 3]);
    let listed = busy.get("/v1/sessions").await?.expect(200).body;
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(1), "{listed}");

    is_known(&rig, &[&busy_id]).await?;

    // Used all the time, and over.
    wind(&rig, ABSOLUTE).await?;
    assert_eq!(said(&rig.world, &busy).await?, [DEAD; 3]);
    assert_eq!(me(&rig, &busy).await?, DEAD);

    // Leaving, edges report what is left.
    for edge in ["gateway-1", "gateway-2", "gateway-3"] {
        rig.world.stack.stop_service(edge).await;
    }
    let written: Vec<i64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM at - lag(at, 1, at - interval '1 h') OVER (PARTITION BY id ORDER BY at))::bigint
         FROM seen",
    )
    .fetch_all(&rig.world.pool)
    .await?;
    assert!(written.len() >= 6 && written.iter().all(|gap| *gap >= 60), "{written:?}");
    rig.end().await;
    Ok(())
}

#[tokio::test]
async fn a_use_is_told_until_it_is_written() -> anyhow::Result<()> {
    let rig = Rig::start(Options::default()).await?;
    let client = rig.world.sign_in(Role::Member).await?;
    let id = session_id(&client).await?;
    sqlx::query("UPDATE sessions SET last_active_at = now() - interval '5 min'")
        .execute(&rig.world.pool)
        .await?;
    see_writes(&rig.world.pool).await?;
    let lost = || rig.link("gateway-3", Server::Nats, Proxy::lost);
    rig.link("gateway-3", Server::Nats, |proxy| {
        proxy.set(Condition::losing(Way::Up, Subject::SessionTouch));
    });
    assert_eq!(at(&rig, 3, &client).await?, ALIVE);
    eventually("a report is lost", || async { lost() > 0 }).await?;
    let seen = "SELECT count(*) FROM seen";
    assert_eq!(sqlx::query_scalar::<_, i64>(seen).fetch_one(&rig.world.pool).await?, 0);
    rig.link("gateway-3", Server::Nats, |proxy| proxy.set(Condition::default()));
    is_known(&rig, &[&id]).await?;
    assert_eq!(sqlx::query_scalar::<_, i64>(seen).fetch_one(&rig.world.pool).await?, 1);
    rig.end().await;
    Ok(())
}
