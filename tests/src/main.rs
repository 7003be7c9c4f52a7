//! Checks and benchmarks that run by command, for as long as one likes.

mod bench;

use clap::Parser;
use tests::{faults, model};

/// Checks on Breakglass that take longer than a test, and benchmarks.
#[derive(Debug, Parser)]
#[command(name = "tests", version)]
enum Command {
    Faults(faults::Args),
    /// Looks for a way to break the promise, in every state of small worlds.
    Model {
        /// Look through larger worlds too, for some minutes.
        #[arg(long)]
        large: bool,
    },
    /// Measures, side by side in one run.
    #[command(subcommand)]
    Bench(bench::Command),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Faults(args) => faults::run(args).await,
        Command::Model { large } => model::run(large),
        Command::Bench(command) => bench::run(command).await,
    }
}
