//! session-worker: accounts, sign-in, sessions, and the broadcast of revocations to every edge.
//!
//! It owns the tables `tenants`, `users`, `sessions` and `edges`, and reads the record. It does not
//! own grants: grant-worker changes those and has session-worker broadcast the revision.

mod account;
mod audit;
mod batch;
mod config;
mod device;
mod edges;
pub mod keys;
mod location;
mod manage;
mod mfa;
pub mod operator;
mod password;
mod presence;
mod revocation;
mod service;
mod session;
mod sign_in;
mod state;
mod throttle;
mod user;

pub use self::{config::Config, service::run};
