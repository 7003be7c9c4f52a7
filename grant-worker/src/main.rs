//! The process: everything is in the library.

fn main() -> std::process::ExitCode {
    shared::runtime::main::<grant_worker::Config, _, _>("grant-worker", grant_worker::run)
}
