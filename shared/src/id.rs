//! Typed ids. An id is no secret, and no id of one kind passes for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::Timestamp, random};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[cfg_attr(feature = "database", derive(sqlx::Type), sqlx(transparent))]
        #[serde(transparent)]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id (UUID version 7, RFC 9562 §5.7) that sorts by the time it was made.
            #[must_use]
            pub fn new(now: Timestamp) -> Self {
                Self(random::uuid_v7(now))
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// An organisation.
    TenantId;
    /// A person in a tenant.
    UserId;
    /// One place where a user is signed in.
    SessionId;
    /// One emergency grant.
    GrantId;
    /// Something that somebody is to be told of.
    EventId;
    /// One run of an edge that counts what is done under grants.
    RecorderId;
    /// Where a tenant has its events sent.
    EndpointId;
    /// One event on its way to one endpoint or person.
    DeliveryId;
    /// One life of an edge, from joining to leaving or being fenced.
    Incarnation;
}

/// The name of an edge, chosen by the operator: 1 to 63 of `a-z`, `0-9`, `-`.
///
/// It is a token of NATS subjects, so nothing else is allowed in it.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[cfg_attr(feature = "database", derive(sqlx::Type), sqlx(transparent))]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct EdgeId(String);

/// The text is not the name of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an edge id is 1 to 63 characters of a-z, 0-9 and -")]
pub struct InvalidEdgeId;

impl EdgeId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EdgeId {
    type Err = InvalidEdgeId;
    fn from_str(text: &str) -> Result<Self, InvalidEdgeId> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for EdgeId {
    type Error = InvalidEdgeId;
    fn try_from(text: String) -> Result<Self, InvalidEdgeId> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=63).contains(&text.len()) && text.bytes().all(valid) {
            Ok(Self(text))
        } else {
            Err(InvalidEdgeId)
        }
    }
}

impl From<EdgeId> for String {
    fn from(id: EdgeId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_id_is_one_subject_token() {
        for bad in ["", "a.b", "*", ">", "A", "a b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<EdgeId>().is_err(), "{bad:?}");
        }
        assert!("gateway-1".parse::<EdgeId>().is_ok());
    }
}
