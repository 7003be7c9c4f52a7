//! Wrong guesses at secrets, counted for each client address: past so many in a minute nothing more
//! from there is asked of a worker.
//!
//! Accounts are protected by session-worker, which counts for each of them in the database. This
//! keeps one place from trying many accounts. It counts on this gateway alone.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use axum::{extract::FromRequestParts, http::request::Parts};
use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;
use shared::{
    clock::{Clock, Monotonic},
    refusal::{Code, Refusal},
};
use tokio::sync::Notify;

use super::{State, caller};

/// Wrong guesses count for so long.
const WINDOW: Duration = Duration::from_mins(1);
/// How long a guess waits for others that are being looked at.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most places that are remembered; past it, those that were quiet for longest are forgotten.
const PLACES: u64 = 100_000;

/// Wrong guesses of the last minute, by place. Cheap to clone.
#[derive(Clone)]
pub struct Guesses {
    /// Most in a minute from one place; 0: any number.
    most: usize,
    clock: Arc<dyn Clock>,
    places: Cache<Option<IpAddr>, Arc<Place>>,
}

/// Where guesses come from.
#[derive(Default)]
struct Place {
    tried: Mutex<Tried>,
    /// Told whenever a guess has been looked at.
    judged: Notify,
}

/// What one place has tried.
#[derive(Default)]
struct Tried {
    /// When guesses turned out wrong, the earliest first; at most as many as are allowed.
    wrong: VecDeque<Monotonic>,
    /// Guesses that are being looked at: each may turn out wrong.
    underway: usize,
}

impl Guesses {
    /// At most so many wrong ones in a minute from one place; 0: any number.
    #[must_use]
    pub fn new(most: u32, clock: Arc<dyn Clock>) -> Self {
        let places = Cache::builder()
            .max_capacity(PLACES)
            .eviction_policy(EvictionPolicy::lru())
            // No guess takes longer than a minute, so nothing that still counts is forgotten.
            .time_to_idle(WINDOW * 2)
            .build();
        Self { most: most as usize, clock, places }
    }

    /// Admits a guess from an address, or says when to come again. However many come at once: no
    /// more are looked at than may turn out wrong.
    async fn admit(&self, address: Option<IpAddr>) -> Result<Admitted, Refusal> {
        let clock = Arc::clone(&self.clock);
        if self.most == 0 {
            return Ok(Admitted { place: None, clock, counts: false });
        }
        let place = self.places.get_with(address.map(place), Arc::default);
        let admitted = tokio::time::timeout(PATIENCE, async {
            loop {
                let judged = place.judged.notified();
                if self.is_admitted(&mut place.tried.lock())? {
                    return Ok(());
                }
                judged.await;
            }
        });
        // Not that they failed: too many are being looked at.
        admitted.await.unwrap_or_else(|_| Err(Refusal::unavailable()))?;
        Ok(Admitted { place: Some(place), clock, counts: true })
    }

    /// Whether one more is admitted now; otherwise it depends on those that are being looked at.
    fn is_admitted(&self, tried: &mut Tried) -> Result<bool, Refusal> {
        let now = self.clock.monotonic();
        while tried.wrong.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            tried.wrong.pop_front();
        }
        if tried.wrong.len() >= self.most {
            let first = tried.wrong.front().map_or(Duration::ZERO, |at| now.since(*at));
            return Err(too_many(WINDOW.saturating_sub(first)));
        }
        let is_free = tried.wrong.len() + tried.underway < self.most;
        tried.underway += usize::from(is_free);
        Ok(is_free)
    }
}

/// One place is one IPv4 address, or one IPv6 network of the size that a customer gets.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

fn too_many(left: Duration) -> Refusal {
    let seconds = left.as_millis().div_ceil(1_000).max(1);
    Refusal {
        retry_after: u32::try_from(seconds).ok(),
        ..Refusal::new(
            Code::TooManyAttempts,
            "Too many failed attempts have come from this address. Wait before trying again.",
        )
    }
}

/// A request that may hold a wrong guess at a secret: a password, a code, a token that was mailed.
///
/// A route that takes this as an argument has the guess judged by [`Guess::judge`].
pub(super) struct Guess {
    guesses: Guesses,
    address: Option<IpAddr>,
}

impl FromRequestParts<State> for Guess {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Infallible> {
        let address = caller::address(parts, &state.proxies);
        Ok(Self { guesses: state.guesses.clone(), address })
    }
}

impl Guess {
    /// Asks a worker, unless too many from this address were wrong, and counts this one if the answer
    /// is that it was. One that nobody waited for counts too: hanging up is no way to guess for free.
    pub(super) async fn judge<T>(
        self,
        ask: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        self.judge_by(Code::InvalidCredentials, ask).await
    }

    /// [`Guess::judge`] for a request that may come with a code, where a wrong one counts as none.
    pub(super) async fn judge_code<T>(
        self,
        shown: bool,
        ask: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        if shown { self.judge_by(Code::FreshMfaRequired, ask).await } else { ask.await }
    }

    async fn judge_by<T>(
        self,
        wrong: Code,
        ask: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let mut admitted = self.guesses.admit(self.address).await?;
        let answer = ask.await;
        admitted.counts = answer.as_ref().is_err_and(|refusal| refusal.code == wrong);
        answer
    }
}

/// A guess that is being looked at.
struct Admitted {
    /// Absent where there is no limit.
    place: Option<Arc<Place>>,
    clock: Arc<dyn Clock>,
    /// Whether it counts as wrong if it ends now.
    counts: bool,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some(place) = &self.place else { return };
        {
            let mut tried = place.tried.lock();
            tried.underway -= 1;
            if self.counts {
                tried.wrong.push_back(self.clock.monotonic());
            }
        }
        place.judged.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use shared::clock::Timestamp;

    use super::*;

    /// A clock that goes when it is told to.
    #[derive(Default)]
    struct Hands(Mutex<Duration>);

    impl Hands {
        fn go(&self, seconds: u64) {
            *self.0.lock() += Duration::from_secs(seconds);
        }
    }

    impl Clock for Hands {
        fn monotonic(&self) -> Monotonic {
            Monotonic(*self.0.lock())
        }

        fn wall(&self) -> Timestamp {
            Timestamp::from_micros(0)
        }
    }

    const A: &str = "192.0.2.1";
    const B: &str = "192.0.2.2";

    fn guesses(most: u32) -> (Guesses, Arc<Hands>) {
        let hands = Arc::new(Hands::default());
        (Guesses::new(most, hands.clone()), hands)
    }

    fn of(guesses: &Guesses, from: &str) -> Guess {
        Guess { guesses: guesses.clone(), address: Some(from.parse().expect("an address")) }
    }

    /// What becomes of a guess with this answer: the code, and when to come again.
    async fn guess(
        guesses: &Guesses,
        from: &str,
        answer: Option<Code>,
    ) -> (Option<Code>, Option<u32>) {
        let answer = answer.map_or(Ok(()), |code| Err(Refusal::new(code, "x")));
        let judged = of(guesses, from).judge(async { answer }).await;
        judged.map_or_else(|refusal| (Some(refusal.code), refusal.retry_after), |()| (None, None))
    }

    const WRONG: Option<Code> = Some(Code::InvalidCredentials);
    const TOO_MANY: Option<Code> = Some(Code::TooManyAttempts);

    #[tokio::test]
    async fn wrong_ones_of_the_last_minute_count_for_each_place() {
        let (guesses, hands) = guesses(3);
        for _ in 0..2 {
            assert_eq!(guess(&guesses, A, WRONG).await, (WRONG, None));
        }
        hands.go(20);
        assert_eq!(guess(&guesses, A, WRONG).await, (WRONG, None));
        assert_eq!(guess(&guesses, A, None).await, (TOO_MANY, Some(40)), "right or wrong");
        assert_eq!(guess(&guesses, B, None).await, (None, None));
        hands.go(39);
        assert_eq!(guess(&guesses, A, None).await, (TOO_MANY, Some(1)));
        hands.go(1);
        for _ in 0..2 {
            assert_eq!(guess(&guesses, A, WRONG).await, (WRONG, None));
        }
        assert_eq!(guess(&guesses, A, WRONG).await, (TOO_MANY, Some(20)), "one still counts");
    }

    #[tokio::test]
    async fn only_wrong_ones_count() {
        let (guesses, _) = guesses(3);
        let others =
            [Code::Unavailable, Code::BadRequest, Code::TooManyAttempts, Code::Unauthenticated];
        for answer in others.map(Some).into_iter().chain([None]) {
            for _ in 0..5 {
                assert_eq!(guess(&guesses, A, answer).await, (answer, None));
            }
        }
        assert_eq!(guess(&guesses, A, WRONG).await, (WRONG, None));
    }

    #[tokio::test]
    async fn hanging_up_is_no_way_to_guess_for_free() {
        let (guesses, _) = guesses(3);
        for _ in 0..3 {
            let mut judged =
                Box::pin(of(&guesses, A).judge(std::future::pending::<Result<(), _>>()));
            assert!(futures_util::poll!(&mut judged).is_pending());
        }
        assert_eq!(guess(&guesses, A, None).await.0, TOO_MANY);
    }

    /// However many come at once: so many wrong ones are looked at and no more, and right ones among
    /// them are not refused.
    #[tokio::test]
    async fn of_500_at_once_no_more_are_looked_at_than_may_be_wrong() {
        let looked_at = |wrong: bool| async move {
            let (guesses, _) = guesses(100);
            let asked = Mutex::new(0);
            let all = (0..500).map(|_| async {
                let ask = async {
                    *asked.lock() += 1;
                    tokio::task::yield_now().await;
                    if wrong { Err(Refusal::new(Code::InvalidCredentials, "x")) } else { Ok(()) }
                };
                of(&guesses, A).judge(ask).await
            });
            let refused = join_all(all).await.into_iter().filter_map(Result::err);
            let too_many = refused.filter(|refusal| refusal.code == Code::TooManyAttempts).count();
            (asked.into_inner(), too_many)
        };
        assert_eq!(looked_at(true).await, (100, 400));
        assert_eq!(looked_at(false).await, (500, 0));
    }

    #[tokio::test]
    async fn a_place_is_an_address_or_what_a_customer_gets() {
        let (guesses, _) = guesses(1);
        assert_eq!(guess(&guesses, "2001:db8:0:1::1", WRONG).await.0, WRONG);
        assert_eq!(guess(&guesses, "2001:db8:0:1:ffff::2", None).await.0, TOO_MANY);
        assert_eq!(guess(&guesses, "2001:db8:0:2::1", None).await.0, None);
        assert_eq!(guess(&guesses, A, WRONG).await.0, WRONG);
        assert_eq!(guess(&guesses, "::ffff:192.0.2.1", None).await.0, TOO_MANY);
    }

    #[tokio::test]
    async fn zero_is_no_limit() {
        let (guesses, _) = guesses(0);
        for _ in 0..300 {
            assert_eq!(guess(&guesses, A, WRONG).await.0, WRONG);
        }
    }
}
