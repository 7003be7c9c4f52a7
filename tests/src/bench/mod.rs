//! Benchmarks: each with a NATS, a Postgres and workers of its own. A benchmark never fails on a
//! timing; it does on a wrong answer.

mod expiry;
mod fleet;
mod numbers;
mod revocation;
mod sign_in;
mod stage;
mod usage;

/// What to measure. The services have to be built in the same profile before.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// From a revocation to its receipt, and what it costs.
    Revocation(revocation::Options),
    /// The end of many grants at once, made official.
    Expiry(expiry::Options),
    /// A storm of sign-ins, and what it costs those who are signed in.
    SignIn(sign_in::Options),
}

/// Measures and prints.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Revocation(options) => revocation::run(&options).await,
        Command::Expiry(options) => expiry::run(&options).await,
        Command::SignIn(options) => sign_in::run(&options).await,
    }
}
