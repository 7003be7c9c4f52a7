//! The gateway: an edge that decides from memory, and the HTTP door to the bus.
//!
//! It owns the sessions it has cached and its lease, both in memory. It owns no data: whatever
//! changes something is a request to a worker, which believes nothing that the gateway says about
//! who calls.

pub mod actions;
mod config;
pub mod edge;
pub mod events;
pub mod http;

use anyhow::Context as _;
use shared::{bus::Bus, id::RecorderId, runtime, subject::Identity};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
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
    let (events, fan_out) = events::start(bus.clone(), edge.clone(), context.stop.clone());
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}: is something else there?", config.listen))?;
    info!(address = %config.listen, "serving");
    let recorder = RecorderId::new(context.clock.wall());
    let recorder = actions::Recorder::new(recorder, bus.clone(), context.clock.clone());
    let routes = http::router(http::State {
        bus,
        edge,
        events,
        recorder: recorder.clone(),
        guesses: http::Guesses::new(config.address_failures_per_minute, context.clock.clone()),
        clock: context.clock,
        public_origins: config.public_origins.into(),
        trace_url: config.trace_url,
        proxies: http::Proxies::new(config.trusted_proxies, config.forwarded_header).into(),
    });

    let mut tasks = JoinSet::new();
    let stop = context.stop.clone();
    tasks.spawn(async move { driver.run(stop).await });
    tasks.spawn(fan_out.run());
    let (stop, served) = (context.stop.clone(), CancellationToken::new());
    tasks.spawn(recorder.run(served.clone()));
    tasks.spawn(async move {
        http::serve(listener, routes, stop, runtime::SHUTDOWN).await;
        served.cancel();
        Ok(())
    });
    runtime::until_first_ends(&context.stop, tasks).await
}
