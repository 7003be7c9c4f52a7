//! Timers in hand: claimed before they are due, and held until then.

use std::collections::BTreeMap;

use tokio::time::Instant;
use uuid::Uuid;

use crate::store::{CLAIM, Claimed, Timer};

/// So many of a kind are in hand at most.
pub(crate) const MOST: usize = 10_000;

/// The timers of one kind that are in hand, the next one first.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    timers: BTreeMap<(Instant, Uuid), Timer>,
}

impl Ahead {
    /// Takes in what was claimed by now.
    pub(crate) fn add(&mut self, claimed: Vec<Claimed>, now: Instant) {
        let timers = claimed.into_iter().map(|Claimed { due_in, timer }| {
            let due = now.checked_add(due_in).unwrap_or(now);
            ((due, timer.subject_id), timer)
        });
        self.timers.extend(timers);
    }

    /// How many more fit.
    pub(crate) fn room(&self) -> usize {
        MOST.saturating_sub(self.timers.len())
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Lets go of all, due or not, and says what they were for.
    pub(crate) fn take_all(&mut self) -> Vec<Uuid> {
        std::mem::take(&mut self.timers).into_keys().map(|(_, subject)| subject).collect()
    }

    /// Hands out what is due, the most overdue first, at most so many.
    pub(crate) fn take_due(&mut self, now: Instant, most: usize) -> Due {
        let mut taken = Due::default();
        while taken.timers.len() < most {
            let Some(first) = self.timers.first_entry() else { break };
            let (due, subject) = *first.key();
            if due > now {
                break;
            }
            let timer = first.remove();
            if now - due < CLAIM / 2 {
                taken.timers.push(timer);
            } else {
                taken.stale.push(subject);
            }
        }
        taken
    }
}

/// Timers that are due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// To be fired.
    pub(crate) timers: Vec<Timer>,
    /// What those are for that have waited so long that their claims may run out before an owner answers.
    pub(crate) stale: Vec<Uuid>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn claimed(id: u128, due_in: u64) -> Claimed {
        let timer = Timer { subject_id: Uuid::from_u128(id), traceparent: None };
        Claimed { due_in: Duration::from_secs(due_in), timer }
    }

    fn take(ahead: &mut Ahead, now: Instant, most: usize) -> Vec<u128> {
        ahead.take_due(now, most).timers.iter().map(|timer| timer.subject_id.as_u128()).collect()
    }

    #[test]
    fn what_is_due_is_handed_out_in_its_order_and_nothing_before() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut ahead = Ahead::default();
        assert_eq!((ahead.next(), ahead.room()), (None, MOST));
        ahead.add(vec![claimed(3, 3), claimed(1, 1), claimed(2, 1)], start);
        // Earlier than all that is in hand.
        ahead.add(vec![claimed(4, 0)], start);
        assert_eq!((ahead.next(), ahead.room()), (Some(start), MOST - 4));
        assert_eq!(take(&mut ahead, start, 9), [4]);
        assert_eq!(take(&mut ahead, after(1), 1), [1]);
        assert_eq!(take(&mut ahead, after(1), 9), [2]);
        assert_eq!(ahead.next(), Some(after(3)));
        assert_eq!(take(&mut ahead, after(2), 9), [0_u128; 0]);
        assert_eq!(take(&mut ahead, after(3), 9), [3]);
        assert_eq!((ahead.next(), ahead.room()), (None, MOST));
    }

    #[test]
    fn what_has_waited_too_long_is_left_to_whoever_claims_it_next() {
        let start = Instant::now();
        let mut ahead = Ahead::default();
        ahead.add(vec![claimed(1, 0), claimed(2, 1)], start);
        let due = ahead.take_due(start + CLAIM / 2, 9);
        assert_eq!(due.timers.iter().map(|t| t.subject_id.as_u128()).collect::<Vec<_>>(), [2]);
        assert_eq!(due.stale, [Uuid::from_u128(1)]);
        assert_eq!(ahead.room(), MOST);
    }

    #[test]
    fn one_that_is_due_too_far_ahead_for_the_clock_is_due_now() {
        let mut ahead = Ahead::default();
        let start = Instant::now();
        let far = Claimed { due_in: Duration::MAX, ..claimed(1, 0) };
        ahead.add(vec![far], start);
        assert_eq!(ahead.next(), Some(start));
    }
}
