//! What orchestrators ask.

use axum::extract;
use shared::refusal::{Code, Refusal};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{State, problem::Refused, responses};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(healthz)).routes(routes!(readyz))
}

/// Whether the process is alive.
#[utoipa::path(
    get, path = "/healthz", tag = "Edge", operation_id = "healthz", security(()),
    responses((status = 200, description = "It is.", body = String, content_type = "text/plain")),
)]
async fn healthz() -> &'static str {
    "alive\n"
}

/// Whether this edge can decide and reach the workers: it has the bus and a lease.
#[utoipa::path(
    get, path = "/readyz", tag = "Edge", operation_id = "readyz", security(()),
    responses(
        (status = 200, description = "It can.", body = String, content_type = "text/plain"),
        responses::NotReady,
    ),
)]
async fn readyz(extract::State(state): extract::State<State>) -> Result<&'static str, Refused> {
    if !state.bus.is_connected() {
        return Err(Refused(Refusal::unavailable()));
    }
    if !state.edge.is_leased() {
        return Err(Refused(Refusal::new(Code::EdgeFenced, "")));
    }
    Ok("ready\n")
}
