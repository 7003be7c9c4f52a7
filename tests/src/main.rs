//! Checks that run by command, for as long as one likes.

use clap::Parser;
use tests::faults;

/// Checks on Breakglass that take longer than a test.
#[derive(Debug, Parser)]
#[command(name = "tests", version)]
enum Command {
    Faults(faults::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Faults(args) => faults::run(args).await,
    }
}
