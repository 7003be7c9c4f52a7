//! Who the caller is, as session-worker and grant-worker know it.

use axum::{Json, extract};
use serde::Serialize;
use shared::{
    message::{
        account::{Me, Mfa, Tenant, User},
        grant::{self, GetGrant, Grant},
        session::Session,
    },
    role::Permission,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State, body::Nothing, caller::Signed, parameters::Parameters, problem::Refused, responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(me))
}

/// The caller, as the caller sees it.
#[derive(Debug, Serialize, ToSchema)]
struct Account {
    /// The person.
    user: User,
    /// The organisation.
    tenant: Tenant,
    /// The session that asks.
    session: Session,
    /// All that the caller may do inside Breakglass now.
    permissions: Vec<Permission>,
    /// The grant that raises the caller's role now.
    elevation: Option<Grant>,
    /// The second factor.
    mfa: Mfa,
}

/// Who one is, what one may do, and which grant raises one's role.
#[utoipa::path(
    get, path = "/v1/me", tag = "Sign-in", operation_id = "me",
    responses((status = 200, description = "The caller.", body = Account), responses::Signed),
)]
async fn me(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
) -> Result<Json<Account>, Refused> {
    let account = state.bus.request(&Me { caller: caller.clone() }).await?;
    let elevation = match account.elevation {
        // It may have ended between the two questions.
        Some(grant_id) => Some(state.bus.request(&GetGrant { caller, grant_id }).await?.grant)
            .filter(|grant| grant.state == grant::State::Active),
        None => None,
    };
    Ok(Json(Account {
        user: account.user,
        tenant: account.tenant,
        session: account.session,
        permissions: account.permissions,
        elevation,
        mfa: account.mfa,
    }))
}
