//! The process: everything is in the library.

fn main() -> std::process::ExitCode {
    shared::runtime::main::<expiry_worker::Config, _, _>("expiry-worker", expiry_worker::run)
}
