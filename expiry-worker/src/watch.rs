//! Watching the timers of one kind: claim what will soon be due, tell the owner of each when it is.
//! Each kind has its own watch, so that an owner that is away holds up no other's.

use std::{sync::Arc, time::Duration};

use shared::{bus::Bus, refusal::Code, runtime::SHUTDOWN};
use sqlx::PgPool;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
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
/// What came to nothing is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);

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
                    () = self.soon.notified() => {
                        // What is told of may be due before all that is in hand.
                        if self.room() == 0 {
                            self.let_go(Duration::ZERO).await;
                        }
                        self.next_look = Instant::now();
                    }
                }
            }
        })
        .await;
        let in_hand = self.ahead.take_all();
        self.fired.close();
        let freed = release(&self.pool, self.kind, &in_hand, Duration::ZERO);
        let end = async { tokio::join!(freed, self.fired.wait()) };
        if tokio::time::timeout(SHUTDOWN, end).await.is_err() {
            warn!(unanswered = self.fired.len(), "stopped before all owners had answered");
        }
        Ok(())
    }

    /// Looks ahead if it is time, fires what is due, and says when there is more to do.
    async fn turn(&mut self) -> Instant {
        if !self.bus.is_connected() {
            self.let_go(BUS_AWAY).await;
            return Instant::now() + BUS_AWAY;
        }
        // An owner that is away is tried with one timer at a time; the others are free, to be claimed
        // as soon as it is back.
        let owner_away = self.owner.is_on();
        if owner_away {
            self.let_go(self.owner.pause()).await;
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
            let due = self.ahead.take_due(Instant::now(), most);
            // Before anything that may be cut short.
            if !due.timers.is_empty() {
                self.fire(place, due.timers);
            }
            if !due.stale.is_empty() {
                release(&self.pool, self.kind, &due.stale, Duration::ZERO).await;
                self.next_look = Instant::now();
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

    /// Lets others have what is in hand, and looks again after a pause.
    async fn let_go(&mut self, pause: Duration) {
        release(&self.pool, self.kind, &self.ahead.take_all(), Duration::ZERO).await;
        self.next_look = self.next_look.min(Instant::now() + pause);
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

    /// Tells the owner, meanwhile. What it did nothing about, or was not told, is free again a little
    /// later, when others have had their turn; what it refused is tried again when the claim runs out.
    /// Of several that are refused together each is tried alone, so that one keeps no other.
    fn fire(&self, place: OwnedSemaphorePermit, timers: Vec<Timer>) {
        let (bus, pool, kind) = (self.bus.clone(), self.pool.clone(), self.kind);
        let (owner, soon) = (Arc::clone(&self.owner), Arc::clone(&self.soon));
        self.fired.spawn(async move {
            let told = tell(&bus, kind, &timers, &owner).await;
            let mut left = told.left;
            if told.is_refused && timers.len() > 1 {
                for timer in &timers {
                    // Whoever is away by now is told nothing more.
                    if owner.is_on() {
                        left.push(timer.subject_id);
                        continue;
                    }
                    left.extend(tell(&bus, kind, std::slice::from_ref(timer), &owner).await.left);
                }
            }
            release(&pool, kind, &left, AGAIN).await;
            drop(place);
            if told.is_back {
                soon.notify_one();
            }
            if !left.is_empty() {
                // Nobody who stops waits for this.
                tokio::spawn(async move {
                    sleep(AGAIN).await;
                    soon.notify_one();
                });
            }
        });
    }
}

/// What came of telling an owner.
struct Told {
    /// What is to be tried again: it did nothing about these, or could not be told.
    left: Vec<Uuid>,
    /// It is there, and did not take them.
    is_refused: bool,
    /// It was away before.
    is_back: bool,
}

async fn tell(bus: &Bus, kind: Kind, timers: &[Timer], owner: &Outage) -> Told {
    match service::fire(bus, kind, timers).await {
        Ok(left) => Told { left, is_refused: false, is_back: owner.worked() },
        Err(refusal) if refusal.code == Code::Unavailable => {
            owner.failed(&refusal);
            let left = timers.iter().map(|timer| timer.subject_id).collect();
            Told { left, is_refused: false, is_back: false }
        }
        Err(refusal) => {
            let subject = timers.first().map(|timer| timer.subject_id);
            let kind = kind.as_str();
            error!(kind, count = timers.len(), first = ?subject, %refusal, "timers not taken");
            Told { left: Vec::new(), is_refused: true, is_back: false }
        }
    }
}

/// Lets others have them. Where that fails they are free when the claim runs out.
async fn release(pool: &PgPool, kind: Kind, subjects: &[Uuid], after: Duration) {
    if let Err(error) = store::release(pool, kind, subjects, after).await {
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
