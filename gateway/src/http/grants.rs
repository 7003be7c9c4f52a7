//! Emergency access: asking for it, looking at it, ending it.

use axum::{
    Json, extract,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use shared::{
    id::{GrantId, UserId},
    message::grant::{
        GetGrant, GrantReceipt, Grants, ListGrants, OneGrant, RequestGrant, RevokeGrant,
        SHORTEST_SECONDS, State as GrantState,
    },
    role::Role,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    at_commit::at_commit,
    body::{Body, Nothing},
    caller::Signed,
    parameters::{Id, Parameters, page},
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    let changing = OpenApiRouter::default().routes(routes!(list, request)).routes(routes!(revoke));
    at_commit(changing).routes(routes!(get))
}

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GrantRequest)]
struct Asked {
    /// Why. Without one: 422 `reason-required`.
    #[schema(required = true, value_type = String, nullable = false)]
    reason: Option<String>,
    /// For how long; absent: as the policy says.
    #[schema(minimum = 5)]
    duration_seconds: Option<u32>,
    /// To which role; absent: the policy's.
    role: Option<Role>,
    /// The incident's ticket.
    ticket: Option<String>,
    /// A code of the second factor, where the policy wants a fresh one.
    #[expect(dead_code, reason = "accepted; no policy asks for one yet")]
    code: Option<String>,
    /// Go without the approvals that the policy wants, where it lets one.
    #[expect(dead_code, reason = "accepted; no policy wants approvals yet")]
    bypass_approval: Option<bool>,
}

/// Ask for emergency access.
///
/// Active at once where the policy wants no approvals; answers once every edge knows.
#[utoipa::path(
    post, path = "/v1/emergency/grants", tag = "Emergency access", operation_id = "requestGrant",
    request_body = Asked,
    responses(
        (
            status = 201, description = "The grant, with the receipt of the edges if it is active.",
            body = GrantReceipt, headers(("Location" = String, description = "The grant.")),
        ),
        responses::Signed, responses::WithBody, responses::Requesting,
    ),
)]
async fn request(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(asked): Body<Asked>,
) -> Result<Response, Refused> {
    if asked.duration_seconds.is_some_and(|seconds| seconds < SHORTEST_SECONDS) {
        return Err(Refused::bad_request(format!(
            "`duration_seconds` is at least {SHORTEST_SECONDS}."
        )));
    }
    let request = RequestGrant {
        caller,
        grant_id: GrantId::new(state.clock.wall()),
        reason: asked.reason.unwrap_or_default(),
        duration_seconds: asked.duration_seconds,
        role: asked.role,
        ticket: asked.ticket,
    };
    let made = state.bus.request(&request).await?;
    let location = format!("/v1/emergency/grants/{}", made.grant.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(made)).into_response())
}

/// Which grants.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only those in this state.
    #[param(inline)]
    state: Option<GrantState>,
    /// Only those of this user.
    user: Option<UserId>,
    /// At most so many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<GrantId>,
}

/// Grants, newest first.
///
/// Everybody sees the tenant's active ones and all of their own. Pending and past ones of others
/// need `emergency.approve`, `emergency.revoke` or `audit.read`.
#[utoipa::path(
    get, path = "/v1/emergency/grants", tag = "Emergency access", operation_id = "listGrants",
    params(Which),
    responses((status = 200, description = "The grants.", body = Grants), responses::Signed),
)]
async fn list(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(which): Parameters<Which>,
) -> Result<Json<Grants>, Refused> {
    let request = ListGrants {
        caller,
        state: which.state,
        user_id: which.user,
        limit: page(which.limit)?,
        cursor: which.cursor,
    };
    Ok(Json(state.bus.request(&request).await?))
}

/// One grant.
#[utoipa::path(
    get, path = "/v1/emergency/grants/{id}", tag = "Emergency access", operation_id = "getGrant",
    params(("id" = GrantId, Path, description = "The grant.")),
    responses(
        (status = 200, description = "The grant.", body = OneGrant),
        responses::Signed, responses::About,
    ),
)]
async fn get(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(grant): Id,
) -> Result<Json<OneGrant>, Refused> {
    Ok(Json(state.bus.request(&GetGrant { caller, grant_id: GrantId(grant) }).await?))
}

/// Why a grant is ended.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GrantRevocation)]
struct Ending {
    /// In words, for the record.
    comment: Option<String>,
}

/// End a grant early.
///
/// One's own, or with `emergency.revoke` another's. Answers once no edge honours it any more.
#[utoipa::path(
    post, path = "/v1/emergency/grants/{id}/revoke", tag = "Emergency access", operation_id = "revokeGrant",
    params(("id" = GrantId, Path, description = "The grant.")),
    request_body = Option<Ending>,
    responses(
        (status = 200, description = "Ended, with the receipt of the edges.", body = GrantReceipt),
        responses::Signed, responses::About, responses::WithBody, responses::Ended,
    ),
)]
async fn revoke(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(grant): Id,
    Body(Ending { comment }): Body<Ending>,
) -> Result<Json<GrantReceipt>, Refused> {
    Ok(Json(state.bus.request(&RevokeGrant { caller, grant_id: GrantId(grant), comment }).await?))
}
