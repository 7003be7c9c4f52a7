//! Passwords: changing one's own, and setting one with a one-time token.

use axum::{Json, extract, http::StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use shared::{
    message::user::{ChangePassword, ForgotPassword, PasswordSet, SetPassword},
    refusal::{Code, Refusal},
    token::PasswordToken,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    at_commit::at_commit,
    body::{Body, Nothing},
    caller::{Signed, Visitor},
    guess::Guess,
    parameters::Parameters,
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    let changing = OpenApiRouter::default().routes(routes!(change)).routes(routes!(set));
    at_commit(changing).routes(routes!(forgot))
}

/// A new password for the old.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    /// The present password.
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    /// The new one: 8 to 128 characters, none of the well-known passwords.
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
    /// A fresh code, where two-factor sign-in is set up.
    #[schema(value_type = Option<String>)]
    code: Option<SecretString>,
}

/// Change one's own password.
///
/// Every other session of the user ends.
#[utoipa::path(
    post, path = "/v1/me/password", tag = "Sign-in", operation_id = "changePassword",
    request_body = Change,
    responses(
        (status = 200, description = "Changed, with the receipt of the edges.", body = PasswordSet),
        responses::Signed, responses::WithBody, responses::Proving, responses::SettingPassword,
    ),
)]
async fn change(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(change): Body<Change>,
) -> Result<Json<PasswordSet>, Refused> {
    let Change { current_password, new_password, code } = change;
    let request = ChangePassword { caller, current_password, new_password, code };
    Ok(Json(guess.judge(state.bus.request(&request)).await?))
}

/// A password and the token that allows to set it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Set {
    /// The `set_password_token`.
    token: String,
    /// The new password: 8 to 128 characters, none of the well-known passwords.
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

/// Set a password with a one-time token.
///
/// It does not sign in and takes no second factor away; all sessions of the user end.
#[utoipa::path(
    post, path = "/v1/password-reset", tag = "Sign-in", operation_id = "setPassword", security(()),
    request_body = Set,
    responses(
        (status = 200, description = "Set, with the receipt of the edges.", body = PasswordSet),
        responses::SigningIn, responses::SettingPassword,
    ),
)]
async fn set(
    extract::State(state): extract::State<State>,
    Visitor(origin): Visitor,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(set): Body<Set>,
) -> Result<Json<PasswordSet>, Refused> {
    let token: PasswordToken = set
        .token
        .parse()
        .map_err(|_| Refusal::new(Code::InvalidCredentials, "This is no token for a password."))?;
    let request = SetPassword { token: token.hash(), new_password: set.new_password, origin };
    Ok(Json(guess.judge(state.bus.request(&request)).await?))
}

/// Whose password was forgotten.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Forgot {
    /// The tenant's short name.
    tenant: String,
    /// The address, in whatever spelling.
    email: String,
}

/// Say that one forgot one's password.
///
/// The answer is the same whether there is such a user or not.
#[utoipa::path(
    post, path = "/v1/password-reset/request", tag = "Sign-in", operation_id = "requestPasswordReset",
    security(()), request_body = Forgot,
    responses((status = 202, description = "Noted."), responses::SigningIn),
)]
async fn forgot(
    extract::State(state): extract::State<State>,
    Visitor(origin): Visitor,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(forgot): Body<Forgot>,
) -> Result<StatusCode, Refused> {
    let request = ForgotPassword { tenant: forgot.tenant, email: forgot.email, origin };
    state.bus.request(&request).await?;
    Ok(StatusCode::ACCEPTED)
}
