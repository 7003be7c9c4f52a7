//! What the program does: start the stack, say so, and stop it when asked.

use std::{
    error::Error,
    future::Future,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    args::Args,
    credentials::Seeded,
    stack::{NatsSource, Stack, StackError},
};

/// Runs the stack until a signal asks to stop.
pub async fn run(args: Args) -> ExitCode {
    let outcome = match (bin_dir(), StopSignals::listen()) {
        (Ok(bin_dir), Ok(signals)) => run_until_stopped(args, bin_dir, signals).await,
        (Err(error), _) | (_, Err(error)) => {
            say_error(&error);
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run_until_stopped(
    args: Args,
    bin_dir: PathBuf,
    mut signals: StopSignals,
) -> Result<(), StackError> {
    let config = args.into_config(bin_dir, say);
    let operators_nats = matches!(config.nats, NatsSource::Url(_));
    let mut stack = Stack::prepare(config)?;
    say(&format!("data and logs are in {}", stack.data().display()));
    if operators_nats {
        let path = stack.data().join("nats-authorization.conf");
        say(&format!("what your NATS server has to allow is in {}", path.display()));
    }
    let up = tokio::select! {
        up = stack.bring_up() => Some(up),
        () = signals.any() => None,
    };
    let outcome = match up {
        Some(Ok(seeded)) => {
            say_credentials(&stack, seeded.as_ref());
            say(&format!("ready  {}", stack.gateway_urls().join("  ")));
            signals.any().await;
            Ok(())
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    say("stopping");
    stack.shutdown().await;
    outcome
}

fn say_credentials(stack: &Stack, seeded: Option<&Seeded>) {
    let path = stack.credentials_path();
    match seeded {
        Some(Seeded::Created(credentials)) => {
            let path = path.display();
            say(&format!("\n{}  (also in {path}, and not shown again)\n", credentials.table()));
        }
        Some(Seeded::Existing(_)) => say(&format!("passwords are in {}", path.display())),
        Some(Seeded::Unknown) | None => {}
    }
}

/// The services' programs are beside this one.
fn bin_dir() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().map(PathBuf::from).unwrap_or_default())
}

/// A reader that is gone (`up | head`) is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn say_error(error: &dyn Error) {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some errors repeat their cause.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    let _ = writeln!(io::stderr(), "error: {line}");
}

/// What asks the launcher to stop.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl StopSignals {
    fn listen() -> io::Result<Self> {
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
        })
    }

    fn any(&mut self) -> impl Future<Output = ()> {
        let Self { interrupt, terminate, hangup } = self;
        async {
            let hangup = async {
                match hangup {
                    Some(hangup) => drop(hangup.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = hangup => {}
            }
        }
    }
}

/// Whether this was started by `nohup`, which listening to the signal would undo.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is number 1 everywhere, the lowest bit.
    ignored.is_some_and(|mask| mask & 1 != 0)
}
