//! From the outbox to the stream of events.
//!
//! An event is published before it is marked, so one whose mark was lost comes twice; its message id
//! is that of the outbox, by which the stream knows it again. While the stream is away, or its
//! consumer far behind, events stay in the outbox.

use std::time::Duration;

use shared::bus::events::{Events, EventsError, PublishError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Notify, store};

/// So many at a time.
const BATCH: i64 = 100;
/// Rows are locked no longer than this while they are published: less than a session may idle in a
/// transaction.
const PUBLISH: Duration = Duration::from_secs(4);
/// How often to look.
const EVERY: Duration = Duration::from_millis(250);
/// How long to wait after a failure, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];
/// With so many events ahead of the consumer nothing more is published: the stream would forget
/// what nobody has heard.
const MOST_BEHIND: u64 = 10_000;

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Events(#[from] EventsError),
    #[error("the outbox cannot be read or marked: {0}")]
    Database(#[from] sqlx::Error),
    #[error("not all events were taken: {0}")]
    Refused(PublishError),
    #[error("the stream takes too long")]
    Slow,
    #[error("the consumer is {0} events behind")]
    Behind(u64),
}

/// Relays until `stop`.
pub(super) async fn run(notify: Notify, stop: CancellationToken) -> anyhow::Result<()> {
    let relaying = async {
        let mut events = None;
        let mut pause = None;
        loop {
            match turn(&notify, &mut events).await {
                Ok(full) => {
                    if pause.take().is_some() {
                        info!("events reach their stream again");
                    }
                    if !full {
                        tokio::time::sleep(EVERY).await;
                    }
                }
                Err(error) => {
                    if pause.is_none() {
                        warn!(%error, "events wait in the outbox");
                    }
                    // Who can tell what became of the stream?
                    events = None;
                    let next = pause.map_or(PAUSES[0], |pause: Duration| pause * 2);
                    tokio::time::sleep(*pause.insert(next.min(PAUSES[1]))).await;
                }
            }
        }
    };
    stop.run_until_cancelled(relaying).await;
    Ok(())
}

/// Publishes what waits, a batch of it; says whether there may be more.
async fn turn(notify: &Notify, events: &mut Option<Events>) -> Result<bool, RelayError> {
    let events = match events {
        Some(events) => events,
        None => events.insert(Events::open(&notify.bus).await?),
    };
    let mut tx = notify.pool.begin().await?;
    let waiting = store::unpublished(&mut tx, BATCH).await?;
    if waiting.is_empty() {
        return Ok(false);
    }
    let full = i64::try_from(waiting.len()).is_ok_and(|length| length == BATCH);
    let published = timeout(PUBLISH, async {
        match events.behind().await? {
            behind if behind > MOST_BEHIND => Err(RelayError::Behind(behind)),
            _ => Ok(events.publish(&waiting).await),
        }
    });
    let published = published.await.map_err(|_| RelayError::Slow)??;
    let mut done = Vec::new();
    let mut refused = None;
    for (id, result) in published {
        match result {
            Ok(()) => done.push(id.0),
            Err(PublishError::Unfit) => {
                error!(event.id = %id, "an event that no stream takes: skipped");
                done.push(id.0);
            }
            Err(error) => refused = Some(error),
        }
    }
    store::mark_published(&mut tx, &done).await?;
    tx.commit().await?;
    refused.map_or(Ok(full), |error| Err(RelayError::Refused(error)))
}
