//! With a synchronous standby: a receipt waits until that has the commit on its disk (W7).

use std::time::Duration;

use anyhow::Context as _;
use local::process::{Launch, Orphaned, Process, Signal};
use reqwest::Method;
use rustix::process::{Pid, kill_process};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use shared::{
    database,
    message::{edge::Join, revocation::Receipt},
    refusal::Code,
    role::Role,
};
use sqlx::PgPool;
use tests::{Answer, Client, Options, World, assert_whole, eventually, receipt};

/// Something that flushes the log and says so, as a standby does. It is stopped when dropped.
fn start_standby(world: &World) -> anyhow::Result<Process> {
    let cluster = world.stack.cluster().context("a Postgres of its own")?;
    let log = tests::scratch::dir("standby-")?.keep();
    let arguments = ["--synchronous", "--no-loop", "-D"].map(Into::into).into_iter();
    let url = cluster.superuser_url();
    let url = format!("{}&application_name=standby", url.expose_secret());
    Ok(Process::start(&Launch {
        program: cluster.program_path("pg_receivewal"),
        args: arguments.chain([log.clone().into(), "-d".into(), url.into()]).collect(),
        env: Vec::new(),
        log: log.join("log"),
        dir: "/".into(),
        user: None,
        leash: true,
        orphaned: Orphaned::Kill,
        stop: Signal::KILL,
        grace: Duration::from_secs(1),
    })?)
}

async fn standby_is(state: &str, pool: &PgPool) -> bool {
    let found = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = $1";
    let found = sqlx::query_scalar::<_, i64>(found).bind(state).fetch_one(pool).await;
    found.is_ok_and(|count| count == 1)
}

/// Somebody gives up a commit's wait: Postgres reports success, with a warning that nobody sees.
async fn cancel_the_wait(pool: &PgPool) -> anyhow::Result<()> {
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("the commit's wait is cancelled", || async {
        sqlx::query(cancel).fetch_optional(pool).await.is_ok_and(|row| row.is_some())
    })
    .await
}

async fn asked_again(client: &Client, revision: u64) -> anyhow::Result<Receipt> {
    receipt(&client.get(&format!("/v1/receipts/{revision}")).await?.expect(200).body)
}

async fn revoke_at_commit(client: &Client, grant: &Value) -> anyhow::Result<Receipt> {
    let id = grant["grant"]["id"].as_str().context("an id")?;
    let path = format!("/v1/emergency/grants/{id}/revoke");
    let request = client.request(Method::POST, &path).header("Prefer", "respond-async");
    receipt(&Answer::to(request).await?.expect(202).body)
}

#[tokio::test]
async fn w7_a_commit_that_the_standby_may_not_have_is_not_called_enforced() -> anyhow::Result<()> {
    // A lease so long that nothing has to be renewed while commits wait.
    let flags = vec![("session-worker", vec!["--lease-ms=60000".to_owned()])];
    let options = Options { own_postgres: true, flags, ..Options::default() };
    let world = World::start_with(options).await?;
    let cluster = world.stack.cluster().context("a Postgres of its own")?;
    let admin = database::connect(&cluster.superuser_url(), 2)?;
    sqlx::query("GRANT pg_read_all_stats TO breakglass").execute(&admin).await?;
    let standby = start_standby(&world)?;
    eventually("it streams", || standby_is("async", &admin)).await?;
    sqlx::query("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (standby)'")
        .execute(&admin)
        .await?;
    sqlx::query("SELECT pg_reload_conf()").execute(&admin).await?;
    eventually("commits wait for it", || standby_is("sync", &admin)).await?;

    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    assert_whole(&receipt(&granted)?, 3, 0);

    let pid = Pid::from_raw(standby.pid().cast_signed()).context("a process")?;
    // No time-out gives up the wait of a session's end, which is one statement.
    kill_process(pid, Signal::STOP)?;
    let ended = tokio::spawn({
        let member = member.clone();
        async move { Answer::to(member.request(Method::POST, "/v1/sessions/revoke-others")).await }
    });
    let longer_than_statements_may_take =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query ~ 'end_sessions'
           AND clock_timestamp() - query_start > interval '5.5 seconds'";
    eventually("the commit waits for longer than a statement may take", || async {
        let waiting = sqlx::query_scalar::<_, i64>(longer_than_statements_may_take);
        waiting.fetch_one(&admin).await.is_ok_and(|waiting| waiting == 1)
    })
    .await?;
    kill_process(pid, Signal::CONT)?;
    assert_whole(&receipt(&ended.await??.expect(200).body)?, 3, 0);

    kill_process(pid, Signal::STOP)?;
    let revoked = tokio::spawn({
        let (member, granted) = (member.clone(), granted.clone());
        async move { revoke_at_commit(&member, &granted).await }
    });
    // Somebody gives up the wait: Postgres reports success, with a warning that nobody sees.
    eventually("the commit's wait is cancelled", || async {
        let cancel =
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        sqlx::query(cancel).fetch_optional(&admin).await.is_ok_and(|row| row.is_some())
    })
    .await?;
    let revoked = revoked.await??;
    eventually("every edge has it", || async {
        asked_again(&member, revoked.revision).await.expect("a receipt").edges.acknowledged == 3
    })
    .await?;
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    let unsure = asked_again(&member, revoked.revision).await?;
    assert!(!unsure.enforced, "the standby does not have it: {unsure:?}");
    assert_eq!(unsure.edges.waiting, []);

    // Nor may an edge decide whose row would be lost.
    let bus = world.bus_of("gateway-1").await?;
    let edge = "gateway-1".parse()?;
    let join = Join { edge, region: "test".to_owned(), allow_cached_ms: 0 };
    let (joined, cancelled) = tokio::join!(bus.request(&join), cancel_the_wait(&admin));
    cancelled?;
    assert_eq!(joined.map_err(|refusal| refusal.code), Err(Code::Unavailable));

    kill_process(pid, Signal::CONT)?;
    eventually("the standby has it as well", || async {
        asked_again(&member, revoked.revision).await.expect("a receipt").enforced
    })
    .await?;
    assert_whole(&asked_again(&member, revoked.revision).await?, 3, 0);

    admin.close().await;
    drop(standby);
    world.end().await;
    Ok(())
}
