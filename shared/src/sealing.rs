//! Keys with which secrets are sealed before they are stored.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) with a random nonce before the text, bound to the id
//! of whose it is, so that one's secret cannot be put in another's row.

use std::{collections::HashSet, fmt, fs, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use uuid::Uuid;

use crate::random;

/// Bytes of a nonce.
const NONCE: usize = 24;

/// All keys that are known. The first one seals; each opens what it has sealed. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<[(String, XChaCha20Poly1305)]>);

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error(
        "cannot read the key file {path}; `session-worker operator new-key` makes a line for it"
    )]
    Read {
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is not a key.
    #[error(
        "key file, line {line}: an id (a-z, 0-9, -), a space, and 32 bytes in base64 are wanted"
    )]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// Two keys have the same id.
    #[error("key file: the id {id} is there twice")]
    Twice {
        /// Which id.
        id: String,
    },
    /// There is no key.
    #[error("the key file has no key; `session-worker operator new-key` makes one")]
    None,
}

/// A sealed secret cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key with which it was sealed is not known.
    #[error("it was sealed with the key {id}, which the key file does not have")]
    UnknownKey {
        /// The key's id.
        id: String,
    },
    /// It was changed, or is another's.
    #[error("it is not what was sealed")]
    Changed,
}

/// A secret as it is stored.
pub struct Sealed {
    /// With which key.
    pub key_id: String,
    /// The nonce, and what was sealed.
    pub text: Vec<u8>,
}

impl Keys {
    /// Reads a key file: `<id> <base64 of 32 bytes>` on each line, the key that seals first.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let text = fs::read_to_string(path)
            .map_err(|source| KeysError::Read { path: path.display().to_string(), source })?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, KeysError> {
        let lines = text.lines().map(str::trim).enumerate();
        let keys: Vec<_> = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(at, line)| parse_line(line).ok_or(KeysError::Line { line: at + 1 }))
            .collect::<Result<_, _>>()?;
        let mut ids = HashSet::new();
        if let Some((id, _)) = keys.iter().find(|(id, _)| !ids.insert(id)) {
            return Err(KeysError::Twice { id: id.clone() });
        }
        if keys.is_empty() { Err(KeysError::None) } else { Ok(Self(keys.into())) }
    }

    /// A line for a key file, with a new key.
    #[must_use]
    pub fn new_line() -> String {
        let id = u32::from_be_bytes(random::bytes());
        format!("{id:08x} {}", BASE64.encode(random::bytes::<32>()))
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn current(&self) -> &str {
        &self.0[0].0
    }

    /// Seals somebody's secret, or something's.
    #[must_use]
    pub fn seal(&self, owner: impl Into<Uuid>, secret: &[u8]) -> Sealed {
        let (id, cipher) = &self.0[0];
        let nonce = random::bytes::<NONCE>();
        let owner = owner.into();
        let payload = Payload { msg: secret, aad: owner.as_bytes() };
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload).expect("a secret is short");
        Sealed { key_id: id.clone(), text: [&nonce[..], &sealed].concat() }
    }

    /// Opens a secret of which the length is known.
    pub fn open<const N: usize>(
        &self,
        owner: impl Into<Uuid>,
        key_id: &str,
        text: &[u8],
    ) -> Result<[u8; N], OpenError> {
        let secret = self.open_any(owner, key_id, text)?;
        secret.try_into().map_err(|_| OpenError::Changed)
    }

    /// Opens a secret.
    pub fn open_any(
        &self,
        owner: impl Into<Uuid>,
        key_id: &str,
        text: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let unknown = || OpenError::UnknownKey { id: key_id.to_owned() };
        let (_, cipher) = self.0.iter().find(|(id, _)| id == key_id).ok_or_else(unknown)?;
        let (nonce, sealed) = text.split_first_chunk::<NONCE>().ok_or(OpenError::Changed)?;
        let owner = owner.into();
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| OpenError::Changed)
    }
}

fn parse_line(line: &str) -> Option<(String, XChaCha20Poly1305)> {
    let (id, key) = line.split_once(char::is_whitespace)?;
    let is_id = !id.is_empty()
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let key: [u8; 32] = BASE64.decode(key.trim()).ok()?.try_into().ok()?;
    is_id.then(|| (id.to_owned(), XChaCha20Poly1305::new(&key.into())))
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, id::UserId};

    fn user() -> UserId {
        UserId(random::uuid_v7(Timestamp::from_micros(0)))
    }

    #[test]
    fn what_is_sealed_opens_for_its_user_alone_and_unchanged() {
        let (first, second) = (Keys::new_line(), Keys::new_line());
        let keys = Keys::parse(&first).expect("a key");
        let (user, secret) = (user(), [42; 20]);
        let sealed = keys.seal(user, &secret);
        assert!(!sealed.text.windows(20).any(|window| window == secret));
        assert_eq!(keys.open(user, &sealed.key_id, &sealed.text).ok(), Some(secret));
        let opened = |user, id: &str, text: &[u8]| keys.open::<20>(user, id, text).is_ok();
        assert!(!opened(self::user(), &sealed.key_id, &sealed.text), "another user");
        assert!(!opened(user, "other", &sealed.text), "another key");
        for at in 0..sealed.text.len() {
            let mut changed = sealed.text.clone();
            changed[at] ^= 1;
            assert!(!opened(user, &sealed.key_id, &changed), "{at}");
            assert!(!opened(user, &sealed.key_id, &sealed.text[..at]), "cut to {at}");
        }
        // After a rotation the old key still opens.
        let rotated = Keys::parse(&format!("# keys\n{second}\n\n{first}")).expect("two keys");
        assert_eq!(rotated.open(user, &sealed.key_id, &sealed.text).ok(), Some(secret));
        assert_ne!(rotated.seal(user, &secret).key_id, sealed.key_id);
    }

    #[test]
    fn a_key_file_that_is_wrong_is_refused() {
        let line = Keys::new_line();
        for (text, refused) in [
            (String::new(), "no key"),
            (format!("{line}\n{line}"), "twice"),
            (line[..line.len() - 2].to_owned(), "line 1"),
            (format!("{line}\nA B"), "line 2"),
        ] {
            let error = Keys::parse(&text).expect_err("refused").to_string();
            assert!(error.contains(refused), "{error}");
        }
    }

    #[test]
    fn a_key_is_never_printed() {
        let line = Keys::new_line();
        let keys = Keys::parse(&line).expect("a key");
        let (_, key) = line.split_once(' ').expect("two words");
        assert!(!format!("{keys:?}").contains(key));
    }
}
