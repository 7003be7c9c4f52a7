//! Flows through a whole Breakglass: real processes, real NATS, real Postgres.

mod lease;
mod grants;
mod main_job;
mod permissions;
mod problem;
