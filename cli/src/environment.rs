//! What the process finds around it, read once.

use std::{env, ffi::OsString, path::PathBuf};

use secrecy::SecretString;

use crate::failure::Failure;

/// The environment, as far as it matters and is no option: a token is never an argument, since every
/// user of a machine can read those.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// A token to use instead of the one that was signed in with.
    pub(crate) token: Option<SecretString>,
    /// Where profiles lie.
    pub(crate) config: PathBuf,
    /// No colours, whatever the terminal can do (<https://no-color.org>).
    pub(crate) no_color: bool,
    /// The kind of terminal.
    pub(crate) dumb: bool,
}

impl Environment {
    pub(crate) fn read() -> Result<Self, Failure> {
        let base = match variable("XDG_CONFIG_HOME").map(PathBuf::from) {
            // Relative ones are invalid and to be ignored (XDG Base Directory Specification).
            Some(path) if path.is_absolute() => path,
            _ => env::home_dir()
                .filter(|home| home.is_absolute())
                .ok_or_else(|| {
                    Failure::other("There is no home directory. Set HOME or XDG_CONFIG_HOME.")
                })?
                .join(".config"),
        };
        let token = variable("BREAKGLASS_TOKEN").map(|token| {
            token.into_string().map_err(|_| Failure::usage("BREAKGLASS_TOKEN is not a token."))
        });
        Ok(Self {
            token: token.transpose()?.map(|token| SecretString::from(token.trim().to_owned())),
            config: base.join("breakglass"),
            no_color: variable("NO_COLOR").is_some(),
            dumb: variable("TERM").is_some_and(|term| term == "dumb"),
        })
    }
}

/// A variable that is set to something. Read nowhere else.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
