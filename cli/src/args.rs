//! The commands and their options.

use std::path::PathBuf;

use chain::{PublicKey, SignedHead};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{pick::Id, profile, server::Server, when};

/// Emergency access from a terminal.
#[derive(Debug, Parser)]
#[command(name = "breakglass", version, after_help = AFTER, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
In an emergency:
  breakglass sign-in --server https://breakglass.example
  breakglass request --reason \"Checkout is down, rolling back the release\" --for 30m
  breakglass revoke

Exit codes:
  0  done
  1  refused, or something went wrong
  2  the command was not understood
  3  not signed in, or the session has ended
  4  not permitted
  5  on record, but not in effect yet: approvals are missing, or an edge has not confirmed
  6  no server reached, or it could not answer (a change may have happened: look before trying again)

Files and environment:
  ~/.config/breakglass/ (or $XDG_CONFIG_HOME/breakglass/) holds who you are signed in as, for you alone.
  BREAKGLASS_TOKEN with BREAKGLASS_SERVER is used instead of that, for scripts.
  SSL_CERT_FILE names who may vouch for servers, where this system knows them not.";

/// Options of all commands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Gateway to ask; several are tried in turn. By default the one that you signed in at
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "BREAKGLASS_SERVER",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) server: Vec<Server>,
    /// Which sign-in to use, where you have several
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "BREAKGLASS_PROFILE",
        hide_env_values = true,
        default_value = "default",
        value_parser = profile::name
    )]
    pub(crate) profile: String,
    /// Print the server's answer as JSON, and nothing else, on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Send password and token unencrypted to another machine
    #[arg(long, global = true)]
    pub(crate) allow_http: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign in with password and, where you have one, code
    #[command(visible_alias = "login")]
    SignIn(SignIn),
    /// End this session, on every edge
    #[command(visible_alias = "logout")]
    SignOut(SignOut),
    /// Who you are, what you may do, and how long you are elevated
    #[command(visible_alias = "me")]
    Whoami,
    /// Ask for emergency access
    #[command(visible_alias = "elevate")]
    Request(Request),
    /// Ask for more time
    Extend(Extend),
    /// End a grant now, on every edge; without an id your own
    Revoke(Ending),
    /// Withdraw a request that is pending; without an id your own
    Cancel(Cancelled),
    /// Grants that are active and requests that are pending
    #[command(visible_alias = "ls")]
    List(List),
    /// All that is known of a grant
    Show(Which),
    /// See what is active and pending, as it changes
    Watch(Watch),
    /// Approve a request, after looking at it
    Approve(Decision),
    /// Deny a request
    Deny(Decision),
    /// Say whether a grant was used as it should be
    Review(Review),
    /// The whole story of a grant: who, why, and what was done by it
    Evidence(Which),
    /// What is allowed in an emergency
    Policy,
    /// Where you are signed in
    Sessions(Sessions),
    /// Two-factor sign-in
    Mfa(Mfa),
    /// The audit record
    Audit(Audit),
    /// How the edges stand
    Edges,
    /// Who enforces a change
    Receipt(Receipt),
    /// A script that completes commands in a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// How to sign in. What is missing is asked for.
#[derive(Debug, Args)]
pub(crate) struct SignIn {
    /// Your organisation's short name, the tenant
    #[arg(long, short)]
    pub(crate) tenant: Option<String>,
    /// Your address
    #[arg(long, short)]
    pub(crate) email: Option<String>,
    /// Read the password from the first line of stdin
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The six digits that your authenticator app shows, or a backup code
    #[arg(long)]
    pub(crate) code: Option<String>,
}

/// How to sign out.
#[derive(Debug, Args)]
pub(crate) struct SignOut {
    /// Forget the token even if no server can be told; the session then lives on until it ends by itself
    #[arg(long)]
    pub(crate) forget: bool,
}

/// Why, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// What is broken, and what you are going to do
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// How long: 90s, 30m, 1h30m. By default as the policy says
    #[arg(long = "for", short = 'f', value_name = "DURATION", value_parser = when::parse_duration)]
    pub(crate) duration: Option<u32>,
    /// To which role. By default the policy's
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// The incident's ticket
    #[arg(long, short)]
    pub(crate) ticket: Option<String>,
    /// A fresh code, where the policy wants one; asked for otherwise
    #[arg(long)]
    pub(crate) code: Option<String>,
    /// Go ahead without approvals, where the policy allows it; approvers are told
    #[arg(long)]
    pub(crate) bypass_approval: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// Whether to wait for approvals.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Wait until it is decided, at most so long
    #[arg(
        long,
        short,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "24h",
        value_parser = when::parse_duration
    )]
    pub(crate) wait: Option<u32>,
}

/// For how long more.
#[derive(Debug, Args)]
pub(crate) struct Extend {
    /// The end of its id. By default your only active grant
    pub(crate) id: Option<Id>,
    /// Why it takes longer
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// How long from now: 90s, 30m, 1h30m
    #[arg(long = "for", short = 'f', value_name = "DURATION", value_parser = when::parse_duration)]
    pub(crate) duration: u32,
    /// A fresh code, where the policy wants one; asked for otherwise
    #[arg(long)]
    pub(crate) code: Option<String>,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// Which grant, and why it ends.
#[derive(Debug, Args)]
pub(crate) struct Ending {
    /// The end of its id. By default your only active grant
    pub(crate) id: Option<Id>,
    /// For the record
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
}

/// Which request.
#[derive(Debug, Args)]
pub(crate) struct Cancelled {
    /// The end of its id. By default your only pending request
    pub(crate) id: Option<Id>,
}

/// Which grant.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The end of its id
    pub(crate) id: Id,
}

/// Which grants.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Past ones too
    #[arg(long, short, conflicts_with = "state")]
    pub(crate) all: bool,
    /// Only those in this state
    #[arg(long, short, value_enum)]
    pub(crate) state: Option<State>,
    /// Only those of a user: “me”, an address or an id
    #[arg(long, short)]
    pub(crate) user: Option<String>,
    /// At most so many, newest first
    #[arg(long, short = 'n', default_value = "50", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,
}

/// Where a grant stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum State {
    Pending,
    Active,
    Denied,
    Cancelled,
    Revoked,
    Expired,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// How to watch.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Ring the bell for each new request
    #[arg(long)]
    pub(crate) bell: bool,
}

/// Which request, and what to say.
#[derive(Debug, Args)]
pub(crate) struct Decision {
    /// The end of its id. By default the only request that is pending
    pub(crate) id: Option<Id>,
    /// For the record, and for who asked
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// What was found.
#[derive(Debug, Args)]
pub(crate) struct Review {
    /// The end of its id
    pub(crate) id: Id,
    /// Whether it was used as it should be
    #[arg(long, short, value_enum)]
    pub(crate) outcome: Option<Outcome>,
    /// What you found
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

/// How a review ends.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Outcome {
    Justified,
    Misuse,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Justified => "justified",
            Self::Misuse => "misuse",
        }
    }
}

/// Without a command: lists them.
#[derive(Debug, Args)]
pub(crate) struct Sessions {
    /// Another user's, by address or id, where you may
    #[arg(long, short)]
    pub(crate) user: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<SessionsCommand>,
}

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// End sessions now, on every edge
    Revoke(RevokeSessions),
}

/// Which sessions.
#[derive(Debug, Args)]
#[group(required = true)]
pub(crate) struct RevokeSessions {
    /// The end of a session's id
    pub(crate) id: Option<Id>,
    /// All but this one
    #[arg(long, conflicts_with = "id")]
    pub(crate) others: bool,
    /// All of the user that --user names
    #[arg(long, conflicts_with_all = ["id", "others"])]
    pub(crate) all: bool,
}

/// Two-factor sign-in.
#[derive(Debug, Args)]
pub(crate) struct Mfa {
    #[command(subcommand)]
    pub(crate) command: MfaCommand,
}

/// What to do about the second factor.
#[derive(Debug, Subcommand)]
pub(crate) enum MfaCommand {
    /// Set up an authenticator app, or move to another one
    SetUp,
}

/// What to do with the audit record.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

/// What to do with the audit record.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Whether an export of the record is what was written; asks no server
    Verify(Verify),
}

/// Which file, and by what it is verified.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The file, as `GET /v1/audit/export` gave it
    pub(crate) export: PathBuf,
    /// A public key that may have signed it, from whoever runs the server; several after a change of keys
    #[arg(long, value_name = "KEY", required = true)]
    pub(crate) public_key: Vec<PublicKey>,
    /// A head that was kept elsewhere, from the server's log, its events or `GET /v1/audit/head`: shows whether the
    /// end was cut off
    #[arg(long, value_name = "JSON", value_parser = |text: &str| serde_json::from_str::<SignedHead>(text))]
    pub(crate) head: Vec<SignedHead>,
}

/// Which change.
#[derive(Debug, Args)]
pub(crate) struct Receipt {
    /// Its number
    pub(crate) revision: u64,
}
