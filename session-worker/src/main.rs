//! The `session-worker` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    shared::runtime::main::<session_worker::Config, _, _>("session-worker", session_worker::run)
}
