//! Each process killed in the middle of the job, and edges that are away for longer.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use shared::{
    id::Incarnation,
    lease::Revision,
    message::{edge::Ack, revocation::Receipt},
    role::Role,
};
use tests::{Answer, Options, World, assert_whole, eventually, receipt};

/// The main job with a process killed in the middle: whoever was signed in and elevated stays so,
/// and what is revoked after that is refused everywhere.
async fn the_job_goes_on_after_the_death_of(name: &str) -> anyhow::Result<()> {
    let own_postgres = name == "postgres";
    let world = World::start_with(Options { own_postgres, ..Options::default() }).await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    world.kill_and_await(name).await?;
    eventually("the grant holds at every edge", || async {
        world.demand_admin(&member).await.is_ok_and(|said| said == [200; 3])
    })
    .await?;
    let me = member.get("/v1/me").await?.expect(200).body;
    assert_eq!(me["user"]["email"], "member@acme.test");

    let ended = member.revoke_grant(&granted["grant"], "It works again").await?.expect(200).body;
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    assert_eq!(ended["grant"]["state"], "revoked");
    // The life of an edge that was killed may still have a lease to run out.
    let ended = receipt(&ended)?;
    assert_whole(&ended, 3, ended.edges.fenced);
    assert!(ended.edges.fenced <= u32::from(name == "gateway-1"), "{ended:?}");

    eventually("earlier lives are over", || async {
        world.live_edges().await.is_ok_and(|live| live == 3)
    })
    .await?;
    let again = member.request_grant("It is down again, for the same reason", 600).await?;
    assert_whole(&receipt(&again)?, 3, 0);
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    let ended = member.revoke_grant(&again["grant"], "It works again").await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 3, 0);
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn killed_gateway() -> anyhow::Result<()> {
    the_job_goes_on_after_the_death_of("gateway-1").await
}

#[tokio::test]
async fn killed_session_worker() -> anyhow::Result<()> {
    the_job_goes_on_after_the_death_of("session-worker").await
}

#[tokio::test]
async fn killed_grant_worker() -> anyhow::Result<()> {
    the_job_goes_on_after_the_death_of("grant-worker").await
}

#[tokio::test]
async fn killed_expiry_worker() -> anyhow::Result<()> {
    the_job_goes_on_after_the_death_of("expiry-worker").await
}

#[tokio::test]
async fn killed_nats() -> anyhow::Result<()> {
    the_job_goes_on_after_the_death_of("nats").await
}

#[tokio::test]
async fn killed_postgres() -> anyhow::Result<()> {
    the_job_goes_on_after_the_death_of("postgres").await
}

/// Revokes a grant while the third edge is away: it is fenced meanwhile, and not counted later.
async fn revoke_without_the_third(world: &World) -> anyhow::Result<Receipt> {
    let member = world.sign_in(Role::Member).await?;
    let [first, second] = [member.at(&world.edge(1)), member.at(&world.edge(2))];
    let granted = member.request_grant("Something else is down now", 600).await?;
    let granted_by = receipt(&granted)?;
    for edge in [&first, &second] {
        edge.get("/authorize?role=admin").await?.expect(200);
    }
    let ended = member.revoke_grant(&granted["grant"], "It works again").await?.expect(200).body;
    for edge in [&first, &second] {
        edge.get("/authorize?role=admin").await?.expect(403);
    }
    assert_whole(&receipt(&ended)?, 2, 0);
    Ok(granted_by)
}

#[tokio::test]
async fn an_edge_that_was_killed_is_fenced_and_then_forgotten() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    world.kill_for_good("gateway-3").await;
    let ended = member.revoke_grant(&granted["grant"], "It works again").await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 2, 1);
    assert_whole(&revoke_without_the_third(&world).await?, 2, 0);

    world.stack.start_service("gateway-3").await;
    world.all_ready().await?;
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    let again = member.request_grant("It is down again, for the same reason", 600).await?;
    assert_whole(&receipt(&again)?, 3, 0);
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_edge_that_stood_still_never_allows_what_was_revoked_meanwhile() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    let paused = world.pause("gateway-3")?;
    let ended = member.revoke_grant(&granted["grant"], "It works again").await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 2, 1);
    assert_whole(&revoke_without_the_third(&world).await?, 2, 0);

    // These reach it the moment it goes on, with its cache as it was.
    let third = member.at(&world.edge(3));
    let ask = || Answer::to(third.request(Method::GET, "/authorize?role=admin"));
    let waiting: Vec<_> = (0..32).map(|_| tokio::spawn(ask())).collect();
    // Each is sent before the next can be: nobody answers, so it is the kernel that takes them.
    let backlog = || async { connections_to(&world.edge(3)).is_ok_and(|count| count >= 32) };
    eventually("the questions are at the door", backlog).await?;
    drop(paused);
    for answer in waiting {
        let answer = answer.await??;
        assert!([403, 503].contains(&answer.status.as_u16()), "{answer:?}");
    }
    eventually("it has joined anew", || async {
        let answer = ask().await.expect("it answers");
        assert!([403, 503].contains(&answer.status.as_u16()), "{answer:?}");
        answer.status == 403
    })
    .await?;
    let lives =
        "SELECT count(*) FILTER (WHERE fenced), count(*) FILTER (WHERE NOT fenced AND NOT has_left)
                 FROM edges WHERE edge_id = 'gateway-3'";
    let lives: (i64, i64) = sqlx::query_as(lives).fetch_one(&world.pool).await?;
    assert_eq!(lives, (1, 1));
    let again = member.request_grant("It is down again, for the same reason", 600).await?;
    assert_whole(&receipt(&again)?, 3, 0);
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    world.end().await;
    Ok(())
}

/// How many connections stand to a port of this machine, as the server's side has them.
fn connections_to(url: &str) -> anyhow::Result<usize> {
    let port: u16 = url.rsplit(':').next().context("a port")?.parse()?;
    let local = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let established = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"01")
    };
    Ok(table.lines().filter(established).count())
}

#[tokio::test]
async fn an_edge_that_stopped_in_order_is_missed_by_nobody() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);

    world.stack.stop_service("gateway-3").await;
    let ended = member.revoke_grant(&granted["grant"], "It works again").await?.expect(200).body;
    assert_whole(&receipt(&ended)?, 2, 0);
    assert_whole(&revoke_without_the_third(&world).await?, 2, 0);

    world.stack.start_service("gateway-3").await;
    world.all_ready().await?;
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);
    let again = member.request_grant("It is down again, for the same reason", 600).await?;
    assert_whole(&receipt(&again)?, 3, 0);

    world.end().await;
    Ok(())
}

/// E7: what an edge has cached may be from what was lost.
#[tokio::test]
async fn an_edge_that_applied_what_the_database_lost_starts_anew() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    assert_whole(&receipt(&granted)?, 3, 0);
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    let edges = ["gateway-1", "gateway-2", "gateway-3"];
    let before: Vec<_> = edges.iter().map(|edge| world.stack.pid(edge)).collect();

    let mut lost = world.pool.begin().await?;
    sqlx::query("DELETE FROM revocations").execute(&mut *lost).await?;
    sqlx::query("UPDATE revocation_head SET revision = 0").execute(&mut *lost).await?;
    lost.commit().await?;
    eventually("all edges are other processes", || async {
        let now = edges.iter().map(|edge| world.stack.pid(edge));
        now.zip(&before).all(|(now, before)| now.is_some() && now != *before)
    })
    .await?;
    world.all_ready().await?;
    assert_eq!(world.demand_admin(&member).await?, [200; 3]);
    let ended = member.revoke_grant(&granted["grant"], "It works again").await?.expect(200).body;
    assert_eq!(ended["receipt"]["enforced"], true);
    assert_eq!(world.demand_admin(&member).await?, [403; 3]);

    world.end().await;
    Ok(())
}

/// Whoever waits for a receipt looks at the rows again, however many acks come meanwhile.
#[tokio::test]
async fn acks_of_others_do_not_hide_that_an_edge_is_fenced() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    let granted = member.request_grant("Checkout is down since the release", 600).await?;
    let bus = world.bus_of("gateway-1").await?;
    let ack = Ack {
        edge: "gateway-1".parse()?,
        incarnation: Incarnation(uuid::Uuid::nil()),
        applied: Revision::default(),
    };
    world.kill_for_good("gateway-3").await;
    let storm = async {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        loop {
            beat.tick().await;
            bus.publish(&ack).await;
        }
    };
    let ended = tokio::select! {
        ended = member.revoke_grant(&granted["grant"], "It works again") => ended?.expect(200).body,
        () = storm => unreachable!("it ends with the revocation"),
    };
    assert_whole(&receipt(&ended)?, 2, 1);

    world.end().await;
    Ok(())
}
