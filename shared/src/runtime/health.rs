//! `/healthz` and `/readyz` of the workers. The gateway has them among its own routes.

use std::{future::Future, net::SocketAddr};

use anyhow::Context as _;
use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves both until `stop` is cancelled: alive always, ready where `ready` says so.
pub async fn serve<F, Fut>(
    listen: SocketAddr,
    stop: CancellationToken,
    ready: F,
) -> anyhow::Result<()>
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send,
{
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} for health checks"))?;
    let readyz = move || async move {
        if ready().await {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    };
    let routes =
        Router::new().route("/healthz", get(|| async { "alive\n" })).route("/readyz", get(readyz));
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}
