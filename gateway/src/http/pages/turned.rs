//! What comes instead of a page: a way to the sign-in, or an explanation.

use askama::Template;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use shared::{
    refusal::{Code, Refusal},
    trace,
};
use tracing::error;

use super::{super::problem::Refused, sign_in};

/// No page, and why.
#[derive(Debug)]
pub(super) enum Turned {
    /// One has to sign in, or to set up a second factor, first. Holds where to go.
    Elsewhere(String),
    /// It was refused.
    Refused(Refusal),
}

impl Turned {
    /// A template could not be rendered: a fault of ours.
    pub(super) fn template(error: &askama::Error) -> Self {
        error!(%error, "a page could not be rendered");
        Self::Refused(Refusal::new(Code::Internal, ""))
    }
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Self {
        match refusal.code {
            Code::Unauthenticated => Self::Elsewhere(sign_in::PAGE.to_owned()),
            Code::EnrollmentRequired => Self::Elsewhere(sign_in::ENROLL.to_owned()),
            _ => Self::Refused(refusal),
        }
    }
}

impl From<Refused> for Turned {
    fn from(Refused(refusal): Refused) -> Self {
        refusal.into()
    }
}

#[derive(Template)]
#[template(path = "refused.html")]
struct RefusedPage {
    title: &'static str,
    detail: String,
    trace_id: Option<String>,
}

impl IntoResponse for Turned {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Elsewhere(place) => return go(&place),
            Self::Refused(refusal) => refusal,
        };
        let status = StatusCode::from_u16(refusal.code.status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let page = RefusedPage {
            title: refusal.code.title(),
            trace_id: status.is_server_error().then(trace::current_trace_id).flatten(),
            detail: super::super::problem::detail(refusal),
        };
        match page.render() {
            Ok(page) => (status, Html(page)).into_response(),
            Err(error) => {
                error!(%error, "a page could not be rendered");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// Sends the browser to another page, whether the script asked or the browser itself: the script
/// follows `HX-Redirect`, and would only show what it finds by following a status.
pub(super) fn go(place: &str) -> Response {
    let mut response = Redirect::to(place).into_response();
    if let Ok(place) = HeaderValue::from_str(place) {
        response.headers_mut().insert("hx-redirect", place);
    }
    response
}

/// The same where the script asked.
pub(super) fn go_for(headers: &HeaderMap, place: &str) -> Response {
    let mut response = go(place);
    if headers.contains_key("hx-request") {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::LOCATION);
    }
    response
}
