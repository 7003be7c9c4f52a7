//! What an edge knows of the database's clock (E8).

use std::{collections::VecDeque, time::Duration};

use crate::clock::{Monotonic, Timestamp};

/// Readings count for this long.
pub const WINDOW: Duration = Duration::from_mins(10);

/// A reading this much above the others needs to be confirmed.
pub const STEP: Duration = Duration::from_secs(1);

/// The offset of server time to an edge's steady clock: the highest reading of the last 10 minutes.
///
/// A reading pairs the server's time with the moment at which it was *asked for*, so it can only
/// run ahead of the server, never behind: expiries come early by at most a round trip, never late.
/// A server clock that steps back prolongs nothing for 10 minutes; one that blips forward once
/// has no effect.
#[derive(Debug, Clone, Default)]
pub struct ServerClock {
    /// (asked at, server time minus asked-at in microseconds), oldest first.
    readings: VecDeque<(Monotonic, i64)>,
    /// A reading that was over [`STEP`] above the others and is not confirmed yet.
    unconfirmed: bool,
    in_force: Option<i64>,
}

/// Whether a reading was taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It counts.
    Taken,
    /// It is far above the others: ask again at once to confirm it.
    Confirm,
}

impl ServerClock {
    /// Takes a reading: `server_time` was the answer to what was asked at `asked_at`.
    pub fn read(&mut self, asked_at: Monotonic, server_time: Timestamp) -> Reading {
        let offset = server_time.micros() - micros(asked_at);
        while self.readings.len() > 1
            && self.readings.front().is_some_and(|(at, _)| asked_at.since(*at) > WINDOW)
        {
            self.readings.pop_front();
        }
        let highest = self.readings.iter().map(|(_, offset)| *offset).max();
        let step = i64::try_from(STEP.as_micros()).unwrap_or(i64::MAX);
        if highest.is_some_and(|highest| offset > highest + step) && !self.unconfirmed {
            self.unconfirmed = true;
            self.in_force = highest;
            return Reading::Confirm;
        }
        self.unconfirmed = false;
        self.readings.push_back((asked_at, offset));
        self.in_force = Some(highest.map_or(offset, |highest| highest.max(offset)));
        Reading::Taken
    }

    /// The server's time at `now`, or a little later; none before the first reading.
    #[must_use]
    pub fn at(&self, now: Monotonic) -> Option<Timestamp> {
        self.in_force.map(|offset| Timestamp::from_micros(micros(now).saturating_add(offset)))
    }
}

fn micros(at: Monotonic) -> i64 {
    i64::try_from(at.0.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn server(seconds: i64) -> Timestamp {
        Timestamp::from_micros(HOUR + seconds * 1_000_000)
    }

    #[test]
    fn without_a_reading_there_is_no_server_time() {
        assert_eq!(ServerClock::default().at(at(1)), None);
    }

    #[test]
    fn a_server_clock_that_steps_back_prolongs_nothing_for_ten_minutes() {
        let mut clock = ServerClock::default();
        clock.read(at(0), server(0));
        for second in 1..=600 {
            clock.read(at(second), server(i64::try_from(second).unwrap() - 300));
            assert_eq!(clock.at(at(second)), Some(server(i64::try_from(second).unwrap())));
        }
        clock.read(at(601), server(301));
        assert_eq!(clock.at(at(601)), Some(server(301)));
    }

    #[test]
    fn one_blip_forward_has_no_effect() {
        let mut clock = ServerClock::default();
        clock.read(at(0), server(0));
        assert_eq!(clock.read(at(1), server(601)), Reading::Confirm);
        assert_eq!(clock.at(at(1)), Some(server(1)));
        assert_eq!(clock.read(at(1), server(1)), Reading::Taken);
        assert_eq!(clock.at(at(2)), Some(server(2)));
        assert_eq!(clock.read(at(3), server(603)), Reading::Confirm);
    }

    #[test]
    fn a_step_forward_counts_once_it_is_confirmed() {
        let mut clock = ServerClock::default();
        clock.read(at(0), server(0));
        assert_eq!(clock.read(at(1), server(601)), Reading::Confirm);
        assert_eq!(clock.read(at(1), server(601)), Reading::Taken);
        assert_eq!(clock.at(at(2)), Some(server(602)));
    }

    #[test]
    fn the_last_reading_stays_however_old() {
        let mut clock = ServerClock::default();
        clock.read(at(0), server(0));
        assert_eq!(clock.at(at(5_000)), Some(server(5_000)));
        clock.read(at(5_000), server(5_000));
        assert_eq!(clock.at(at(5_000)), Some(server(5_000)));
    }
}
