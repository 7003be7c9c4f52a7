//! The bus as an edge has it, for flows that speak to workers without a gateway.

use anyhow::Context as _;
use shared::{
    bus::{Bus, BusConfig},
    id::EdgeId,
    subject::{Identity, Permissions, Subject},
};

use crate::World;

const OBSERVER: &str = "observer";

/// Somebody for [`crate::Options::bus_users`] who may hear everything and say nothing.
#[must_use]
pub fn observer() -> (String, Permissions) {
    let mut permissions = Identity::ExpiryWorker.permissions("");
    permissions.publish.clear();
    permissions.subscribe = vec![">".to_owned()];
    (OBSERVER.to_owned(), permissions)
}

impl World {
    /// What is sent from now on to a subject, as the [`observer`] hears it.
    pub async fn observe(&self, subject: Subject) -> anyhow::Result<async_nats::Subscriber> {
        let seed = std::fs::read_to_string(self.stack.nkey_path(OBSERVER))?;
        let options = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned());
        let client = options.connect(self.stack.nats_url()).await?;
        let heard = client.subscribe(subject.subscribe(self.prefix())).await?;
        client.flush().await?;
        Ok(heard)
    }

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
