//! Time, of two kinds that never mix.
//!
//! [`Timestamp`] is a server time: what Postgres' clock said. Expiries are such times.
//! [`Monotonic`] is a reading of this machine's own steady clock, which counts suspended time too.
//! Leases and waits are measured on it. A wall clock decides nothing.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A server time in microseconds since the Unix epoch. Written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-22T03:00:00.000000Z")]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, zero before it.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.0 / 1_000).unwrap_or(0)
    }

    /// This time and `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// The beginning of the minute in which this is.
    #[must_use]
    pub const fn minute(self) -> Self {
        Self(self.0 - self.0.rem_euclid(60_000_000))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(time: OffsetDateTime) -> Self {
        Self(i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX))
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(time: Timestamp) -> Self {
        Self::from_unix_timestamp_nanos(i128::from(time.0) * 1_000).unwrap_or(Self::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from(*self).format(&Rfc3339).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = OffsetDateTime::parse(&text, &Rfc3339).map_err(de::Error::custom)?;
        // An offset may lead out of the years that can be written.
        let utc = time
            .checked_to_offset(time::UtcOffset::UTC)
            .filter(|utc| (0..=9_999).contains(&utc.year()));
        utc.map(Self::from).ok_or_else(|| de::Error::custom("the time is out of range"))
    }
}

/// A reading of this machine's steady clock: time since some fixed point, suspension included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// This reading and `duration` later.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where readings come from. Passed in, so that tests and checks bring their own.
pub trait Clock: Send + Sync {
    /// The steady clock: `CLOCK_BOOTTIME` where there is one, so that a lease runs out while the
    /// machine sleeps.
    fn monotonic(&self) -> Monotonic;

    /// The wall clock. For the time in ids and logs alone; it decides nothing.
    fn wall(&self) -> Timestamp;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn monotonic(&self) -> Monotonic {
        use rustix::time::{ClockId, clock_gettime};
        #[cfg(target_os = "linux")]
        let id = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = ClockId::Monotonic;
        let now = clock_gettime(id);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Monotonic(Duration::new(seconds, nanos))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Clock that everyone else is given")]
    fn wall(&self) -> Timestamp {
        OffsetDateTime::now_utc().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_survives_json() {
        let time = Timestamp::from_micros(1_795_316_400_123_456);
        let text = serde_json::to_string(&time).expect("serializes");
        assert_eq!(text, "\"2026-11-22T03:00:00.123456Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).expect("parses"), time);
    }

    #[test]
    fn the_steady_clock_never_goes_back() {
        let a = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= a);
    }
}
