//! expiry-worker owns what time alone causes: it watches the timers, and tells the owner of each
//! that it is due.
//!
//! It changes nothing but claims on timers: the owner makes the change, and removes the timer in
//! the same transaction. So a timer is lost by no crash, and done once however often it fires.
//! Enforcement never waits for this: edges end what is over by the clock.

mod ahead;
mod config;
mod listen;
mod outage;
mod service;
mod store;
mod watch;

use std::{collections::HashMap, sync::Arc, time::Duration};

use shared::{
    bus::Bus,
    database,
    runtime::{self, Context},
    subject::Identity,
};
use tokio::{sync::Notify, task::JoinSet};

pub use self::config::Config;
use self::{store::KINDS, watch::Watch};

/// How long the last messages may take to go out.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs the service until it is told to stop.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let bus = Bus::connect(&config.bus, Identity::ExpiryWorker).await?;
    // One more: listening keeps it.
    let connections = config.database.database_connections.saturating_add(1);
    let pool = database::connect(&config.database.database_url, connections)?;
    let mut tasks = JoinSet::new();
    if let Some(listen) = config.health_listen {
        let stop = context.stop.clone();
        tasks.spawn(database::serve_health(listen, stop, bus.clone(), pool.clone()));
    }
    let every = Duration::from_secs(config.look_every_seconds.into());
    let mut soon = HashMap::new();
    for kind in KINDS {
        let soon: &Arc<Notify> = soon.entry(kind).or_default();
        let watch = Watch::new(bus.clone(), pool.clone(), kind, every, Arc::clone(soon));
        tasks.spawn(watch.run(context.stop.clone()));
    }
    tasks.spawn(listen::listen(pool.clone(), soon, context.stop.clone()));
    let result = runtime::until_first_ends(&context.stop, tasks).await;
    bus.flush(FLUSH).await;
    pool.close().await;
    result
}
