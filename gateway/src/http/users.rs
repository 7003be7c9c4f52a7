//! Users of the tenant, for its admins.

use axum::{
    Json, extract,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use shared::{
    clock::Timestamp,
    id::UserId,
    message::user::{
        ChangeUser, ChangedUser, CreateUser, GetUser, ListUsers, OneUser, ResetPassword,
        UserDetails, Users,
    },
    role::Role,
    token::PasswordToken,
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
    let changing = OpenApiRouter::default().routes(routes!(get, change));
    at_commit(changing).routes(routes!(list, create)).routes(routes!(reset_password))
}

/// Which users.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// At most so many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<UserId>,
}

/// Users of the tenant, in the order of their creation.
///
/// Needs `tenant.manage`.
#[utoipa::path(
    get, path = "/v1/users", tag = "Users", operation_id = "listUsers", params(Which),
    responses((status = 200, description = "The users.", body = Users), responses::Signed),
)]
async fn list(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(which): Parameters<Which>,
) -> Result<Json<Users>, Refused> {
    let request = ListUsers { caller, limit: page(which.limit)?, cursor: which.cursor };
    Ok(Json(state.bus.request(&request).await?))
}

/// A user to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    /// Their address.
    email: String,
    /// Their name.
    name: String,
    /// Their role.
    role: Role,
}

/// A user who has yet to set a password.
#[derive(Serialize, ToSchema)]
struct CreatedUser {
    /// The user.
    user: UserDetails,
    /// With what they set their first password, at `/v1/password-reset`, within 72 hours. Shown this once.
    set_password_token: String,
}

/// Create a user.
///
/// Needs `tenant.manage`.
#[utoipa::path(
    post, path = "/v1/users", tag = "Users", operation_id = "createUser", request_body = NewUser,
    responses(
        (
            status = 201, description = "The user, and how they set a password.", body = CreatedUser,
            headers(("Location" = String, description = "The user.")),
        ),
        responses::Signed, responses::WithBody, responses::Conflicting,
    ),
)]
async fn create(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(new): Body<NewUser>,
) -> Result<Response, Refused> {
    let token = PasswordToken::generate();
    let user_id = UserId::new(state.clock.wall());
    let NewUser { email, name, role } = new;
    let request = CreateUser { caller, user_id, email, name, role, token: token.hash() };
    let OneUser { user } = state.bus.request(&request).await?;
    let place = format!("/v1/users/{}", user.id);
    let created = CreatedUser { user, set_password_token: token.expose().to_owned() };
    Ok((StatusCode::CREATED, [(LOCATION, place)], Json(created)).into_response())
}

/// One user.
///
/// Needs `tenant.manage`.
#[utoipa::path(
    get, path = "/v1/users/{id}", tag = "Users", operation_id = "getUser",
    params(("id" = UserId, Path, description = "The user.")),
    responses(
        (status = 200, description = "The user.", body = OneUser),
        responses::Signed, responses::About,
    ),
)]
async fn get(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(user): Id,
) -> Result<Json<OneUser>, Refused> {
    Ok(Json(state.bus.request(&GetUser { caller, user_id: UserId(user) }).await?))
}

/// What is to be different. What is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Changes {
    /// Their name.
    name: Option<String>,
    /// Their role.
    role: Option<Role>,
    /// Whether they can do nothing.
    disabled: Option<bool>,
}

/// Change a user's name or role, disable or enable them.
///
/// Needs `tenant.manage`. Rights change on every edge at once; disabling ends all sessions.
#[utoipa::path(
    patch, path = "/v1/users/{id}", tag = "Users", operation_id = "changeUser",
    params(("id" = UserId, Path, description = "The user.")),
    request_body = Changes,
    responses(
        (status = 200, description = "The user, with the receipt of the edges where a right has changed.", body = ChangedUser),
        responses::Signed, responses::WithBody, responses::About, responses::Conflicting,
    ),
)]
async fn change(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(user): Id,
    Body(Changes { name, role, disabled }): Body<Changes>,
) -> Result<Json<ChangedUser>, Refused> {
    let request = ChangeUser { caller, user_id: UserId(user), name, role, disabled };
    Ok(Json(state.bus.request(&request).await?))
}

/// How a user sets a new password.
#[derive(Serialize, ToSchema)]
struct PasswordReset {
    /// With what they do, at `/v1/password-reset`, once. Shown this once.
    set_password_token: String,
    /// Until when.
    expires_at: Timestamp,
}

/// A one-time token with which a user sets a new password.
///
/// Needs `tenant.manage`. The old password counts until the token is used. Not for oneself: one's own password is
/// changed with the present one.
#[utoipa::path(
    post, path = "/v1/users/{id}/reset-password", tag = "Users", operation_id = "resetPasswordOfUser",
    params(("id" = UserId, Path, description = "The user.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The token.", body = PasswordReset),
        responses::Signed, responses::WithBody, responses::About, responses::Conflicting,
    ),
)]
async fn reset_password(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(user): Id,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<PasswordReset>, Refused> {
    let token = PasswordToken::generate();
    let request = ResetPassword { caller, user_id: UserId(user), token: token.hash() };
    let issued = state.bus.request(&request).await?;
    let set_password_token = token.expose().to_owned();
    Ok(Json(PasswordReset { set_password_token, expires_at: issued.expires_at }))
}
