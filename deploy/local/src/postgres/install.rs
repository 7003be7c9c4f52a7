//! Which of the installed versions of Postgres to use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::PostgresError;
use crate::environment;

/// The oldest version that is supported.
pub(super) const OLDEST: u32 = 15;

/// Where Debian's packages put each version.
const VERSIONED: &str = "/usr/lib/postgresql";

/// The directory with `initdb` and `postgres`: of the version that made the data, or else the newest.
pub(super) fn bin_dir(data: &Path) -> Result<PathBuf, PostgresError> {
    let version = fs::read_to_string(data.join("PG_VERSION")).ok();
    let version = version.and_then(|version| version.trim().parse().ok());
    choose(&installed(), version).ok_or_else(|| match version {
        Some(version) => PostgresError::OtherVersion { data: data.to_owned(), version },
        None => PostgresError::Missing,
    })
}

fn choose(installed: &[(u32, PathBuf)], made_by: Option<u32>) -> Option<PathBuf> {
    installed
        .iter()
        .filter(|(version, _)| made_by.map_or(*version >= OLDEST, |wanted| wanted == *version))
        .max_by_key(|(version, _)| *version)
        .map(|(_, dir)| dir.clone())
}

fn installed() -> Vec<(u32, PathBuf)> {
    let versioned = fs::read_dir(VERSIONED).into_iter().flatten().flatten();
    let versioned = versioned.map(|entry| entry.path().join("bin"));
    let configured = environment::find_program("pg_config").and_then(|pg_config| {
        let answer = Command::new(pg_config).arg("--bindir").output().ok()?;
        Some(PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim()))
    });
    let in_path = environment::find_program("initdb");
    // A link to it says where it is with all the others.
    let in_path = in_path.and_then(|initdb| fs::canonicalize(initdb).ok());
    let in_path = in_path.and_then(|initdb| initdb.parent().map(Path::to_owned));
    let has_server = |dir: &PathBuf| {
        ["initdb", "postgres"].iter().all(|name| environment::is_program(&dir.join(name)))
    };
    versioned
        .chain(configured)
        .chain(in_path)
        .filter(has_server)
        .filter_map(|dir| Some((version_of(&dir)?, dir)))
        .collect()
}

/// The major version of the programs in a directory.
fn version_of(dir: &Path) -> Option<u32> {
    let answer = Command::new(dir.join("initdb")).arg("--version").output().ok()?;
    parse_version(std::str::from_utf8(&answer.stdout).ok()?)
}

/// Reads `initdb (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, and `17beta1` too.
fn parse_version(answer: &str) -> Option<u32> {
    let version = answer.split(')').nth(1)?.trim_start();
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        let debian = "initdb (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n";
        assert_eq!(parse_version(debian), Some(15));
        assert_eq!(parse_version("initdb (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn the_newest_is_chosen_unless_the_data_needs_another() {
        let installed = [(14, "14".into()), (17, "17".into()), (15, "15".into())];
        assert_eq!(choose(&installed, None), Some("17".into()));
        assert_eq!(choose(&installed, Some(15)), Some("15".into()));
        assert_eq!(choose(&installed, Some(16)), None);
        assert_eq!(choose(&installed[..1], None), None);
    }
}
