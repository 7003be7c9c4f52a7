//! The document of the API (`OpenAPI`).
//!
//! It is made from the routes that are served, so it names them all.

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::{HeaderValue, header},
    response::IntoResponse,
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State, audit, authorize, credential, edges, events, grants, health, me, mfa, notifications,
    passwords, problem::Problem, sessions, sign_in, users,
};

/// Emergency access, sessions and the record, over HTTP.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Breakglass",
        description = "Emergency access and session security.\n\n\
            Times are RFC 3339 in UTC, durations whole seconds, ids UUIDv7. Errors are problem \
            documents (RFC 9457) with a stable `code`. Fields and parameters that are not described \
            here are refused with 400; bodies over 64 KiB with 413; an absent body counts as `{}`. \
            Methods that change something and carry the cookie need `Sec-Fetch-Site: same-origin` \
            or an `Origin` of this site, else they are refused with 403 `csrf`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem)),
    modifiers(&Security),
    security(("cookie" = []), ("bearer" = [])),
    tags(
        (name = "Sign-in", description = "Getting a session and giving it back."),
        (name = "Two-factor sign-in", description = "Setting it up, backup codes, and of whom it is required."),
        (name = "Users", description = "Who may sign in, as what."),
        (name = "Sessions", description = "Where one is signed in, and ending that."),
        (name = "Emergency access", description = "Raising one's role for a short time, with a reason."),
        (name = "Notifications", description = "Having others told what happens."),
        (name = "Audit", description = "Who did what."),
        (name = "Events", description = "Hearing what happens as it happens."),
        (name = "Edge", description = "What reverse proxies and orchestrators ask."),
    ),
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let cookie = ApiKeyValue::with_description(credential::NAME, "For browsers.");
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("bgs_ and 256 random bits in base64url")
            .description(Some("For programs. Goes before the cookie where both are there."));
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    }
}

/// The routes that are carried to the workers, and this document.
pub(super) fn api() -> OpenApiRouter<State> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(sign_in::routes())
        .merge(me::routes())
        .merge(passwords::routes())
        .merge(mfa::routes())
        .merge(sessions::routes())
        .merge(users::routes())
        .merge(grants::routes())
        .merge(notifications::routes())
        .merge(audit::routes())
        .merge(edges::routes())
        .merge(events::routes())
        .routes(routes!(openapi_json))
}

/// The whole document.
#[must_use]
pub fn document() -> openapi::OpenApi {
    let mut document = api().into_openapi();
    document.merge(health::routes().into_openapi());
    document.merge(authorize::routes().into_openapi());
    document
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "Edge", operation_id = "openapi", security(()),
    responses((status = 200, description = "The document.", body = Object)),
)]
async fn openapi_json() -> impl IntoResponse {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| document().to_json().expect("a document serializes").into());
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], DOCUMENT.clone())
}

#[cfg(test)]
mod tests {
    use super::{super::problem, *};

    fn json() -> serde_json::Value {
        serde_json::to_value(document()).expect("serializes")
    }

    #[test]
    fn every_route_is_described_with_its_refusals() {
        let document = json();
        let paths = document["paths"].as_object().expect("paths");
        let mut ids = Vec::new();
        for (path, item) in paths {
            for (method, operation) in item.as_object().expect("operations") {
                let place = format!("{method} {path}");
                ids.push(operation["operationId"].as_str().expect(&place));
                assert!(operation["summary"].is_string(), "{place} has no summary");
                let responses = operation["responses"].as_object().expect(&place);
                assert!(responses.keys().any(|status| status.starts_with('2')), "{place}");
                for (status, response) in responses {
                    let refusal = status.starts_with(['4', '5']);
                    let problem = response["content"].get(problem::MEDIA_TYPE).is_some();
                    assert_eq!(refusal, problem, "{place} {status}");
                }
                let open = ["/healthz", "/readyz", "/openapi.json"].contains(&path.as_str());
                assert!(open || responses.contains_key("401"), "{place} names no 401");
            }
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "an operation id is given twice");
    }

    #[test]
    fn the_paths_are_those_of_the_contract() {
        let document = json();
        let paths: Vec<_> = document["paths"].as_object().expect("paths").keys().cloned().collect();
        let mut expected = [
            "/authorize",
            "/healthz",
            "/openapi.json",
            "/readyz",
            "/v1/audit",
            "/v1/audit/export",
            "/v1/audit/head",
            "/v1/edges",
            "/v1/events",
            "/v1/receipts/{revision}",
            "/v1/emergency/grants",
            "/v1/emergency/grants/{id}",
            "/v1/emergency/grants/{id}/approve",
            "/v1/emergency/grants/{id}/cancel",
            "/v1/emergency/grants/{id}/deny",
            "/v1/emergency/grants/{id}/evidence",
            "/v1/emergency/grants/{id}/extend",
            "/v1/emergency/grants/{id}/review",
            "/v1/emergency/grants/{id}/revoke",
            "/v1/emergency/policy",
            "/v1/login",
            "/v1/login/mfa",
            "/v1/logout",
            "/v1/me",
            "/v1/me/password",
            "/v1/mfa-policy",
            "/v1/mfa/backup-codes",
            "/v1/mfa/totp",
            "/v1/mfa/totp/confirm",
            "/v1/notifications/endpoints",
            "/v1/notifications/endpoints/{id}",
            "/v1/notifications/endpoints/{id}/deliveries",
            "/v1/notifications/endpoints/{id}/deliveries/{delivery}/retry",
            "/v1/notifications/endpoints/{id}/rotate-secret",
            "/v1/notifications/endpoints/{id}/test",
            "/v1/password-reset",
            "/v1/password-reset/request",
            "/v1/sessions",
            "/v1/sessions/revoke-others",
            "/v1/sessions/{id}",
            "/v1/users",
            "/v1/users/{id}",
            "/v1/users/{id}/mfa",
            "/v1/users/{id}/reset-password",
            "/v1/users/{id}/sessions",
            "/v1/users/{id}/sessions/revoke-all",
            "/v1/users/{id}/sessions/{sid}",
        ];
        expected.sort_unstable();
        let mut paths = paths;
        paths.sort();
        assert_eq!(paths, expected);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
            match value {
                serde_json::Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(serde_json::Value::as_str));
                    members.values().for_each(|member| references(member, found));
                }
                serde_json::Value::Array(items) => {
                    for item in items {
                        references(item, found);
                    }
                }
                _ => {}
            }
        }
        let document = json();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference into this document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
