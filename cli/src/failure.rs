//! What goes wrong, what somebody can do about it, and the exit code.

use std::{io, process::ExitCode};

use serde::Deserialize;
use serde_json::Value;

use crate::{harmless, terminal};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It is so.
    Done = 0,
    /// It was refused, or went wrong.
    Refused = 1,
    /// It was not understood. As clap has it.
    Usage = 2,
    /// There is no session.
    NotSignedIn = 3,
    /// The user may not.
    NotPermitted = 4,
    /// It is on record, but not in effect: approvals are missing, or an edge.
    NotYet = 5,
    /// No server could be asked, or it could not answer.
    Unreachable = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused.
    Refused(Box<Problem>),
    /// There is no session that could be used.
    NotSignedIn(String),
    /// Nobody answered.
    Unreachable(String),
    /// The command makes no sense.
    Usage(String),
    /// Whatever else; says what to do.
    Other(String),
    /// Nobody reads what is printed.
    Unheard(io::Error),
}

/// A problem document (RFC 9457), as far as people are concerned.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) title: String,
    pub(crate) detail: String,
    pub(crate) code: String,
    pub(crate) trace_id: Option<String>,
    #[serde(skip)]
    pub(crate) retry_after: Option<u64>,
    /// All of it, as it came.
    #[serde(skip)]
    pub(crate) body: Value,
}

impl Failure {
    pub(crate) fn other(what: impl Into<String>) -> Self {
        Self::Other(what.into())
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::Usage(what.into())
    }

    /// The code of a refusal.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Refused(problem) => problem.exit(),
            Self::NotSignedIn(_) => Exit::NotSignedIn,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Usage(_) => Exit::Usage,
            Self::Other(_) | Self::Unheard(_) => Exit::Refused,
        }
    }

    /// Says it on stderr; with `--json` the server's own document goes to stdout.
    pub(crate) fn report(&self, json: bool) -> Exit {
        match self {
            Self::Refused(problem) => {
                if json && !problem.body.is_null() {
                    let _ = terminal::print_json(&problem.body);
                }
                terminal::note(&problem.to_string());
            }
            // The reader has left, as `head` does; there is nobody to tell.
            Self::Unheard(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Self::Unheard(error) => {
                terminal::note(&format!("The output could not be written: {error}"));
            }
            Self::NotSignedIn(what)
            | Self::Unreachable(what)
            | Self::Usage(what)
            | Self::Other(what) => terminal::note(what),
        }
        self.exit()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unheard(error)
    }
}

impl Problem {
    /// What can be read of an answer that may be no problem document.
    pub(crate) fn deserialize_lenient(body: &Value) -> Self {
        Self::deserialize(body).unwrap_or_default()
    }

    fn exit(&self) -> Exit {
        match (self.code.as_str(), self.status) {
            // Wrong passwords and codes are no session that has ended.
            (_, 401) => Exit::NotSignedIn,
            (_, 403) => Exit::NotPermitted,
            (_, 500..) => Exit::Unreachable,
            _ => Exit::Refused,
        }
    }

    /// What somebody can do about it, where the server's words don't say.
    fn advice(&self) -> Option<String> {
        let again = |after: u64| format!("Try again in {}.", crate::when::duration(after));
        let advice = match self.code.as_str() {
            "unauthenticated" => "Sign in again: breakglass sign-in",
            "enrollment-required" => "Set it up here: breakglass mfa set-up",
            "fresh-mfa-required" => {
                "Give the code that your authenticator app shows now: --code 123456"
            }
            "review-overdue" => {
                "Which one: breakglass list --user me --all. Before that, where the policy allows it: \
                 --bypass-approval"
            }
            "request-changed" => "Look at it again and decide anew.",
            "edge-fenced" => "Name further servers, to be tried in turn: --server URL --server URL",
            _ => return self.retry_after.map(again),
        };
        Some(advice.to_owned())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (title, detail) = (harmless::line(&self.title), harmless::line(&self.detail));
        match (title.is_empty(), detail.is_empty()) {
            (true, true) => write!(f, "The server refused, and does not say why.")?,
            (false, true) => write!(f, "{title}.")?,
            (true, false) => write!(f, "{detail}")?,
            (false, false) => write!(f, "{title}. {detail}")?,
        }
        if let Some(advice) = self.advice() {
            write!(f, "\n{advice}")?;
        }
        let code = if self.code.is_empty() { "no code" } else { &self.code };
        write!(f, "\n({}, status {}", harmless::line(code), self.status)?;
        if let Some(trace) = &self.trace_id {
            write!(f, ", trace {}", harmless::line(trace))?;
        }
        write!(f, ")")
    }
}
