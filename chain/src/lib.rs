//! The audit record as a hash chain with signed heads, and its verification from an export alone. Without
//! I/O, clock or randomness.
//!
//! ARCHITECTURE.md, "The record", says what is hashed and signed. The database makes the hashes
//! (`append_audit` in `shared/migrations/0007_chain.sql`); here they are only made to be compared.

#![warn(missing_docs)]

mod head;
mod verify;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

pub use self::{
    head::{Head, KeyId, NotAKey, PublicKey, Signature, SignedHead, SigningKey},
    verify::{Problem, Report, Unsigned, Verifier, verify},
};
use uuid::Uuid;

/// The action of an entry that is a signed head.
pub const HEAD_SIGNED: &str = "audit.head-signed";
/// The action of an entry that says who exported the record.
pub const EXPORTED: &str = "audit.exported";
/// Who signs heads.
pub const SIGNER: &str = "session-worker";

/// The hash of an entry. Written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

/// What of an entry is hashed, besides the hash before it.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// Its place, counted from 1.
    pub seq: u64,
    /// When, in microseconds since the Unix epoch.
    pub at_micros: i64,
    /// Who.
    pub actor: &'a str,
    /// What.
    pub action: &'a str,
    /// To what.
    pub target: Option<&'a str>,
    /// From where.
    pub ip: Option<&'a str>,
    /// Particulars: the JSON exactly as it is stored and exported, byte for byte.
    pub detail: &'a str,
    /// The trace of the request.
    pub trace_id: Option<&'a str>,
}

impl Hash {
    /// What the first entry of a tenant's record follows.
    #[must_use]
    pub fn beginning(tenant: Uuid) -> Self {
        Self(Sha256::digest(format!("breakglass audit v1 {tenant}")).into())
    }
}

impl Content<'_> {
    /// The hash of this entry after one that has the hash `before`.
    #[must_use]
    pub fn hash(&self, before: Hash) -> Hash {
        let mut sha = Sha256::new();
        sha.update(before.0);
        sha.update(format!("{},{},", self.seq, self.at_micros));
        let texts = [
            Some(self.actor),
            Some(self.action),
            self.target,
            self.ip,
            Some(self.detail),
            self.trace_id,
        ];
        for text in texts {
            if let Some(text) = text {
                sha.update(text.len().to_string());
                sha.update(":");
                sha.update(text);
            } else {
                sha.update(":");
            }
            sha.update(",");
        }
        Hash(sha.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 of 0-9 and a-f")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(NotAHash);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}

/// One spelling for each hash: no capitals.
fn digit(character: u8) -> Result<u8, NotAHash> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(NotAHash),
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn tenant() -> Uuid {
        "0192f0c1-2b3c-7d4e-8f50-000000000001".parse().expect("an id")
    }

    fn content() -> Content<'static> {
        Content {
            seq: 1,
            at_micros: 1_795_316_400_123_456,
            actor: "0192f0c1-2b3c-7d4e-8f50-000000000002",
            action: "grant.activated",
            target: Some("grant:0192f0c1-2b3c-7d4e-8f50-000000000004"),
            ip: None,
            detail: r#"{"reason": "Schlüssel 🔑"}"#,
            trace_id: Some(""),
        }
    }

    /// Made with `sha256sum` from what ARCHITECTURE.md says.
    #[test]
    fn hashes_are_frozen() {
        let beginning = Hash::beginning(tenant());
        assert_eq!(
            beginning.to_string(),
            "81c90ff4d9ec5bf343b8b75f4134ba73c1682cde074fbc7f30b548fa3bb375dd"
        );
        assert_eq!(
            content().hash(beginning).to_string(),
            "15060e8558c7450ff4cbcf225f3053055a5c5ab2eb2110cfbdd1f93ae9df3856"
        );
    }

    #[test]
    fn every_field_counts_and_none_runs_into_the_next() {
        let base = content();
        let others = [
            Content { seq: 2, ..base },
            Content { at_micros: 1_795_316_400_123_457, ..base },
            Content { actor: "0192f0c1-2b3c-7d4e-8f50-000000000003", ..base },
            Content { action: "grant.activate", ..base },
            Content { target: None, ..base },
            Content { target: Some(""), ..base },
            Content { ip: Some(""), ..base },
            Content { ip: Some("192.0.2.7"), ..base },
            Content { target: None, ip: base.target, ..base },
            Content { detail: r#"{"reason":"Schlüssel 🔑"}"#, ..base },
            Content { trace_id: None, ..base },
            Content { actor: "a", action: "bc", ..base },
            Content { actor: "ab", action: "c", ..base },
            Content { actor: "a,2:bc", action: "", ..base },
            base,
        ];
        let mut hashes: Vec<_> =
            others.iter().map(|entry| entry.hash(Hash::beginning(tenant())).0).collect();
        hashes.push(base.hash(base.hash(Hash::beginning(tenant()))).0);
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), others.len() + 1);
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let hash = Hash::beginning(tenant());
        let text = hash.to_string();
        assert_eq!(text.parse(), Ok(hash));
        for wrong in [text.to_uppercase(), text[1..].to_owned(), format!("{text}0"), "ü".repeat(32)]
        {
            assert_eq!(wrong.parse::<Hash>(), Err(NotAHash), "{wrong}");
        }
    }
}
