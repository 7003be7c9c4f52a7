//! Flows through a whole Breakglass: real processes, real NATS, real Postgres.

mod lease;
mod main_job;
