//! `Prefer: respond-async` (RFC 7240): the answer comes at the commit, as 202, and the receipt in it
//! says who does not enforce it yet.

use std::time::Duration;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    middleware::{self, Next},
    response::Response,
};
use shared::bus;
use utoipa::openapi::{
    Object, RefOr, Type,
    path::{Operation, ParameterBuilder, ParameterIn},
};
use utoipa_axum::router::OpenApiRouter;

use super::State;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RESPOND_ASYNC: &str = "respond-async";

/// Lets the answers of these routes, which wait for every edge, be had at the commit.
pub(super) fn at_commit(mut router: OpenApiRouter<State>) -> OpenApiRouter<State> {
    for item in router.get_openapi_mut().paths.paths.values_mut() {
        let operations = [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        operations.into_iter().flatten().for_each(describe);
    }
    router.layer(middleware::from_fn(prefer))
}

fn describe(operation: &mut Operation) {
    let header = ParameterBuilder::new()
        .name("Prefer")
        .parameter_in(ParameterIn::Header)
        .description(Some("`respond-async`: answer at the commit, without waiting for any edge."))
        .schema(Some(Object::with_type(Type::String)))
        .build();
    operation.parameters.get_or_insert_default().push(header.into());
    let responses = &mut operation.responses.responses;
    let whole = responses.iter().find(|(status, _)| status.starts_with('2'));
    if let Some((status, RefOr::T(response))) = whole {
        let description = format!(
            "Committed, with `Prefer: respond-async`. The body is that of {status}; ask for its receipt \
             again at `/v1/receipts/{{revision}}`."
        );
        let mut response = response.clone();
        response.description = description;
        responses.insert("202".to_owned(), response.into());
    }
}

async fn prefer(request: Request, next: Next) -> Response {
    if request.method().is_safe() || !prefers_async(request.headers()) {
        return next.run(request).await;
    }
    let mut response = bus::answering_within(Duration::ZERO, next.run(request)).await;
    if response.status().is_success() {
        *response.status_mut() = StatusCode::ACCEPTED;
        response.headers_mut().insert(APPLIED, HeaderValue::from_static(RESPOND_ASYNC));
    }
    response
}

/// RFC 7240, section 2: a list of preferences, each perhaps with a value and parameters.
fn prefers_async(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
    let mut preferences = lists.flat_map(|list| list.split(','));
    preferences.any(|preference| {
        let name = preference.split([';', '=']).next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(RESPOND_ASYNC)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefers(values: &[&str]) -> bool {
        let headers = values.iter().map(|value| (PREFER, value.parse().expect("a value")));
        prefers_async(&headers.collect())
    }

    #[test]
    fn the_preference_is_found_however_it_is_written() {
        for values in
            [&["respond-async"][..], &["wait=10, Respond-Async"], &["a", "respond-async; x=1"]]
        {
            assert!(prefers(values), "{values:?}");
        }
        for values in [&[][..], &["wait=10"], &["return=minimal; respond-async"]] {
            assert!(!prefers(values), "{values:?}");
        }
    }
}
