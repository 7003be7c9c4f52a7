//! Password hashing: argon2id on a bounded number of threads.

use std::{num::NonZero, sync::Arc, thread};

use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use secrecy::{ExposeSecret as _, SecretString};
use shared::{random, refusal::Refusal};
use tokio::sync::Semaphore;

/// At most this many wait for each hashing thread; past it, sign-ins are refused for a second.
const WAITING_PER_THREAD: usize = 32;

/// A password could not be hashed: it is longer than argon2 can take.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be hashed")]
pub struct Unhashable;

/// Hashes on few threads at a time, beside those that serve, so that a storm of sign-ins starves nothing else.
#[derive(Clone)]
pub(crate) struct Hashing {
    /// Those who hash.
    threads: Arc<Semaphore>,
    /// Those who hash or wait to.
    places: Arc<Semaphore>,
    /// Compared with where there is no user, so that the answer takes as long.
    nobody: Arc<str>,
}

impl Hashing {
    /// `threads` of 0 means one for each core but one.
    pub(crate) fn new(threads: usize) -> Result<Self, Unhashable> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if threads == 0 { (cores - 1).max(1) } else { threads };
        Ok(Self {
            threads: Arc::new(Semaphore::new(threads)),
            places: Arc::new(Semaphore::new(threads * (1 + WAITING_PER_THREAD))),
            nobody: hash(&SecretString::from("nobody has this password"))?.into(),
        })
    }

    /// Whether `password` has this hash. Without a hash it takes as long, and is false.
    pub(crate) async fn verify(
        &self,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let Ok(place) = place else { return Err(Refusal::unavailable()) };
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let Ok(thread) = thread else { return Err(Refusal::unavailable()) };
        let nobody = Arc::clone(&self.nobody);
        let verified = tokio::task::spawn_blocking(move || {
            let expected = hash.as_deref().unwrap_or(&nobody);
            let matches =
                Argon2::default().verify_password(password.expose_secret().as_bytes(), expected);
            // Held until the work is done, though nobody may wait for it any more.
            drop((thread, place));
            matches.is_ok() && hash.is_some()
        });
        verified.await.map_err(|_| Refusal::unavailable())
    }
}

/// Hashes with argon2id, m = 19456 KiB, t = 2, p = 1 (OWASP's Password Storage Cheat Sheet).
pub(crate) fn hash(password: &SecretString) -> Result<String, Unhashable> {
    let salt = random::bytes::<16>();
    Argon2::default()
        .hash_password_with_salt(password.expose_secret().as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|_| Unhashable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_with_the_parameters_that_security_demands() {
        let hash = hash(&SecretString::from("correct horse")).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    }

    #[tokio::test]
    async fn verifies_the_right_password_alone_and_nobody_never() {
        let hashing = Hashing::new(1).unwrap();
        let secret = |text: &str| SecretString::from(text.to_owned());
        let hashed = hash(&secret("correct horse")).unwrap();
        assert!(hashing.verify(secret("correct horse"), Some(hashed.clone())).await.unwrap());
        assert!(!hashing.verify(secret("correct hors"), Some(hashed)).await.unwrap());
        assert!(!hashing.verify(secret("nobody has this password"), None).await.unwrap());
    }
}
