//! What a stack is made of, and what can go wrong with it.

use std::{collections::HashMap, fmt, io, path::PathBuf, sync::Arc};

use secrecy::SecretString;
use shared::subject::Permissions;

use crate::{
    credentials::CredentialsError, data::DataError, keys::KeyError, nats::NatsError,
    ports::PortError, postgres::PostgresError, process::Launch, supervise::Report,
};

/// Where NATS is.
#[derive(Debug, Clone)]
pub enum NatsSource {
    /// A private server.
    Private {
        /// Another nats-server than the installed one.
        program: Option<PathBuf>,
    },
    /// A server that is running already.
    Url(String),
}

/// Where the database is.
#[derive(Debug, Clone)]
pub enum DatabaseSource {
    /// A private cluster.
    Private,
    /// A database that exists already, for a role that may create tables in it.
    Url(SecretString),
}

/// Has the last word on how each child is started: told its name (`gateway-1`, `nats`…) and what
/// would be run.
#[derive(Clone)]
pub struct Arrange(Arc<Change>);

type Change = dyn Fn(&str, &mut Launch) + Send + Sync;

impl Arrange {
    /// From a function, which is called once for each child.
    pub fn new(change: impl Fn(&str, &mut Launch) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    pub(super) fn apply(&self, name: &str, launch: &mut Launch) {
        (self.0)(name, launch);
    }
}

impl fmt::Debug for Arrange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arrange(…)")
    }
}

/// What to run, and where.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// The data directory.
    pub data: PathBuf,
    /// Where the services' programs are.
    pub bin_dir: PathBuf,
    /// How many gateways.
    pub edges: u16,
    /// How many replicas of each kind of worker. The second of `grant-worker` is `grant-worker-2`.
    pub workers: u16,
    /// The port of the first gateway; the others follow it. `None`: any free ports.
    pub first_port: Option<u16>,
    /// The prefix of all subjects.
    pub prefix: String,
    /// Where NATS is.
    pub nats: NatsSource,
    /// Where the database is.
    pub database: DatabaseSource,
    /// Where traces go, if anywhere.
    pub otlp_endpoint: Option<String>,
    /// `text` or `json`.
    pub log_format: &'static str,
    /// More flags, by the name of the service (`gateway-1`, `grant-worker`).
    pub extra_flags: HashMap<String, Vec<String>>,
    /// Users of the private NATS besides the services, by name. Their keys are `keys/<name>.nk`.
    pub more_bus_users: Vec<(String, Permissions)>,
    /// Changes to how children are started.
    pub arrange: Option<Arrange>,
    /// Whether to create a tenant in an empty database.
    pub seed: bool,
    /// Whether to delete the data that is there.
    pub fresh: bool,
    /// Told what happens.
    pub report: Report,
}

impl StackConfig {
    /// Three edges on free ports with private servers, silent.
    #[must_use]
    pub fn new(data: PathBuf, bin_dir: PathBuf) -> Self {
        Self {
            data,
            bin_dir,
            edges: 3,
            workers: 1,
            first_port: None,
            prefix: "breakglass".to_owned(),
            nats: NatsSource::Private { program: None },
            database: DatabaseSource::Private,
            otlp_endpoint: None,
            log_format: "text",
            extra_flags: HashMap::new(),
            more_bus_users: Vec::new(),
            arrange: None,
            seed: true,
            fresh: false,
            report: |_| {},
        }
    }
}

/// The stack does not start.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The prefix cannot begin a subject.
    #[error("{0:?} is no subject prefix: it takes letters, digits, - and _, in parts between dots")]
    Prefix(String),
    /// A service's program is not there.
    #[error("{0} is missing; build the whole workspace first")]
    NotBuilt(PathBuf),
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// NATS.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// A file for the operator cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Postgres.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The database does not let us in.
    #[error("cannot connect to the database")]
    Connect(#[source] sqlx::Error),
    /// The schema cannot be brought up to date.
    #[error("cannot migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The first tenant.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A service does not say that it is ready.
    #[error("{name} did not get ready; the end of {log}:\n{tail}")]
    NotReady {
        /// The service.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
}

/// Whether subjects may begin with it.
pub(super) fn is_subject_prefix(prefix: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    prefix.split('.').all(|part| !part.is_empty() && part.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_one_or_more_subject_tokens() {
        for good in ["breakglass", "a.b-c", "T_1"] {
            assert!(is_subject_prefix(good), "{good:?}");
        }
        for bad in ["", ".", "a.", "a b", "*", "a.>", "\"", "ä"] {
            assert!(!is_subject_prefix(bad), "{bad:?}");
        }
    }
}
