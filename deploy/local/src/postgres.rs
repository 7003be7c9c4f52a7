//! A private Postgres: reached through a socket that no other user of the machine can open, and as
//! durable as one in production.

mod install;
mod place;
mod stale;

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{sleep, timeout};

use crate::{
    data,
    process::{Launch, Orphaned, Process, ProcessError, Signal, User},
};

pub use place::{remove, unprivileged_user};

/// The role that services sign in as, and the name of their database.
const NAME: &str = "breakglass";

/// What the role for administration is called. Only the launcher uses it.
const SUPERUSER: &str = "postgres";

/// Recovery after a crash may take its time.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// There is no Postgres to use.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Not installed, or too old.
    #[error("PostgreSQL {} or later is missing; install it (package postgresql)", install::OLDEST)]
    Missing,
    /// The data was made by a version that is no longer installed.
    #[error(
        "the data in {data} needs PostgreSQL {version}; install that, or let --fresh delete the data"
    )]
    OtherVersion {
        /// Where the data is.
        data: PathBuf,
        /// The version that made it.
        version: u32,
    },
    /// A file or directory cannot be used.
    #[error("cannot use {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Postgres refuses to run as root.
    #[error("running as root needs a user named postgres or nobody to run Postgres as")]
    NoUser,
    /// A program does not start.
    #[error("Postgres does not start")]
    Process(#[from] ProcessError),
    /// The cluster cannot be made.
    #[error("initdb failed; the end of {log}:\n{tail}")]
    Initdb {
        /// The log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// Postgres does not answer.
    #[error("Postgres did not get ready; the end of {log}:\n{tail}")]
    NotReady {
        /// The log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
        /// What connecting said at last.
        source: sqlx::Error,
    },
    /// The role or the database cannot be made.
    #[error("cannot create the database {NAME}")]
    Create(#[source] sqlx::Error),
}

/// A cluster on disk, and how to run it.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    user: Option<User>,
    home: PathBuf,
    sockets: place::Sockets,
    log: PathBuf,
    earlier_log: usize,
    password: SecretString,
    superuser_password: SecretString,
}

impl Cluster {
    /// Makes the cluster at a place if there is none yet.
    ///
    /// The place becomes a directory or, where the user that Postgres runs as could not reach it,
    /// a link to one under `/var/lib`.
    pub async fn prepare(place: &Path, log: PathBuf) -> Result<Self, PostgresError> {
        let (home, user) = place::home(place)?;
        let cluster_data = home.join("data");
        let bin = install::bin_dir(&cluster_data)?;
        let password = place::password(&home.join("password"), user)?;
        let superuser_password = place::password(&home.join("superuser-password"), user)?;
        let sockets = place::Sockets::below(&home, user)?;
        let earlier_log = data::log_length(&log);
        let cluster =
            Self { bin, user, home, sockets, log, earlier_log, password, superuser_password };
        if !cluster_data.exists() {
            cluster.initialise().await?;
        }
        Ok(cluster)
    }

    /// How to start it.
    #[must_use]
    pub fn launch(&self) -> Launch {
        let data = self.data().into_os_string();
        let mut sockets = OsString::from("unix_socket_directories=");
        sockets.push(self.sockets.path());
        let mut args: Vec<OsString> = vec!["-D".into(), data, "-c".into(), sockets];
        for setting in SETTINGS {
            args.extend(["-c".into(), setting.into()]);
        }
        Launch { args, orphaned: Orphaned::Quit, stop: Signal::INT, ..self.program("postgres") }
    }

    /// Gets what an earlier life left behind out of the way of the next start.
    pub fn clear_stale(&self) {
        stale::clear(&self.data());
    }

    /// Waits until it answers, and makes the role and the database if they are missing.
    pub async fn wait_until_ready(&self) -> Result<(), PostgresError> {
        let mut connection = self.connect().await?;
        let create = async {
            let exists = sqlx::query("SELECT FROM pg_roles WHERE rolname = $1").bind(NAME);
            if exists.fetch_optional(&mut connection).await?.is_none() {
                // The password is letters and digits.
                let password = self.password.expose_secret();
                let sql = format!("CREATE ROLE {NAME} LOGIN CREATEDB PASSWORD '{password}'");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            }
            let exists = sqlx::query("SELECT FROM pg_database WHERE datname = $1").bind(NAME);
            if exists.fetch_optional(&mut connection).await?.is_none() {
                let sql = format!("CREATE DATABASE {NAME} OWNER {NAME}");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            }
            connection.close().await
        };
        create.await.map_err(PostgresError::Create)
    }

    /// The address of one of its databases, for the role that owns them.
    #[must_use]
    pub fn url(&self, database: &str) -> SecretString {
        url(NAME, &self.password, database, self.sockets.path()).into()
    }

    /// The address for administration.
    #[must_use]
    pub fn superuser_url(&self) -> SecretString {
        url(SUPERUSER, &self.superuser_password, "postgres", self.sockets.path()).into()
    }

    /// Where one of Postgres' own programs is.
    #[must_use]
    pub fn program_path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    async fn connect(&self) -> Result<PgConnection, PostgresError> {
        let url = self.superuser_url();
        let mut last = None;
        let attempts = async {
            loop {
                match PgConnection::connect(url.expose_secret()).await {
                    Ok(connection) => return connection,
                    Err(error) => last = Some(error),
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        match timeout(START_DEADLINE, attempts).await {
            Ok(connection) => Ok(connection),
            Err(_) => Err(PostgresError::NotReady {
                log: self.log.clone(),
                tail: data::last_lines(&self.log, self.earlier_log, 10),
                source: last.unwrap_or(sqlx::Error::PoolTimedOut),
            }),
        }
    }

    /// Runs initdb beside the place and moves the result to it: a cluster in place is a whole one.
    async fn initialise(&self) -> Result<(), PostgresError> {
        let unfinished = self.home.join("data.unfinished");
        let io = |source| PostgresError::Io { path: unfinished.clone(), source };
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(io)?;
        }
        let password = self.home.join("superuser-password");
        let mut create: Vec<OsString> = ["--no-sync", "--encoding=UTF8", "--auth=scram-sha-256"]
            .into_iter()
            .map(OsString::from)
            .collect();
        create.extend([
            format!("--locale={LOCALE}").into(),
            format!("--username={SUPERUSER}").into(),
        ]);
        create.extend(["--pwfile".into(), password.into(), "-D".into(), unfinished.clone().into()]);
        // In one go at the end this takes a fraction of syncing file by file.
        let sync: Vec<OsString> =
            vec!["--sync-only".into(), "-D".into(), unfinished.clone().into()];
        for args in [create, sync] {
            let initdb = Process::start(&Launch { args, ..self.program("initdb") })?;
            if !initdb.exited().await.success() {
                let tail = data::last_lines(&self.log, self.earlier_log, 10);
                return Err(PostgresError::Initdb { log: self.log.clone(), tail });
            }
        }
        fs::rename(&unfinished, self.data()).map_err(io)
    }

    fn program(&self, name: &str) -> Launch {
        Launch {
            program: self.bin.join(name),
            args: Vec::new(),
            env: Vec::new(),
            log: self.log.clone(),
            dir: self.home.clone(),
            user: self.user,
            leash: false,
            orphaned: Orphaned::Kill,
            stop: Signal::TERM,
            grace: Duration::from_secs(10),
        }
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }
}

/// Macs have no `C.UTF-8`.
const LOCALE: &str = if cfg!(target_os = "macos") { "C" } else { "C.UTF-8" };

const SETTINGS: [&str; 8] = [
    "listen_addresses=",
    "port=5432",
    "unix_socket_permissions=0700",
    "fsync=on",
    "synchronous_commit=on",
    "max_connections=200",
    "timezone=UTC",
    "log_timezone=UTC",
];

/// A Postgres alone, without supervision, for tests: one cluster serves many databases.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    cluster: Cluster,
}

impl Postgres {
    /// Starts the cluster in `<dir>/postgres`, which is made if missing, and waits until it answers.
    pub async fn start(dir: &Path) -> Result<Self, PostgresError> {
        let cluster = Cluster::prepare(&dir.join("postgres"), dir.join("postgres.log")).await?;
        loop {
            cluster.clear_stale();
            let process = Process::start(&cluster.launch())?;
            tokio::select! {
                ready = cluster.wait_until_ready() => {
                    ready?;
                    return Ok(Self { process, cluster });
                }
                // Processes of an earlier life need a moment to go.
                _ = process.exited() => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The server's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn url(role: &str, password: &SecretString, database: &str, sockets: &Path) -> String {
    let password = password.expose_secret();
    let host = percent_encoded(sockets);
    format!("postgres://{role}:{password}@localhost/{database}?host={host}")
}

fn percent_encoded(path: &Path) -> String {
    let encode = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    path.as_os_str().as_encoded_bytes().iter().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_directory_fits_into_the_address() {
        let url = url("breakglass", &"pw".to_owned().into(), "db", Path::new("/a b/ü?&#+"));
        assert_eq!(url, "postgres://breakglass:pw@localhost/db?host=/a%20b/%C3%BC%3F%26%23%2B");
        let options: sqlx::postgres::PgConnectOptions = url.parse().expect("an address");
        assert_eq!(options.get_socket().map(PathBuf::as_path), Some(Path::new("/a b/ü?&#+")));
    }
}
