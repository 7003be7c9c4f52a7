//! Revocations: what narrows (or widens) a cached right, numbered by Postgres.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    id::{EdgeId, TenantId, UserId},
    lease::Revision,
    message::{Caller, Event, WITH_RECEIPT, requests},
    subject::Subject,
};

/// Why a revision exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A session was ended by its user.
    SignedOut,
    /// One session was revoked.
    SessionRevoked,
    /// Several sessions of one user were revoked.
    SessionsRevoked,
    /// A session made room for a newer one of its user.
    SessionDisplaced,
    /// A grant became active: the user's role rises.
    GrantActivated,
    /// A grant took the place of another one.
    GrantExtended,
    /// A grant was ended early.
    GrantRevoked,
    /// A grant came to its end.
    GrantExpired,
    /// A password was changed or set: other sessions end.
    PasswordChanged,
    /// A second factor was set up: other sessions end, this one has a new token.
    FactorEnabled,
    /// An admin took a second factor away: all sessions end.
    FactorReset,
    /// The assigned role is another.
    RoleChanged,
    /// The user can do nothing any more.
    UserDisabled,
    /// Who needs a second factor, or until when, is different.
    MfaPolicyChanged,
    /// The time to set up a second factor is over.
    MfaDue,
}

impl Cause {
    /// The name, as the database keeps it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed-out",
            Self::SessionRevoked => "session-revoked",
            Self::SessionsRevoked => "sessions-revoked",
            Self::SessionDisplaced => "session-displaced",
            Self::GrantActivated => "grant-activated",
            Self::GrantExtended => "grant-extended",
            Self::GrantRevoked => "grant-revoked",
            Self::GrantExpired => "grant-expired",
            Self::PasswordChanged => "password-changed",
            Self::FactorEnabled => "factor-enabled",
            Self::FactorReset => "factor-reset",
            Self::RoleChanged => "role-changed",
            Self::UserDisabled => "user-disabled",
            Self::MfaPolicyChanged => "mfa-policy-changed",
            Self::MfaDue => "mfa-due",
        }
    }
}

/// One revision: everything cached about this user (or the whole tenant) before it is stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number and timeline.
    pub revision: Revision,
    /// Whose tenant.
    pub tenant_id: TenantId,
    /// Whose rights changed; absent: everybody's in the tenant.
    pub user_id: Option<UserId>,
    /// Why, in kebab-case. A reader that does not know it enforces all the same.
    pub cause: String,
    /// W3C `traceparent` of the change, so that its trace reaches every edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Consecutive entries, or none: then it is a beacon, which tells the head alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broadcast {
    /// The latest revision that the sender knows to be committed.
    pub head: Revision,
    /// In order of their revisions.
    #[serde(default)]
    pub entries: Vec<Entry>,
}

impl Event for Broadcast {
    const SUBJECT: Subject = Subject::RevocationBroadcast;
}

/// An edge fetches what it missed (E4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// The last revision that it has applied.
    pub after: Revision,
    /// At most so many entries.
    pub limit: u32,
}

requests! {
    Since => Broadcast, RevocationSince, crate::message::SHORT;
    Enforce => Receipt, RevocationEnforce, WITH_RECEIPT;
    GetReceipt => Receipt, RevocationReceipt, crate::message::SHORT;
}

/// The receipt of an earlier revision of the caller's tenant, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetReceipt {
    /// Who asks.
    pub caller: Caller,
    /// The number of the revision.
    pub revision: u64,
}

/// Another worker has committed a revision: broadcast it and say when it is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforce {
    /// What was committed. Its entry is read from the database, not believed.
    pub revision: Revision,
}

/// What is known about the enforcement of a revision.
///
/// `enforced` says: no edge anywhere begins a decision that allows something invalidated at this
/// revision or before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The revision, as its number.
    pub revision: u64,
    /// Whether every edge enforces it.
    pub enforced: bool,
    /// How many edges there are and how they stand.
    pub edges: ReceiptEdges,
    /// Milliseconds from the commit to this receipt.
    pub took_ms: u64,
    /// How many milliseconds the edges that it waits for may go on deciding if they are never heard of
    /// again, at most; where it was asked for again, and is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_ms: Option<u64>,
}

/// The edges of a receipt: `acknowledged + fenced + waiting.len() == total`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptEdges {
    /// Edges that held a lease at the commit.
    pub total: u32,
    /// Of these, how many have applied the revision.
    pub acknowledged: u32,
    /// Of these, how many lost their lease and so decide nothing.
    pub fenced: u32,
    /// Those of which neither is known.
    pub waiting: Vec<EdgeId>,
}
