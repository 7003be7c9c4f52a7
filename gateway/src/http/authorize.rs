//! `/authorize`: what reverse proxies ask about every request. The hot path: no spans, nothing sent
//! while the session is known.

mod answer;

use axum::{
    extract::{Request, State},
    http::request::Parts,
    response::{IntoResponse as _, Response},
    routing::any,
};
use shared::{
    refusal::{Code, Refusal},
    role::{Permission, Role, permits},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{credential::credential, problem::Refused, responses};
use crate::{
    actions::Recorder,
    edge::{Decision, Edge, Undecided},
};

/// The one route, for any method, those that no document can name included.
pub(super) fn routes() -> OpenApiRouter<Deciding> {
    let (schemas, mut paths, _) = routes!(authorize);
    for item in paths.paths.values_mut() {
        let operations = [
            (&mut item.get, "Get"),
            (&mut item.head, "Head"),
            (&mut item.post, "Post"),
            (&mut item.put, "Put"),
            (&mut item.patch, "Patch"),
            (&mut item.delete, "Delete"),
            (&mut item.options, "Options"),
            (&mut item.trace, "Trace"),
        ];
        for (operation, method) in operations {
            // Operation ids are unique in a document.
            if let Some(id) =
                operation.as_mut().and_then(|operation| operation.operation_id.as_mut())
            {
                id.push_str(method);
            }
        }
    }
    OpenApiRouter::default().routes((schemas, paths, any(authorize)))
}

/// Whether a request may pass, and on whose behalf.
///
/// Any method, any body. The session may come by the cookie or by `Authorization`, from any site.
/// Every answer has all `X-Auth-…` headers, empty where they do not apply, so that a proxy that
/// copies them never passes on a client's own.
#[utoipa::path(
    method(get, head, post, put, patch, delete, options, trace),
    path = "/authorize", tag = "Edge", operation_id = "authorize",
    params(
        ("role" = Option<Role>, Query, description = "Demand at least this effective role."),
        ("permission" = Option<Permission>, Query, description = "Demand this permission."),
    ),
    responses(
        (
            status = 200, description = "It may pass.",
            headers(
                ("X-Auth-User" = String, description = "The user's id."),
                ("X-Auth-Email" = String, description = "The user's address; bytes that are not visible ASCII, and `%`, are percent-encoded."),
                ("X-Auth-Tenant" = String, description = "The tenant's short name."),
                ("X-Auth-Role" = String, description = "The effective role: a grant may have raised it."),
                ("X-Auth-Session" = String, description = "The session's id."),
                ("X-Auth-Methods" = String, description = "How the user signed in, separated by commas."),
                ("X-Auth-Emergency-Grant" = String, description = "The grant that raises the role, or empty."),
                ("X-Auth-Emergency-Expires" = String, description = "When that grant ends (RFC 3339), or empty."),
            ),
        ),
        responses::Authorizing,
    ),
)]
async fn authorize(State(deciding): State<Deciding>, request: Request) -> Response {
    // The body is not kept while waiting.
    let (request, _) = request.into_parts();
    match decide(&deciding.edge, &request).await {
        Ok((decision, demanded)) => {
            deciding.recorder.note(&decision, demanded.is_ok(), &request);
            match demanded {
                Ok(()) => answer::allowed(&decision),
                Err(refusal) => answer::refused(Refused(refusal).into_response()),
            }
        }
        Err(refused) => answer::refused(refused.into_response()),
    }
}

/// What the decisions need.
#[derive(Clone)]
pub(super) struct Deciding {
    edge: Edge,
    recorder: Recorder,
}

impl Deciding {
    pub(super) fn new(edge: Edge, recorder: Recorder) -> Self {
        Self { edge, recorder }
    }
}

/// Whose request it is, and whether they may make it.
async fn decide(edge: &Edge, request: &Parts) -> Result<(Decision, Result<(), Refusal>), Refused> {
    let demand = demand(request.uri.query())?;
    let credential = credential(&request.headers).ok_or_else(Refusal::unauthenticated)?;
    let decision = edge.decide(&credential.token).await.map_err(|undecided| match undecided {
        Undecided::Fenced => Refusal::new(Code::EdgeFenced, ""),
        Undecided::NoSession => Refusal::unauthenticated(),
        Undecided::Unavailable => Refusal::unavailable(),
    })?;
    let demanded = demand.check(&decision);
    Ok((decision, demanded))
}

/// What the proxy's query demands of the session. The session has to meet all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Demand {
    role: Option<Role>,
    permission: Option<Permission>,
}

/// Reads the query. The names have no character that needs encoding, so none is decoded: what does
/// not match to the letter is refused, never ignored.
fn demand(query: Option<&str>) -> Result<Demand, Refused> {
    let mut demand = Demand::default();
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(demand);
    };
    for pair in query.split('&') {
        let read = match pair.split_once('=') {
            Some(("role", name)) if demand.role.is_none() => {
                demand.role = name.parse().ok();
                demand.role.is_some()
            }
            Some(("permission", name)) if demand.permission.is_none() => {
                demand.permission = name.parse().ok();
                demand.permission.is_some()
            }
            _ => false,
        };
        if !read {
            return Err(Refused::bad_request(
                "The query may demand one known `role` and one known `permission`, nothing else.",
            ));
        }
    }
    Ok(demand)
}

impl Demand {
    fn check(self, decision: &Decision) -> Result<(), Refusal> {
        let session = &decision.session;
        if decision.enrollment_only {
            return Err(Refusal::new(
                Code::EnrollmentRequired,
                "This session can only set up two-factor sign-in.",
            ));
        }
        if self.role.is_some_and(|role| decision.role < role) {
            return Err(Refusal::new(Code::Forbidden, "The role does not suffice."));
        }
        let elevated = decision.elevation.as_ref().map(|elevation| elevation.role);
        if self.permission.is_some_and(|demanded| !permits(session.role, elevated, demanded)) {
            return Err(Refusal::new(Code::Forbidden, "The permission is missing."));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{answer::tests::decision, *};

    #[test]
    fn a_demand_is_read_to_the_letter() {
        assert_eq!(demand(None).ok(), Some(Demand::default()));
        assert_eq!(demand(Some("")).ok(), Some(Demand::default()));
        assert_eq!(
            demand(Some("permission=session.revoke-any&role=admin")).ok(),
            Some(Demand {
                role: Some(Role::Admin),
                permission: Some(Permission::SessionRevokeAny)
            })
        );
    }

    #[test]
    fn what_is_not_understood_is_never_ignored() {
        for query in [
            "role",
            "role=",
            "role=root",
            "role=Admin",
            "role=admin&role=admin",
            "role=member&role=admin",
            "permission=x",
            "permission=",
            "permission=audit.read&permission=audit.read",
            "roles=admin",
            "role=admin&",
            "&role=admin",
            "role=%61dmin",
            "Role=admin",
            "x=1",
            "&",
        ] {
            assert!(demand(Some(query)).is_err(), "{query}");
        }
    }

    fn check(query: &str, decision: &Decision) -> Result<(), Code> {
        let Ok(demand) = demand(Some(query)) else {
            return Err(Code::BadRequest);
        };
        demand.check(decision).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_role_is_a_minimum_and_a_grant_raises_it() {
        let plain = decision(Role::Manager, None);
        assert_eq!(check("", &plain), Ok(()));
        assert_eq!(check("role=member", &plain), Ok(()));
        assert_eq!(check("role=manager", &plain), Ok(()));
        assert_eq!(check("role=admin", &plain), Err(Code::Forbidden));
        assert_eq!(check("role=admin", &decision(Role::Member, Some(Role::Admin))), Ok(()));
    }

    #[test]
    fn a_grant_confers_no_permission_that_would_make_it_permanent() {
        let raised = decision(Role::Member, Some(Role::Admin));
        assert_eq!(check("permission=session.revoke-any", &raised), Ok(()));
        assert_eq!(check("permission=tenant.manage", &raised), Err(Code::Forbidden));
        assert_eq!(check("permission=emergency.approve", &raised), Err(Code::Forbidden));
        assert_eq!(check("role=admin&permission=tenant.manage", &raised), Err(Code::Forbidden));
        assert_eq!(check("permission=tenant.manage", &decision(Role::Admin, None)), Ok(()));
    }

    #[test]
    fn an_enrolment_session_passes_nothing() {
        let mut decision = decision(Role::Admin, None);
        decision.enrollment_only = true;
        assert_eq!(check("", &decision), Err(Code::EnrollmentRequired));
    }
}
