//! The `session-worker` binary: the service, and with `operator` as its first word the operator's
//! command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "operator") {
        return session_worker::operator::command::main(words);
    }
    shared::runtime::main::<session_worker::Config, _, _>("session-worker", session_worker::run)
}
