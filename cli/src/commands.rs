//! One file for each command, or for a few that belong together.

mod audit;
mod code;
mod decide;
mod edges;
mod end;
mod evidence;
mod look;
mod mfa;
mod policy;
mod request;
mod review;
mod sessions;
mod sign_in;
mod watch;
mod whoami;

use crate::{
    args::{Cli, Command},
    context::Context,
    failure::{Exit, Failure},
};

/// Does what was asked for.
pub(crate) fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::SignIn(how) => sign_in::sign_in(context, how),
        Command::SignOut(how) => sign_in::sign_out(context, &how),
        Command::Whoami => whoami::whoami(context),
        Command::Request(what) => request::request(context, what),
        Command::Extend(what) => request::extend(context, what),
        Command::Revoke(which) => end::revoke(context, &which),
        Command::Cancel(which) => end::cancel(context, &which),
        Command::List(which) => look::list(context, &which),
        Command::Show(which) => look::show(context, &which),
        Command::Watch(how) => watch::watch(context, &how),
        Command::Approve(which) => decide::approve(context, &which),
        Command::Deny(which) => decide::deny(context, &which),
        Command::Review(what) => review::review(context, what),
        Command::Evidence(which) => evidence::evidence(context, &which),
        Command::Policy => policy::policy(context),
        Command::Sessions(what) => sessions::sessions(context, what),
        Command::Mfa(what) => mfa::mfa(context, &what),
        Command::Audit(what) => audit::audit(context, &what),
        Command::Edges => edges::edges(context),
        Command::Receipt(which) => edges::receipt(context, &which),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let mut command = <Cli as clap::CommandFactory>::command();
    clap_complete::generate(shell, &mut command, "breakglass", &mut script);
    crate::terminal::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
