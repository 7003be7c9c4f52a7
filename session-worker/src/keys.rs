//! session-worker's own keys: those that seal the shared secrets of authenticator apps, and the one that
//! signs the heads of the audit record.

pub mod audit;

pub use shared::sealing::{Keys, KeysError, OpenError};
