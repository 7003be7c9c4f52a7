//! Emergency access: asking for it, looking at it, ending it.

use axum::{
    Json, extract,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use serde::Deserialize;
use shared::{
    id::{GrantId, UserId},
    message::{
        Caller,
        grant::{
            CancelGrant, DecideGrant, Decision, EmergencyPolicy, EmergencyPolicySet, Evidence,
            ExtendGrant, GetEmergencyPolicy, GetEvidence, GetGrant, GrantReceipt, Grants,
            ListGrants, OneGrant, Outcome, RequestGrant, ReviewGrant, RevokeGrant,
            SHORTEST_SECONDS, SetEmergencyPolicy, State as GrantState,
        },
    },
    role::Role,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    State,
    at_commit::at_commit,
    body::{Body, Exactly, Nothing},
    caller::Signed,
    guess::Guess,
    parameters::{Id, Parameters, page},
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    let changing = OpenApiRouter::default()
        .routes(routes!(list, request))
        .routes(routes!(approve))
        .routes(routes!(deny))
        .routes(routes!(revoke))
        .routes(routes!(extend));
    at_commit(changing)
        .routes(routes!(get))
        .routes(routes!(evidence))
        .routes(routes!(cancel))
        .routes(routes!(review))
        .routes(routes!(policy, set_policy))
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
    /// A code of the second factor, where the policy wants a fresh one: of the authenticator app, or a
    /// backup code.
    #[schema(value_type = Option<String>)]
    code: Option<SecretString>,
    /// Go without the approvals that the policy wants, where it lets one: at once, for a shorter time,
    /// and everybody is told.
    bypass_approval: Option<bool>,
}

/// Ask for emergency access.
///
/// Active at once where the policy wants no approvals; answers once every edge knows. Else it waits,
/// and there is no receipt.
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
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(asked): Body<Asked>,
) -> Result<Response, Refused> {
    bounded(asked.duration_seconds)?;
    let shown = asked.code.is_some();
    let request = RequestGrant {
        caller,
        grant_id: GrantId::new(state.clock.wall()),
        reason: asked.reason.unwrap_or_default(),
        duration_seconds: asked.duration_seconds,
        role: asked.role,
        ticket: asked.ticket,
        code: asked.code,
        bypass_approval: asked.bypass_approval.unwrap_or(false),
    };
    Ok(made(guess.judge_code(shown, state.bus.request(&request)).await?))
}

fn bounded(duration_seconds: Option<u32>) -> Result<(), Refused> {
    if duration_seconds.is_some_and(|seconds| seconds < SHORTEST_SECONDS) {
        let detail = format!("`duration_seconds` is at least {SHORTEST_SECONDS}.");
        return Err(Refused::bad_request(detail));
    }
    Ok(())
}

fn made(made: GrantReceipt) -> Response {
    let location = format!("/v1/emergency/grants/{}", made.grant.id);
    (StatusCode::CREATED, [(LOCATION, location)], Json(made)).into_response()
}

/// For how much longer, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GrantExtension)]
struct More {
    /// Why. Without one: 422 `reason-required`.
    #[schema(required = true, value_type = String, nullable = false)]
    reason: Option<String>,
    /// For how long from now on. With what was before, no longer than the policy allows.
    #[schema(minimum = 5)]
    duration_seconds: u32,
    /// A code of the second factor, where the policy wants a fresh one.
    #[schema(value_type = Option<String>)]
    code: Option<SecretString>,
}

/// Ask for more time.
///
/// A new request under the policy now in force, approvals included. When it becomes active it replaces
/// the grant, in one step. One's own alone.
#[utoipa::path(
    post, path = "/v1/emergency/grants/{id}/extend", tag = "Emergency access", operation_id = "extendGrant",
    params(("id" = GrantId, Path, description = "The grant to extend.")),
    request_body = More,
    responses(
        (
            status = 201, description = "The new grant, with the receipt of the edges if it is active.",
            body = GrantReceipt, headers(("Location" = String, description = "The new grant.")),
        ),
        responses::Signed, responses::About, responses::WithBody, responses::Requesting,
    ),
)]
async fn extend(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    guess: Guess,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(grant): Id,
    Body(more): Body<More>,
) -> Result<Response, Refused> {
    bounded(Some(more.duration_seconds))?;
    let shown = more.code.is_some();
    let request = ExtendGrant {
        caller,
        grant_id: GrantId(grant),
        new_grant_id: GrantId::new(state.clock.wall()),
        reason: more.reason.unwrap_or_default(),
        duration_seconds: more.duration_seconds,
        code: more.code,
    };
    Ok(made(guess.judge_code(shown, state.bus.request(&request)).await?))
}

/// What somebody decides, besides yes or no.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GrantDecision)]
struct Deciding {
    /// In words, for the requester and the record.
    comment: Option<String>,
    /// The `request_digest` that they saw. Of another request: 409 `request-changed`.
    request_digest: Option<String>,
}

/// Approve somebody's request.
///
/// Needs `emergency.approve`, and a role that the policy names. The last approval that it takes
/// activates the grant, and is answered once every edge knows.
#[utoipa::path(
    post, path = "/v1/emergency/grants/{id}/approve", tag = "Emergency access", operation_id = "approveGrant",
    params(("id" = GrantId, Path, description = "The request.")),
    request_body = Option<Deciding>,
    responses(
        (status = 200, description = "Approved, with the receipt of the edges if it is active by that.", body = GrantReceipt),
        responses::Signed, responses::About, responses::WithBody, responses::Deciding,
    ),
)]
async fn approve(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(grant): Id,
    Body(deciding): Body<Deciding>,
) -> Result<Json<GrantReceipt>, Refused> {
    decide(&state, caller, grant, Decision::Approve, deciding).await
}

/// Deny somebody's request. One denial is enough.
#[utoipa::path(
    post, path = "/v1/emergency/grants/{id}/deny", tag = "Emergency access", operation_id = "denyGrant",
    params(("id" = GrantId, Path, description = "The request.")),
    request_body = Option<Deciding>,
    responses(
        (status = 200, description = "Denied.", body = GrantReceipt),
        responses::Signed, responses::About, responses::WithBody, responses::Deciding,
    ),
)]
async fn deny(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(grant): Id,
    Body(deciding): Body<Deciding>,
) -> Result<Json<GrantReceipt>, Refused> {
    decide(&state, caller, grant, Decision::Deny, deciding).await
}

async fn decide(
    state: &State,
    caller: Caller,
    grant: Uuid,
    decision: Decision,
    Deciding { comment, request_digest }: Deciding,
) -> Result<Json<GrantReceipt>, Refused> {
    let request =
        DecideGrant { caller, grant_id: GrantId(grant), decision, comment, request_digest };
    Ok(Json(state.bus.request(&request).await?))
}

/// Withdraw one's own request that waits for approvals.
#[utoipa::path(
    post, path = "/v1/emergency/grants/{id}/cancel", tag = "Emergency access", operation_id = "cancelGrant",
    params(("id" = GrantId, Path, description = "The request.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "Withdrawn.", body = OneGrant),
        responses::Signed, responses::About, responses::WithBody, responses::Ended,
    ),
)]
async fn cancel(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(grant): Id,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<OneGrant>, Refused> {
    Ok(Json(state.bus.request(&CancelGrant { caller, grant_id: GrantId(grant) }).await?))
}

/// What a review found.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GrantReview)]
struct Found {
    /// In words. Without any: 422 `reason-required`.
    #[schema(required = true, value_type = String, nullable = false)]
    note: Option<String>,
    /// Whether the use was justified.
    outcome: Outcome,
}

/// Review how a grant was used, once it has ended.
///
/// Needs `emergency.approve`; nobody reviews their own.
#[utoipa::path(
    post, path = "/v1/emergency/grants/{id}/review", tag = "Emergency access", operation_id = "reviewGrant",
    params(("id" = GrantId, Path, description = "The grant.")),
    request_body = Found,
    responses(
        (status = 200, description = "Reviewed.", body = OneGrant),
        responses::Signed, responses::About, responses::WithBody, responses::Deciding,
    ),
)]
async fn review(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(grant): Id,
    Body(Found { note, outcome }): Body<Found>,
) -> Result<Json<OneGrant>, Refused> {
    let note = note.unwrap_or_default();
    let request = ReviewGrant { caller, grant_id: GrantId(grant), note, outcome };
    Ok(Json(state.bus.request(&request).await?))
}

/// How emergency access is granted.
#[utoipa::path(
    get, path = "/v1/emergency/policy", tag = "Emergency access", operation_id = "getEmergencyPolicy",
    responses((status = 200, description = "The policy in force.", body = EmergencyPolicy), responses::Signed),
)]
async fn policy(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
) -> Result<Json<EmergencyPolicy>, Refused> {
    Ok(Json(state.bus.request(&GetEmergencyPolicy { caller }).await?))
}

/// Change how emergency access is granted.
///
/// Needs `tenant.manage`. Takes all of what `GET` gives. What is active stays as it was granted; what
/// waits for approvals has to fit the new policy when it has them.
#[utoipa::path(
    put, path = "/v1/emergency/policy", tag = "Emergency access", operation_id = "setEmergencyPolicy",
    request_body = EmergencyPolicy,
    responses(
        (status = 200, description = "The policy in force now.", body = EmergencyPolicySet),
        responses::Signed, responses::WithBody,
    ),
)]
async fn set_policy(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(Exactly(policy)): Body<Exactly<EmergencyPolicy>>,
) -> Result<Json<EmergencyPolicySet>, Refused> {
    Ok(Json(state.bus.request(&SetEmergencyPolicy { caller, policy }).await?))
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

/// The whole story of a grant, as one document.
///
/// Who, why, under which policy, who approved, what the record says of it and of all that its user did
/// while it was active, what was done with it behind reverse proxies, how it ended, and its review. Of
/// one's own grant, or with `emergency.approve`, `emergency.revoke` or `audit.read`.
#[utoipa::path(
    get, path = "/v1/emergency/grants/{id}/evidence", tag = "Emergency access", operation_id = "getEvidence",
    params(("id" = GrantId, Path, description = "The grant.")),
    responses(
        (status = 200, description = "The evidence.", body = Evidence),
        responses::Signed, responses::About,
    ),
)]
async fn evidence(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(grant): Id,
) -> Result<Json<Evidence>, Refused> {
    Ok(Json(state.bus.request(&GetEvidence { caller, grant_id: GrantId(grant) }).await?))
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
