//! Flows through a whole Breakglass: real processes, real NATS, real Postgres.

mod accounts;
mod bad_input;
mod cli;
mod emergency;
mod events;
mod expiry;
mod faults;
mod grants;
mod large;
mod lease;
mod main_job;
mod notifications;
mod outages;
mod pages;
mod permissions;
mod problem;
mod receipts;
mod record;
mod restarts;
mod sessions;
mod standby;
mod traces;
mod wire;
