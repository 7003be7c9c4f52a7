//! Refusals as problem documents (RFC 9457): the one way from a [`Refusal`] to an answer.

use std::any::Any;

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use shared::{
    refusal::{Code, Refusal},
    trace,
};
use tracing::error;
use utoipa::ToSchema;

/// The media type of a problem document.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Seconds after which to try again where a 503 does not say.
const RETRY_AFTER: u32 = 1;

/// Why a request was refused (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Identifies the kind of problem: `urn:breakglass:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(format = "uri", example = "urn:breakglass:problem:not-found")]
    kind: String,
    /// What kind of problem it is, in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What it means here, and what can be done about it.
    detail: String,
    /// The kind of problem, stable and for programs.
    code: Code,
    /// The trace of the request, for whoever looks into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

impl Problem {
    fn new(refusal: Refusal, trace_id: Option<String>) -> Self {
        let code = refusal.code;
        Self {
            kind: format!("urn:breakglass:problem:{code}"),
            title: code.title(),
            status: code.status(),
            detail: detail(refusal),
            code,
            trace_id,
        }
    }
}

/// What the client gets to read. Past 500 the refusal's own words are not for the outside.
pub(super) fn detail(refusal: Refusal) -> String {
    match refusal.code {
        Code::Unavailable => Refusal::unavailable().detail,
        Code::EdgeFenced => {
            "This edge has no lease and decides nothing. Ask another one.".to_owned()
        }
        code if code.status() >= 500 => "Something went wrong on our side.".to_owned(),
        _ => refusal.detail,
    }
}

/// A refusal on its way out.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl Refused {
    /// The request is malformed, and how.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self(Refusal::new(Code::BadRequest, detail))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(refusal) = self;
        let code = refusal.code;
        let status =
            StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = headers(status, refusal.retry_after);
        (status, headers, Json(Problem::new(refusal, trace::current_trace_id()))).into_response()
    }
}

fn headers(status: StatusCode, retry_after: Option<u32>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §11.6.1: a 401 names a scheme.
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let otherwise = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER);
    if let Some(seconds) = retry_after.or(otherwise) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    headers
}

/// The answer where a handler panicked.
#[expect(clippy::needless_pass_by_value, reason = "the signature that tower-http calls")]
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not text");
    error!(panic = message, "a handler panicked");
    Refused(Refusal::new(Code::Internal, "")).into_response()
}

#[cfg(test)]
mod tests {
    use shared::refusal::CODES;

    use super::*;

    fn problem(refusal: Refusal) -> serde_json::Value {
        serde_json::to_value(Problem::new(refusal, None)).expect("serializes")
    }

    #[test]
    fn a_problem_has_the_members_of_the_contract() {
        let problem = problem(Refusal::new(Code::GrantEnded, "It ended at noon."));
        assert_eq!(
            problem,
            serde_json::json!({
                "type": "urn:breakglass:problem:grant-ended",
                "title": "The grant has ended",
                "status": 409,
                "detail": "It ended at noon.",
                "code": "grant-ended",
            })
        );
    }

    #[test]
    fn every_code_becomes_its_status() {
        for code in CODES {
            let response = Refused(Refusal::new(*code, "x")).into_response();
            assert_eq!(response.status().as_u16(), code.status(), "{code}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE, "{code}");
        }
    }

    #[test]
    fn a_fault_of_ours_says_nothing_of_the_inside() {
        for code in CODES.iter().filter(|code| code.status() >= 500) {
            let problem = problem(Refusal::new(*code, "relation \"users\" does not exist"));
            assert!(!problem.to_string().contains("relation"), "{code}");
        }
    }

    #[test]
    fn retry_after_is_sent_where_it_is_known_and_with_every_503() {
        let header = |code, retry_after| {
            let refusal = Refusal { retry_after, ..Refusal::new(code, "x") };
            let response = Refused(refusal).into_response();
            response
                .headers()
                .get(header::RETRY_AFTER)
                .map(|v| v.to_str().expect("text").to_owned())
        };
        assert_eq!(header(Code::TooManyAttempts, Some(30)).as_deref(), Some("30"));
        assert_eq!(header(Code::EdgeFenced, None).as_deref(), Some("1"));
        assert_eq!(header(Code::Unavailable, Some(7)).as_deref(), Some("7"));
        assert_eq!(header(Code::Conflict, None), None);
    }

    #[test]
    fn a_401_names_the_scheme() {
        let response = Refused(Refusal::unauthenticated()).into_response();
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
