//! What servers answer, as far as it is shown. Members that are not known are ignored, so that a newer
//! server can be asked too.

use jiff::Timestamp;
use serde::Deserialize;

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
    pub(crate) permissions: Vec<String>,
    pub(crate) elevation: Option<Grant>,
    pub(crate) mfa: Mfa,
}

#[derive(Debug, Deserialize)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) email: String,
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) role: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Tenant {
    pub(crate) slug: String,
    #[serde(default)]
    pub(crate) name: String,
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

/// A place where somebody is signed in.
#[derive(Debug, Deserialize)]
pub(crate) struct Session {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) current: bool,
    pub(crate) device: Device,
    pub(crate) ip: Option<String>,
    pub(crate) location: Option<Location>,
    pub(crate) created_at: Timestamp,
    pub(crate) last_active_at: Timestamp,
    pub(crate) idle_expires_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Device {
    pub(crate) label: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Location {
    pub(crate) label: String,
}

/// A request for emergency access, and what became of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) user: Person,
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) reason: String,
    pub(crate) ticket: Option<String>,
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
    pub(crate) end_reason: Option<String>,
    pub(crate) extended_from: Option<String>,
    #[serde(default)]
    pub(crate) request_digest: String,
    pub(crate) review: Option<Review>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) email: String,
    #[serde(default)]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Approval {
    pub(crate) user: Person,
    pub(crate) decision: String,
    pub(crate) comment: Option<String>,
    pub(crate) at: Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Review {
    pub(crate) due_at: Timestamp,
    pub(crate) state: String,
    pub(crate) reviewer: Option<Person>,
    pub(crate) note: Option<String>,
}
