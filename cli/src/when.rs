//! Times and durations, as people say them.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

/// This machine's clock. What it decides is only how a time is worded.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Until when something is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(patience: Duration) -> Self {
        Self(instant() + patience)
    }

    pub(crate) fn is_over(self) -> bool {
        instant() >= self.0
    }
}

/// How long ago something was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since(Instant);

impl Since {
    pub(crate) fn now() -> Self {
        Self(instant())
    }

    pub(crate) fn elapsed(self) -> Duration {
        instant().duration_since(self.0)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "only how long somebody waits at a terminal hangs on it"
)]
fn instant() -> Instant {
    Instant::now()
}

/// The two largest units: `45 s`, `29 min 58 s`, `1 h 30 min`, `4 d 3 h`.
pub(crate) fn duration(seconds: u64) -> String {
    let units = [
        ("d", seconds / 86_400),
        ("h", seconds / 3600 % 24),
        ("min", seconds / 60 % 60),
        ("s", seconds % 60),
    ];
    let first = units.iter().position(|(_, count)| *count > 0).unwrap_or(units.len() - 1);
    let said = units.iter().skip(first).take(2).enumerate();
    let said = said.filter(|(at, (_, count))| *at == 0 || *count > 0);
    said.map(|(_, (unit, count))| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

/// How far a time is off: `in 29 min 58 s`, `3 h ago`.
pub(crate) fn relative(time: Timestamp, now: Timestamp) -> String {
    let difference = time.duration_since(now);
    // What is left is rounded up, as servers do.
    let begun = difference.subsec_nanos() > 0;
    let seconds = difference.as_secs() + i64::from(begun);
    match seconds {
        0 => "just now".to_owned(),
        1.. => format!("in {}", duration(seconds.unsigned_abs())),
        _ => format!("{} ago", duration(coarse(seconds.unsigned_abs()))),
    }
}

/// Nobody needs the seconds of what was minutes ago.
fn coarse(seconds: u64) -> u64 {
    match seconds {
        ..60 => seconds,
        60..86_400 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    }
}

/// The local time, with as much of the date as is needed.
pub(crate) fn local(time: Timestamp, now: Timestamp) -> String {
    in_zone(time, now, &TimeZone::system())
}

fn in_zone(time: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (time, now): (Zoned, Zoned) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if time.date() == now.date() {
        "%H:%M:%S"
    } else if time.year() == now.year() {
        "%a %-d %b %H:%M"
    } else {
        "%-d %b %Y %H:%M"
    };
    time.strftime(format).to_string()
}

/// Both: `14:05:10 (in 29 min 58 s)`.
pub(crate) fn both(time: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", local(time, now), relative(time, now))
}

/// Whole seconds from `90s`, `30m`, `1h30m`, `2 hours`.
pub(crate) fn parse_duration(text: &str) -> Result<u32, String> {
    let wrong = || "write a duration like 90s, 30m or 1h30m".to_owned();
    let parsed: SignedDuration = text.trim().parse().map_err(|_| wrong())?;
    match u32::try_from(parsed.as_secs()) {
        Ok(seconds) if seconds > 0 && parsed.subsec_nanos() == 0 => Ok(seconds),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_two_units() {
        let said = [
            (0, "0 s"),
            (45, "45 s"),
            (60, "1 min"),
            (1798, "29 min 58 s"),
            (3600, "1 h"),
            (3605, "1 h"),
            (5400, "1 h 30 min"),
            (356_400, "4 d 3 h"),
        ];
        for (seconds, text) in said {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1800),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("2 hours", 7200),
            ("5 min", 300),
        ] {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
        }
        for bad in ["", "30", "0s", "-5m", "1.5s", "soon", "m", "999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_local_with_as_much_date_as_is_needed() {
        let time = |text: &str| text.parse::<Timestamp>().expect(text);
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = time("2026-11-22T21:30:00Z");
        assert_eq!(in_zone(time("2026-11-22T20:00:05Z"), now, &zone), "22:00:05");
        assert_eq!(in_zone(time("2026-11-22T22:30:00Z"), now, &zone), "Mon 23 Nov 00:30");
        assert_eq!(in_zone(time("2027-01-02T01:00:00Z"), now, &zone), "2 Jan 2027 03:00");
        assert_eq!(relative(time("2026-11-22T22:00:00Z"), now), "in 30 min");
        assert_eq!(relative(time("2026-11-22T21:27:45Z"), now), "2 min ago");
        assert_eq!(relative(now, now), "just now");
        assert_eq!(relative(time("2026-11-22T21:30:29.2Z"), now), "in 30 s");
        assert_eq!(relative(time("2026-11-22T21:29:59.5Z"), now), "just now");
    }
}
