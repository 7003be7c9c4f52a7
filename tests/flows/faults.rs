//! Single faults on links and clocks, each by itself. `cargo run -p tests -- faults` has them all at
//! once.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use shared::{
    clock::{Clock as _, SystemClock},
    message::revocation::Receipt,
    role::Role,
    subject::Subject,
};
use tests::{
    Client, Options, assert_whole, eventually,
    faults::{
        fault::Fault,
        ledger::now,
        load::Load,
        proxy::{Condition, Flow, Way},
        rig::{Rig, Server},
    },
    receipt,
};

/// How far wall clocks are off.
const OFF: i64 = 600;

async fn elevated(rig: &Rig, seconds: u32) -> anyhow::Result<(Client, Value)> {
    let member = rig.world.sign_in(Role::Member).await?;
    let mut granted = member.request_grant("Checkout is down since the release", seconds).await?;
    assert_eq!(rig.world.demand_admin(&member).await?, [200; 3]);
    Ok((member, granted["grant"].take()))
}

/// What the third edge says where the role of an admin is demanded.
async fn third(rig: &Rig, member: &Client) -> anyhow::Result<u16> {
    let answer = member.at(&rig.world.edge(3)).get("/authorize?role=admin").await?;
    Ok(answer.status.as_u16())
}

fn break_third(rig: &Rig, condition: Condition) {
    rig.link("gateway-3", Server::Nats, |proxy| proxy.set(condition));
}

/// How often each living edge's lease has been extended.
async fn extensions(rig: &Rig) -> anyhow::Result<Vec<i64>> {
    let count = "SELECT lease_seq FROM edges WHERE NOT fenced AND NOT has_left ORDER BY edge_id";
    Ok(sqlx::query_scalar(count).fetch_all(&rig.world.pool).await?)
}

/// All three acked it. On a machine that stands still for a lease, earlier lives of theirs are fenced.
#[track_caller]
fn by_all_three(receipt: &Receipt) {
    assert!(receipt.enforced && receipt.edges.acknowledged == 3, "{receipt:?}");
}

#[tokio::test]
async fn an_edge_that_hears_no_broadcast_but_renews_still_enforces() -> anyhow::Result<()> {
    let rig = Rig::start(Options::default()).await?;
    let lost = || rig.link("gateway-3", Server::Nats, tests::faults::proxy::Proxy::lost);
    break_third(&rig, Condition::losing(Way::Down, Subject::RevocationBroadcast));
    let member = rig.world.sign_in(Role::Member).await?;
    for what in ["Checkout", "The warehouse", "The mail server"] {
        let reason = format!("{what} is down since the release");
        let granted = member.request_grant(&reason, 600).await?;
        by_all_three(&receipt(&granted)?);
        assert_eq!(rig.world.demand_admin(&member).await?, [200; 3]);
        let before = lost();
        let ended = member.revoke_grant(&granted["grant"], "It works again").await?.expect(200);
        by_all_three(&receipt(&ended.body)?);
        assert_eq!(rig.world.demand_admin(&member).await?, [403; 3]);
        eventually("broadcasts are lost", || async { lost() > before }).await?;
    }
    rig.end().await;
    Ok(())
}

#[tokio::test]
async fn an_edge_joins_in_the_middle_of_a_storm_of_revocations() -> anyhow::Result<()> {
    let rig = Rig::start(Options::default()).await?;
    let load = Arc::new(Load::prepare(&rig.world).await?);
    let storm = Fault::JoinInStorm("gateway-3".to_owned());
    storm.inflict(&rig, &load, Duration::from_secs(20)).await?;
    rig.world.all_ready().await?;
    load.look_up_ends().await?;
    let last = load.revoke_one(0).await?.expect("there is a receipt");
    assert!(last.enforced, "{last:?}");
    load.ask_about_all().await.map_err(anyhow::Error::msg)?;
    assert_eq!(load.ledger.violations(), Vec::<String>::new());
    assert!(last.revision > 60, "a storm: {last:?}");
    rig.end().await;
    Ok(())
}

/// By the time a worker calls an edge fenced, the edge itself has stopped deciding.
#[tokio::test]
async fn an_edge_that_is_cut_off_stops_before_it_is_fenced() -> anyhow::Result<()> {
    let rig = Rig::start(Options::default()).await?;
    let (member, grant) = elevated(&rig, 600).await?;
    break_third(&rig, Condition::cut());
    let fenced = "SELECT EXISTS (SELECT FROM edges WHERE edge_id = 'gateway-3' AND fenced)";
    eventually("the third edge is fenced", || async {
        sqlx::query_scalar(fenced).fetch_one(&rig.world.pool).await.unwrap_or(false)
    })
    .await?;
    assert_eq!(rig.world.demand_admin(&member).await?, [200, 200, 503]);

    let ended = member.revoke_grant(&grant, "It works again").await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 2, 0);
    assert_eq!(rig.world.demand_admin(&member).await?, [403, 403, 503]);
    break_third(&rig, Condition::default());
    eventually("the third edge has joined anew", || async {
        third(&rig, &member).await.is_ok_and(|status| status == 403)
    })
    .await?;
    rig.end().await;
    Ok(())
}

/// It is heard, so its lease is extended, but it does not know that: it stops, and is fenced.
#[tokio::test]
async fn an_edge_that_hears_nothing_at_all_stops_and_is_fenced() -> anyhow::Result<()> {
    let rig = Rig::start(Options::default()).await?;
    let (member, grant) = elevated(&rig, 600).await?;
    break_third(&rig, Condition::one_way(Way::Down, Flow::Drop));
    let ended = member.revoke_grant(&grant, "It works again").await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 2, 1);
    assert_eq!(third(&rig, &member).await?, 503);
    break_third(&rig, Condition::default());
    eventually("the third edge has joined anew", || async {
        third(&rig, &member).await.is_ok_and(|status| status == 403)
    })
    .await?;
    rig.end().await;
    Ok(())
}

/// It applies what it hears while it can, though nobody knows.
#[tokio::test]
async fn an_edge_that_nobody_hears_applies_what_it_hears_and_is_fenced() -> anyhow::Result<()> {
    let rig = Rig::start(Options::default()).await?;
    let (member, grant) = elevated(&rig, 600).await?;
    break_third(&rig, Condition::one_way(Way::Up, Flow::Drop));
    let ended = member.revoke_grant(&grant, "It works again").await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 2, 1);
    assert_eq!(third(&rig, &member).await?, 503);
    break_third(&rig, Condition::default());
    eventually("the third edge has joined anew", || async {
        third(&rig, &member).await.is_ok_and(|status| status == 403)
    })
    .await?;
    rig.end().await;
    Ok(())
}

/// How far the time of an id is from this machine's, in seconds.
fn off(id: &Value) -> anyhow::Result<i64> {
    let id: uuid::Uuid = id.as_str().unwrap_or_default().parse()?;
    let (seconds, _) = id.get_timestamp().map_or((0, 0), |time| time.to_unix());
    Ok(i64::try_from(seconds)? - SystemClock.wall().micros() / 1_000_000)
}

/// E8: neither prolongs a grant nor shortens it.
#[tokio::test]
async fn the_wall_clocks_of_edges_and_workers_have_no_say() -> anyhow::Result<()> {
    let rig = Rig::start(Options::default()).await?;
    for (process, seconds) in [
        ("gateway-1", OFF),
        ("gateway-2", -OFF),
        ("session-worker", OFF),
        ("grant-worker", -OFF),
        ("expiry-worker", -OFF),
    ] {
        rig.set_clock(process, seconds)?;
    }
    let lasts = 8;
    let (member, grant) = elevated(&rig, lasts).await?;
    let given_by = now();
    // Gateways name grants, by their own wall clock.
    assert!((OFF - 30..OFF + 30).contains(&off(&grant["id"])?), "{grant}");
    rig.set_clock("gateway-1", -OFF)?;
    rig.set_clock("gateway-2", OFF)?;
    assert_eq!(rig.world.demand_admin(&member).await?, [200; 3], "not shortened");
    let end = given_by.plus(Duration::from_secs(lasts.into()));
    eventually("the grant has ended", || async { now() > end }).await?;
    assert_eq!(rig.world.demand_admin(&member).await?, [403; 3], "not prolonged");
    assert_eq!(rig.world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);
    rig.end().await;
    Ok(())
}

/// How far the database's clock is from this machine's, in seconds.
async fn database_off(rig: &Rig) -> anyhow::Result<i64> {
    let read = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let read: i64 = sqlx::query_scalar(read).fetch_one(&rig.world.pool).await?;
    Ok((read - SystemClock.wall().micros()) / 1_000_000)
}

/// Sets the database's clock, and waits until each edge has read it twice.
async fn step(rig: &Rig, seconds: i64) -> anyhow::Result<()> {
    rig.set_clock("postgres", seconds)?;
    assert!((seconds - 30..seconds + 30).contains(&database_off(rig).await?));
    let before = extensions(rig).await?;
    eventually("every edge has read the clock", || async {
        let now = extensions(rig).await.unwrap_or_default();
        now.len() == 3 && now.iter().zip(&before).all(|(now, before)| *now > before + 2)
    })
    .await
}

#[tokio::test]
async fn a_database_clock_that_steps_back_prolongs_nothing() -> anyhow::Result<()> {
    let rig = Rig::start(Options { own_postgres: true, ..Options::default() }).await?;
    let lasts = 8;
    let (member, _) = elevated(&rig, lasts).await?;
    let end = now().plus(Duration::from_secs(lasts.into()));
    step(&rig, -OFF).await?;
    eventually("the grant would have ended", || async { now() > end }).await?;
    assert_eq!(rig.world.demand_admin(&member).await?, [403; 3]);
    assert_eq!(rig.world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);

    // Longer than the step, so that it holds by the old clock as well.
    let granted = member.request_grant("Another one, to see that it works", 3_600).await?;
    assert_whole(&receipt(&granted)?, 3, 0);
    assert_eq!(rig.world.demand_admin(&member).await?, [200; 3]);
    rig.end().await;
    Ok(())
}

#[tokio::test]
async fn a_database_clock_that_steps_forward_ends_early_and_leases_go_on() -> anyhow::Result<()> {
    let rig = Rig::start(Options { own_postgres: true, ..Options::default() }).await?;
    // It would make the end official, and so hide what edges go by.
    rig.world.stack.stop_service("expiry-worker").await;
    let (member, _) = elevated(&rig, 300).await?;
    step(&rig, OFF).await?;
    assert_eq!(rig.world.demand_admin(&member).await?, [403; 3], "over by that clock");
    step(&rig, 0).await?;
    assert_eq!(rig.world.demand_admin(&member).await?, [403; 3], "what it was counts on");
    assert_eq!(rig.world.authorize(&member).await?, vec![(200, "member".to_owned()); 3]);

    let fenced = "SELECT count(*) FROM edges WHERE fenced";
    let fenced: i64 = sqlx::query_scalar(fenced).fetch_one(&rig.world.pool).await?;
    assert_eq!(fenced, 0, "no time of day decides about a lease");
    rig.end().await;
    Ok(())
}
