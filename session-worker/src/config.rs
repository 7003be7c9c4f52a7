//! Options of session-worker.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use shared::{
    bus::BusConfig,
    database::DatabaseConfig,
    lease::Margin,
    runtime::{RuntimeConfig, ServiceConfig},
};

/// Accounts, sign-in, sessions, and the broadcast of revocations to every edge.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "session-worker",
    version,
    after_help = "`session-worker operator --help` is for what the operator does beside the API."
)]
pub struct Config {
    /// Length of an edge's lease, in milliseconds. A row never gets a shorter one than it had.
    #[arg(long, env = "BREAKGLASS_LEASE_MS", default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(500..=60_000))]
    pub lease_ms: u32,
    /// What a fence waits beyond the lease: a share of it, in percent, for clocks that drift.
    #[arg(long, env = "BREAKGLASS_LEASE_MARGIN_PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub lease_margin_percent: u32,
    /// And what comes on top, in milliseconds.
    #[arg(long, env = "BREAKGLASS_LEASE_MARGIN_MS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub lease_margin_ms: u32,
    /// How long a session may be unused, in seconds.
    #[arg(long, env = "BREAKGLASS_SESSION_IDLE_SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(60..=31_536_000))]
    pub session_idle_seconds: u32,
    /// How long a session lives at most, in seconds.
    #[arg(long, env = "BREAKGLASS_SESSION_SECONDS", default_value_t = 43_200, value_parser = clap::value_parser!(u32).range(60..=31_536_000))]
    pub session_seconds: u32,
    /// Threads for password hashing; 0: one for each core but one.
    #[arg(long, env = "BREAKGLASS_HASHING_THREADS", default_value_t = 0)]
    pub hashing_threads: usize,
    /// File with the keys that seal the shared secrets of authenticator apps: a line each, the one that
    /// seals first. `session-worker operator new-key` makes a line.
    #[arg(long, env = "BREAKGLASS_SECRET_KEYS")]
    pub secret_keys: PathBuf,
    /// File with the key that signs the audit record. `session-worker operator new-audit-key` makes one,
    /// `audit-public-key` says what verifies it.
    #[arg(long, env = "BREAKGLASS_AUDIT_KEY")]
    pub audit_key: PathBuf,
    /// How long an entry of the audit record waits for a signed head at most, in seconds.
    #[arg(long, env = "BREAKGLASS_AUDIT_HEAD_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub audit_head_seconds: u32,
    /// File with passwords that may not be set, one a line, besides the list that is built in.
    #[arg(long, env = "BREAKGLASS_PASSWORD_BLOCKLIST")]
    pub password_blocklist: Option<PathBuf>,
    /// File in the format of `MaxMind` (.mmdb) that says where addresses are, City or Country. Read once, at the
    /// start: for a newer file start anew. Without it sessions have no location.
    #[arg(long, env = "BREAKGLASS_LOCATION_DATABASE")]
    pub location_database: Option<PathBuf>,
    /// Address for `/healthz` and `/readyz`.
    #[arg(long, env = "BREAKGLASS_HEALTH_LISTEN")]
    pub health_listen: Option<SocketAddr>,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// The bus.
    #[command(flatten)]
    pub bus: BusConfig,
    /// What every service has.
    #[command(flatten)]
    pub runtime: RuntimeConfig,
}

impl Config {
    /// Length of an edge's lease.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_ms))
    }

    /// How long an entry of the audit record waits for a signed head at most.
    #[must_use]
    pub fn audit_head_every(&self) -> Duration {
        Duration::from_secs(u64::from(self.audit_head_seconds))
    }

    /// What a fence waits beyond it.
    #[must_use]
    pub fn margin(&self) -> Margin {
        Margin {
            percent: self.lease_margin_percent,
            constant: Duration::from_millis(u64::from(self.lease_margin_ms)),
        }
    }
}

impl ServiceConfig for Config {
    fn runtime(&self) -> &RuntimeConfig {
        &self.runtime
    }
}
