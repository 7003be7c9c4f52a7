//! The bus as an edge has it, for flows that speak to workers without a gateway.

use anyhow::Context as _;
use shared::{
    bus::{Bus, BusConfig},
    id::EdgeId,
    subject::Identity,
};

use crate::World;

impl World {
    /// Another connection with the key of an edge.
    pub async fn bus_of(&self, edge: &str) -> anyhow::Result<Bus> {
        let config = BusConfig {
            nats_url: self.stack.nats_url().to_owned(),
            nats_nkey_file: Some(self.stack.nkey_path(edge)),
            subject_prefix: self.prefix().to_owned(),
        };
        let id: EdgeId = edge.parse().ok().context("the name of an edge")?;
        let bus = Bus::connect(&config, Identity::Gateway(id)).await?;
        crate::eventually("the flow is on the bus", || async { bus.is_connected() }).await?;
        Ok(bus)
    }
}
