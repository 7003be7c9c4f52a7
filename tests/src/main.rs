//! Checks and benchmarks that run by command, for as long as one likes.

mod bench;

use clap::Parser;
use tests::faults;

/// Checks on Breakglass that take longer than a test, and benchmarks.
#[derive(Debug, Parser)]
#[command(name = "tests", version)]
enum Command {
    Faults(faults::Args),
    /// Measures, side by side in one run.
    #[command(subcommand)]
    Bench(bench::Command),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Faults(args) => faults::run(args).await,
        Command::Bench(command) => bench::run(command).await,
    }
}
