//! Many renewals, one statement (W2): the database's work does not grow with the edges.

use std::{collections::BTreeMap, time::Duration};

use shared::{
    database::failed,
    id::{EdgeId, Incarnation},
    message::edge::{Renew, Renewed},
    refusal::Refusal,
};
use sqlx::PgPool;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::store;
use crate::batch::{self, Queue, Waiting};

/// How long a renewal waits for others.
const GATHER: Duration = Duration::from_millis(20);
/// How long the database may take: a host that vanished does not answer at all.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most renewals that wait.
const MOST: usize = 10_000;

/// The renewals that wait, to be run.
pub(crate) struct Renewals {
    pool: PgPool,
    waiting: Receiver<Waiting<Renew, Renewed>>,
}

pub(super) fn start(pool: PgPool) -> (Queue<Renew, Renewed>, Renewals) {
    let (queue, waiting) = batch::queue(MOST);
    (queue, Renewals { pool, waiting })
}

/// A row, and the timeline in which its edge lives.
type Life = (EdgeId, Incarnation, u32);

impl Renewals {
    /// Renews until `finished`.
    pub(crate) async fn run(mut self, finished: CancellationToken) -> anyhow::Result<()> {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                () = finished.cancelled() => return Ok(()),
                _ = self.waiting.recv_many(&mut batch, MOST) => {}
            }
            tokio::time::sleep(GATHER).await;
            while let Ok(waiting) = self.waiting.try_recv() {
                batch.push(waiting);
            }
            self.renew(batch).await;
        }
    }

    async fn renew(&self, batch: Vec<Waiting<Renew, Renewed>>) {
        let asked = one_per_life(batch.iter().map(|waiting| &waiting.request));
        let renewed = tokio::time::timeout(PATIENCE, store::renew(&self.pool, &asked)).await;
        let renewed = renewed.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(failed);
        let renewed = renewed.map(|renewed| {
            asked.iter().map(life).zip(renewed).collect::<BTreeMap<Life, Renewed>>()
        });
        for waiting in batch {
            let answer = renewed.as_ref().map_err(Refusal::clone).and_then(|renewed| {
                renewed.get(&life(&waiting.request)).cloned().ok_or_else(Refusal::unavailable)
            });
            waiting.answer(answer);
        }
    }
}

/// One for each life, with the most that it says to have applied.
fn one_per_life<'a>(asked: impl Iterator<Item = &'a Renew>) -> Vec<Renew> {
    let mut lives: BTreeMap<Life, Renew> = BTreeMap::new();
    for renew in asked {
        let known = lives.entry(life(renew)).or_insert_with(|| renew.clone());
        known.applied = renew.applied.max(known.applied);
    }
    lives.into_values().collect()
}

fn life(renew: &Renew) -> Life {
    (renew.edge.clone(), renew.incarnation, renew.applied.timeline)
}

#[cfg(test)]
mod tests {
    use shared::lease::Revision;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn w2_each_life_is_asked_about_once_with_the_most_it_applied() {
        let renew = |life: u128, timeline, number| Renew {
            edge: "edge-1".parse().expect("a name"),
            incarnation: Incarnation(Uuid::from_u128(life)),
            applied: Revision { timeline, number },
            cached_sessions: 0,
        };
        let asked =
            [renew(1, 1, 5), renew(2, 1, 9), renew(1, 1, 7), renew(1, 1, 6), renew(2, 2, 1)];
        let expected = [renew(1, 1, 7), renew(2, 1, 9), renew(2, 2, 1)];
        assert_eq!(one_per_life(asked.iter()), expected);
    }
}
