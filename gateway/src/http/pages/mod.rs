//! The pages: what people see of Breakglass in a browser.
//!
//! Every page asks the workers what the API asks them, and renders the answer on this side. A page
//! works without a script: links lead to pages, forms are sent and answered by a redirect. Where the
//! script runs, a form that a link leads to is shown in a dialog, and what is on the page follows
//! what happens (`/v1/events`).
//!
//! Texts are in `gateway/templates`, and those that a rule chooses in [`wording`].

mod assets;
mod audit;
mod edges;
mod emergency;
mod form;
mod grant;
mod json;
mod notice;
mod receipt;
mod security;
mod sign_in;
mod trace_url;
mod turned;
mod user;
mod users;
mod view;
mod wording;

use askama::Template;
use axum::{
    Router,
    extract::{self, Query},
    http::{HeaderValue, Uri, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use serde::Deserialize;
use shared::refusal::Refusal;
use tower_http::set_header::SetResponseHeaderLayer;

pub use self::trace_url::TraceUrl;
use self::{turned::Turned, view::Viewer};
use super::State;

/// The views of the dashboard.
const EMERGENCY: &str = "rbac-emergency-access";
const SECURITY: &str = "rbac-security";
const USERS: &str = "users";
const AUDIT: &str = "audit-logs";
const EDGES: &str = "edges";

/// What pages may load and do: nothing but what comes from here, and no script in the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// All pages and what they are made of.
pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/", get(async || Redirect::to(emergency::PAGE)))
        .merge(sign_in::routes())
        .route("/dashboard", get(dashboard))
        .merge(emergency::routes())
        .merge(grant::routes())
        .merge(security::routes())
        .merge(users::routes())
        .merge(user::routes())
        .merge(audit::routes())
        .merge(receipt::routes())
        .merge(assets::routes())
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ))
}

/// Which view of the dashboard.
#[derive(Debug, Default, Deserialize)]
struct Which {
    #[serde(default)]
    view: String,
}

async fn dashboard(
    extract::State(state): extract::State<State>,
    viewer: Viewer,
    uri: Uri,
) -> Result<Response, Turned> {
    let which = Query::<Which>::try_from_uri(&uri).map(|Query(which)| which).unwrap_or_default();
    match which.view.as_str() {
        "" | EMERGENCY => emergency::show(&state, &viewer, &uri).await,
        SECURITY => security::show(&state, &viewer).await,
        USERS => users::show(&state, &viewer, &uri).await,
        AUDIT => audit::show(&state, &viewer, &uri).await,
        EDGES => edges::show(&state, &viewer).await,
        _ => Err(Refusal::not_found().into()),
    }
}

/// A page, rendered.
fn page(template: &impl Template) -> Result<Response, Turned> {
    Ok(Html(template.render().map_err(|error| Turned::template(&error))?).into_response())
}
