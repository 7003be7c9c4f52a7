//! Many edges in this process: the gateway's own edge and driver, over a real bus.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use gateway::edge::{self, Edge, OnPartition};
use shared::{bus::Bus, clock::SystemClock, id::EdgeId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;

/// Edges that share one connection, each with a subscription of its own.
const PER_CONNECTION: usize = 10;

/// The edges that run. All of them hold a lease once [`Fleet::resize`] has returned.
#[derive(Default)]
pub(super) struct Fleet {
    members: Vec<Member>,
    started: usize,
    bus: Option<Bus>,
}

struct Member {
    edge: Edge,
    stop: CancellationToken,
    driver: JoinHandle<anyhow::Result<()>>,
}

impl Fleet {
    /// Starts edges, or lets the newest ones leave.
    pub(super) async fn resize(&mut self, stage: &Stage, edges: usize) -> anyhow::Result<()> {
        for member in self.members.drain(edges.min(self.members.len())..).collect::<Vec<_>>() {
            member.stop.cancel();
            member.driver.await??;
        }
        while self.members.len() < edges {
            let member = self.start(stage).await?;
            self.members.push(member);
        }
        let all_leased = || async { self.members.iter().all(|member| member.edge.is_leased()) };
        tests::eventually("all edges hold a lease", all_leased).await?;
        let all_known = || async { stage.live_edges().await.is_ok_and(|live| live == edges) };
        tests::eventually("the database knows these edges and no others", all_known).await
    }

    /// Kills an edge: it neither leaves nor answers any more.
    pub(super) async fn kill_one(&mut self) -> anyhow::Result<()> {
        let member = self.members.pop().context("there is an edge")?;
        member.driver.abort();
        let _ = member.driver.await;
        Ok(())
    }

    async fn start(&mut self, stage: &Stage) -> anyhow::Result<Member> {
        let bus = match self.bus.clone() {
            Some(bus) if !self.started.is_multiple_of(PER_CONNECTION) => bus,
            _ => self.bus.insert(stage.bus().await?).clone(),
        };
        self.started += 1;
        let id: EdgeId = format!("edge-{}", self.started).parse()?;
        let options = edge::Options {
            id,
            region: "bench".to_owned(),
            cached_sessions: 100,
            on_partition: OnPartition::Deny,
        };
        let (edge, driver) = edge::start(options, bus, Arc::new(SystemClock));
        let stop = CancellationToken::new();
        let driver = tokio::spawn(driver.run(stop.clone()));
        // Not all of them ask at the same moment, as they would nowhere else.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(Member { edge, stop, driver })
    }
}
