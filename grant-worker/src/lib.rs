//! grant-worker owns emergency access: the policy of each tenant and the life of each grant; and it
//! tells others what happened (`notify`).
//!
//! It commits a change together with its audit record and its revision, then has session-worker
//! broadcast the revision and answer with the receipt. It owns no sessions, speaks to no edge, and
//! does not watch the time: expiry-worker says when a grant is due.

mod cancel;
mod config;
mod decide;
mod evidence;
mod expire;
mod notify;
mod policy;
mod read;
mod record;
mod request;
mod review;
mod revoke;
pub mod rules;
mod service;
mod state;
mod store;

use std::time::Duration;

use shared::{
    bus::Bus,
    database,
    runtime::{self, Context},
    subject::Identity,
};
use tokio::task::JoinSet;

pub use self::{config::Config, notify::NotifyConfig};
use self::{notify::Notify, state::State};

/// How long the last answers may take to go out.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs the service until it is told to stop.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let bus = Bus::connect(&config.bus, Identity::GrantWorker).await?;
    let pool =
        database::connect(&config.database.database_url, config.database.database_connections)?;
    let mut tasks = JoinSet::new();
    if let Some(listen) = config.health_listen {
        let stop = context.stop.clone();
        tasks.spawn(database::serve_health(listen, stop, bus.clone(), pool.clone()));
    }
    let notify = Notify::new(
        &config.notify,
        &config.database.database_url,
        bus.clone(),
        context.clock.clone(),
    )?;
    notify.spawn(&mut tasks, &context.stop);
    let state = State::new(bus.clone(), pool.clone(), context.clock);
    tasks.spawn(service::serve(state, notify, context.stop.clone()));
    let result = runtime::until_first_ends(&context.stop, tasks).await;
    bus.flush(FLUSH).await;
    pool.close().await;
    result
}
