//! The stream of what happens in a tenant.
//!
//! Its span ends when the stream begins: one that is open for hours would be exported after everything
//! that it is the parent of, if ever. What a change sets off is in the trace of the change.

use axum::{
    body::Body,
    extract,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
};
use shared::refusal::{Code, Refusal};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State, body::Nothing, caller::Signed, parameters::Parameters, problem::Refused, responses,
};
use crate::{edge::Undecided, events::NotOpened};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(events))
}

/// Seconds after which a session with too many streams may try again.
const TRY_AGAIN: u32 = 10;

/// What happens, as server-sent events.
///
/// Data is a JSON object. Nothing from before is sent again, so fetch everything after `hello`, `live` and
/// `reset`; `Last-Event-ID` is ignored. A comment comes at least every 10 seconds. An open stream is no use
/// of the session: it does not keep it alive.
///
/// | event | data | |
/// |---|---|---|
/// | `hello` | `server_time`, `live` | first; `live` is false while this edge is cut off |
/// | `change` | `kind`, `at`, `grant`?, `user`? | something happened that the session may know of: an event as webhooks get it, but ids only, with its `id`; or `session.ended`, without one, for each time that sessions of a user were ended. May come twice |
/// | `rights` | `cause` | what the session itself may do may be different, by a revision of this cause |
/// | `signed-out` | `reason` | the last one: `signed-out`, `session-revoked`, `session-displaced`, `password-changed`, `factor-enabled` (its own browser goes on under a new token), `factor-reset`, `user-disabled`, `mfa-due` (it can only set up a second factor now), `expired` (by the clock) or `ended` |
/// | `stale` | | this edge is cut off: what it shows may be out of date |
/// | `live` | `server_time` | it is not any more |
/// | `reset` | | something was left out |
#[utoipa::path(
    get, path = "/v1/events", tag = "Events", operation_id = "streamEvents",
    responses(
        (
            status = 200, description = "The stream.", body = String, content_type = "text/event-stream",
            headers(("X-Accel-Buffering" = String, description = "`no`: proxies shall pass on what there is.")),
        ),
        responses::Streaming,
    ),
)]
async fn events(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
) -> Result<impl IntoResponse, Refused> {
    let stream = state.events.open(caller.token).await.map_err(refusal)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(stream.text())))
}

fn refusal(why: NotOpened) -> Refusal {
    match why {
        NotOpened::Undecided(Undecided::Fenced) => Refusal::new(Code::EdgeFenced, ""),
        NotOpened::Undecided(Undecided::NoSession) => Refusal::unauthenticated(),
        NotOpened::Undecided(Undecided::Unavailable) | NotOpened::Full => Refusal::unavailable(),
        NotOpened::EnrollmentOnly => Refusal::enrollment_required(),
        NotOpened::TooMany => Refusal {
            retry_after: Some(TRY_AGAIN),
            ..Refusal::new(
                Code::TooManyAttempts,
                "This session has as many streams of events as it may have. Close one.",
            )
        },
    }
}
