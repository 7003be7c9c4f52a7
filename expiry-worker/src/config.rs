//! The options of expiry-worker.

use std::net::SocketAddr;

use clap::Parser;
use shared::{
    bus::BusConfig,
    database::DatabaseConfig,
    runtime::{RuntimeConfig, ServiceConfig},
};

/// Breakglass: timers and what they cause.
#[derive(Debug, Clone, Parser)]
#[command(version, about)]
pub struct Config {
    /// Where to serve `/healthz` and `/readyz`; absent: nowhere.
    #[arg(long, env = "BREAKGLASS_HEALTH_LISTEN")]
    pub health_listen: Option<SocketAddr>,
    /// How often to look for what is due soon, in seconds. What is due within twice that time is held
    /// until then; of what is set to be due sooner the database tells.
    #[arg(long, env = "BREAKGLASS_LOOK_EVERY_SECONDS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=60))]
    pub look_every_seconds: u32,
    /// The bus.
    #[command(flatten)]
    pub bus: BusConfig,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// What every service has.
    #[command(flatten)]
    pub runtime: RuntimeConfig,
}

impl ServiceConfig for Config {
    fn runtime(&self) -> &RuntimeConfig {
        &self.runtime
    }
}
