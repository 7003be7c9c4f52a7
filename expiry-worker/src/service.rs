//! Which timer goes to whom.

use std::{collections::HashSet, time::Duration};

use shared::{
    bus::Bus,
    id::{GrantId, UserId},
    message::{
        grant::{ExpireGrants, RemindOfReview, WarnOfEnd},
        mfa::Deadline,
    },
    refusal::Refusal,
    trace,
};
use tracing::{Instrument as _, debug, info_span};
use uuid::Uuid;

use crate::store::{Kind, Timer};

/// So many traces are linked to one request.
const LINKS: usize = 16;

/// How long an owner may take. Shorter than a claim, so that nobody else tries meanwhile.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Tells the owner of timers of one kind that they are due: at most [`Kind::batch`] of them. Says for
/// which of them it did nothing now: something is left for them, or nobody needs them any more.
pub(crate) async fn fire(bus: &Bus, kind: Kind, timers: &[Timer]) -> Result<Vec<Uuid>, Refusal> {
    let span = info_span!(
        parent: None,
        "timer.fire",
        otel.name = format!("fire {}", kind.as_str()),
        timer.kind = kind.as_str(),
        timer.count = timers.len(),
        timer.subject = tracing::field::Empty,
    );
    if let [timer] = timers {
        span.record("timer.subject", tracing::field::display(timer.subject_id));
    }
    for timer in timers.iter().take(LINKS) {
        trace::link(&span, timer.traceparent.as_deref());
    }
    send(bus, kind, timers).instrument(span).await
}

async fn send(bus: &Bus, kind: Kind, timers: &[Timer]) -> Result<Vec<Uuid>, Refusal> {
    let subjects = timers.iter().map(|timer| timer.subject_id);
    if kind == Kind::GrantExpiry {
        let grant_ids = subjects.clone().map(GrantId).collect();
        let reply = bus.request_within(&ExpireGrants { grant_ids }, DEADLINE).await?;
        debug!(due = timers.len(), ended = reply.ended.len(), "grants were due");
        let ended: HashSet<_> = reply.ended.iter().map(|grant| grant.0).collect();
        return Ok(subjects.filter(|subject| !ended.contains(subject)).collect());
    }
    let mut left = Vec::new();
    for timer in timers {
        if !send_one(bus, kind, timer).await? {
            left.push(timer.subject_id);
        }
    }
    Ok(left)
}

/// Says whether it did something.
async fn send_one(bus: &Bus, kind: Kind, timer: &Timer) -> Result<bool, Refusal> {
    match kind {
        Kind::GrantExpiry => Ok(false),
        Kind::GrantWarning => {
            let request = WarnOfEnd { grant_id: GrantId(timer.subject_id) };
            let reply = bus.request_within(&request, DEADLINE).await?;
            debug!(told = reply.told, "warning was due");
            Ok(reply.told)
        }
        Kind::ReviewOverdue => {
            let request = RemindOfReview { grant_id: GrantId(timer.subject_id) };
            let reply = bus.request_within(&request, DEADLINE).await?;
            debug!(told = reply.told, "review was due");
            Ok(reply.told)
        }
        Kind::MfaDeadline => {
            let request = Deadline { user_id: UserId(timer.subject_id) };
            let reply = bus.request_within(&request, DEADLINE).await?;
            debug!(enforced = reply.enforced, "second factor was due");
            Ok(reply.enforced)
        }
    }
}
