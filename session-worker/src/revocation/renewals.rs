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
        // One row per life, with the most that it says to have applied.
        let mut lives: BTreeMap<Life, Renew> = BTreeMap::new();
        for waiting in &batch {
            let one = &waiting.request;
            let applied = lives
                .entry(life(one))
                .and_modify(|other| other.applied = one.applied.max(other.applied));
            applied.or_insert_with(|| one.clone());
        }
        let asked: Vec<_> = lives.into_values().collect();
        let renewed = store::renew(&self.pool, &asked).await.map_err(failed);
        let renewed = renewed.map(|renewed| {
            asked.iter().map(life).zip(renewed).collect::<BTreeMap<Life, Renewed>>()
        });
        for waiting in batch {
            let answer = match &renewed {
                Ok(renewed) => {
                    renewed.get(&life(&waiting.request)).cloned().ok_or_else(Refusal::unavailable)
                }
                Err(refusal) => Err(refusal.clone()),
            };
            waiting.answer(answer);
        }
    }
}

fn life(renew: &Renew) -> Life {
    (renew.edge.clone(), renew.incarnation, renew.applied.timeline)
}
