//! Everything that the gateway says over HTTP.
//!
//! `/authorize` is decided here, by the edge. Every other call is carried to a worker together with
//! the hash of the caller's token; the worker finds out who that is and what they may do. Here a
//! request is only refused for what can be seen in it: no token, another site, a malformed body.

mod at_commit;
mod audit;
mod authorize;
mod body;
mod caller;
mod credential;
mod csrf;
mod edges;
mod events;
mod grants;
mod guess;
mod health;
mod me;
mod mfa;
mod notifications;
mod openapi;
mod pages;
mod parameters;
mod passwords;
mod problem;
mod proxies;
mod responses;
mod serve;
mod sessions;
mod sign_in;
mod trace;
mod users;

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    middleware,
};
use shared::{
    bus::Bus,
    clock::Clock,
    refusal::{Code, Refusal},
};
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};

use self::problem::Refused;
pub use self::{
    guess::Guesses,
    openapi::document,
    pages::TraceUrl,
    proxies::{ForwardedHeader, Proxies, ProxyNetwork},
    serve::serve,
};
use crate::{actions::Recorder, edge::Edge, events::Events};

/// What the routes need.
#[derive(Clone)]
pub struct State {
    /// The way to the workers.
    pub bus: Bus,
    /// This edge's cache and lease.
    pub edge: Edge,
    /// What open streams hear.
    pub events: Events,
    /// What is done under grants.
    pub recorder: Recorder,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Origins (`https://breakglass.example`) that count as the gateway's own, besides the `Host`
    /// of a request.
    pub public_origins: Arc<[String]>,
    /// Who is believed when they say for whom they ask.
    pub proxies: Arc<Proxies>,
    /// Where traces can be looked at, if anywhere.
    pub trace_url: Option<TraceUrl>,
    /// Who has guessed wrong how often.
    pub guesses: Guesses,
}

/// All routes of the gateway.
///
/// To be served by [`serve`], which tells the peer's address.
pub fn router(state: State) -> Router {
    let deciding = authorize::Deciding::new(state.edge.clone(), state.recorder.clone());
    let decisions = Router::from(authorize::routes()).with_state(deciding);
    let probes = Router::from(health::routes()).with_state(state.clone());
    let api = Router::from(openapi::api()).merge(pages::routes()).with_state(state);
    dressed(api, decisions.merge(probes))
}

/// Gives the API spans, and everything the answers to mistakes and the headers that all routes
/// share. Decisions and probes have no spans: a span would cost more than the decision.
fn dressed(api: Router, quiet: Router) -> Router {
    let api = api
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer((middleware::from_fn(trace::trace), CatchPanicLayer::custom(problem::panicked)));
    let quiet = quiet
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(problem::panicked));
    api.merge(quiet).layer((
        set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        set(header::REFERRER_POLICY, "no-referrer"),
        set(header::X_FRAME_OPTIONS, "DENY"),
        set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        set(header::CACHE_CONTROL, "no-store"),
    ))
}

/// A header on every answer that does not bring its own.
fn set(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

async fn unknown_route() -> Refused {
    Refused(Refusal::new(Code::NotFound, "There is no such route."))
}

async fn wrong_method() -> Refused {
    Refused(Refusal::new(
        Code::MethodNotAllowed,
        "This route does not know the method; the Allow header names those that it knows.",
    ))
}

#[cfg(test)]
mod tests;
