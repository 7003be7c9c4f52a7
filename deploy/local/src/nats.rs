//! A private nats-server in which every service has a key and the subjects it needs, no more.

use std::{
    fmt::Write,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use shared::subject::Permissions;
use tokio::time::{sleep, timeout};

use crate::{
    data, environment,
    keys::{self, Key, KeyError},
    ports::{self, PortError},
    process::{Launch, Orphaned, Process, ProcessError, Signal},
};

/// The largest message that the server takes.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// The stream of events lies in files, and takes a quarter of this.
const FILE_STORE: u64 = 1 << 30;
/// Nothing lies in memory.
const MEMORY_STORE: u64 = 1 << 20;

const START_DEADLINE: Duration = Duration::from_secs(30);

/// There is no NATS to use.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// Not installed.
    #[error("nats-server is missing; install it or point NATS_SERVER to one")]
    Missing,
    /// What was named instead of the installed one is none.
    #[error("{0} is no program; NATS_SERVER has to name a nats-server")]
    NoProgram(PathBuf),
    /// No port to listen on.
    #[error("nats-server has no port")]
    Port(#[from] PortError),
    /// A key cannot be had.
    #[error("a service has no key for NATS")]
    Key(#[from] KeyError),
    /// The configuration cannot be written.
    #[error("cannot write {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server does not start.
    #[error("nats-server does not start")]
    Process(#[from] ProcessError),
    /// Nobody answers.
    #[error("cannot connect to NATS at {url}")]
    Connect {
        /// Where.
        url: String,
        /// Why.
        source: async_nats::ConnectError,
    },
    /// The key cannot be read.
    #[error("cannot read {path}")]
    Seed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who may sign in, and what it may do then.
#[derive(Debug, Clone)]
pub struct BusUser {
    /// The name, for people.
    pub name: String,
    /// The public key.
    pub nkey: String,
    /// What it may do.
    pub permissions: Permissions,
}

/// A server's configuration on disk, and how to run it.
#[derive(Debug, Clone)]
pub struct Server {
    program: PathBuf,
    port: u16,
    config: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Chooses a port and writes `nats.conf` into a directory. The port stays the same from then on.
    ///
    /// `program` is another nats-server than the installed one.
    pub fn configure(
        dir: &Path,
        log: PathBuf,
        program: Option<PathBuf>,
        users: &[BusUser],
    ) -> Result<Self, NatsError> {
        let program = match program {
            Some(program) if environment::is_program(&program) => program,
            Some(other) => return Err(NatsError::NoProgram(other)),
            None => environment::find_program("nats-server").ok_or(NatsError::Missing)?,
        };
        let port = ports::free()?;
        let config = dir.join("nats.conf");
        data::write_private(&config, config_text(port, &dir.join("jetstream"), users).as_bytes())
            .map_err(|source| NatsError::Config { path: config.clone(), source })?;
        Ok(Self { program, port, config, log })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// How to start it.
    #[must_use]
    pub fn launch(&self) -> Launch {
        Launch {
            program: self.program.clone(),
            args: vec!["--config".into(), self.config.clone().into()],
            env: Vec::new(),
            log: self.log.clone(),
            dir: "/".into(),
            user: None,
            leash: false,
            orphaned: Orphaned::Kill,
            stop: Signal::TERM,
            grace: Duration::from_secs(3),
        }
    }
}

/// A nats-server alone, without supervision, for tests.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    url: String,
}

impl Nats {
    /// Starts one with its files in a directory, and waits until it answers.
    ///
    /// Every user's key is made in `<dir>/keys/<name>.nk`.
    pub async fn start(
        dir: &Path,
        program: Option<PathBuf>,
        users: &[(String, Permissions)],
    ) -> Result<Self, NatsError> {
        let dir = &std::path::absolute(dir)
            .map_err(|source| NatsError::Config { path: dir.to_owned(), source })?;
        let mut first_key = None;
        let mut bus_users = Vec::new();
        for (name, permissions) in users {
            let key = keys::load_or_create(&dir.join("keys"), name)?;
            let user = BusUser {
                name: name.clone(),
                nkey: key.public.clone(),
                permissions: permissions.clone(),
            };
            bus_users.push(user);
            first_key.get_or_insert(key);
        }
        let server = Server::configure(dir, dir.join("nats.log"), program, &bus_users)?;
        let process = Process::start(&server.launch())?;
        if let Some(key) = first_key {
            wait_until_answering(&server.url(), &key).await?;
        }
        Ok(Self { process, url: server.url() })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Waits until the server lets a key in, for as long as a server may take to start.
pub(crate) async fn wait_until_answering(url: &str, key: &Key) -> Result<(), NatsError> {
    let mut last = None;
    let attempts = async {
        loop {
            match connect(url, key).await {
                Err(NatsError::Connect { url, source }) => {
                    last = Some(NatsError::Connect { url, source });
                }
                other => return other,
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    match timeout(START_DEADLINE, attempts).await {
        Ok(connected) => connected,
        Err(_) => Err(last.expect("an attempt ends before the deadline")),
    }
}

/// Connects with a key and closes the connection.
pub(crate) async fn connect(url: &str, key: &Key) -> Result<(), NatsError> {
    let seed = std::fs::read_to_string(&key.path)
        .map_err(|source| NatsError::Seed { path: key.path.clone(), source })?;
    async_nats::ConnectOptions::with_nkey(seed.trim().to_owned())
        .connection_timeout(Duration::from_secs(5))
        .connect(url)
        .await
        .map(drop)
        .map_err(|source| NatsError::Connect { url: url.to_owned(), source })
}

/// The configuration of a private server.
#[must_use]
pub fn config_text(port: u16, store: &Path, users: &[BusUser]) -> String {
    // A quoted text, as JSON has it.
    let store = store.to_string_lossy();
    format!(
        "# Written anew at every start.\n\
         listen: \"127.0.0.1:{port}\"\n\
         max_payload: {MAX_PAYLOAD}\n\
         # A peer that is gone is noticed within six seconds.\n\
         ping_interval: \"2s\"\n\
         ping_max: 2\n\
         jetstream {{\n  store_dir: {store:?}\n  max_memory_store: {MEMORY_STORE}\n  max_file_store: {FILE_STORE}\n}}\n\
         {}",
        authorization_text(users)
    )
}

/// The part that says who may do what, fit for any server's configuration.
#[must_use]
pub fn authorization_text(users: &[BusUser]) -> String {
    let mut text = String::from("authorization {\n  users = [\n");
    for BusUser { name, nkey, permissions } in users {
        let responses =
            if permissions.allow_responses { "\n        allow_responses: true" } else { "" };
        let _ = writeln!(
            text,
            "    # {name}\n    {{\n      nkey: {nkey}\n      permissions: {{\n        \
             publish: {{ {} }}\n        subscribe: {{ {} }}{responses}\n      }}\n    }}",
            subjects(&permissions.publish),
            subjects(&permissions.subscribe),
        );
    }
    text.push_str("  ]\n}\n");
    text
}

fn subjects(allowed: &[String]) -> String {
    if allowed.is_empty() {
        // An empty list of what is allowed would allow everything.
        return "deny: [\">\"]".to_owned();
    }
    let quoted: Vec<_> = allowed.iter().map(|subject| format!("{subject:?}")).collect();
    format!("allow: [{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_each_user_with_its_subjects() {
        let permissions = Permissions {
            publish: vec!["p.v1.edge.list".into(), "p.v1.edge.ack.gateway-1".into()],
            subscribe: Vec::new(),
            allow_responses: true,
        };
        let user = BusUser { name: "gateway-1".into(), nkey: "UABC".into(), permissions };
        let text = config_text(4333, Path::new("/data/jetstream"), &[user]);
        let expected = r#"# Written anew at every start.
listen: "127.0.0.1:4333"
max_payload: 262144
# A peer that is gone is noticed within six seconds.
ping_interval: "2s"
ping_max: 2
jetstream {
  store_dir: "/data/jetstream"
  max_memory_store: 1048576
  max_file_store: 1073741824
}
authorization {
  users = [
    # gateway-1
    {
      nkey: UABC
      permissions: {
        publish: { allow: ["p.v1.edge.list", "p.v1.edge.ack.gateway-1"] }
        subscribe: { deny: [">"] }
        allow_responses: true
      }
    }
  ]
}
"#;
        assert_eq!(text, expected);
    }
}
