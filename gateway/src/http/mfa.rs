//! Two-factor sign-in: setting it up, backup codes, doing without again, and the policy.

use std::collections::BTreeSet;

use axum::{
    Json, extract,
    http::{StatusCode, header::SET_COOKIE},
    response::{IntoResponse as _, Response},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use shared::{
    id::UserId,
    message::{
        mfa::{
            BackupCodes, Confirm, Disable, Enroll, Enrollment, GetPolicy, MfaPolicy, PolicySet,
            RenewBackupCodes, Reset, SetPolicy, WasReset,
        },
        session::Session,
    },
    role::Role,
    token::Token,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    at_commit::at_commit,
    body::{Body, Nothing},
    caller::{Signed, SignedBy},
    credential::{Carrier, set_cookie},
    guess::Guess,
    parameters::{Id, Parameters},
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    let changing = OpenApiRouter::default()
        .routes(routes!(confirm))
        .routes(routes!(reset))
        .routes(routes!(policy, set_policy));
    at_commit(changing).routes(routes!(enroll, disable)).routes(routes!(renew_backup_codes))
}

/// The password, and a code where there is a factor already.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Shown {
    /// The caller's password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// A fresh code of the caller's factor, or a backup code, where two-factor sign-in is set up.
    #[schema(value_type = Option<String>)]
    code: Option<SecretString>,
}

/// The password and a code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Both {
    /// The caller's password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// A fresh code of the caller's factor, or a backup code.
    #[schema(value_type = String)]
    code: SecretString,
}

/// Begin to set up an authenticator app.
///
/// Nothing is enabled yet: the app's first code confirms it. With a factor in place a code of it is
/// needed, and confirming replaces it.
#[utoipa::path(
    post, path = "/v1/mfa/totp", tag = "Two-factor sign-in", operation_id = "enrollTotp",
    request_body = Shown,
    responses(
        (status = 201, description = "What the app has to know. Shown this once.", body = Enrollment),
        responses::Signed, responses::WithBody, responses::Proving,
    ),
)]
async fn enroll(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(Shown { password, code }): Body<Shown>,
) -> Result<(StatusCode, Json<Enrollment>), Refused> {
    let enrollment = guess.judge(state.bus.request(&Enroll { caller, password, code })).await?;
    Ok((StatusCode::CREATED, Json(enrollment)))
}

/// A code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FirstCode {
    /// The six digits that the app shows.
    #[schema(value_type = String)]
    code: SecretString,
}

/// Two-factor sign-in is set up.
#[derive(Serialize, ToSchema)]
struct Confirmed {
    /// Ten codes for when the app is lost, each for one use. Shown this once.
    backup_codes: Vec<String>,
    /// The session, which goes on under a new token.
    session: Session,
    /// That token, where the old one came in `Authorization`; else it is in the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Confirm an authenticator app by its first code.
///
/// The session goes on under a new token, and the old one is dead; all other sessions of the user end.
#[utoipa::path(
    post, path = "/v1/mfa/totp/confirm", tag = "Two-factor sign-in", operation_id = "confirmTotp",
    request_body = FirstCode,
    responses(
        (
            status = 200, description = "Set up, on every edge.", body = Confirmed,
            headers(("Set-Cookie" = String, description = "The new token, where the old one came in the cookie.")),
        ),
        responses::Signed, responses::WithBody, responses::About, responses::Proving,
    ),
)]
async fn confirm(
    extract::State(state): extract::State<State>,
    SignedBy(caller, carrier): SignedBy,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(FirstCode { code }): Body<FirstCode>,
) -> Result<Response, Refused> {
    let token = Token::generate();
    let confirmed =
        guess.judge(state.bus.request(&Confirm { caller, code, token: token.hash() })).await?;
    let answer = |token| {
        let backup_codes = confirmed.backup_codes;
        Json(Confirmed { backup_codes, session: confirmed.session, token })
    };
    Ok(match carrier {
        Carrier::Cookie => ([(SET_COOKIE, set_cookie(&token))], answer(None)).into_response(),
        Carrier::Bearer => answer(Some(token.expose().to_owned())).into_response(),
    })
}

/// Do without two-factor sign-in again, where the policy allows it.
#[utoipa::path(
    delete, path = "/v1/mfa/totp", tag = "Two-factor sign-in", operation_id = "disableTotp",
    request_body = Both,
    responses(
        (status = 204, description = "Disabled."),
        responses::Signed, responses::WithBody, responses::About, responses::Proving,
        responses::Conflicting,
    ),
)]
async fn disable(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(Both { password, code }): Body<Both>,
) -> Result<StatusCode, Refused> {
    guess.judge(state.bus.request(&Disable { caller, password, code })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// New backup codes; the old ones are dead.
#[utoipa::path(
    post, path = "/v1/mfa/backup-codes", tag = "Two-factor sign-in", operation_id = "renewBackupCodes",
    request_body = Both,
    responses(
        (status = 200, description = "The new codes. Shown this once.", body = BackupCodes),
        responses::Signed, responses::WithBody, responses::About, responses::Proving,
    ),
)]
async fn renew_backup_codes(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(Both { password, code }): Body<Both>,
) -> Result<Json<BackupCodes>, Refused> {
    Ok(Json(guess.judge(state.bus.request(&RenewBackupCodes { caller, password, code })).await?))
}

/// Take a user's second factor away.
///
/// Needs `tenant.manage`. All their sessions end.
#[utoipa::path(
    delete, path = "/v1/users/{id}/mfa", tag = "Two-factor sign-in", operation_id = "resetMfaOfUser",
    params(("id" = UserId, Path, description = "The user.")),
    request_body = Shown,
    responses(
        (status = 200, description = "Taken away, with the receipt of the edges.", body = WasReset),
        responses::Signed, responses::WithBody, responses::About, responses::Proving,
    ),
)]
async fn reset(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(user): Id,
    Body(Shown { password, code }): Body<Shown>,
) -> Result<Json<WasReset>, Refused> {
    let request = Reset { caller, user_id: UserId(user), password, code };
    Ok(Json(guess.judge(state.bus.request(&request)).await?))
}

/// Of whom a second factor is required.
#[utoipa::path(
    get, path = "/v1/mfa-policy", tag = "Two-factor sign-in", operation_id = "getMfaPolicy",
    responses((status = 200, description = "The policy in force.", body = MfaPolicy), responses::Signed),
)]
async fn policy(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
) -> Result<Json<MfaPolicy>, Refused> {
    Ok(Json(state.bus.request(&GetPolicy { caller }).await?))
}

/// All of the policy.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPolicy {
    /// Whether a second factor is required of anybody.
    require_2fa: bool,
    /// Assigned roles of which it is required; none named: of all.
    required_roles: BTreeSet<Role>,
    /// How long one may do without after it became required, in days.
    #[schema(minimum = 0, maximum = 90)]
    grace_period_days: u32,
}

/// Change of whom a second factor is required, and how soon.
///
/// Needs `tenant.manage`. Nothing moves anybody's deadline later.
#[utoipa::path(
    put, path = "/v1/mfa-policy", tag = "Two-factor sign-in", operation_id = "setMfaPolicy",
    request_body = NewPolicy,
    responses(
        (status = 200, description = "The policy in force now, with the receipt of the edges.", body = PolicySet),
        responses::Signed, responses::WithBody,
    ),
)]
async fn set_policy(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(new): Body<NewPolicy>,
) -> Result<Json<PolicySet>, Refused> {
    let NewPolicy { require_2fa, required_roles, grace_period_days } = new;
    let policy = MfaPolicy { require_2fa, required_roles, grace_period_days };
    Ok(Json(state.bus.request(&SetPolicy { caller, policy }).await?))
}
