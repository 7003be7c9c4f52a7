//! Sessions, one's own and others': listing and ending them.

use axum::{Json, extract};
use shared::{
    id::{SessionId, UserId},
    message::session::{List, Revoke, RevokeAll, Revoked, RevokedAll, Sessions},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    at_commit::at_commit,
    body::{Body, Nothing},
    caller::Signed,
    parameters::{Id, Ids, Parameters},
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    let ending = OpenApiRouter::default()
        .routes(routes!(revoke_others))
        .routes(routes!(revoke))
        .routes(routes!(revoke_all_of_user))
        .routes(routes!(revoke_of_user));
    at_commit(ending).routes(routes!(list)).routes(routes!(list_of_user))
}

/// One's own live sessions, the current one first, then by last activity; at most 200.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "Sessions", operation_id = "listSessions",
    responses((status = 200, description = "The sessions.", body = Sessions), responses::Signed),
)]
async fn list(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
) -> Result<Json<Sessions>, Refused> {
    Ok(Json(state.bus.request(&List { caller, user_id: None }).await?))
}

/// End one of one's own sessions.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", tag = "Sessions", operation_id = "revokeSession",
    params(("id" = SessionId, Path, description = "The session.")),
    responses(
        (status = 200, description = "Ended, with the receipt of the edges.", body = Revoked),
        responses::Signed, responses::About, responses::WithBody,
    ),
)]
async fn revoke(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(session): Id,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Revoked>, Refused> {
    let request = Revoke { caller, user_id: None, session_id: SessionId(session) };
    Ok(Json(state.bus.request(&request).await?))
}

/// End all of one's own sessions but the one that asks.
#[utoipa::path(
    post, path = "/v1/sessions/revoke-others", tag = "Sessions", operation_id = "revokeOtherSessions",
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "Ended, with the receipt of the edges.", body = RevokedAll),
        responses::Signed, responses::WithBody,
    ),
)]
async fn revoke_others(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<RevokedAll>, Refused> {
    Ok(Json(state.bus.request(&RevokeAll { caller, user_id: None }).await?))
}

/// A user's live sessions.
///
/// Needs `session.revoke-any`.
#[utoipa::path(
    get, path = "/v1/users/{id}/sessions", tag = "Sessions", operation_id = "listSessionsOfUser",
    params(("id" = UserId, Path, description = "The user.")),
    responses(
        (status = 200, description = "The sessions.", body = Sessions),
        responses::Signed, responses::About,
    ),
)]
async fn list_of_user(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(user): Id,
) -> Result<Json<Sessions>, Refused> {
    Ok(Json(state.bus.request(&List { caller, user_id: Some(UserId(user)) }).await?))
}

/// End one session of a user.
///
/// Needs `session.revoke-any`.
#[utoipa::path(
    delete, path = "/v1/users/{id}/sessions/{sid}", tag = "Sessions", operation_id = "revokeSessionOfUser",
    params(
        ("id" = UserId, Path, description = "The user."),
        ("sid" = SessionId, Path, description = "The session."),
    ),
    responses(
        (status = 200, description = "Ended, with the receipt of the edges.", body = Revoked),
        responses::Signed, responses::About, responses::WithBody,
    ),
)]
async fn revoke_of_user(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Ids(user, session): Ids,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Revoked>, Refused> {
    let (user_id, session_id) = (Some(UserId(user)), SessionId(session));
    Ok(Json(state.bus.request(&Revoke { caller, user_id, session_id }).await?))
}

/// End all sessions of a user.
///
/// Needs `session.revoke-any`.
#[utoipa::path(
    post, path = "/v1/users/{id}/sessions/revoke-all", tag = "Sessions", operation_id = "revokeSessionsOfUser",
    params(("id" = UserId, Path, description = "The user.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "Ended, with the receipt of the edges.", body = RevokedAll),
        responses::Signed, responses::About, responses::WithBody,
    ),
)]
async fn revoke_all_of_user(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(user): Id,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<RevokedAll>, Refused> {
    Ok(Json(state.bus.request(&RevokeAll { caller, user_id: Some(UserId(user)) }).await?))
}
