//! The second factor: setting one up, doing without again, and of whom it is required.

use std::collections::BTreeSet;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    id::{GrantId, UserId},
    message::{
        Caller, SHORT, WITH_PASSWORD, WITH_RECEIPT, expose, expose_some, requests,
        revocation::Receipt,
        session::{Method, Session},
    },
    role::Role,
    token::TokenHash,
};

/// Begin to set up an authenticator app.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enroll {
    /// Who asks.
    pub caller: Caller,
    /// The caller's password.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// A code of the present factor, which this is to replace.
    #[serde(default, serialize_with = "expose_some")]
    pub code: Option<SecretString>,
}

/// The answer to [`Enroll`]: what the app has to know. Nothing is enabled yet.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Enrollment {
    /// The shared secret in base32, to be typed.
    pub secret: String,
    /// The same for a link or a QR code.
    pub otpauth_uri: String,
    /// That QR code, as SVG.
    pub qr_svg: String,
    /// Until when the first code has to come.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Enrollment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Enrollment(…)")
    }
}

/// Finish that with the app's first code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Confirm {
    /// Who asks: the session that began it.
    pub caller: Caller,
    /// The code.
    #[serde(serialize_with = "expose")]
    pub code: SecretString,
    /// The hash of the token under which the session goes on.
    pub token: TokenHash,
}

/// The answer to [`Confirm`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Confirmed {
    /// Shown this once.
    pub backup_codes: Vec<String>,
    /// The session, under its new token.
    pub session: Session,
}

impl std::fmt::Debug for Confirmed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Confirmed").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Do without a second factor again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Disable {
    /// Who asks.
    pub caller: Caller,
    /// The caller's password.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// A code of the factor.
    #[serde(serialize_with = "expose")]
    pub code: SecretString,
}

/// The answer to [`Disable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {}

/// New backup codes; the old ones are dead.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewBackupCodes {
    /// Who asks.
    pub caller: Caller,
    /// The caller's password.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// A code of the factor.
    #[serde(serialize_with = "expose")]
    pub code: SecretString,
}

/// The answer to [`RenewBackupCodes`].
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct BackupCodes {
    /// Shown this once.
    pub backup_codes: Vec<String>,
}

impl std::fmt::Debug for BackupCodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupCodes(…)")
    }
}

/// Take somebody's second factor away, with `tenant.manage`. All their sessions end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reset {
    /// Who asks.
    pub caller: Caller,
    /// Whose.
    pub user_id: UserId,
    /// The caller's password.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// A code of the caller's factor, where there is one.
    #[serde(default, serialize_with = "expose_some")]
    pub code: Option<SecretString>,
}

/// The answer to [`Reset`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WasReset {
    /// Proof that every edge enforces it.
    pub receipt: Receipt,
}

/// Of whom a tenant requires a second factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MfaPolicy {
    /// Whether one is required of anybody.
    pub require_2fa: bool,
    /// Assigned roles of which it is required; none named: of all.
    pub required_roles: BTreeSet<Role>,
    /// How long one may do without after it became required, in days: 0 to 90.
    #[schema(minimum = 0, maximum = 90)]
    pub grace_period_days: u32,
}

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetPolicy {
    /// Who asks.
    pub caller: Caller,
}

/// Whom the policy concerns, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetPolicyReach {
    /// Who asks.
    pub caller: Caller,
}

/// The answer to [`GetPolicyReach`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReach {
    /// Enabled users by their role, from the lowest up.
    pub roles: Vec<RoleReach>,
}

/// Whom the policy concerns, of one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleReach {
    /// The role.
    pub role: Role,
    /// Whether a second factor is required of them.
    pub required: bool,
    /// How many there are.
    pub users: u32,
    /// How many of them have no second factor.
    pub without: u32,
    /// The first deadline of these, where one is required.
    pub first_due_at: Option<Timestamp>,
    /// The last one.
    pub last_due_at: Option<Timestamp>,
}

/// Change the policy, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPolicy {
    /// Who asks.
    pub caller: Caller,
    /// The new policy.
    pub policy: MfaPolicy,
}

/// The answer to [`SetPolicy`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicySet {
    /// The policy in force now.
    pub policy: MfaPolicy,
    /// Proof that every edge enforces it.
    pub receipt: Receipt,
}

/// The time for setting up a second factor is over: make it official. Edges act by the clock, with
/// or without this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// Whose.
    pub user_id: UserId,
}

/// The answer to [`Deadline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadlinePassed {
    /// Whether it took something from them; not if they have a factor or are out of scope by now.
    pub enforced: bool,
}

/// A worker asks whether a code counts for a request of the caller's. It is used up by this.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyCode {
    /// Whose code.
    pub caller: Caller,
    /// A code of their authenticator app, or a backup code. Never logged.
    #[serde(serialize_with = "expose")]
    pub code: SecretString,
    /// For which grant.
    pub grant_id: GrantId,
}

/// The answer to [`VerifyCode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeVerified {
    /// What kind of code it was.
    pub method: Method,
}

requests! {
    Enroll => Enrollment, MfaEnroll, WITH_PASSWORD;
    Confirm => Confirmed, MfaConfirm, WITH_RECEIPT;
    Disable => Disabled, MfaDisable, WITH_PASSWORD;
    RenewBackupCodes => BackupCodes, MfaRenewBackupCodes, WITH_PASSWORD;
    Reset => WasReset, MfaReset, WITH_RECEIPT;
    GetPolicy => MfaPolicy, MfaPolicyGet, SHORT;
    SetPolicy => PolicySet, MfaPolicySet, WITH_RECEIPT;
    GetPolicyReach => PolicyReach, MfaPolicyReach, SHORT;
    Deadline => DeadlinePassed, MfaDeadline, SHORT;
    VerifyCode => CodeVerified, MfaVerify, SHORT;
}
