//! Watching the timers of one kind: claim what will soon be due, tell the owner of each when it is.
//! Each kind has its own watch, so that an owner that is away holds up no other's.

use std::{sync::Arc, time::Duration};

use shared::{
    bus::Bus,
    refusal::{Code, Refusal},
    runtime::SHUTDOWN,
};
use sqlx::PgPool;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::{
    ahead::{self, Ahead},
    outage::Outage,
    service,
    store::{self, Kind, Timer},
};

/// How long to wait for the bus before it is looked at again.
const BUS_AWAY: Duration = Duration::from_millis(250);

/// The watch of one kind.
pub(crate) struct Watch {
    bus: Bus,
    pool: PgPool,
    kind: Kind,
    every: Duration,
    soon: Arc<Notify>,
    ahead: Ahead,
    next_look: Instant,
    /// The last look did not see all.
    more: bool,
    places: Arc<Semaphore>,
    fired: TaskTracker,
    database: Outage,
    owner: Arc<Outage>,
}

impl Watch {
    /// Looks `every` so often at what is due within twice that time, and when `soon` says that
    /// something is due before the next look.
    pub(crate) fn new(
        bus: Bus,
        pool: PgPool,
        kind: Kind,
        every: Duration,
        soon: Arc<Notify>,
    ) -> Self {
        Self {
            bus,
            pool,
            kind,
            every,
            soon,
            ahead: Ahead::default(),
            next_look: Instant::now(),
            more: false,
            places: Arc::new(Semaphore::new(kind.at_once() as usize)),
            fired: TaskTracker::new(),
            database: Outage::of("database"),
            owner: Arc::new(Outage::of(kind.owner())),
        }
    }

    /// Fires timers until `stop` is cancelled, then lets others have what is in hand, and waits for the
    /// answers to what was sent.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        // A turn that is cut short loses nothing: what it has claimed is free again when the claim
        // runs out.
        stop.run_until_cancelled(async {
            loop {
                let until = self.turn().await;
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = self.soon.notified() => self.next_look = Instant::now(),
                }
            }
        })
        .await;
        let in_hand = self.ahead.take_all();
        self.fired.close();
        let end =
            async { tokio::join!(release(&self.pool, self.kind, &in_hand), self.fired.wait()) };
        if tokio::time::timeout(SHUTDOWN, end).await.is_err() {
            warn!(unanswered = self.fired.len(), "stopped before all owners had answered");
        }
        Ok(())
    }

    /// Looks ahead if it is time, fires what is due, and says when there is more to do.
    async fn turn(&mut self) -> Instant {
        if !self.bus.is_connected() {
            return Instant::now() + BUS_AWAY;
        }
        // An owner that is away is tried with one timer at a time; the others are free, to be claimed
        // as soon as it is back.
        let owner_away = self.owner.is_on();
        if owner_away {
            release(&self.pool, self.kind, &self.ahead.take_all()).await;
        }
        let wanted = self.wanted();
        if wanted > 0 {
            self.look(wanted).await;
        }
        let most = if owner_away { 1 } else { self.kind.batch() };
        while self.ahead.next().is_some_and(|due| due <= Instant::now())
            && self.owner.is_on() == owner_away
        {
            let Some(place) = self.place().await else { break };
            let timers = self.ahead.take_due(Instant::now(), most);
            if !timers.is_empty() {
                self.fire(place, timers);
            }
            if owner_away {
                return Instant::now() + self.owner.pause();
            }
        }
        if self.wanted() > 0 {
            return Instant::now();
        }
        let look = (self.room() > 0).then_some(self.next_look);
        let next = self.ahead.next().into_iter().chain(look).min();
        next.unwrap_or_else(|| Instant::now() + self.every)
    }

    /// How many more may be taken in hand.
    fn room(&self) -> usize {
        if self.owner.is_on() { self.ahead.room().min(1) } else { self.ahead.room() }
    }

    /// How many to claim now. Under load many at a time, for each claim passes over what is in hand.
    fn wanted(&self) -> usize {
        let room = self.room();
        let more = self.more && room >= ahead::MOST / 2;
        if more || self.next_look <= Instant::now() { room } else { 0 }
    }

    /// A place for one more request: waited for, if there is nothing to be claimed meanwhile.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let places = Arc::clone(&self.places);
        if self.wanted() > 0 {
            return places.try_acquire_owned().ok();
        }
        places.acquire_owned().await.ok()
    }

    /// Claims what will be due, at most so many.
    async fn look(&mut self, most: usize) {
        match store::claim(&self.pool, self.kind, self.every * 2, most).await {
            Ok(claimed) => {
                self.database.worked();
                let now = Instant::now();
                self.more = claimed.len() == most;
                let pause = if self.owner.is_on() { self.owner.pause() } else { self.every };
                self.next_look = now + pause;
                self.ahead.add(claimed, now);
            }
            Err(error) => {
                self.database.failed(&error);
                self.more = false;
                self.next_look = Instant::now() + self.database.pause();
            }
        }
    }

    /// Tells the owner, meanwhile. What it did nothing about, or was not told, is free again; what is
    /// refused stays claimed, and is tried again when the claim runs out. Of several that are refused
    /// together each is tried alone, so that one keeps no other.
    fn fire(&self, place: OwnedSemaphorePermit, timers: Vec<Timer>) {
        let (bus, pool, kind) = (self.bus.clone(), self.pool.clone(), self.kind);
        let (owner, soon) = (Arc::clone(&self.owner), Arc::clone(&self.soon));
        self.fired.spawn(async move {
            let subjects = || timers.iter().map(|timer| timer.subject_id).collect::<Vec<_>>();
            match tell(&bus, kind, &timers, &owner).await {
                Ok(Told { left, is_back }) => {
                    release(&pool, kind, &left).await;
                    if is_back {
                        soon.notify_one();
                    }
                }
                Err(refusal) if refusal.code == Code::Unavailable => {
                    release(&pool, kind, &subjects()).await;
                }
                Err(_) if timers.len() > 1 => {
                    for timer in timers.chunks(1) {
                        let _ = tell(&bus, kind, timer, &owner).await;
                    }
                }
                Err(_) => {}
            }
            drop(place);
        });
    }
}

/// What came of telling an owner.
struct Told {
    /// It did nothing about these: who they concern was busy, or they are needed no more.
    left: Vec<Uuid>,
    /// It was away before.
    is_back: bool,
}

async fn tell(bus: &Bus, kind: Kind, timers: &[Timer], owner: &Outage) -> Result<Told, Refusal> {
    match service::fire(bus, kind, timers).await {
        Ok(left) => Ok(Told { left, is_back: owner.worked() }),
        Err(refusal) => {
            if refusal.code == Code::Unavailable {
                owner.failed(&refusal);
            } else {
                let subject = timers.first().map(|timer| timer.subject_id);
                let kind = kind.as_str();
                error!(kind, count = timers.len(), first = ?subject, %refusal, "timers not taken");
            }
            Err(refusal)
        }
    }
}

/// Lets others have them. Where that fails they are free when the claim runs out.
async fn release(pool: &PgPool, kind: Kind, subjects: &[Uuid]) {
    if let Err(error) = store::release(pool, kind, subjects).await {
        debug!(%error, kind = kind.as_str(), "timers stay claimed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_outlives_the_question() {
        assert!(store::CLAIM / 2 >= service::DEADLINE);
    }
}
