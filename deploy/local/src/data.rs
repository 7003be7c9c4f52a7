//! The data directory: who may have it, and what is where in it.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use crate::{postgres, process::User};

/// The lock, which also marks a directory as a launcher's.
const LOCK: &str = "launcher.lock";

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another launcher is running on it.
    #[error(
        "another launcher is running with the data in {0}; stop it first or choose another --data"
    )]
    InUse(PathBuf),
    /// It holds somebody else's files.
    #[error(
        "{0} holds files that are not this launcher's; choose an empty or new directory for --data"
    )]
    NotOurs(PathBuf),
    /// The operating system refused.
    #[error("cannot use {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A data directory that this process alone uses, as long as this value lives.
#[derive(Debug)]
pub struct Data {
    root: PathBuf,
    _lock: File,
}

impl Data {
    /// Takes the directory, making it if it does not exist.
    ///
    /// Only the owner may enter, and the group of `database_user` besides if Postgres runs as
    /// somebody else and has to pass.
    pub fn open(path: &Path, database_user: Option<User>) -> Result<Self, DataError> {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        if !path.exists() {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(io)?;
            }
            create_private_dir(path).map_err(io)?;
        }
        let root = path.canonicalize().map_err(io)?;
        let empty = fs::read_dir(&root).map_err(io)?.next().is_none();
        let lock_path = root.join(LOCK);
        if !empty && !lock_path.exists() {
            return Err(DataError::NotOurs(root));
        }
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(&lock_path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataError::InUse(root)),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mode = match database_user {
            Some(user) => {
                chown(&root, None, Some(user.gid)).map_err(io)?;
                0o710
            }
            None => 0o700,
        };
        fs::set_permissions(&root, Permissions::from_mode(mode)).map_err(io)?;
        let data = Self { root, _lock: lock };
        for dir in [data.keys(), data.logs()] {
            create_private_dir(&dir).map_err(|source| DataError::Io { path: dir, source })?;
        }
        Ok(data)
    }

    /// Deletes everything in it.
    pub fn empty(&self) -> Result<(), DataError> {
        let io = |source| DataError::Io { path: self.root.clone(), source };
        postgres::remove(&self.postgres()).map_err(io)?;
        for entry in fs::read_dir(&self.root).map_err(io)? {
            let entry = entry.map_err(io)?;
            let removed = if entry.file_type().map_err(io)?.is_dir() {
                fs::remove_dir_all(entry.path())
            } else if entry.file_name() == LOCK {
                Ok(())
            } else {
                fs::remove_file(entry.path())
            };
            removed.map_err(|source| DataError::Io { path: entry.path(), source })?;
        }
        for dir in [self.keys(), self.logs()] {
            create_private_dir(&dir).map_err(io)?;
        }
        Ok(())
    }

    /// The directory itself, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the services' keys are.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Where the logs are.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The log of a child.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Where Postgres is: a directory, or a link to one.
    #[must_use]
    pub fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }
}

/// `pids.json`: which child is which process.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    pids: Mutex<BTreeMap<String, u32>>,
}

impl PidFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, pids: Mutex::default() }
    }

    /// Notes the process of a child, or that it has none, and rewrites the file.
    pub(crate) fn set(&self, name: &str, pid: Option<u32>) -> io::Result<()> {
        let mut pids = self.pids.lock();
        match pid {
            Some(pid) => pids.insert(name.to_owned(), pid),
            None => pids.remove(name),
        };
        let mut text = serde_json::to_vec_pretty(&*pids)?;
        text.push(b'\n');
        write_private(&self.path, &text)
    }
}

/// Makes a directory that its owner alone may enter, if there is none.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Writes a file that its owner alone may read: whole or, if this process dies, not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// How long a log is by now, so that what is added can be told from it.
pub(crate) fn log_length(path: &Path) -> usize {
    path.metadata().map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(usize::MAX))
}

/// The last lines of what was added to a log.
pub(crate) fn last_lines(path: &Path, earlier_length: usize, count: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(earlier_length..).unwrap_or_default());
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
