//! The statements of session-worker against the rules in `shared::lease::worker`.

use std::{collections::HashMap, time::Duration};

use futures_util::future::try_join_all;
use shared::{
    bus::{Bus, BusConfig},
    id::{EdgeId, Incarnation},
    lease::{Revision, worker::EdgeRow},
    message::edge::{Join, Leave, Renew, Renewal},
    random,
    subject::Identity,
};
use sqlx::Row as _;
use tests::{Options, World};

/// A lease so long that nothing is fenced meanwhile.
const LEASE_MS: &str = "60000";

fn below(bound: u64) -> u64 {
    u64::from_le_bytes(random::bytes()) % bound
}

/// Fails unless the rows are what the rules made of them.
async fn assert_rows(world: &World, model: &HashMap<Incarnation, EdgeRow>) -> anyhow::Result<()> {
    let rows = sqlx::query("SELECT * FROM edges WHERE region = 'test'");
    for row in rows.fetch_all(&world.pool).await? {
        let model = &model[&Incarnation(row.get("incarnation"))];
        assert_eq!(row.get::<i64, _>("applied").cast_unsigned(), model.applied);
        assert_eq!(row.get::<i64, _>("must_apply").cast_unsigned(), model.must_apply);
        assert_eq!(row.get::<i64, _>("lease_seq"), model.lease_seq);
        assert_eq!(row.get::<bool, _>("fenced"), model.fenced);
        assert_eq!(row.get::<bool, _>("has_left"), model.left);
    }
    Ok(())
}

fn join(edge: &EdgeId, region: &str) -> Join {
    Join { edge: edge.clone(), region: region.to_owned(), allow_cached_ms: 0 }
}

#[tokio::test]
async fn w2_the_renewing_statement_does_what_the_rule_says() -> anyhow::Result<()> {
    let lease = vec!["--lease-ms".to_owned(), LEASE_MS.to_owned()];
    let world =
        World::start_with(Options { flags: vec![("session-worker", lease)], ..Options::default() })
            .await?;
    let edge: EdgeId = "gateway-1".parse()?;
    let config = BusConfig {
        nats_url: world.stack.nats_url().to_owned(),
        nats_nkey_file: Some(world.stack.nkey_path("gateway-1")),
        subject_prefix: world.prefix().to_owned(),
    };
    let bus = Bus::connect(&config, Identity::Gateway(edge.clone())).await?;
    tests::eventually("the bus is connected", || async { bus.is_connected() }).await?;

    let mut model: HashMap<Incarnation, EdgeRow> = HashMap::new();
    let (mut head, mut timeline) = (0, 0);
    let mut outcomes: HashMap<Renewal, u32> = HashMap::new();
    for _ in 0..250 {
        let lives: Vec<_> = model.keys().copied().collect();
        let some = lives.get(usize::try_from(below(8))?).copied();
        match (below(20), some) {
            (0..3, _) if model.len() < 8 => {
                let joined = bus.request(&join(&edge, "test")).await?;
                timeline = joined.head.timeline;
                assert_eq!(joined.head.number, head);
                model.insert(
                    joined.incarnation,
                    EdgeRow {
                        edge: edge.clone(),
                        incarnation: joined.incarnation,
                        applied: head,
                        must_apply: head,
                        lease_seq: 1,
                        ttl: Duration::from_millis(joined.ttl_ms),
                        allow_cached: Duration::ZERO,
                        fenced: false,
                        left: false,
                    },
                );
            }
            (3..7, _) => {
                head += 1;
                sqlx::query("UPDATE revocation_head SET revision = $1")
                    .bind(i64::try_from(head)?)
                    .execute(&world.pool)
                    .await?;
            }
            (7, Some(life)) => {
                sqlx::query(
                    "UPDATE edges SET fenced = true WHERE incarnation = $1 AND NOT has_left",
                )
                .bind(life.0)
                .execute(&world.pool)
                .await?;
                let row = model.get_mut(&life).expect("a life of the model");
                row.fenced = !row.left;
            }
            (8, Some(life)) => {
                bus.request(&Leave { edge: edge.clone(), incarnation: life }).await?;
                let row = model.get_mut(&life).expect("a life of the model");
                row.left = !row.fenced;
            }
            (_, Some(_)) => {
                // Several at once are one statement.
                let some = lives.into_iter().take(1 + usize::try_from(below(4))?);
                let asked: Vec<_> = some
                    .map(|incarnation| {
                        let row = &model[&incarnation];
                        let applied =
                            row.applied.saturating_sub(1) + below(head + 2 - row.applied.min(head));
                        let applied = Revision { timeline, number: applied.min(head) };
                        Renew { edge: edge.clone(), incarnation, applied, cached_sessions: 0 }
                    })
                    .collect();
                let renewed = try_join_all(asked.iter().map(|renew| bus.request(renew))).await?;
                for (asked, renewed) in asked.iter().zip(renewed) {
                    let row = model.get_mut(&asked.incarnation).expect("a life of the model");
                    let expected = row.renew(asked.applied.number, head);
                    assert_eq!(renewed.incarnation, asked.incarnation);
                    assert_eq!(renewed.renewal, expected, "{row:?} {asked:?}");
                    assert_eq!(renewed.head.number, head);
                    *outcomes.entry(expected).or_default() += 1;
                }
            }
            _ => {}
        }
        assert_rows(&world, &model).await?;
    }
    for outcome in [Renewal::Extended, Renewal::Behind, Renewal::Fenced] {
        assert!(outcomes.contains_key(&outcome), "never {outcome:?}: {outcomes:?}");
    }
    let stale = Revision { timeline: timeline + 1, number: head };
    let joined = bus.request(&join(&edge, "other")).await?;
    let incarnation = joined.incarnation;
    let renew = Renew { edge, incarnation, applied: stale, cached_sessions: 0 };
    let renewed = bus.request(&renew).await?;
    assert_eq!(renewed.renewal, Renewal::Fenced, "a renewal of another timeline is refused (E7)");

    world.end().await;
    Ok(())
}
