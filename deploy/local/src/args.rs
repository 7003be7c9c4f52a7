//! The launcher's options.

use std::path::PathBuf;

use clap::Parser;
use secrecy::SecretString;

use crate::stack::{DatabaseSource, NatsSource, Report, StackConfig};

/// Runs all of Breakglass on this machine, in the foreground.
///
/// A private nats-server and Postgres, the three workers and a few gateways, each of which is an
/// edge, run as processes of their own. One that dies is started again. Once all of them are ready a
/// line that begins with "ready" lists the edges' URLs. Ctrl-C stops everything.
///
/// On an empty database the tenant "acme" is created with one user of each role. Their passwords are
/// printed once and kept in DATA/credentials.json. DATA/pids.json names the processes, and DATA/log
/// has what they say.
#[derive(Debug, Parser)]
#[command(name = "breakglass-local", bin_name = "deploy/local/up", version)]
pub struct Args {
    /// Port of the first edge; the others follow it
    #[arg(long, value_name = "N", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// How many edges to run
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    edges: u16,

    /// Where to keep everything: database, keys, passwords, logs
    #[arg(long, value_name = "DIR", default_value = ".local")]
    data: PathBuf,

    /// Use this NATS server instead of a private one
    ///
    /// What it has to allow each service is written to DATA/nats-authorization.conf, to be included
    /// in its configuration.
    #[arg(long, value_name = "URL", value_parser = nats_url)]
    nats: Option<String>,

    /// Use this database instead of a private one
    ///
    /// The role in the URL has to own the database, or at least be allowed to create tables in it. A
    /// URL with a password is better given by the environment than here, where every user of the
    /// machine can read it.
    #[arg(long, value_name = "URL", env = "BREAKGLASS_DATABASE_URL", hide_env_values = true)]
    database: Option<SecretString>,

    /// Delete the data first: the private database, keys, passwords and logs
    #[arg(long, conflicts_with = "database")]
    fresh: bool,

    /// Prefix of all NATS subjects
    #[arg(long, value_name = "PREFIX", default_value = "breakglass")]
    subject_prefix: String,

    /// Send traces to this OpenTelemetry collector (OTLP over HTTP)
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,

    /// The nats-server to run, instead of the installed one
    #[arg(long, value_name = "PATH", env = "NATS_SERVER")]
    nats_server: Option<PathBuf>,
}

impl Args {
    /// What to run, with the services' programs from a directory.
    #[must_use]
    pub fn into_config(self, bin_dir: PathBuf, report: Report) -> StackConfig {
        let set = |text: &String| !text.is_empty();
        let program = self.nats_server.filter(|path| !path.as_os_str().is_empty());
        StackConfig {
            edges: self.edges,
            first_port: Some(self.port),
            prefix: self.subject_prefix,
            nats: self.nats.map_or(NatsSource::Private { program }, NatsSource::Url),
            database: self.database.map_or(DatabaseSource::Private, DatabaseSource::Url),
            otlp_endpoint: self.otlp_endpoint.filter(set),
            fresh: self.fresh,
            report,
            ..StackConfig::new(self.data, bin_dir)
        }
    }
}

/// Services sign in with their keys, and arguments are readable by everybody on the machine.
fn nats_url(text: &str) -> Result<String, String> {
    let url: async_nats::ServerAddr = text.parse().map_err(|error| format!("{error}"))?;
    if url.has_user_pass() {
        return Err("services sign in with their own keys; leave out user and password".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_do_not_contradict_one_another() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_nats_url_holds_no_password() {
        assert!(nats_url("nats://127.0.0.1:4222").is_ok());
        assert!(nats_url("nats://user:password@127.0.0.1:4222").is_err());
    }
}
