//! What every service starts with: configuration, logs and traces, signals, health, and an end
//! in order.

pub mod config;
pub mod health;
mod telemetry;

use std::{future::Future, io, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use self::telemetry::TelemetryConfig;
use crate::clock::{Clock, SystemClock};

/// How long a service may take to finish what it has begun.
pub const SHUTDOWN: Duration = Duration::from_secs(10);

/// What a service is given.
#[derive(Clone)]
pub struct Context {
    /// Cancelled when the service shall stop.
    pub stop: CancellationToken,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The options that every service has.
#[derive(Debug, Clone, clap::Args)]
pub struct RuntimeConfig {
    /// Stop when standard input ends, so that nothing outlives a parent that was killed.
    #[arg(long, env = "BREAKGLASS_EXIT_WITH_PARENT")]
    pub exit_with_parent: bool,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
}

/// A service's own options; holds the common ones.
pub trait ServiceConfig: Parser {
    /// The common ones.
    fn runtime(&self) -> &RuntimeConfig;

    /// What tells this process from others of its kind: OpenTelemetry's `service.instance.id`.
    fn instance(&self) -> String {
        std::process::id().to_string()
    }
}

/// Runs a service to its end: the whole of its `main`.
pub fn main<C, F, Fut>(name: &'static str, service: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(C, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let config: C = match config::load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{name}: {:#}", anyhow::Error::new(error));
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{name}: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let telemetry = match telemetry::start(name, config.instance(), &config.runtime().telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            return ExitCode::from(2);
        }
    };
    let result = runtime.block_on(async {
        let context = Context { stop: CancellationToken::new(), clock: Arc::new(SystemClock) };
        tokio::spawn(stop_on_signal(context.stop.clone(), config.runtime().exit_with_parent));
        info!(version = env!("CARGO_PKG_VERSION"), "{name} starts");
        service(config, context).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    let code = match result {
        Ok(()) => {
            info!("{name} stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!("{name} failed: {error:#}");
            ExitCode::FAILURE
        }
    };
    telemetry.stop();
    code
}

async fn stop_on_signal(stop: CancellationToken, exit_with_parent: bool) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return error!("cannot listen for signals");
    };
    tokio::select! {
        _ = interrupt.recv() => info!("interrupted: stopping"),
        _ = terminate.recv() => info!("terminated: stopping"),
        () = parent_gone(), if exit_with_parent => info!("parent gone: stopping"),
    }
    stop.cancel();
}

/// Returns when standard input ends. Read on a thread of its own, which may stay behind: the
/// runtime would wait for one of its own at the end.
async fn parent_gone() {
    let (gone, is_gone) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = gone.send(());
    });
    let _ = is_gone.await;
}

/// Waits for tasks that shall run for ever; the first that ends, ends the service.
///
/// Ends without an error where that was asked for.
pub async fn until_first_ends(
    stop: &CancellationToken,
    mut tasks: tokio::task::JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => Err(anyhow::Error::new(error).context("a task crashed")),
        };
        if ended.is_err() && result.is_ok() {
            result = ended;
        }
        stop.cancel();
    }
    result
}
