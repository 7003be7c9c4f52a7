//! Signed heads: who signs says that the record up to an entry is what it was then.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signer as _, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Hash;

/// Characters of a key's id.
const KEY_ID: usize = 16;

/// The last entry of a tenant's record, at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whose record.
    pub tenant: Uuid,
    /// The entry.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// A head and who signed it, as it stands in the record, in the log and in the answers of the API. Other
/// members are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// The entry.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Over tenant, seq and hash.
    pub signature: Signature,
    /// By which key.
    pub key_id: KeyId,
}

/// An Ed25519 signature (RFC 8032). Written in base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// What a key is called: the first 8 bytes of the SHA-256 of the public key, in hexadecimal. So no key
/// passes for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

/// A key that verifies. Written as its 32 bytes in base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A key that signs. Never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

/// The text or bytes are no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key is 32 bytes of Ed25519, in base64")]
pub struct NotAKey;

impl Head {
    /// What is signed.
    fn text(&self) -> String {
        format!("breakglass audit head v1\n{}\n{}\n{}\n", self.tenant, self.seq, self.hash)
    }
}

impl SigningKey {
    /// The key that 32 random bytes make.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// What verifies its signatures.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a head.
    #[must_use]
    pub fn sign(&self, head: Head) -> SignedHead {
        let signature = Signature(self.0.sign(head.text().as_bytes()).to_bytes());
        let Head { seq, hash, .. } = head;
        SignedHead { seq, hash, signature, key_id: self.public().id() }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public().id()).finish()
    }
}

impl PublicKey {
    /// From its bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, NotAKey> {
        VerifyingKey::from_bytes(bytes).map(Self).map_err(|_| NotAKey)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// What it is called.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut digits = Hash(Sha256::digest(self.to_bytes()).into()).to_string();
        digits.truncate(KEY_ID);
        KeyId(digits)
    }

    /// Whether this key signed that head of the tenant's record.
    #[must_use]
    pub fn signed(&self, tenant: Uuid, head: &SignedHead) -> bool {
        let text = Head { tenant, seq: head.seq, hash: head.hash }.text();
        let signature = ed25519_dalek::Signature::from_bytes(&head.signature.0);
        self.0.verify_strict(text.as_bytes(), &signature).is_ok()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = BASE64.decode(text.trim()).map_err(|_| NotAKey)?;
        Self::from_bytes(&bytes.try_into().map_err(|_| NotAKey)?)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = BASE64.decode(String::deserialize(deserializer)?).map_err(de::Error::custom)?;
        let length = bytes.len();
        bytes.try_into().map(Self).map_err(|_| de::Error::invalid_length(length, &"64 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::tenant, *};

    fn head() -> Head {
        Head { tenant: tenant(), seq: 7, hash: Hash::beginning(tenant()) }
    }

    #[test]
    fn a_signature_is_of_one_head_of_one_tenant_by_one_key() {
        let (key, other) = (SigningKey::from_seed(&[7; 32]), SigningKey::from_seed(&[8; 32]));
        let signed = key.sign(head());
        let public = key.public();
        assert!(public.signed(tenant(), &signed));
        assert!(!other.public().signed(tenant(), &signed), "another key");
        let stranger = "0192f0c1-2b3c-7d4e-8f50-000000000009".parse().expect("an id");
        assert!(!public.signed(stranger, &signed), "another tenant");
        assert!(!public.signed(tenant(), &SignedHead { seq: 8, ..signed.clone() }));
        assert!(!public.signed(tenant(), &SignedHead { hash: Hash([0; 32]), ..signed.clone() }));
        let mut changed = signed.clone();
        changed.signature.0[40] ^= 1;
        assert!(!public.signed(tenant(), &changed));
        assert_ne!(other.public().id(), public.id());
    }

    /// Made with `openssl pkeyutl -sign -rawin` from what ARCHITECTURE.md says.
    #[test]
    fn signatures_are_frozen() {
        let key = SigningKey::from_seed(&[7; 32]);
        assert_eq!(key.public().to_string(), "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=");
        let json = serde_json::to_value(key.sign(head())).expect("serializes");
        let expected = serde_json::json!({
            "seq": 7,
            "hash": Hash::beginning(tenant()),
            "signature": "CPwFrHfsJxO1TMXp0yV+VhFAWS/AfbqnDcsEZKyQohRGjTF+tOK4XQWHwriv2Nsh/UGIpj95f2/Xtx05BDe9Cg==",
            "key_id": "fe812c12f3ab4ce6",
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<SignedHead>(json).ok(), Some(key.sign(head())));
    }

    #[test]
    fn keys_are_read_as_they_are_written_and_secret_ones_are_not_printed() {
        let key = SigningKey::from_seed(&[7; 32]);
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        for wrong in ["", "AAAA", "!", &BASE64.encode([7; 33])] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(NotAKey), "{wrong}");
        }
        let printed = format!("{key:?}");
        assert!(
            !printed.contains("7, 7") && !printed.contains(&BASE64.encode([7; 32])),
            "{printed}"
        );
    }
}
