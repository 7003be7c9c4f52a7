//! How the edges stand, and the receipts of earlier revisions.

use axum::{Json, extract};
use serde::Serialize;
use shared::message::{
    edge::{Edges, ListEdges},
    revocation::{GetReceipt, Receipt},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    body::Nothing,
    caller::Signed,
    parameters::{Number, Parameters},
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(receipt))
}

/// How all edges stand.
///
/// Needs `audit.read`.
#[utoipa::path(
    get, path = "/v1/edges", tag = "Edge", operation_id = "listEdges",
    responses((status = 200, description = "The edges.", body = Edges), responses::Signed),
)]
async fn list(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
) -> Result<Json<Edges>, Refused> {
    Ok(Json(state.bus.request(&ListEdges { caller }).await?))
}

/// What is known of a revision.
#[derive(Serialize, ToSchema)]
struct Asked {
    /// How it stands now. Edges that joined after the revision enforce it from their beginning,
    /// and are not counted.
    receipt: Receipt,
}

/// The receipt of an earlier revision, as it is now.
///
/// For revisions of one's own tenant. They are forgotten after 30 days.
#[utoipa::path(
    get, path = "/v1/receipts/{revision}", tag = "Edge", operation_id = "getReceipt",
    params(("revision" = u64, Path, description = "The `revision` of a receipt.")),
    responses(
        (status = 200, description = "The receipt.", body = Asked),
        responses::Signed, responses::About,
    ),
)]
async fn receipt(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Number(revision): Number,
) -> Result<Json<Asked>, Refused> {
    let receipt = state.bus.request(&GetReceipt { caller, revision }).await?;
    Ok(Json(Asked { receipt }))
}
