//! Password hashing: argon2id on a bounded number of threads.

pub(crate) mod rules;

use std::{
    num::NonZero,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
};

use argon2::{
    Argon2, Block, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _,
    password_hash::phc::Output,
};
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use shared::{
    random,
    refusal::{Code, Refusal},
};
use tokio::sync::{mpsc, oneshot};

use self::rules::LONGEST;

/// At most this many wait for each hashing thread; past it, sign-ins are refused for a second.
const WAITING_PER_THREAD: usize = 32;

/// A password could not be hashed: it is longer than argon2 can take.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be hashed")]
pub struct Unhashable;

/// Hashes on threads of its own, few of them, so that a storm of sign-ins starves nothing else. Cheap
/// to clone.
#[derive(Clone)]
pub(crate) struct Hashing {
    queue: mpsc::Sender<Job>,
    /// Compared with where there is no user, so that the answer takes as long.
    nobody: Arc<str>,
}

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

impl Hashing {
    /// `threads` of 0 means one for each core but one.
    pub(crate) fn new(threads: usize) -> anyhow::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if threads == 0 { (cores - 1).max(1) } else { threads };
        let (queue, jobs) = mpsc::channel::<Job>(threads * WAITING_PER_THREAD);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..threads {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new().name("hashing".to_owned()).spawn(move || {
                let mut memory = Memory::new();
                loop {
                    // One waits for a job, the others for their turn to wait.
                    let Some(job) = jobs.lock().blocking_recv() else { return };
                    // Whoever asked is told by the end of its channel.
                    let _ = panic::catch_unwind(AssertUnwindSafe(|| job(&mut memory)));
                }
            })?;
        }
        Ok(Self { queue, nobody: hash(&SecretString::from("nobody has this password"))?.into() })
    }

    /// Whether `password` has this hash. Without a hash it takes as long, and is false.
    pub(crate) async fn verify(
        &self,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool, Refusal> {
        let nobody = Arc::clone(&self.nobody);
        self.run(move |memory| {
            let expected = hash.as_deref().unwrap_or(&nobody);
            // Longer ones were never set; what is looked at is bounded all the same.
            let fits = password.expose_secret().chars().count() <= LONGEST;
            let matches = memory.verify(password.expose_secret().as_bytes(), expected);
            matches && hash.is_some() && fits
        })
        .await
    }

    /// A hash of `password`.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, Refusal> {
        let hashed = self.run(move |_| hash(&password)).await?;
        hashed.map_err(|_| Refusal::new(Code::PasswordTooWeak, "This password cannot be hashed."))
    }

    /// A new hash where the old one has other parameters than are used now, and there is time for it.
    pub(crate) async fn rehash(&self, password: SecretString, old: Option<&str>) -> Option<String> {
        if old?.starts_with(PARAMETERS) {
            return None;
        }
        self.hash(password).await.ok()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |memory: &mut Memory| {
            // A storm leaves many behind for whom nobody waits any more.
            if !answer.is_closed() {
                let _ = answer.send(work(memory));
            }
        });
        self.queue.try_send(job).map_err(|_| Refusal::unavailable())?;
        answered.await.map_err(|_| Refusal::unavailable())
    }
}

/// What a hashing thread works in. It is kept: to ask the system for so much anew each time takes a
/// good part of the time that a hash takes.
struct Memory(Vec<Block>);

impl Memory {
    fn new() -> Self {
        Self(vec![Block::default(); Params::default().block_count()])
    }

    /// Whether a password has this hash.
    fn verify(&mut self, password: &[u8], expected: &str) -> bool {
        let Ok(parsed) = PasswordHash::new(expected) else { return false };
        let own = expected.starts_with(PARAMETERS);
        let (true, Some(salt), Some(output)) = (own, &parsed.salt, &parsed.hash) else {
            // Of other parameters: as much memory as it takes.
            return Argon2::default().verify_password(password, &parsed).is_ok();
        };
        let mut computed = [0; Output::MAX_LENGTH];
        let Some(computed) = computed.get_mut(..output.as_ref().len()) else { return false };
        let hashed = Argon2::default().hash_password_into_with_memory(
            password,
            salt.as_ref(),
            computed,
            &mut self.0,
        );
        // In constant time.
        hashed.is_ok() && Output::new(computed).is_ok_and(|computed| computed == *output)
    }
}

/// How every hash begins whose parameters are those of now.
const PARAMETERS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

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
    async fn a_full_queue_refuses_at_once_and_a_job_that_panics_takes_no_thread_away() {
        let hashing = Hashing::new(1).unwrap();
        let panicked = hashing.run(|_| panic!("this is part of the test")).await;
        assert_eq!(
            panicked.map_err(|refusal: Refusal| refusal.code),
            Err::<(), _>(Code::Unavailable)
        );
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (started, is_started) = oneshot::channel();
        let first = tokio::spawn({
            let hashing = hashing.clone();
            async move {
                let work = move |_: &mut Memory| started.send(()).is_ok() && held.recv().is_ok();
                hashing.run(work).await
            }
        });
        is_started.await.unwrap();
        // The thread is busy, and the queue takes so many more.
        let mut waiting = Vec::new();
        for _ in 0..WAITING_PER_THREAD {
            let hashing = hashing.clone();
            waiting.push(tokio::spawn(async move { hashing.run(|_| 1).await }));
        }
        while hashing.queue.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = hashing.run(|_| 2).await.map_err(|refusal| refusal.code);
        assert_eq!(refused, Err(Code::Unavailable));
        // What nobody waits for is not done.
        waiting.pop().expect("one").abort();
        release.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_is_made_anew() {
        let hashing = Hashing::new(1).unwrap();
        let password = || SecretString::from("correct horse".to_owned());
        let weak = Params::new(8_192, 1, 1, None).unwrap();
        let weak = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, weak);
        let old = weak.hash_password_with_salt(b"correct horse", &[1; 16]).unwrap().to_string();
        assert!(hashing.verify(password(), Some(old.clone())).await.unwrap(), "the old one counts");
        let new = hashing.rehash(password(), Some(&old)).await.expect("a new one");
        assert!(new.starts_with(PARAMETERS));
        assert!(hashing.verify(password(), Some(new.clone())).await.unwrap());
        assert_eq!(hashing.rehash(password(), Some(&new)).await, None);
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
