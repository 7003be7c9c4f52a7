//! Which timer goes to whom.

use std::time::Duration;

use shared::{
    bus::Bus,
    id::{GrantId, UserId},
    message::{
        grant::{ExpireGrant, RemindOfReview, WarnOfEnd},
        mfa::Deadline,
    },
    refusal::Refusal,
    trace,
};
use tracing::{Instrument as _, debug, info_span};

use crate::store::{Kind, Timer};

/// How long an owner may take. Shorter than a claim, so that nobody else tries meanwhile.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Tells the owner of a timer that it is due.
pub(crate) async fn fire(bus: &Bus, timer: Timer) -> Result<(), Refusal> {
    let span = info_span!(
        parent: None,
        "timer.fire",
        otel.name = format!("fire {}", timer.kind.as_str()),
        timer.kind = timer.kind.as_str(),
        timer.subject = %timer.subject_id,
    );
    trace::link(&span, timer.traceparent.as_deref());
    send(bus, &timer).instrument(span).await
}

async fn send(bus: &Bus, timer: &Timer) -> Result<(), Refusal> {
    match timer.kind {
        Kind::GrantExpiry => {
            let request = ExpireGrant { grant_id: GrantId(timer.subject_id) };
            let reply = bus.request_within(&request, DEADLINE).await?;
            debug!(ended = reply.ended, "grant was due");
        }
        Kind::GrantWarning => {
            let request = WarnOfEnd { grant_id: GrantId(timer.subject_id) };
            let reply = bus.request_within(&request, DEADLINE).await?;
            debug!(told = reply.told, "warning was due");
        }
        Kind::ReviewOverdue => {
            let request = RemindOfReview { grant_id: GrantId(timer.subject_id) };
            let reply = bus.request_within(&request, DEADLINE).await?;
            debug!(told = reply.told, "review was due");
        }
        Kind::MfaDeadline => {
            let request = Deadline { user_id: UserId(timer.subject_id) };
            let reply = bus.request_within(&request, DEADLINE).await?;
            debug!(enforced = reply.enforced, "second factor was due");
        }
    }
    Ok(())
}
