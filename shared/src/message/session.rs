//! Sessions: signing in, looking up, listing, ending.

use std::{net::IpAddr, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    id::{GrantId, SessionId, TenantId, UserId},
    lease::Revision,
    message::{
        Caller, Origin, SHORT, WITH_PASSWORD, WITH_RECEIPT, expose, requests, revocation::Receipt,
    },
    role::Role,
    token::TokenHash,
};

/// The use of a session is written down at most this often.
pub const TOUCH_EVERY: Duration = Duration::from_mins(1);

/// How much longer than its idle time a session lives by what the database knows, in seconds: edges
/// tell it of use every [`TOUCH_EVERY`], in batches, which takes some seconds. Never early, at most 90 s late.
pub const IDLE_SLACK_SECONDS: i32 = 75;

/// Sign in with a password.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignIn {
    /// The tenant's short name.
    pub tenant: String,
    /// In whatever spelling.
    pub email: String,
    /// Never logged.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// The hash of the token that the gateway made for the new session.
    pub token: TokenHash,
    /// The hash of the challenge that the gateway made for where a code is needed. Gateways that know
    /// nothing of second factors send none, and sign nobody in who has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<TokenHash>,
    /// Where the request came from.
    pub origin: Origin,
}

/// Go on with a sign-in whose password was right, by a code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignInMfa {
    /// The hash of the challenge.
    pub challenge: TokenHash,
    /// A code of an authenticator app, or a backup code. Never logged.
    #[serde(serialize_with = "expose")]
    pub code: SecretString,
    /// The hash of the token that the gateway made for the new session.
    pub token: TokenHash,
    /// Where the request came from.
    pub origin: Origin,
}

/// How far a sign-in got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum SignedIn {
    /// Signed in.
    Authenticated {
        /// The new session.
        session: Session,
    },
    /// Signed in, but only to set up a second factor.
    EnrollmentRequired {
        /// The new session.
        session: Session,
    },
    /// The password was right; a code is needed for the challenge.
    MfaRequired,
}

/// End the caller's own session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignOut {
    /// Who asks.
    pub caller: Caller,
}

/// What does a token stand for (E5)?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolve {
    /// The hash of the token.
    pub token: TokenHash,
    /// Ask the primary, for an earlier answer was stale.
    #[serde(default)]
    pub primary: bool,
}

/// What a token stands for, from one snapshot of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The head in that same snapshot.
    pub snapshot: Revision,
    /// The session, if the token has a live one.
    pub session: Option<ResolvedSession>,
}

/// All that an edge needs to decide about a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedSession {
    /// The session.
    pub session_id: SessionId,
    /// Its user.
    pub user_id: UserId,
    /// The user's tenant.
    pub tenant_id: TenantId,
    /// The tenant's short name.
    pub tenant: String,
    /// The user's address.
    pub email: String,
    /// The role that the user has without any grant.
    pub role: Role,
    /// How the user signed in.
    pub methods: Vec<Method>,
    /// Whether the session can only enrol a second factor.
    pub enrollment_only: bool,
    /// From when on it can do no more than that, unless a factor is set up before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment_only_from: Option<Timestamp>,
    /// When the database last heard of its use.
    pub last_active_at: Timestamp,
    /// How long it may be unused, in seconds.
    pub idle_seconds: u32,
    /// When it ends whatever happens.
    pub expires_at: Timestamp,
    /// The grants that raise its role, each until its own end.
    pub grants: Vec<Elevation>,
}

/// A grant that raises a session's role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elevation {
    /// The grant.
    pub grant_id: GrantId,
    /// To which role.
    pub role: Role,
    /// Until when.
    pub expires_at: Timestamp,
}

impl Elevation {
    /// Of several live grants, the one with the highest role, then the latest end, counts.
    #[must_use]
    pub fn precedence(&self) -> (Role, Timestamp) {
        (self.role, self.expires_at)
    }
}

/// How somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[cfg_attr(
    feature = "database",
    derive(sqlx::Type),
    sqlx(type_name = "text", rename_all = "kebab-case")
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A password.
    Password,
    /// A code of an authenticator app (RFC 6238).
    Totp,
    /// A backup code.
    BackupCode,
}

impl Method {
    /// The name, as in JSON, the database and `X-Auth-Methods`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Totp => "totp",
            Self::BackupCode => "backup-code",
        }
    }
}

/// Live sessions of the caller, or of another user with `session.revoke-any`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Who asks.
    pub caller: Caller,
    /// Whose sessions; absent: the caller's.
    pub user_id: Option<UserId>,
}

/// The answer to [`List`]: the current one first, then by last activity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sessions {
    /// The live sessions.
    pub sessions: Vec<Session>,
}

/// End one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// Who asks.
    pub caller: Caller,
    /// Whose session; absent: the caller's.
    pub user_id: Option<UserId>,
    /// Which one.
    pub session_id: SessionId,
}

/// End all sessions of another user, or all of one's own but the one that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeAll {
    /// Who asks.
    pub caller: Caller,
    /// Whose sessions; absent: the caller's others.
    pub user_id: Option<UserId>,
}

/// The answer to [`Revoke`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// Proof that every edge enforces it.
    pub receipt: Receipt,
}

/// The answer to [`RevokeAll`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedAll {
    /// How many sessions ended.
    pub revoked: u32,
    /// Proof that every edge enforces it.
    pub receipt: Receipt,
}

requests! {
    SignIn => SignedIn, SessionSignIn, WITH_PASSWORD;
    SignInMfa => SignedIn, SessionSignInMfa, SHORT;
    SignOut => Revoked, SessionSignOut, WITH_RECEIPT;
    Resolve => Resolved, SessionResolve, Duration::from_secs(2);
    List => Sessions, SessionList, SHORT;
    Revoke => Revoked, SessionRevoke, WITH_RECEIPT;
    RevokeAll => RevokedAll, SessionRevokeAll, WITH_RECEIPT;
    Touch => Touched, SessionTouch, SHORT;
}

/// Sessions that an edge has seen used. Asked at most once per session and minute, in batches, and again
/// until there is an answer: a use that the database never hears of would end the session early
/// at another edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Each session with the server time of its last use.
    pub used: Vec<(SessionId, Timestamp)>,
}

/// The answer to [`Touch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// For each session that lives the last use that is written down now. Less than [`TOUCH_EVERY`] before
    /// the use that was told, that one is settled: it was written, or need not be.
    pub last_active: Vec<(SessionId, Timestamp)>,
}

/// One place where a user is signed in, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The session.
    pub id: SessionId,
    /// Whether it is the one that asks.
    pub current: bool,
    /// What it runs on.
    pub device: Device,
    /// The address that it was opened from.
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    /// Where that address is.
    pub location: Option<Location>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, within a minute.
    pub last_active_at: Timestamp,
    /// When it ends if it is not used.
    pub idle_expires_at: Timestamp,
    /// When it ends whatever happens.
    pub expires_at: Timestamp,
    /// How the user signed in.
    pub methods: Vec<Method>,
}

/// What a session runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: DeviceKind,
    /// The browser, if known.
    pub browser: Option<String>,
    /// The system, if known.
    pub os: Option<String>,
    /// Both in words: “Chrome on Windows”.
    pub label: String,
}

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// A desktop or laptop.
    Desktop,
    /// A phone.
    Mobile,
    /// A tablet.
    Tablet,
    /// A program.
    Bot,
    /// Not known.
    Unknown,
}

/// Where an address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Location {
    /// The city, if known.
    pub city: Option<String>,
    /// The country, if known.
    pub country: Option<String>,
    /// Both in words.
    pub label: String,
}
