//! expiry-worker owns what time alone causes: it watches the timers, and tells the owner of each
//! that it is due.
//!
//! It changes nothing but claims on timers: the owner makes the change, and removes the timer in
//! the same transaction. So a timer is lost by no crash, and done once however often it fires.
//! Enforcement never waits for this: edges end what is over by the clock.

mod config;
mod outage;
mod service;
mod store;
mod watch;

use std::time::Duration;

use shared::{
    bus::Bus,
    database,
    runtime::{self, Context},
    subject::Identity,
};
use tokio::task::JoinSet;

pub use self::config::Config;
use self::store::KINDS;

/// How long the last messages may take to go out.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs the service until it is told to stop.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let bus = Bus::connect(&config.bus, Identity::ExpiryWorker).await?;
    let pool =
        database::connect(&config.database.database_url, config.database.database_connections)?;
    let mut tasks = JoinSet::new();
    if let Some(listen) = config.health_listen {
        let stop = context.stop.clone();
        tasks.spawn(database::serve_health(listen, stop, bus.clone(), pool.clone()));
    }
    for kind in KINDS {
        tasks.spawn(watch::watch(bus.clone(), pool.clone(), kind, context.stop.clone()));
    }
    let result = runtime::until_first_ends(&context.stop, tasks).await;
    bus.flush(FLUSH).await;
    pool.close().await;
    result
}
