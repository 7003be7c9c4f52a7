//! The commands and their options.

use clap::{Args, Parser, Subcommand};

use crate::{failure::EXIT_CODES, profile, server::Server};

/// Emergency access from a terminal.
#[derive(Debug, Parser)]
#[command(name = "breakglass", version, after_help = EXIT_CODES, max_term_width = 100)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Gateway to ask; several are tried in turn. By default the one that you signed in at
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "BREAKGLASS_SERVER",
        value_delimiter = ',',
        help_heading = "Global options"
    )]
    pub(crate) server: Vec<Server>,
    /// Which sign-in to use, where you have several
    #[arg(
        long, global = true, value_name = "NAME", env = "BREAKGLASS_PROFILE", default_value = "default",
        value_parser = profile::name, help_heading = "Global options"
    )]
    pub(crate) profile: String,
    /// Print the server's answer as JSON, and nothing else, on stdout
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Send password and token unencrypted to another machine
    #[arg(long, global = true, help_heading = "Global options")]
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
}

/// How to sign in. What is missing is asked for.
#[derive(Debug, Args)]
pub(crate) struct SignIn {
    /// Your organisation's short name
    #[arg(long, short)]
    pub(crate) tenant: Option<String>,
    /// Your address
    #[arg(long, short)]
    pub(crate) email: Option<String>,
    /// Read the password from the first line of stdin
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The six digits of your authenticator app, or a backup code
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
