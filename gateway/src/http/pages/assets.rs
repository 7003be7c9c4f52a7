//! Style sheet, script and icon, served under names that change with what is in them.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::LazyLock,
};

use axum::{
    Router, extract,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::super::State;

const STYLE: &str = include_str!("../../../assets/style.css");
const ICON: &str = include_str!("../../../assets/icon.svg");
/// One script, so that a page needs one request for it: htmx, its extension for morphing, and what
/// is ours.
const SCRIPT: &str = concat!(
    include_str!("../../../assets/htmx.min.js"),
    "\n",
    include_str!("../../../assets/idiomorph.min.js"),
    "\n",
    include_str!("../../../assets/pages.js"),
);

/// The folder that assets are in: a name is never reused for something else.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    [STYLE, ICON, SCRIPT].hash(&mut hasher);
    format!("{:016x}", hasher.finish())
});

/// Where an asset is.
pub(super) fn url(name: &str) -> String {
    format!("/assets/{}/{name}", *VERSION)
}

pub(super) fn routes() -> Router<State> {
    Router::new().route("/assets/{version}/{name}", get(asset))
}

/// An older version is answered with what there is now, for nothing else is there.
async fn asset(extract::Path((version, name)): extract::Path<(String, String)>) -> Response {
    let (kind, text) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "pages.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let kept = if version == *VERSION { "public, max-age=31536000, immutable" } else { "no-cache" };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, kept)], text).into_response()
}
