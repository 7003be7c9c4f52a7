//! The gateway: an edge that decides from memory, and the HTTP door to the bus.
//!
//! It owns the sessions it has cached and its lease, both in memory. It owns no data: whatever
//! changes something is a request to a worker, which believes nothing that the gateway says about
//! who calls.

mod config;
pub mod edge;
pub mod http;

use anyhow::Context as _;
use shared::{bus::Bus, runtime, subject::Identity};
use tokio::{net::TcpListener, task::JoinSet};
use tracing::info;

pub use self::config::Config;

/// Runs the gateway until it is told to stop.
pub async fn run(config: Config, context: runtime::Context) -> anyhow::Result<()> {
    let bus = Bus::connect(&config.bus, Identity::Gateway(config.edge.clone())).await?;
    let options = edge::Options {
        id: config.edge,
        region: config.region,
        cached_sessions: config.cached_sessions,
        on_partition: config.on_partition,
    };
    let (edge, driver) = edge::start(options, bus.clone(), context.clock.clone());
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}: is something else there?", config.listen))?;
    info!(address = %config.listen, "serving");
    let routes = http::router(http::State {
        bus,
        edge,
        guesses: http::Guesses::new(config.address_failures_per_minute, context.clock.clone()),
        clock: context.clock,
        public_origins: config.public_origins.into(),
        proxies: http::Proxies::new(config.trusted_proxies, config.forwarded_header).into(),
    });

    let mut tasks = JoinSet::new();
    let stop = context.stop.clone();
    tasks.spawn(async move { driver.run(stop).await });
    let stop = context.stop.clone();
    tasks.spawn(async move {
        http::serve(listener, routes, stop, runtime::SHUTDOWN).await;
        Ok(())
    });
    runtime::until_first_ends(&context.stop, tasks).await
}
