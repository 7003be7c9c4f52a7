//! The options of grant-worker.

use std::net::SocketAddr;

use clap::Parser;
use shared::{
    bus::BusConfig,
    database::DatabaseConfig,
    runtime::{RuntimeConfig, ServiceConfig},
};

use crate::NotifyConfig;

/// Breakglass: emergency policy and grants.
#[derive(Debug, Clone, Parser)]
#[command(version, about)]
pub struct Config {
    /// Where to serve `/healthz` and `/readyz`; absent: nowhere.
    #[arg(long, env = "BREAKGLASS_HEALTH_LISTEN")]
    pub health_listen: Option<SocketAddr>,
    /// How others are told what happened.
    #[command(flatten)]
    pub notify: NotifyConfig,
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
