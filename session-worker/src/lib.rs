//! session-worker: accounts, sign-in, sessions, and the broadcast of revocations to every edge.
//!
//! It owns tenants, users with all that belongs to them (factors, codes, sessions, known devices) and
//! edges, prunes the outbox, and reads the record. It does not own grants: grant-worker changes those
//! and has session-worker broadcast the revision.

mod account;
mod audit;
mod batch;
mod config;
mod device;
mod edges;
pub mod keys;
mod later;
mod location;
mod manage;
mod mfa;
pub mod operator;
mod password;
mod presence;
mod prune;
mod revocation;
mod service;
mod session;
mod sign_in;
mod state;
mod throttle;
mod user;
mod warm;

pub use self::{config::Config, service::run};
