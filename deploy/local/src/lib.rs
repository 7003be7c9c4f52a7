//! Everything of Breakglass on one machine: a private nats-server and Postgres, the workers and a
//! few gateways as edges, each a process of its own, watched over and stopped together.
//!
//! [`launcher`] is what `deploy/local/up` runs in the foreground. [`stack::Stack`] is the same
//! without a terminal, for tests; [`postgres::Postgres`] and [`nats::Nats`] start one server alone.
//! No child outlives this process, however it ends: see [`process`].

pub mod args;
pub mod credentials;
pub mod data;
mod environment;
pub mod keys;
pub mod launcher;
pub mod nats;
pub mod ports;
pub mod postgres;
pub mod process;
mod readiness;
pub mod services;
pub mod stack;
mod supervise;
