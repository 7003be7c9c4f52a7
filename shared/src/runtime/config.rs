//! Configuration: defaults < file < environment < flags. Unknown keys are refused in each.

use std::{
    collections::HashSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use clap::{Arg, Command, Parser};

const PREFIX: &str = "BREAKGLASS_";
/// Variables with the prefix that are not options: set by whoever starts services.
const NOT_OPTIONS: [&str; 1] = ["BREAKGLASS_LOG"];

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The configuration file is not TOML, or not a flat table.
    #[error("{path} is not a table of options in TOML")]
    Toml {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: toml::de::Error,
    },
    /// A key that names no option.
    #[error("{origin}: there is no option {key}")]
    UnknownKey {
        /// The file, or the environment.
        origin: String,
        /// The key.
        key: String,
    },
    /// A value that is neither text, number nor truth value.
    #[error("{origin}: {key} is not a text, a number, true or false")]
    Value {
        /// The file.
        origin: String,
        /// The key.
        key: String,
    },
    /// The address of the NATS server cannot be used.
    #[error("the NATS server {url} cannot be used")]
    NatsUrl {
        /// The address.
        url: String,
        /// Why not.
        #[source]
        error: async_nats::ConnectError,
    },
    /// The subject prefix makes no valid subjects.
    #[error("subject prefix {prefix:?}: use letters, digits, - and _ alone")]
    Subject {
        /// The prefix.
        prefix: String,
    },
}

/// Reads the configuration of this process. Prints help or a wrong flag and exits, as clap does.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub fn load<C: Parser>() -> Result<C, ConfigError> {
    let environment: Vec<_> = std::env::vars().map(|(key, _)| key).collect();
    let file = std::env::args_os().skip_while(|arg| arg != "--config").nth(1);
    let file = file.or_else(|| std::env::var("BREAKGLASS_CONFIG").ok().map(OsString::from));
    let mut command = C::command().arg(
        Arg::new("config")
            .long("config")
            .env("BREAKGLASS_CONFIG")
            .help("TOML file with options; environment and flags go before it"),
    );
    if let Some(path) = file.map(PathBuf::from) {
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        command = with_file(command, &path, &text)?;
    }
    refuse_unknown(&command, &environment)?;
    let matches = command.get_matches();
    C::from_arg_matches(&matches).map_err(|error| error.exit())
}

/// The options of a file become the defaults of the command.
fn with_file(command: Command, path: &Path, text: &str) -> Result<Command, ConfigError> {
    let table: toml::Table = toml::from_str(text)
        .map_err(|source| ConfigError::Toml { path: path.to_owned(), source })?;
    let origin = path.display().to_string();
    table.into_iter().try_fold(command, |command, (key, value)| {
        let id = key.replace('-', "_");
        if !command.get_arguments().any(|arg| arg.get_id() == id.as_str()) {
            return Err(ConfigError::UnknownKey { origin: origin.clone(), key });
        }
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            _ => return Err(ConfigError::Value { origin: origin.clone(), key }),
        };
        Ok(command.mut_arg(id, |arg| arg.default_value(text)))
    })
}

fn refuse_unknown(command: &Command, environment: &[String]) -> Result<(), ConfigError> {
    let known: HashSet<_> = command
        .get_arguments()
        .filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned))
        .collect();
    let unknown = environment
        .iter()
        .filter(|key| key.starts_with(PREFIX) && !NOT_OPTIONS.contains(&key.as_str()))
        .find(|key| !known.contains(*key));
    match unknown {
        Some(key) => {
            Err(ConfigError::UnknownKey { origin: "environment".to_owned(), key: key.clone() })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;

    #[derive(Debug, Parser)]
    struct Options {
        #[arg(long, env = "BREAKGLASS_TEST_REGION", default_value = "here")]
        region: String,
        #[arg(long, default_value_t = 5)]
        lease_ms: u64,
        #[arg(long)]
        quiet: bool,
    }

    fn parse(file: &str, flags: &[&str]) -> Result<Options, ConfigError> {
        let command = with_file(Options::command(), Path::new("x.toml"), file)?;
        let matches = command.get_matches_from([&["x"], flags].concat());
        Ok(Options::from_arg_matches(&matches).expect("valid"))
    }

    #[test]
    fn a_file_goes_before_defaults_and_flags_before_the_file() {
        let options = parse("region = 'there'\nlease-ms = 7\nquiet = true", &["--lease-ms", "9"]);
        let options = options.expect("parses");
        assert_eq!((options.region.as_str(), options.lease_ms, options.quiet), ("there", 9, true));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(parse("regoin = 'there'", &[]).is_err());
        assert!(parse("region = ['a']", &[]).is_err());
        let environment = |key: &str| refuse_unknown(&Options::command(), &[key.to_owned()]);
        assert!(environment("BREAKGLASS_TEST_REGOIN").is_err());
        assert!(environment("BREAKGLASS_TEST_REGION").is_ok());
        assert!(environment("HOME").is_ok());
    }
}
