//! The rules of the lease, as values and functions: no I/O, no clock, no randomness.
//!
//! [`edge::Edge`] is what an edge knows and how it decides; [`worker`] is how a worker fences an
//! edge and when a receipt is whole. Services wrap them with NATS, Postgres and the clock; checks
//! explore the very same code. The rule numbers (E1 to E9, W1 to W7) are those of the protocol in
//! `ARCHITECTURE.md`.

pub mod edge;
mod marks;
pub mod server_clock;
pub mod worker;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A place in the history of revocations: the database's timeline, then the number in it.
///
/// Compared in that order, so that whatever was lost in a failover counts for less than anything
/// that came after it (E7).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision {
    /// Postgres' timeline, as in the name of its current WAL file.
    pub timeline: u32,
    /// The number; consecutive within a timeline.
    pub number: u64,
}

impl Revision {
    /// The next one in the same timeline.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { timeline: self.timeline, number: self.number + 1 }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.timeline, self.number)
    }
}

/// What a fence waits beyond the lease, for a slow edge and a fast worker: a share of it, and a
/// constant.
///
/// The share has to be at least what two steady clocks may drift apart, the constant what may pass
/// between the reading of a clock and its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Margin {
    /// Percent of the lease.
    pub percent: u32,
    /// What comes on top.
    pub constant: Duration,
}

impl Default for Margin {
    /// 10 % and 100 ms.
    fn default() -> Self {
        Self { percent: 10, constant: Duration::from_millis(100) }
    }
}

impl Margin {
    /// The margin of a lease of this length.
    #[must_use]
    pub fn of(self, lease: Duration) -> Duration {
        lease * self.percent / 100 + self.constant
    }
}

/// How long a receipt may take before it says `enforced: false` (W5): an edge may have renewed
/// just before it died, a third of the lease after the commit.
#[must_use]
pub fn receipt_deadline(ttl: Duration, margin: Margin) -> Duration {
    ttl * 4 / 3 + margin.of(ttl) + Duration::from_secs(1)
}
