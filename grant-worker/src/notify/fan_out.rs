//! From the stream of events to deliveries: one for each endpoint and person who is to be told.

use std::time::Duration;

use shared::{
    bus::events::{Events, Taken},
    id::{DeliveryId, UserId},
    message::notification::Happened,
    trace,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info_span, warn};

use super::{
    Notify, content,
    store::{self, NewDelivery},
};

/// How long to wait after a failure, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];
/// Most people that one event is mailed to.
const MOST_PEOPLE: usize = 1_000;

/// Fans out until `stop`.
pub(super) async fn run(notify: Notify, stop: CancellationToken) -> anyhow::Result<()> {
    let fanning_out = async {
        let mut events = None;
        let mut pause: Option<Duration> = None;
        loop {
            match turn(&notify, &mut events).await {
                Ok(()) => pause = None,
                Err(error) => {
                    if pause.is_none() {
                        warn!(%error, "events are not heard");
                    }
                    events = None;
                    let next = pause.map_or(PAUSES[0], |pause| pause * 2);
                    tokio::time::sleep(*pause.insert(next.min(PAUSES[1]))).await;
                }
            }
        }
    };
    stop.run_until_cancelled(Box::pin(fanning_out)).await;
    Ok(())
}

async fn turn(
    notify: &Notify,
    events: &mut Option<Events>,
) -> Result<(), shared::bus::events::EventsError> {
    let events = match events {
        Some(events) => events,
        None => events.insert(Events::open(&notify.bus).await?),
    };
    let mut pull = events.pull().await?;
    while let Some(taken) = pull.next().await? {
        take(notify, taken).await;
    }
    Ok(())
}

async fn take(notify: &Notify, taken: Taken) {
    let Some(event) = &taken.event else { return taken.done().await };
    let span = info_span!("notification.fan-out", event.id = %event.id, event.kind = event.kind);
    trace::link(&span, taken.traceparent.as_deref());
    async {
        match fan_out(notify, event, taken.traceparent.as_deref()).await {
            Ok(deliveries) => {
                taken.done().await;
                if deliveries > 0 {
                    notify.wake.notify_one();
                }
            }
            Err(error) => {
                error!(%error, "event not fanned out: it comes again");
                taken.again().await;
            }
        }
    }
    .instrument(span)
    .await;
}

/// Writes the deliveries down, and says how many; those that are there already stay as they are.
async fn fan_out(
    notify: &Notify,
    event: &Happened,
    traceparent: Option<&str>,
) -> Result<usize, sqlx::Error> {
    let people = if notify.mailer.is_some() { people(event) } else { Vec::new() };
    // Of most events nobody is told.
    if people.is_empty() && !store::has_endpoints(&notify.pool, event.tenant).await? {
        return Ok(0);
    }
    let mut tx = notify.pool.begin().await?;
    let endpoints = store::listening(&mut tx, event.tenant, &event.kind).await?;
    let people = store::reachable(&mut tx, event.tenant, &people).await?;
    if endpoints.is_empty() && people.is_empty() {
        return Ok(0);
    }
    let body = content::compose(&mut tx, event).await?;
    let to_endpoints = endpoints.into_iter().map(|(id, full)| (Some(id), None, id.0, full));
    let to_people = people.into_iter().map(|user| (None, Some(user), event.tenant.0, false));
    let deliveries: Vec<_> = to_endpoints
        .chain(to_people)
        .map(|(endpoint, user, lane, full)| NewDelivery {
            id: DeliveryId::new(notify.clock.wall()),
            endpoint,
            user,
            lane,
            full,
        })
        .collect();
    store::insert_deliveries(&mut tx, event, &body, traceparent, &deliveries).await?;
    tx.commit().await?;
    Ok(deliveries.len())
}

/// Who is told by mail besides the endpoints: whom it concerns, and who is named.
fn people(event: &Happened) -> Vec<UserId> {
    let user = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse().ok());
    let concerned: Option<UserId> = user(&event.data["user"]);
    // What one did oneself with grants is no news; with one's account it may have been another.
    let own = event.kind.starts_with("grant.") && event.data["user"] == event.data["by"];
    let recipients = event.data["recipients"].as_array().into_iter().flatten().filter_map(user);
    if event.kind.starts_with("audit.") {
        return Vec::new();
    }
    let mut people: Vec<_> = concerned.filter(|_| !own).into_iter().chain(recipients).collect();
    people.sort_unstable();
    people.dedup();
    people.truncate(MOST_PEOPLE);
    people
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::{clock::Timestamp, id::EventId};
    use uuid::Uuid;

    use super::*;

    fn told(kind: &str, data: Value) -> Vec<u128> {
        let event = Happened {
            id: EventId(Uuid::nil()),
            tenant: shared::id::TenantId(Uuid::nil()),
            kind: kind.to_owned(),
            at: Timestamp::from_micros(0),
            data,
        };
        people(&event).iter().map(|user| user.0.as_u128()).collect()
    }

    #[test]
    fn those_concerned_and_those_named_are_told() {
        let id = |n: u128| Uuid::from_u128(n);
        let (one, two, three) = (id(1), id(2), id(3));
        assert_eq!(told("mfa.disabled", json!({"user": one, "by": one})), [1]);
        assert_eq!(told("grant.requested", json!({"user": one, "by": one})), [0_u128; 0]);
        let data = json!({"user": one, "by": two, "recipients": [three, two, three]});
        assert_eq!(told("grant.revoked", data), [1, 2, 3]);
        let data = json!({"user": one, "by": one, "recipients": [two]});
        assert_eq!(told("grant.requested", data), [2]);
        assert_eq!(told("audit.head-signed", json!({"recipients": [one]})), [0_u128; 0]);
        for odd in [json!(null), json!([]), json!({"user": 7, "recipients": "x"})] {
            assert_eq!(told("user.created", odd), [0_u128; 0]);
        }
    }
}
