//! One span per request, by OpenTelemetry's conventions for HTTP servers.

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    middleware::Next,
    response::Response,
};
use shared::trace;
use tracing::{Instrument as _, Span, field::Empty, info_span};

/// Runs the request in a span that continues the trace it came with.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let span = span(request.method(), route);
    let traceparent = request.headers().get(trace::TRACEPARENT);
    trace::continue_trace(&span, traceparent.and_then(|value| value.to_str().ok()));
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
    response
}

/// Named by the route's template, never by the path: names have to be few.
fn span(method: &Method, route: Option<&str>) -> Span {
    let (known, name) = named(method, route);
    info_span!(
        "http.request",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = known,
        http.route = route,
        http.response.status_code = Empty,
        error.type = Empty,
    )
}

/// The method as the conventions spell it, and the name of the span.
fn named(method: &Method, route: Option<&str>) -> (&'static str, String) {
    let (known, name) = match method.as_str() {
        "GET" => ("GET", "GET"),
        "HEAD" => ("HEAD", "HEAD"),
        "POST" => ("POST", "POST"),
        "PUT" => ("PUT", "PUT"),
        "PATCH" => ("PATCH", "PATCH"),
        "DELETE" => ("DELETE", "DELETE"),
        "OPTIONS" => ("OPTIONS", "OPTIONS"),
        "TRACE" => ("TRACE", "TRACE"),
        "CONNECT" => ("CONNECT", "CONNECT"),
        _ => ("_OTHER", "HTTP"),
    };
    (known, route.map_or_else(|| name.to_owned(), |route| format!("{name} {route}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_named_by_method_and_route() {
        let route = Some("/v1/sessions/{id}");
        assert_eq!(
            named(&Method::DELETE, route),
            ("DELETE", "DELETE /v1/sessions/{id}".to_owned())
        );
        assert_eq!(named(&Method::GET, None), ("GET", "GET".to_owned()));
        let odd = Method::from_bytes(b"BREW").expect("a method");
        assert_eq!(named(&odd, None), ("_OTHER", "HTTP".to_owned()));
    }
}
