//! What is written down while nobody waits for it, for the time it takes would tell too much: refused
//! sign-ins, forgotten passwords. Anybody can cause it, so little of it goes on at once: connections
//! and the tenant's record are everybody's.

use std::{future::Future, sync::Arc, time::Duration};

use shared::refusal::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, error};

/// So many wait at most; past it, what would cause more is refused.
const MOST: usize = 1_024;
/// So many are written at once.
const AT_ONCE: usize = 2;
/// How long one may take, with what it waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where it waits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Later {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    /// What the end of the process waits for.
    background: TaskTracker,
}

/// A place for something to be written.
pub(crate) struct Place {
    /// Given back when it is dropped.
    _permit: OwnedSemaphorePermit,
}

impl Later {
    pub(crate) fn new(background: TaskTracker) -> Self {
        let places = Arc::new(Semaphore::new(MOST));
        Self { places, turns: Arc::new(Semaphore::new(AT_ONCE)), background }
    }

    /// A place, to be taken before anything is looked at that may have to be written down.
    pub(crate) fn place(&self) -> Result<Place, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map(|permit| Place { _permit: permit }).map_err(|_| Refusal::unavailable())
    }

    /// Writes it, in its turn. What fails is told in the log: nobody waits.
    pub(crate) fn write(
        &self,
        place: Place,
        what: &'static str,
        write: impl Future<Output = Result<(), sqlx::Error>> + Send + 'static,
    ) {
        let turns = Arc::clone(&self.turns);
        let written = async move {
            let in_turn = async {
                let _turn = turns.acquire().await;
                write.await
            };
            let written = tokio::time::timeout(PATIENCE, in_turn).await;
            if let Err(error) = written.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                error!(%error, "{what} was not written down");
            }
            drop(place);
        };
        self.background.spawn(written.in_current_span());
    }
}

#[cfg(test)]
mod tests {
    use shared::refusal::Code;

    use super::*;

    #[tokio::test]
    async fn little_is_written_at_once_and_no_more_waits_than_may() {
        let background = TaskTracker::new();
        let later = Later::new(background.clone());
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        for _ in 0..MOST {
            let place = later.place().expect("a place");
            let at_once = Arc::clone(&at_once);
            later.write(place, "a test", async move {
                let one = at_once.try_acquire().map_err(|_| sqlx::Error::PoolTimedOut)?;
                tokio::task::yield_now().await;
                drop(one);
                Ok(())
            });
        }
        assert_eq!(later.place().err().map(|refusal| refusal.code), Some(Code::Unavailable));
        background.close();
        background.wait().await;
        assert!(later.place().is_ok());
    }
}
