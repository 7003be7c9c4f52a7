//! Trying deliveries that are due, each receiver in a lane of its own: one that is slow holds up
//! nobody else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::json;
use shared::{
    database::{
        audit::{self, Actor, Record},
        outbox,
    },
    message::Origin,
    random, trace,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, error, info_span, warn};
use uuid::Uuid;

use super::{
    Notify,
    attempt::{self, Then, Told},
    backoff,
    store::{self, Claimed, To, UnderWay},
};

/// Attempts at once.
const AT_ONCE: i64 = 256;
/// How often to look for what is due, if nobody says that there is something.
const EVERY: Duration = Duration::from_millis(500);
/// How long to wait where the database does not answer.
const PAUSE: Duration = Duration::from_secs(2);
/// Attempts that have begun may end for so long at the end of the process; what does not is tried again by
/// the next one.
const FINISH: Duration = Duration::from_secs(3);
/// How often to forget what is old.
const PRUNE: Duration = Duration::from_mins(10);
/// Why an endpoint was disabled.
const GONE: &str = "it answered 410 Gone";

/// How many attempts are under way, by lane and by tenant.
#[derive(Default)]
struct Counts {
    lanes: HashMap<Uuid, i32>,
    tenants: HashMap<Uuid, i32>,
    all: i64,
}

impl Counts {
    fn add(&mut self, claimed: &Claimed) {
        *self.lanes.entry(claimed.lane).or_default() += 1;
        *self.tenants.entry(claimed.tenant.0).or_default() += 1;
        self.all += 1;
    }

    fn subtract(&mut self, lane: Uuid, tenant: Uuid) {
        for (counts, key) in [(&mut self.lanes, lane), (&mut self.tenants, tenant)] {
            if let Some(count) = counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&key);
                }
            }
        }
        self.all -= 1;
    }
}

/// Delivers until `stop`.
pub(super) async fn run(notify: Notify, stop: CancellationToken) -> anyhow::Result<()> {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let attempts = TaskTracker::new();
    let delivering = async {
        loop {
            match turn(&notify, &counts, &attempts).await {
                Ok(0) => {
                    let _ = timeout(EVERY, notify.wake.notified()).await;
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(%error, "deliveries are not read");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(delivering).await;
    attempts.close();
    let _ = timeout(FINISH, attempts.wait()).await;
    Ok(())
}

/// Claims what is due and may be tried, and begins to.
async fn turn(
    notify: &Notify,
    counts: &Arc<Mutex<Counts>>,
    attempts: &TaskTracker,
) -> Result<usize, sqlx::Error> {
    let (lanes, tenants, room) = {
        let counts = counts.lock();
        let pairs =
            |map: &HashMap<Uuid, i32>| map.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>();
        (pairs(&counts.lanes), pairs(&counts.tenants), AT_ONCE - counts.all)
    };
    if room <= 0 {
        return Ok(0);
    }
    let under_way = UnderWay { lanes: &lanes, tenants: &tenants };
    let claimed = store::claim(&notify.pool, room, under_way).await?;
    let count = claimed.len();
    for claimed in claimed {
        counts.lock().add(&claimed);
        let (notify, counts) = (notify.clone(), Arc::clone(counts));
        attempts.spawn(async move {
            let (lane, tenant) = (claimed.lane, claimed.tenant.0);
            let span = info_span!(
                "notification.deliver",
                delivery.id = %claimed.id,
                event.id = %claimed.event,
                event.kind = claimed.kind,
            );
            trace::link(&span, claimed.traceparent.as_deref());
            let delivering = tokio::spawn(deliver(notify.clone(), claimed).instrument(span));
            if delivering.await.is_err() {
                error!("a delivery crashed");
            }
            counts.lock().subtract(lane, tenant);
            notify.wake.notify_one();
        });
    }
    Ok(count)
}

/// Tries, and writes down what came of it. What cannot be written down is tried again.
async fn deliver(notify: Notify, claimed: Claimed) {
    let told = Told {
        delivery: Some(claimed.id),
        event: claimed.event,
        kind: &claimed.kind,
        at: claimed.at,
        body: &claimed.body,
    };
    // Mail has no limit of its own that counts everything.
    let attempted = timeout(
        super::http::TOTAL + Duration::from_secs(1),
        attempt::attempt(&notify, &claimed.to, told),
    );
    let attempted = attempted
        .await
        .unwrap_or_else(|_| Err(attempt::Failure::retry("no answer within 10 seconds")));
    let settled = match attempted {
        Ok(status) => store::delivered(&notify.pool, claimed.id, status).await,
        Err(failure) => {
            let attempts = claimed.attempts.unsigned_abs();
            let again_in = match failure.then {
                Then::Retry(retry_after) => {
                    let [chance] = random::bytes();
                    Some(backoff::delay(attempts, retry_after, chance))
                }
                Then::Gone | Then::SetAside => None,
            };
            let failed = store::Failed { status: failure.status, error: &failure.error, again_in };
            let settled = store::failed(&notify.pool, claimed.id, claimed.attempts, failed).await;
            match (failure.then, &settled) {
                (Then::Gone, Ok(())) => disable(&notify, &claimed).await,
                _ => settled,
            }
        }
    };
    if let Err(error) = settled {
        warn!(%error, "what came of a delivery is not written down: it is tried again");
    }
}

/// An endpoint that is gone for good is disabled, on record, and others are told.
async fn disable(notify: &Notify, claimed: &Claimed) -> Result<(), sqlx::Error> {
    let To::Endpoint(endpoint) = &claimed.to else { return Ok(()) };
    let mut tx = notify.pool.begin().await?;
    if !store::disable(&mut tx, endpoint.id, GONE).await? {
        return Ok(());
    }
    store::set_aside_waiting(&mut tx, endpoint.id, "the endpoint was disabled").await?;
    let action = "notification-endpoint.disabled";
    let payload = json!({ "endpoint": endpoint.id, "because": GONE, "by": "grant-worker" });
    outbox::append(&mut tx, notify.clock.wall(), claimed.tenant, action, payload).await?;
    let record = Record {
        tenant: claimed.tenant,
        actor: Actor::Service("grant-worker"),
        action,
        target: Some(format!("notification-endpoint:{}", endpoint.id)),
        origin: &Origin::default(),
        detail: json!({ "because": GONE }),
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await?;
    tx.commit().await
}

/// Forgets what is old, until `stop`.
pub(super) async fn prune(notify: Notify, stop: CancellationToken) -> anyhow::Result<()> {
    let pruning = async {
        let mut due = tokio::time::interval(PRUNE);
        loop {
            due.tick().await;
            loop {
                match store::prune(&notify.pool).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        warn!(%error, "old deliveries not deleted");
                        break;
                    }
                }
            }
        }
    };
    stop.run_until_cancelled(pruning).await;
    Ok(())
}
