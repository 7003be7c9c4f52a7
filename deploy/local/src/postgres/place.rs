//! Where the cluster is, and who owns it.
//!
//! Postgres refuses to run as root. Started by root it runs as somebody else, who may be unable to
//! reach the place that was asked for: a clone under `/root`, say, or a mount where nothing can be
//! given away. Then the cluster is under `/var/lib`, and the place is a link to it.

use std::{
    fmt::Write,
    fs, io,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::PostgresError;
use crate::{credentials::generate_password, data, environment, process::User};

/// The file name of the socket, with the separator before it.
const SOCKET_NAME_LENGTH: usize = "/.s.PGSQL.5432".len();

/// The most bytes that fit into an address, the terminating zero aside.
const LONGEST_SOCKET: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Who runs Postgres when this process may not: nobody else unless this process is root.
pub fn unprivileged_user() -> Result<Option<User>, PostgresError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let user = ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| Some(User { uid: id_of("-u", name)?, gid: id_of("-g", name)? }));
    user.filter(|user| user.uid != 0).map(Some).ok_or(PostgresError::NoUser)
}

fn id_of(which: &str, name: &str) -> Option<u32> {
    let answer = Command::new("id").args([which, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(answer.stdout).ok()?.trim().parse().ok()
}

/// The directory for the cluster at a place, and who runs it.
pub(super) fn home(place: &Path) -> Result<(PathBuf, Option<User>), PostgresError> {
    let io = |source| PostgresError::Io { path: place.to_owned(), source };
    let Some(user) = unprivileged_user()? else {
        data::create_private_dir(place).map_err(io)?;
        return Ok((place.canonicalize().map_err(io)?, None));
    };
    if let Ok(home) = place.canonicalize()
        && home.join("data").exists()
    {
        // Whoever made it runs it.
        let owner = home.metadata().map_err(io)?;
        let user = match owner.uid() {
            0 => user,
            uid => User { uid, gid: owner.gid() },
        };
        return Ok((home, Some(user)));
    }
    remove(place).map_err(io)?;
    if create_for(place, user).is_ok() && reaches(user, place) {
        return Ok((place.canonicalize().map_err(io)?, Some(user)));
    }
    remove(place).map_err(io)?;
    let home = elsewhere(place);
    let create = create_for(&home, user).and_then(|()| symlink(&home, place));
    create.map_err(|source| PostgresError::Io { path: home.clone(), source })?;
    Ok((home, Some(user)))
}

/// Deletes the cluster of a place, wherever it is.
pub fn remove(place: &Path) -> io::Result<()> {
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    if rustix::process::geteuid().is_root() {
        // Without a link too: the data directory may have been deleted by hand.
        absent_is_fine(fs::remove_dir_all(elsewhere(place)))?;
    }
    match fs::symlink_metadata(place) {
        Ok(found) if found.is_symlink() => fs::remove_file(place),
        _ => absent_is_fine(fs::remove_dir_all(place)),
    }
}

/// The directory that stands in for a place.
fn elsewhere(place: &Path) -> PathBuf {
    let digest = Sha256::digest(place.as_os_str().as_encoded_bytes());
    let mut name = String::from("/var/lib/breakglass-local-");
    for byte in &digest[..8] {
        let _ = write!(name, "{byte:02x}");
    }
    PathBuf::from(name)
}

fn create_for(dir: &Path, user: User) -> io::Result<()> {
    data::create_private_dir(dir)?;
    chown(dir, Some(user.uid), Some(user.gid))
}

/// Whether the user can get to a directory and write there. Trying counts access lists, mounts and
/// user namespaces, which modes do not tell.
fn reaches(user: User, dir: &Path) -> bool {
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    let Some(setpriv) = environment::find_program("setpriv") else {
        return false;
    };
    let mut test = Command::new(setpriv);
    test.args(["--reuid", &uid, "--regid", &gid, "--clear-groups", "--", "test", "-w"]).arg(dir);
    test.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    test.status().is_ok_and(|status| status.success())
}

/// The password in a file, made at first use.
pub(super) fn password(path: &Path, user: Option<User>) -> Result<SecretString, PostgresError> {
    let io = |source| PostgresError::Io { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(password) => return Ok(password.trim().into()),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
        Err(other) => return Err(io(other)),
    }
    let password = generate_password();
    data::write_private(path, password.expose_secret().as_bytes()).map_err(io)?;
    if let Some(User { uid, gid }) = user {
        chown(path, Some(uid), Some(gid)).map_err(io)?;
    }
    Ok(password)
}

/// The directory of the socket.
#[derive(Debug)]
pub(super) struct Sockets {
    path: PathBuf,
    temporary: bool,
}

impl Sockets {
    /// Makes it: in the cluster's home, or under `/tmp` if an address could not hold that path.
    pub(super) fn below(home: &Path, user: Option<User>) -> Result<Self, PostgresError> {
        let (path, temporary) = socket_dir(home);
        let io = |source| PostgresError::Io { path: path.clone(), source };
        if temporary {
            // Never one that exists: it could be somebody else's.
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(io)?;
        } else {
            data::create_private_dir(&path).map_err(io)?;
        }
        if let Some(User { uid, gid }) = user {
            chown(&path, Some(uid), Some(gid)).map_err(io)?;
        }
        Ok(Self { path, temporary })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn socket_dir(home: &Path) -> (PathBuf, bool) {
    let near = home.join("socket");
    if near.as_os_str().len() + SOCKET_NAME_LENGTH <= LONGEST_SOCKET {
        return (near, false);
    }
    let name: String = generate_password().expose_secret()[..12].to_owned();
    (PathBuf::from(format!("/tmp/breakglass-{name}")), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_too_far_down_moves_to_the_temporary_directory() {
        let longest = LONGEST_SOCKET - SOCKET_NAME_LENGTH - "/socket".len();
        let fits = PathBuf::from(format!("/{}", "d".repeat(longest - 1)));
        assert_eq!(socket_dir(&fits), (fits.join("socket"), false));
        let (path, temporary) = socket_dir(Path::new(&format!("/{}", "d".repeat(longest))));
        assert!(temporary && path.starts_with("/tmp"), "{path:?}");
    }

    #[test]
    fn each_place_has_a_stand_in_of_its_own() {
        assert_ne!(elsewhere(Path::new("/a/postgres")), elsewhere(Path::new("/b/postgres")));
        assert_eq!(elsewhere(Path::new("/a/postgres")), elsewhere(Path::new("/a/postgres")));
    }
}
