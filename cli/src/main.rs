//! The command line of Breakglass, for the person on call.
//!
//! A command asks one gateway over HTTP, as the contract that it serves at `/openapi.json` has it, and
//! says what came of it. Nothing is kept but who one is signed in as ([`profile`]).

mod api;
mod args;
mod commands;
mod context;
mod environment;
mod failure;
mod grant;
mod harmless;
mod message;
mod pick;
mod profile;
mod receipt;
mod server;
mod table;
mod terminal;
mod when;

use std::process::ExitCode;

use clap::Parser as _;

use self::{args::Cli, context::Context, environment::Environment, failure::Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.json;
    let exit = Environment::read()
        .and_then(|environment| Context::new(cli.global, environment))
        .and_then(|context| commands::run(&context, cli.command));
    exit.unwrap_or_else(|failure: Failure| failure.report(json)).into()
}
