//! What servers answer, as far as it is shown. Members that are not known are ignored, so that a newer
//! server can be asked too.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;

use crate::harmless;

/// Text that somebody else wrote. What it shows itself as is harmless for a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text(String);

impl Text {
    /// As it was written: to be compared or sent back, not to be shown.
    pub(crate) fn raw(&self) -> &str {
        &self.0
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        self.0 == text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, with the line breaks it has.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        harmless::lines(&self.0)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&harmless::line(&self.0))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The answer to a sign-in. The token is taken out before.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub(crate) enum SignedIn {
    Authenticated,
    EnrollmentRequired,
    MfaRequired { challenge: String },
}

/// Who one is.
#[derive(Debug, Deserialize)]
pub(crate) struct Me {
    pub(crate) user: User,
    pub(crate) tenant: Tenant,
    pub(crate) session: Session,
    #[serde(default)]
    pub(crate) permissions: Vec<Text>,
    pub(crate) elevation: Option<Grant>,
    pub(crate) mfa: Mfa,
}

#[derive(Debug, Deserialize)]
pub(crate) struct User {
    pub(crate) id: Text,
    pub(crate) email: Text,
    #[serde(default)]
    pub(crate) name: Text,
    pub(crate) role: Text,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Tenant {
    pub(crate) slug: Text,
    #[serde(default)]
    pub(crate) name: Text,
}

/// How one stands with two-factor sign-in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Mfa {
    pub(crate) enabled: bool,
    pub(crate) required: bool,
    pub(crate) grace_ends_at: Option<Timestamp>,
    pub(crate) backup_codes_left: u32,
}

/// The secret of an authenticator app that is being set up.
#[derive(Debug, Deserialize)]
pub(crate) struct Enrolment {
    pub(crate) secret: Text,
    pub(crate) otpauth_uri: Text,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BackupCodes {
    pub(crate) backup_codes: Vec<Text>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Sessions {
    pub(crate) sessions: Vec<Session>,
}

/// A place where somebody is signed in.
#[derive(Debug, Deserialize)]
pub(crate) struct Session {
    pub(crate) id: Text,
    #[serde(default)]
    pub(crate) current: bool,
    pub(crate) device: Device,
    pub(crate) ip: Option<Text>,
    pub(crate) location: Option<Location>,
    pub(crate) created_at: Timestamp,
    pub(crate) last_active_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Device {
    pub(crate) label: Text,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Location {
    pub(crate) label: Text,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Grants {
    pub(crate) grants: Vec<Grant>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct OneGrant {
    pub(crate) grant: Grant,
}

/// A request for emergency access, and what became of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Grant {
    pub(crate) id: Text,
    pub(crate) state: Text,
    pub(crate) user: Person,
    pub(crate) role: Text,
    #[serde(default)]
    pub(crate) reason: Text,
    pub(crate) ticket: Option<Text>,
    /// For how long, from its beginning; 0: the server does not say.
    #[serde(default)]
    pub(crate) duration_seconds: u64,
    #[serde(default)]
    pub(crate) applies_to: Text,
    #[serde(default)]
    pub(crate) bypassed: bool,
    pub(crate) factor: Option<Text>,
    pub(crate) pending_until: Option<Timestamp>,
    pub(crate) requested_at: Timestamp,
    pub(crate) activated_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) remaining_seconds: Option<u64>,
    #[serde(default)]
    pub(crate) approvals: Vec<Approval>,
    #[serde(default)]
    pub(crate) approvals_needed: u32,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) ended_by: Option<Person>,
    pub(crate) end_reason: Option<Text>,
    pub(crate) extended_from: Option<Text>,
    #[serde(default)]
    pub(crate) request_digest: Text,
    pub(crate) review: Option<Review>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Person {
    pub(crate) id: Text,
    pub(crate) email: Text,
    #[serde(default)]
    pub(crate) name: Text,
}

/// `Ada Lovelace <ada@acme.example>`
impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        named(f, &self.name, &self.email)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        named(f, &self.name, &self.email)
    }
}

fn named(f: &mut fmt::Formatter<'_>, name: &Text, email: &Text) -> fmt::Result {
    if name.is_empty() { write!(f, "{email}") } else { write!(f, "{name} <{email}>") }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Approval {
    pub(crate) user: Person,
    pub(crate) decision: Text,
    pub(crate) comment: Option<Text>,
    pub(crate) at: Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Review {
    pub(crate) due_at: Timestamp,
    pub(crate) state: Text,
    pub(crate) reviewer: Option<Person>,
    pub(crate) note: Option<Text>,
    pub(crate) at: Option<Timestamp>,
}

/// The whole story of a grant.
#[derive(Debug, Deserialize)]
pub(crate) struct Evidence {
    pub(crate) grant: Grant,
    pub(crate) extended_by: Option<Text>,
    /// What the audit record says.
    #[serde(default)]
    pub(crate) record: Vec<Entry>,
    #[serde(default)]
    pub(crate) record_total: usize,
    /// What was done behind reverse proxies.
    #[serde(default)]
    pub(crate) actions: Vec<Action>,
    #[serde(default)]
    pub(crate) actions_total: usize,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    /// A user's id, or the name of a service.
    pub(crate) actor: Text,
    pub(crate) action: Text,
    pub(crate) target: Option<Text>,
}

/// How often something was done in a minute. Without a method it was too much to be told apart.
#[derive(Debug, Deserialize)]
pub(crate) struct Action {
    pub(crate) minute: Timestamp,
    #[serde(default)]
    pub(crate) method: Text,
    #[serde(default)]
    pub(crate) host: Text,
    #[serde(default)]
    pub(crate) path: Text,
    #[serde(default)]
    pub(crate) allowed: bool,
    #[serde(default)]
    pub(crate) count: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WithReceipt {
    pub(crate) receipt: Receipt,
    /// How many sessions ended.
    #[serde(default)]
    pub(crate) revoked: u64,
}

/// Who enforces a revision.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) revision: u64,
    pub(crate) enforced: bool,
    pub(crate) edges: ReceiptEdges,
    #[serde(default)]
    pub(crate) took_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ReceiptEdges {
    pub(crate) total: u64,
    pub(crate) acknowledged: u64,
    #[serde(default)]
    pub(crate) fenced: u64,
    #[serde(default)]
    pub(crate) waiting: Vec<Text>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Edges {
    pub(crate) edges: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Edge {
    pub(crate) id: Text,
    #[serde(default)]
    pub(crate) region: Text,
    pub(crate) applied: u64,
    pub(crate) head: u64,
    #[serde(default)]
    pub(crate) lease_remaining_ms: u64,
    #[serde(default)]
    pub(crate) fenced: bool,
    #[serde(default)]
    pub(crate) cached_sessions: u64,
}

/// What is allowed in an emergency.
#[derive(Debug, Deserialize)]
pub(crate) struct Policy {
    pub(crate) role: Text,
    pub(crate) applies_to: Text,
    pub(crate) requesters: Vec<Text>,
    pub(crate) max_duration_seconds: u64,
    pub(crate) default_duration_seconds: u64,
    pub(crate) approvals_needed: u32,
    pub(crate) approvers: Vec<Text>,
    pub(crate) require_fresh_mfa: bool,
    pub(crate) min_reason_length: u32,
    pub(crate) ticket_pattern: Option<Text>,
    pub(crate) max_active_per_user: u32,
    pub(crate) cooldown_seconds: u64,
    pub(crate) pending_timeout_seconds: u64,
    pub(crate) review_within_hours: u64,
    pub(crate) extensions_allowed: u32,
    pub(crate) bypass: Bypass,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Bypass {
    pub(crate) allowed: bool,
    #[serde(default)]
    pub(crate) max_duration_seconds: u64,
}
