//! The nkeys by which services sign in to NATS: one seed file each, readable by its owner alone.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use nkeys::{KeyPair, KeyPairType};

use crate::data;

/// A key pair in a file.
#[derive(Debug, Clone)]
pub struct Key {
    /// The file that holds the seed.
    pub path: PathBuf,
    /// The public key, as NATS' configuration names it.
    pub public: String,
}

/// There is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot read or write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} holds no user key")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: nkeys::error::Error,
    },
}

/// The files with the workers' own keys.
#[derive(Debug, Clone)]
pub struct WorkerKeys {
    /// Those that seal shared secrets.
    pub secret_keys: PathBuf,
    /// The one that signs the audit record.
    pub audit_key: PathBuf,
    /// Those that seal the secrets of webhooks.
    pub webhook_keys: PathBuf,
}

impl WorkerKeys {
    /// The flags that tell session-worker of them.
    #[must_use]
    pub fn flags(&self) -> [OsString; 4] {
        let Self { secret_keys, audit_key, .. } = self;
        ["--secret-keys".into(), secret_keys.into(), "--audit-key".into(), audit_key.into()]
    }
}

/// The workers' own keys, made at first use.
pub fn worker_keys(dir: &Path) -> Result<WorkerKeys, KeyError> {
    let made = |name, new_line: fn() -> String| {
        let path = dir.join(name);
        let file = |source| KeyError::File { path: path.clone(), source };
        if !path.exists() {
            data::create_private_dir(dir).map_err(file)?;
            let text = format!("{}\n", new_line());
            data::write_private(&path, text.as_bytes()).map_err(file)?;
        }
        Ok(path)
    };
    Ok(WorkerKeys {
        secret_keys: made("secret-keys", session_worker::keys::Keys::new_line)?,
        audit_key: made("audit-key", session_worker::keys::audit::new_line)?,
        webhook_keys: made("webhook-keys", session_worker::keys::Keys::new_line)?,
    })
}

/// The key `<name>.nk` in a directory, made at first use.
pub fn load_or_create(dir: &Path, name: &str) -> Result<Key, KeyError> {
    let path = dir.join(format!("{name}.nk"));
    let file = |source| KeyError::File { path: path.clone(), source };
    let invalid = |source| KeyError::Invalid { path: path.clone(), source };
    let seed = match std::fs::read_to_string(&path) {
        Ok(seed) => seed,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let pair = KeyPair::new_from_raw(KeyPairType::User, shared::random::bytes());
            let seed = pair.and_then(|pair| pair.seed()).map_err(invalid)?;
            data::create_private_dir(dir).map_err(file)?;
            data::write_private(&path, seed.as_bytes()).map_err(file)?;
            seed
        }
        Err(other) => return Err(file(other)),
    };
    let public = KeyPair::from_seed(seed.trim()).map_err(invalid)?.public_key();
    Ok(Key { path, public })
}
