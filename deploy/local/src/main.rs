//! `breakglass-local`: everything on one machine, in the foreground.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    local::launcher::run(local::args::Args::parse()).await
}
