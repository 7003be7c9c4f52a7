//! Reading the audit record.

use axum::{Json, extract};
use serde::Deserialize;
use shared::{
    clock::Timestamp,
    message::audit::{AuditEntries, ListAudit},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    caller::Signed,
    parameters::{Parameters, page},
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list))
}

/// Which entries.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only by this actor: a user id, or the name of a service.
    actor: Option<String>,
    /// Only this action.
    action: Option<String>,
    /// Only after this time.
    after: Option<Timestamp>,
    /// Only before this time.
    before: Option<Timestamp>,
    /// At most so many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<u64>,
}

/// Entries of the tenant's record, newest first.
///
/// Needs `audit.read`.
#[utoipa::path(
    get, path = "/v1/audit", tag = "Audit", operation_id = "listAuditEntries",
    params(Which),
    responses((status = 200, description = "The entries.", body = AuditEntries), responses::Signed),
)]
async fn list(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(which): Parameters<Which>,
) -> Result<Json<AuditEntries>, Refused> {
    let request = ListAudit {
        caller,
        actor: which.actor,
        action: which.action,
        after: which.after,
        before: which.before,
        limit: page(which.limit)?,
        cursor: which.cursor,
    };
    Ok(Json(state.bus.request(&request).await?))
}
