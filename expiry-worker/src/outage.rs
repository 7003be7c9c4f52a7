//! Trouble with a component: told once when it begins and once when it ends, with growing pauses
//! between.

use std::{
    fmt::Display,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tracing::{info, warn};

/// Longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// Whether a component works.
#[derive(Debug)]
pub(crate) struct Outage {
    component: &'static str,
    failures: AtomicU32,
}

impl Outage {
    pub(crate) const fn of(component: &'static str) -> Self {
        Self { component, failures: AtomicU32::new(0) }
    }

    /// It failed. Only the first failure goes to the log.
    pub(crate) fn failed(&self, error: &dyn Display) {
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!(component = self.component, %error, "out of reach: timers wait");
        }
    }

    /// It worked. Says whether it had failed before.
    pub(crate) fn worked(&self) -> bool {
        // A read first: this is the way of every timer.
        let is_back = self.is_on() && self.failures.swap(0, Ordering::Relaxed) > 0;
        if is_back {
            info!(component = self.component, "back: timers go on");
        }
        is_back
    }

    /// Whether it failed last.
    pub(crate) fn is_on(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 0
    }

    /// How long to wait before it is tried again.
    pub(crate) fn pause(&self) -> Duration {
        pause_after(self.failures.load(Ordering::Relaxed))
    }
}

/// Doubles from 125 ms with every failure.
fn pause_after(failures: u32) -> Duration {
    let doubled = Duration::from_millis(125) * 2_u32.pow(failures.saturating_sub(1).min(8));
    if failures == 0 { Duration::ZERO } else { doubled.min(LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_second() {
        let pauses: Vec<_> =
            [0, 1, 2, 3, 4, 5, 100, u32::MAX].map(|n| pause_after(n).as_millis()).into();
        assert_eq!(pauses, [0, 125, 250, 500, 1_000, 1_000, 1_000, 1_000]);
    }

    #[test]
    fn one_success_ends_an_outage() {
        let outage = Outage::of("test");
        assert!(!outage.is_on());
        outage.failed(&"once");
        outage.failed(&"twice");
        assert!(outage.is_on());
        assert_eq!(outage.pause(), Duration::from_millis(250));
        outage.worked();
        assert!(!outage.is_on());
        assert_eq!(outage.pause(), Duration::ZERO);
    }
}
