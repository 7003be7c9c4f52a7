//! The `gateway` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    shared::runtime::main::<gateway::Config, _, _>("gateway", gateway::run)
}
