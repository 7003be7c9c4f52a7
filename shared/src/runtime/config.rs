//! Configuration: defaults < file < environment < flags. Unknown keys are refused in each.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, Command, Parser};

const PREFIX: &str = "BREAKGLASS_";

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
    /// A key that is there in both of its spellings, with `-` and with `_`.
    #[error("{origin}: {key} is there twice")]
    Twice {
        /// The file.
        origin: String,
        /// The key.
        key: String,
    },
    /// A value that is neither text, whole number nor truth value; nor a list of these for an
    /// option that may be given several times.
    #[error("{origin}: {key} is not a text, a whole number, true or false")]
    Value {
        /// The file.
        origin: String,
        /// The key.
        key: String,
    },
    /// The options together are refused, or ask for help.
    #[error(transparent)]
    Options(#[from] clap::Error),
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
pub fn load<C: Parser>() -> Result<C, ConfigError> {
    let args: Vec<_> = std::env::args_os().collect();
    let variables: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    let path = file_flag(&args).or_else(|| std::env::var_os("BREAKGLASS_CONFIG"));
    let path = path.map(PathBuf::from);
    let text = path.as_ref().map(|path| {
        std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })
    });
    let text = text.transpose()?;
    match from(&args, path.as_deref().zip(text.as_deref()), &variables) {
        Err(ConfigError::Options(error)) => error.exit(),
        result => result,
    }
}

/// Makes a configuration of the arguments (the program's name comes first), of a file's path and
/// text, and of the names of the variables that are set; their values are clap's to read.
pub fn from<C: Parser>(
    args: &[impl AsRef<OsStr>],
    file: Option<(&Path, &str)>,
    variables: &[OsString],
) -> Result<C, ConfigError> {
    let mut command = C::command();
    if let Some((path, text)) = file {
        command = with_file(command, path, text)?;
    }
    let command = command.arg(
        Arg::new("config")
            .long("config")
            .env("BREAKGLASS_CONFIG")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with options; environment and flags go before it"),
    );
    refuse_unknown(&command, variables)?;
    let matches = command.try_get_matches_from(args.iter().map(AsRef::as_ref))?;
    Ok(C::from_arg_matches(&matches)?)
}

/// What `--config` names, in one word or two.
fn file_flag(args: &[OsString]) -> Option<OsString> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--config" {
            return args.next().cloned();
        }
        if let Some(path) = arg.as_bytes().strip_prefix(b"--config=") {
            return Some(OsStr::from_bytes(path).to_owned());
        }
    }
    None
}

/// The options of a file become the defaults of the command. Keys are spelled as flags are;
/// `_` may stand for `-`.
fn with_file(mut command: Command, path: &Path, text: &str) -> Result<Command, ConfigError> {
    let table: toml::Table = toml::from_str(text)
        .map_err(|source| ConfigError::Toml { path: path.to_owned(), source })?;
    let origin = path.display().to_string();
    for (key, value) in &table {
        let flag = key.replace('_', "-");
        if *key != flag && table.contains_key(&flag) {
            return Err(ConfigError::Twice { origin, key: flag });
        }
        let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(&flag)) else {
            return Err(ConfigError::UnknownKey { origin, key: key.clone() });
        };
        let repeatable = matches!(arg.get_action(), ArgAction::Append);
        let Some(values) = texts(value, repeatable) else {
            return Err(ConfigError::Value { origin, key: key.clone() });
        };
        let id = arg.get_id().clone();
        command = command.mut_arg(id, |arg| {
            // What help hides of the environment, it hides of the file.
            let secret = arg.is_hide_env_values_set();
            arg.required(false).hide_default_value(secret).default_values(values)
        });
    }
    Ok(command)
}

/// A value, or each of a list, as a flag would have it.
fn texts(value: &toml::Value, repeatable: bool) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(truth) => Some(vec![truth.to_string()]),
        toml::Value::Array(values) if repeatable => {
            let texts = values.iter().map(|value| texts(value, false));
            texts.collect::<Option<Vec<_>>>().map(|texts| texts.concat())
        }
        _ => None,
    }
}

fn refuse_unknown(command: &Command, variables: &[OsString]) -> Result<(), ConfigError> {
    let known: HashSet<_> = command.get_arguments().filter_map(Arg::get_env).collect();
    let ours = variables.iter().filter(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
    match ours.map(OsString::as_os_str).find(|name| !known.contains(name)) {
        Some(name) => Err(ConfigError::UnknownKey {
            origin: "environment".to_owned(),
            key: name.to_string_lossy().into_owned(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use clap::CommandFactory as _;

    use super::*;

    #[derive(Debug, Parser)]
    struct Options {
        #[arg(long, env = "BREAKGLASS_TEST_EDGE", hide_env_values = true)]
        edge: String,
        #[arg(long, env = "BREAKGLASS_TEST_REGION", default_value = "here")]
        region: String,
        #[arg(long, default_value_t = 5)]
        lease_ms: u64,
        #[arg(long)]
        quiet: bool,
        #[arg(long = "public-origin", value_delimiter = ',')]
        public_origins: Vec<String>,
    }

    fn parse(file: &str, flags: &[&str]) -> Result<Options, ConfigError> {
        from(&[&["x"], flags].concat(), Some((Path::new("x.toml"), file)), &[])
    }

    fn parsed(file: &str, flags: &[&str]) -> Options {
        parse(&format!("edge = 'e'\n{file}"), flags).expect("parses")
    }

    #[test]
    fn a_file_goes_before_defaults_and_flags_before_the_file() {
        let options = parsed("region = 'there'\nlease-ms = 7\nquiet = true", &["--lease-ms", "9"]);
        assert_eq!((options.region.as_str(), options.lease_ms, options.quiet), ("there", 9, true));
    }

    #[test]
    fn a_file_gives_what_is_required() {
        assert!(matches!(parse("", &[]), Err(ConfigError::Options(_))));
        assert_eq!(parse("edge = 'filed'", &[]).expect("parses").edge, "filed");
        assert_eq!(parse("edge = 'filed'", &["--edge", "e"]).expect("parses").edge, "e");
    }

    #[test]
    fn keys_are_the_names_of_flags() {
        assert_eq!(parsed("public-origin = 'a'", &[]).public_origins, ["a"]);
        assert!(matches!(
            parse("public-origins = 'a'", &[]),
            Err(ConfigError::UnknownKey { key, .. }) if key == "public-origins"
        ));
        assert_eq!(parsed("lease_ms = 7", &[]).lease_ms, 7);
        let twice = parse("lease_ms = 7\nlease-ms = 8", &[]);
        assert!(matches!(twice, Err(ConfigError::Twice { key, .. }) if key == "lease-ms"));
        assert!(matches!(parse("config = 'y'", &[]), Err(ConfigError::UnknownKey { .. })));
    }

    #[test]
    fn flags_replace_the_list_of_a_file() {
        for list in ["'a,b'", "['a', 'b']"] {
            let file = format!("public-origin = {list}");
            assert_eq!(parsed(&file, &[]).public_origins, ["a", "b"]);
            let flags = ["--public-origin", "c", "--public-origin", "d"];
            assert_eq!(parsed(&file, &flags).public_origins, ["c", "d"]);
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for value in ["['a']", "{ a = 1 }", "1.5"] {
            let result = parse(&format!("region = {value}"), &[]);
            assert!(matches!(result, Err(ConfigError::Value { .. })), "{value}");
        }
        let nested = parse("public-origin = [['a']]", &[]);
        assert!(matches!(nested, Err(ConfigError::Value { .. })));
        let no_number = parse("edge = 'e'\nlease-ms = 'soon'", &[]);
        assert!(matches!(no_number, Err(ConfigError::Options(_))));
    }

    #[test]
    fn the_file_is_named_in_one_word_or_two() {
        let flag = |args: &[&str]| file_flag(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(flag(&["x", "--quiet", "--config", "f"]), Some("f".into()));
        assert_eq!(flag(&["x", "--config=f=g", "--quiet"]), Some("f=g".into()));
        assert_eq!(flag(&["x", "--config"]), None);
        assert_eq!(flag(&["x", "--configure", "f"]), None);
        assert!(parse("edge = 'e'", &["--config=x.toml"]).is_ok());
        assert!(parse("edge = 'e'", &["--config", "x.toml"]).is_ok());
    }

    #[test]
    fn unknown_variables_are_refused() {
        let variable = |name: OsString| refuse_unknown(&Options::command(), &[name]);
        assert!(variable("BREAKGLASS_TEST_REGOIN".into()).is_err());
        assert!(variable("BREAKGLASS_TEST_REGION".into()).is_ok());
        assert!(variable("HOME".into()).is_ok());
    }

    #[test]
    fn variables_need_not_be_text() {
        let variable = |name: &[u8]| {
            let name = OsString::from_vec(name.to_owned());
            refuse_unknown(&Options::command(), &[name])
        };
        assert!(variable(b"NAME_\xff").is_ok());
        assert!(variable(b"BREAKGLASS_\xff").is_err());
    }

    #[test]
    fn help_hides_the_secrets_of_a_file() {
        let help = parse("edge = 'secret'\nregion = 'there'", &["--help"]);
        let help = help.expect_err("help is no configuration").to_string();
        assert!(help.contains("there") && !help.contains("secret"), "{help}");
    }
}
