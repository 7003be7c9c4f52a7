//! Watching the timers of one kind: claim what is due, tell the owner, sleep until the next. Each
//! kind has its own watch, so that an owner that is away holds up no other's.

use std::{sync::Arc, time::Duration};

use shared::{bus::Bus, refusal::Code, runtime::SHUTDOWN};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use crate::{
    outage::Outage,
    service,
    store::{self, Kind, Timer},
};

/// Longest sleep: a new timer that is due before all others is seen after this at the latest.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// Shortest sleep, where a timer that is due could not be had.
const SHORTEST_SLEEP: Duration = Duration::from_millis(5);

struct Watch {
    bus: Bus,
    pool: PgPool,
    kind: Kind,
    places: Arc<Semaphore>,
    fired: TaskTracker,
    database: Outage,
    owner: Arc<Outage>,
}

/// Fires timers of a kind until `stop` is cancelled, then waits for the answers to what was sent.
pub(crate) async fn watch(
    bus: Bus,
    pool: PgPool,
    kind: Kind,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let watch = Watch {
        bus,
        pool,
        kind,
        places: Arc::new(Semaphore::new(kind.at_once() as usize)),
        fired: TaskTracker::new(),
        database: Outage::of("database"),
        owner: Arc::new(Outage::of(kind.owner())),
    };
    let turns = async {
        loop {
            let pause = watch.turn().await;
            tokio::time::sleep(pause).await;
        }
    };
    // A turn that is cut short loses nothing: what it has claimed is free again when the claim
    // runs out.
    stop.run_until_cancelled(turns).await;
    watch.fired.close();
    if tokio::time::timeout(SHUTDOWN, watch.fired.wait()).await.is_err() {
        warn!(unanswered = watch.fired.len(), "stopped before all owners had answered");
    }
    Ok(())
}

impl Watch {
    /// Claims and fires what is due; says how long to sleep.
    async fn turn(&self) -> Duration {
        // Half of the places, so that claims stay batches under load.
        let Ok(half) = self.places.acquire_many(self.kind.at_once() / 2).await else {
            return LONGEST_SLEEP;
        };
        drop(half);
        if !self.bus.is_connected() {
            return LONGEST_SLEEP;
        }
        // An owner that is away is tried with one timer at a time; the others stay free, to be
        // claimed as soon as it is back.
        let owner_away = self.owner.is_on();
        // No more are claimed than can be asked, so no claim runs out while a timer stands in line.
        let batch = self.kind.batch();
        let limit = if owner_away { 1 } else { self.places.available_permits() * batch };
        let sleep = match store::claim(&self.pool, self.kind, limit).await {
            Ok(timers) => {
                let more = timers.len() == limit;
                let mut timers = timers.into_iter().peekable();
                while timers.peek().is_some() {
                    self.fire(timers.by_ref().take(batch).collect());
                }
                if owner_away {
                    Ok(self.owner.pause())
                } else if more {
                    Ok(Duration::ZERO)
                } else {
                    store::until_next(&self.pool, self.kind).await.map(sleep_until)
                }
            }
            Err(error) => Err(error),
        };
        match sleep {
            Ok(sleep) => {
                self.database.worked();
                sleep
            }
            Err(error) => {
                self.database.failed(&error);
                self.database.pause()
            }
        }
    }

    /// Tells the owner, meanwhile. A failure leaves the timers claimed: they are tried again when the
    /// claim runs out. Of several that are refused together each is tried alone, so that one keeps no
    /// other.
    fn fire(&self, timers: Vec<Timer>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let (bus, owner, kind) = (self.bus.clone(), Arc::clone(&self.owner), self.kind);
        self.fired.spawn(async move {
            let is_refused = tell(&bus, kind, &timers, &owner).await;
            if is_refused && timers.len() > 1 {
                for timer in timers.chunks(1) {
                    tell(&bus, kind, timer, &owner).await;
                }
            }
            drop(place);
        });
    }
}

/// Says whether the owner, who is there, did not take them.
async fn tell(bus: &Bus, kind: Kind, timers: &[Timer], owner: &Outage) -> bool {
    match service::fire(bus, kind, timers).await {
        Ok(()) => {
            owner.worked();
            false
        }
        Err(refusal) if refusal.code == Code::Unavailable => {
            owner.failed(&refusal);
            false
        }
        Err(refusal) => {
            let subject = timers.first().map(|timer| timer.subject_id);
            let kind = kind.as_str();
            error!(kind, count = timers.len(), first = ?subject, %refusal, "timers not taken");
            true
        }
    }
}

/// Until the next timer is due, within bounds.
fn sleep_until(next: Option<Duration>) -> Duration {
    next.map_or(LONGEST_SLEEP, |next| next.clamp(SHORTEST_SLEEP, LONGEST_SLEEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_outlives_the_question() {
        assert!(store::CLAIM > service::DEADLINE);
    }

    #[test]
    fn sleep_is_bounded_both_ways() {
        let ms = Duration::from_millis;
        for (next, sleep) in [
            (None, 250),
            (Some(ms(0)), 5),
            (Some(ms(40)), 40),
            (Some(ms(251)), 250),
            (Some(Duration::MAX), 250),
        ] {
            assert_eq!(sleep_until(next), ms(sleep), "{next:?}");
        }
    }
}
