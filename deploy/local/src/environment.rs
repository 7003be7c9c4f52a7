//! What the launcher takes from its own environment. Children get no more than this of it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What every child inherits, where it is set.
const INHERITED: [&str; 2] = ["PATH", "BREAKGLASS_LOG"];

/// Where packages put servers although users' `PATH` may lack it.
const MORE_PLACES: [&str; 5] =
    ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin", "/usr/bin"];

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The environment of every child.
pub(crate) fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.into_iter().filter_map(|name| variable(name).map(|value| (name, value)))
}

/// Where a program is: in `PATH`, or where packages put servers.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_PLACES.map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| is_program(candidate))
}

/// Whether the file is there and somebody may run it.
pub(crate) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
