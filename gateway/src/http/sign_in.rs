//! Getting a session, giving it back, and asking whose it is.

use axum::{
    Json, extract,
    http::{StatusCode, header::SET_COOKIE},
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use shared::{
    message::session::{Session, SignIn, SignInStatus, SignOut},
    token::Token,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    at_commit::at_commit,
    body::{Body, Nothing},
    caller::{Signed, Visitor},
    credential::{clear_cookie, set_cookie},
    parameters::Parameters,
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    let leaving = OpenApiRouter::default().routes(routes!(logout));
    at_commit(leaving).routes(routes!(login))
}

/// Who wants a session, and how they will keep its token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    /// The tenant's short name.
    tenant: String,
    /// The address, in whatever spelling.
    email: String,
    /// The password, verbatim.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// How the token shall come.
    #[serde(default)]
    #[schema(default = "cookie")]
    transport: Transport,
}

/// How a token comes to the client.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Transport {
    /// As a cookie: for browsers.
    #[default]
    Cookie,
    /// In the answer: for programs.
    Token,
}

/// A new session.
#[derive(Serialize, ToSchema)]
struct LoggedIn {
    /// How far the sign-in got.
    status: SignInStatus,
    /// The session.
    session: Session,
    /// Its token, where the transport is `token`. It is shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Sign in with a password.
///
/// A wrong tenant, email or password get one answer, in the same time.
#[utoipa::path(
    post, path = "/v1/login", tag = "Sign-in", operation_id = "login", security(()),
    request_body = Login,
    responses(
        (
            status = 200, description = "Signed in.", body = LoggedIn,
            headers(("Set-Cookie" = String, description = "The token, where the transport is `cookie`.")),
        ),
        responses::SigningIn,
    ),
)]
async fn login(
    extract::State(state): extract::State<State>,
    Visitor(origin): Visitor,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(login): Body<Login>,
) -> Result<Response, Refused> {
    let Login { tenant, email, password, transport } = login;
    let token = Token::generate();
    let request = SignIn { tenant, email, password, token: token.hash(), origin };
    let signed_in = state.bus.request(&request).await?;
    let answer =
        |token| Json(LoggedIn { status: signed_in.status, session: signed_in.session, token });
    Ok(match transport {
        Transport::Cookie => ([(SET_COOKIE, set_cookie(&token))], answer(None)).into_response(),
        Transport::Token => answer(Some(token.expose().to_owned())).into_response(),
    })
}

/// Sign out.
///
/// Answers once no edge accepts the token any more.
#[utoipa::path(
    post, path = "/v1/logout", tag = "Sign-in", operation_id = "logout",
    request_body = Option<Nothing>,
    responses(
        (
            status = 204, description = "Signed out.",
            headers(("Set-Cookie" = String, description = "Takes the cookie back.")),
        ),
        responses::Signed, responses::WithBody,
    ),
)]
async fn logout(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Response, Refused> {
    state.bus.request(&SignOut { caller }).await?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, clear_cookie())]).into_response())
}
