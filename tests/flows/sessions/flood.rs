//! More at once than there is room for.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::Method;
use shared::{role::Role, token::Token};
use tests::{Answer, World};

use super::{ALIVE, said};

#[tokio::test]
async fn a_thousand_at_once_are_all_answered() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = world.sign_in(Role::Admin).await?;
    let calls = (0..1_000).map(|number| {
        let client = admin.at(&world.edge(1 + number % 3));
        let path = ["/authorize", "/v1/me", "/v1/sessions", "/v1/audit", "/v1/emergency/grants"]
            [number % 5];
        async move { Answer::to(client.request(Method::GET, path)).await }
    });
    for answer in join_all(calls).await {
        let answer = answer?;
        assert!([200, 503].contains(&answer.status.as_u16()), "{}", answer.body);
    }
    assert_eq!(said(&world, &admin).await?, [ALIVE; 3]);
    admin.get("/v1/me").await?.expect(200);
    world.end().await;
    Ok(())
}

/// Tokens that somebody makes up cost a look-up each. However many come, the edges keep their
/// leases and those who are signed in do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_tokens_take_no_edge_its_lease() -> anyhow::Result<()> {
    let world = World::start().await?;
    let member = world.sign_in(Role::Member).await?;
    assert_eq!(said(&world, &member).await?, [ALIVE; 3]);
    let outsider = reqwest::Client::new();
    let (over, sent, refused) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let flood = join_all((0..900).map(|number| {
        let url = format!("{}/authorize", world.edge(1 + number % 3));
        let (outsider, over, sent, refused) = (&outsider, &over, &sent, &refused);
        async move {
            while !over.load(Relaxed) {
                let request = outsider.get(&url).bearer_auth(Token::generate().expose());
                if let Ok(answer) = request.send().await {
                    sent.fetch_add(1, Relaxed);
                    refused.fetch_add(u32::from(answer.status() == 503), Relaxed);
                }
            }
        }
    }));
    let watch = async {
        let mut refused = Vec::new();
        // Longer than a lease.
        let looking = tokio::time::timeout(Duration::from_secs(8), async {
            loop {
                let said = said(&world, &member).await?;
                if said != [ALIVE; 3] {
                    refused.push(said);
                }
            }
        });
        let looked: Result<anyhow::Result<()>, _> = looking.await;
        over.store(true, Relaxed);
        looked.unwrap_or(Ok(()))?;
        anyhow::Ok(refused)
    };
    let (_, unserved) = tokio::join!(flood, watch);
    let (sent, refused) = (sent.into_inner(), refused.into_inner());
    let unserved = unserved?;
    assert!(
        unserved.is_empty(),
        "after {sent} made-up tokens, {refused} refused with 503: {unserved:?}"
    );
    let lives: i64 =
        sqlx::query_scalar("SELECT count(*) FROM edges").fetch_one(&world.pool).await?;
    assert_eq!(lives, 3, "an edge had to join anew");
    world.end().await;
    Ok(())
}
