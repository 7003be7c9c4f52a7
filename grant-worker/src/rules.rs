//! The rules of emergency access: functions of values, without I/O, clock or randomness.

pub mod access;
pub mod approval;
pub mod digest;
pub mod lifecycle;
pub mod policy;
pub mod wording;
