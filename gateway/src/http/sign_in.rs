//! Getting a session, giving it back, and asking whose it is.

use axum::{
    Json, extract,
    http::{StatusCode, header::SET_COOKIE},
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use shared::{
    message::session::{Session, SignIn, SignInMfa, SignOut, SignedIn},
    refusal::{Code, Refusal},
    token::{Challenge, Token},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    at_commit::at_commit,
    body::{Body, Nothing},
    caller::{Signed, Visitor},
    credential::{clear_cookie, set_cookie},
    guess::Guess,
    parameters::Parameters,
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    let leaving = OpenApiRouter::default().routes(routes!(logout));
    at_commit(leaving).routes(routes!(login)).routes(routes!(login_mfa))
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

/// How far a sign-in got.
#[derive(Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "kebab-case")]
enum LoggedIn {
    /// Signed in.
    Authenticated(NewSession),
    /// Signed in, but the session can do nothing but `GET /v1/me`, set up a second factor, and sign out.
    EnrollmentRequired(NewSession),
    /// The password was right. A code is needed: send it with the challenge to `/v1/login/mfa`, within
    /// 5 minutes.
    MfaRequired {
        /// Shown this once.
        challenge: String,
    },
}

/// A new session.
#[derive(Serialize, ToSchema)]
struct NewSession {
    /// The session.
    session: Session,
    /// Its token, where the transport is `token`. It is shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Sign in with a password.
///
/// A wrong tenant, email or password get one answer, in the same time. A user has 100 live sessions at most:
/// the one that was opened first ends when there would be more. Past so many failures in a minute from one
/// address nothing more from there is looked at (429).
#[utoipa::path(
    post, path = "/v1/login", tag = "Sign-in", operation_id = "login", security(()),
    request_body = Login,
    responses(
        (
            status = 200, description = "The password was right.", body = LoggedIn,
            headers(("Set-Cookie" = String, description = "The token, where there is a session and the transport is `cookie`.")),
        ),
        responses::SigningIn,
    ),
)]
async fn login(
    extract::State(state): extract::State<State>,
    Visitor(origin): Visitor,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(login): Body<Login>,
) -> Result<Response, Refused> {
    let Login { tenant, email, password, transport } = login;
    let (token, challenge) = (Token::generate(), Challenge::generate());
    let request = SignIn {
        tenant,
        email,
        password,
        token: token.hash(),
        challenge: Some(challenge.hash()),
        origin,
    };
    let signed_in = guess.judge(state.bus.request(&request)).await?;
    Ok(answer(signed_in, &token, &challenge, transport))
}

/// The second step of a sign-in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginMfa {
    /// What `/v1/login` answered with.
    challenge: String,
    /// The six digits that the authenticator app shows, or a backup code.
    #[schema(value_type = String)]
    code: SecretString,
    /// How the token shall come.
    #[serde(default)]
    #[schema(default = "cookie")]
    transport: Transport,
}

/// Go on with a sign-in by a code.
///
/// A challenge allows 5 tries.
#[utoipa::path(
    post, path = "/v1/login/mfa", tag = "Sign-in", operation_id = "loginMfa", security(()),
    request_body = LoginMfa,
    responses(
        (
            status = 200, description = "Signed in.", body = LoggedIn,
            headers(("Set-Cookie" = String, description = "The token, where the transport is `cookie`.")),
        ),
        responses::SigningIn,
    ),
)]
async fn login_mfa(
    extract::State(state): extract::State<State>,
    Visitor(origin): Visitor,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(login): Body<LoginMfa>,
) -> Result<Response, Refused> {
    let challenge: Challenge = login.challenge.parse().map_err(|_| {
        Refusal::new(
            Code::InvalidCredentials,
            "This is no challenge. Begin again with the password.",
        )
    })?;
    let token = Token::generate();
    let request =
        SignInMfa { challenge: challenge.hash(), code: login.code, token: token.hash(), origin };
    let signed_in = guess.judge(state.bus.request(&request)).await?;
    Ok(answer(signed_in, &token, &challenge, login.transport))
}

fn answer(
    signed_in: SignedIn,
    token: &Token,
    challenge: &Challenge,
    transport: Transport,
) -> Response {
    let exposed = match transport {
        Transport::Cookie => None,
        Transport::Token => Some(token.expose().to_owned()),
    };
    let with = |session| NewSession { session, token: exposed };
    let body = match signed_in {
        SignedIn::Authenticated { session } => LoggedIn::Authenticated(with(session)),
        SignedIn::EnrollmentRequired { session } => LoggedIn::EnrollmentRequired(with(session)),
        SignedIn::MfaRequired => {
            let challenge = challenge.expose().to_owned();
            return Json(LoggedIn::MfaRequired { challenge }).into_response();
        }
    };
    match transport {
        Transport::Cookie => ([(SET_COOKIE, set_cookie(token))], Json(body)).into_response(),
        Transport::Token => Json(body).into_response(),
    }
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
