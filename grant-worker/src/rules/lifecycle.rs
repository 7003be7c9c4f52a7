//! The state machine of a grant.

use std::time::Duration;

use shared::{
    clock::Timestamp,
    message::grant::{Grant, ReviewState, State},
    refusal::{Code, Refusal},
};

/// What may happen to a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The last approval that it takes is there; at once where it takes none.
    Activate,
    /// Somebody who may decide refuses it.
    Deny,
    /// Its user withdraws it.
    Cancel,
    /// It is ended early.
    Revoke,
    /// Its time is over: of the grant, or of the wait for approvals.
    Expire,
}

/// All events.
pub const EVENTS: [Event; 5] =
    [Event::Activate, Event::Deny, Event::Cancel, Event::Revoke, Event::Expire];

/// Whether nothing can happen to a grant in this state any more.
#[must_use]
pub const fn is_final(state: State) -> bool {
    match state {
        State::Pending | State::Active => false,
        State::Denied | State::Cancelled | State::Revoked | State::Expired => true,
    }
}

/// Where an event leads, or why it cannot happen. Final states stay as they are.
pub fn transition(from: State, event: Event) -> Result<State, Refusal> {
    match (from, event) {
        (State::Pending, Event::Activate) => Ok(State::Active),
        (State::Pending, Event::Deny) => Ok(State::Denied),
        (State::Pending, Event::Cancel) => Ok(State::Cancelled),
        (State::Active, Event::Revoke) => Ok(State::Revoked),
        (State::Pending | State::Active, Event::Expire) => Ok(State::Expired),
        (State::Pending, Event::Revoke) => Err(Refusal::new(
            Code::Conflict,
            "The request is not active yet; it can be cancelled or denied.",
        )),
        (State::Active | State::Denied, Event::Activate | Event::Deny) => Err(Refusal::new(
            Code::AlreadyDecided,
            "The request is decided already; nothing was changed.",
        )),
        (State::Active, Event::Cancel) => {
            Err(Refusal::new(Code::Conflict, "The grant is active already; it can be revoked."))
        }
        (State::Denied | State::Cancelled | State::Revoked | State::Expired, _) => Err(ended()),
    }
}

/// The grant has ended already.
#[must_use]
pub fn ended() -> Refusal {
    Refusal::new(Code::GrantEnded, "The grant has ended already; nothing was changed.")
}

/// A grant from the database as it stands at `now`: past its end it is expired, whether or not
/// somebody has written that down yet.
#[must_use]
pub fn as_of(mut grant: Grant, now: Timestamp) -> Grant {
    grant.remaining_seconds = None;
    let end = match grant.state {
        State::Pending => grant.pending_until,
        State::Active => grant.expires_at,
        State::Denied | State::Cancelled | State::Revoked | State::Expired => None,
    };
    match end {
        Some(end) if end <= now => {
            grant.state = State::Expired;
            grant.ended_at = Some(end);
        }
        Some(end) if grant.state == State::Active => {
            grant.remaining_seconds = Some(whole_seconds(end, now));
        }
        _ => {}
    }
    if let Some(review) = grant.review.as_mut().filter(|review| review.state == ReviewState::Due)
        && review.due_at <= now
    {
        review.state = ReviewState::Overdue;
    }
    grant
}

/// So long before its end the user of a grant is told of it.
pub const WARNINGS: [Duration; 2] = [Duration::from_mins(10), Duration::from_mins(2)];

/// Which of them is to be told so long before the end, if any is. One that comes too late for itself is
/// left out in favour of the next.
#[must_use]
pub fn warn(left: Duration) -> Option<Duration> {
    WARNINGS.into_iter().rev().find(|warning| left <= *warning)
}

/// From `now` until `end`, rounded up: zero means that it is over.
fn whole_seconds(end: Timestamp, now: Timestamp) -> u64 {
    let left = end.since(now);
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use shared::{
        id::{GrantId, UserId},
        message::grant::{AppliesTo, Person, Review, STATES},
        role::Role,
    };
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_event_in_every_state() {
        use Event::{Activate, Cancel, Deny, Expire, Revoke};
        use State::{Active, Cancelled, Denied, Expired, Pending, Revoked};
        let moves = [
            (Pending, Activate, Active),
            (Pending, Deny, Denied),
            (Pending, Cancel, Cancelled),
            (Pending, Expire, Expired),
            (Active, Revoke, Revoked),
            (Active, Expire, Expired),
        ];
        for from in STATES {
            for event in EVENTS {
                let expected = moves.iter().find(|(f, e, _)| (*f, *e) == (from, event));
                match (transition(from, event), expected) {
                    (Ok(to), Some((_, _, expected))) => assert_eq!(to, *expected),
                    (Err(refusal), None) => {
                        let code = match (from, event) {
                            (Active | Denied, Activate | Deny) => Code::AlreadyDecided,
                            _ if is_final(from) => Code::GrantEnded,
                            _ => Code::Conflict,
                        };
                        assert_eq!(refusal.code, code, "{event:?} in {from:?}");
                    }
                    (outcome, _) => panic!("{event:?} in {from:?}: {outcome:?}"),
                }
            }
        }
    }

    #[test]
    fn final_states_stay_final_and_every_life_ends() {
        // Every sequence of events: a grant moves at most twice, and never out of a final state.
        fn explore(state: State, moves: u32) {
            assert!(moves <= 2);
            for event in EVENTS {
                if let Ok(next) = transition(state, event) {
                    assert!(!is_final(state), "{event:?} led out of {state:?}");
                    assert_ne!(next, State::Pending);
                    explore(next, moves + 1);
                }
            }
        }
        for state in STATES {
            explore(state, 0);
            let ends = transition(state, Event::Expire).is_ok_and(is_final);
            assert!(is_final(state) || ends, "{state:?} never ends");
        }
    }

    fn grant(state: State, expires_at: Option<Timestamp>) -> Grant {
        let person = Person { id: UserId(Uuid::nil()), email: String::new(), name: String::new() };
        Grant {
            id: GrantId(Uuid::nil()),
            state,
            user: person,
            role: Role::Admin,
            reason: String::new(),
            ticket: None,
            duration_seconds: 60,
            applies_to: AppliesTo::User,
            bypassed: false,
            factor: None,
            pending_until: None,
            requested_at: Timestamp::from_micros(0),
            activated_at: Some(Timestamp::from_micros(0)),
            expires_at,
            remaining_seconds: None,
            approvals: Vec::new(),
            approvals_needed: 0,
            ended_at: None,
            ended_by: None,
            end_reason: None,
            extended_from: None,
            request_digest: String::new(),
            review: None,
        }
    }

    #[test]
    fn a_grant_past_its_end_is_never_shown_as_active() {
        let end = Timestamp::from_micros(10_000_000);
        let at = |micros| as_of(grant(State::Active, Some(end)), Timestamp::from_micros(micros));
        let state = |micros| (at(micros).state, at(micros).remaining_seconds, at(micros).ended_at);
        assert_eq!(state(0), (State::Active, Some(10), None));
        assert_eq!(state(1), (State::Active, Some(10), None));
        assert_eq!(state(9_999_999), (State::Active, Some(1), None));
        assert_eq!(state(10_000_000), (State::Expired, None, Some(end)));
        assert_eq!(state(99_000_000), (State::Expired, None, Some(end)));
    }

    #[test]
    fn a_request_that_nobody_decided_in_time_is_shown_as_expired() {
        let until = Timestamp::from_micros(10);
        let waiting = Grant { pending_until: Some(until), ..grant(State::Pending, None) };
        let at = |micros| as_of(waiting.clone(), Timestamp::from_micros(micros));
        assert_eq!(at(9), waiting);
        assert_eq!((at(10).state, at(10).ended_at), (State::Expired, Some(until)));
    }

    #[test]
    fn a_review_is_overdue_by_the_clock() {
        let due_at = Timestamp::from_micros(10);
        let review =
            Review { due_at, state: ReviewState::Due, reviewer: None, note: None, at: None };
        let ended = Grant { review: Some(review), ..grant(State::Revoked, None) };
        let at = |micros| as_of(ended.clone(), Timestamp::from_micros(micros)).review;
        assert_eq!(at(9), ended.review);
        assert_eq!(at(10).map(|review| review.state), Some(ReviewState::Overdue));
    }

    #[test]
    fn a_warning_that_is_late_gives_way_to_the_next() {
        let told = |seconds| warn(Duration::from_secs(seconds)).map(|left| left.as_secs() / 60);
        assert_eq!((told(601), told(600), told(121)), (None, Some(10), Some(10)));
        assert_eq!((told(120), told(0)), (Some(2), Some(2)));
    }

    #[test]
    fn other_states_are_shown_as_they_are() {
        let late = Timestamp::from_micros(99);
        for state in STATES.into_iter().filter(|state| *state != State::Active) {
            let stored = grant(state, Some(Timestamp::from_micros(10)));
            assert_eq!(as_of(stored.clone(), late), stored);
        }
    }
}
