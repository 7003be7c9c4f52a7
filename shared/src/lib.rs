//! What every Breakglass service speaks and stands on: message schemas, ids, subjects, the clock,
//! the rules of the lease, and the runtime that each service starts with.
//!
//! Services depend on this crate and never on one another. The rules in [`lease`] are values and
//! functions without I/O, clock or randomness: services wrap them, checks explore them.

#![warn(missing_docs)]

pub mod bus;
pub mod clock;
#[cfg(feature = "database")]
pub mod database;
pub mod id;
pub mod lease;
pub mod message;
pub mod random;
pub mod refusal;
pub mod role;
pub mod runtime;
#[cfg(feature = "database")]
pub mod sealing;
pub mod subject;
pub mod token;
pub mod trace;

pub use chain;
