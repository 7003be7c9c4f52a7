//! What a request asks for, as one number: approvers decide about exactly this.

use sha2::{Digest as _, Sha256};
use shared::{
    id::{GrantId, UserId},
    role::Role,
};

/// Tells these digests from any other SHA-256, and one encoding from the next.
const CONTEXT: &[u8] = b"breakglass grant request 2";

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The grant.
    pub grant_id: GrantId,
    /// Who asks.
    pub user_id: UserId,
    /// To which role.
    pub role: Role,
    /// Why.
    pub reason: &'a str,
    /// The incident's ticket.
    pub ticket: Option<&'a str>,
    /// For how long.
    pub duration_seconds: u32,
    /// The grant that it is to replace.
    pub extends: Option<GrantId>,
}

/// SHA-256 over the fields in order, each after its length in bytes (64 bits, big-endian). The
/// ticket, and the id of the grant to be replaced, are preceded by 1; absent they are the single byte 0.
#[must_use]
pub fn digest(asked: &Asked<'_>) -> [u8; 32] {
    let optional = |bytes: Option<&[u8]>| bytes.map_or(vec![0], |bytes| [&[1], bytes].concat());
    let ticket = optional(asked.ticket.map(str::as_bytes));
    let extends = optional(asked.extends.as_ref().map(|grant| &grant.0.as_bytes()[..]));
    let fields: [&[u8]; 8] = [
        CONTEXT,
        asked.grant_id.0.as_bytes(),
        asked.user_id.0.as_bytes(),
        asked.role.as_str().as_bytes(),
        asked.reason.as_bytes(),
        &ticket,
        &asked.duration_seconds.to_be_bytes(),
        &extends,
    ];
    let mut hash = Sha256::new();
    for field in fields {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn asked() -> Asked<'static> {
        Asked {
            grant_id: GrantId(Uuid::from_u128(1)),
            user_id: UserId(Uuid::from_u128(2)),
            role: Role::Admin,
            reason: "database is down",
            ticket: None,
            duration_seconds: 3600,
            extends: None,
        }
    }

    #[test]
    fn every_field_counts() {
        let variants = [
            asked(),
            Asked { grant_id: GrantId(Uuid::from_u128(3)), ..asked() },
            Asked { user_id: UserId(Uuid::from_u128(3)), ..asked() },
            Asked { role: Role::Manager, ..asked() },
            Asked { reason: "database is down ", ..asked() },
            Asked { ticket: Some(""), ..asked() },
            Asked { ticket: Some("INC-1"), ..asked() },
            Asked { reason: "database is downINC", ticket: Some("-1"), ..asked() },
            Asked { duration_seconds: 3601, ..asked() },
            Asked { extends: Some(GrantId(Uuid::from_u128(1))), ..asked() },
        ];
        let mut digests: Vec<_> = variants.iter().map(digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), variants.len());
    }

    #[test]
    fn the_encoding_is_frozen() {
        use std::fmt::Write as _;
        let mut hex = String::new();
        for byte in digest(&Asked { ticket: Some("INC-1"), ..asked() }) {
            write!(hex, "{byte:02x}").expect("a string takes everything");
        }
        assert_eq!(hex, "7fa4b452938e7e001a08de35b11f19bb9ed488354ecaf5049a599e0754bfe77b");
    }
}
