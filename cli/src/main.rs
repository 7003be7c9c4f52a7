//! The command line of Breakglass, for the person on call.
//!
//! A command asks one gateway over HTTP, as the contract that it serves at `/openapi.json` has it, and
//! says what came of it. Nothing is kept but who one is signed in as ([`profile`]).

#![expect(dead_code, reason = "most commands follow")]

mod api;
mod args;
mod commands;
mod environment;
mod failure;
mod harmless;
mod message;
mod profile;
mod server;
mod terminal;
mod when;

use std::process::ExitCode;

use clap::Parser as _;

use self::{args::Cli, commands::Context, environment::Environment, failure::Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.json;
    let exit = Environment::read()
        .and_then(|environment| Context::new(cli.global, environment))
        .and_then(|mut context| commands::run(&mut context, cli.command));
    exit.unwrap_or_else(|failure: Failure| failure.report(json)).into()
}
