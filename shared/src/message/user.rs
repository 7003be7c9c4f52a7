//! Users of a tenant, and their passwords.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    id::{EventId, UserId},
    message::{
        Caller, Origin, SHORT, WITH_RECEIPT, expose, expose_some, requests, revocation::Receipt,
    },
    role::Role,
    token::TokenHash,
};

/// A user, as admins see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserDetails {
    /// The user.
    pub id: UserId,
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their assigned role.
    pub role: Role,
    /// Whether they can do nothing.
    pub disabled: bool,
    /// Whether they have a second factor.
    pub mfa_enabled: bool,
    /// Whether they have set a password.
    pub password_set: bool,
    /// When they were created.
    pub created_at: Timestamp,
}

/// Users of the caller's tenant in the order of their creation, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListUsers {
    /// Who asks.
    pub caller: Caller,
    /// Most users of the page.
    pub limit: u32,
    /// Where the last page ended.
    pub cursor: Option<UserId>,
}

/// The answer to [`ListUsers`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Users {
    /// The users.
    pub users: Vec<UserDetails>,
    /// What to ask for the next page with; null on the last one.
    pub next_cursor: Option<UserId>,
}

/// One user, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetUser {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub user_id: UserId,
}

/// The answer to [`GetUser`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OneUser {
    /// The user.
    pub user: UserDetails,
}

/// Create a user, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateUser {
    /// Who asks.
    pub caller: Caller,
    /// The new user's id, which the gateway made: the same message twice creates one.
    pub user_id: UserId,
    /// Their address, in whatever spelling.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// The hash of the token with which they set their first password.
    pub token: TokenHash,
}

/// Change a user, with `tenant.manage`. What is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeUser {
    /// Who asks.
    pub caller: Caller,
    /// Whom.
    pub user_id: UserId,
    /// Their name.
    pub name: Option<String>,
    /// Their role.
    pub role: Option<Role>,
    /// Whether they can do nothing.
    pub disabled: Option<bool>,
}

/// The answer to [`ChangeUser`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedUser {
    /// The user as they are now.
    pub user: UserDetails,
    /// Proof that every edge enforces it; null where no right has changed.
    pub receipt: Option<Receipt>,
}

/// A one-time token with which a user sets a password, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetPassword {
    /// Who asks.
    pub caller: Caller,
    /// Whose password.
    pub user_id: UserId,
    /// The hash of the token, which the gateway made.
    pub token: TokenHash,
}

/// The answer to [`ResetPassword`] and [`IssueReset`]: the token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordTokenIssued {
    /// Until when.
    pub expires_at: Timestamp,
}

/// Set a password with a one-time token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetPassword {
    /// The hash of the token.
    pub token: TokenHash,
    /// The new password.
    #[serde(serialize_with = "expose")]
    pub new_password: SecretString,
    /// Where the request came from.
    pub origin: Origin,
}

/// Change one's own password. All other sessions end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangePassword {
    /// Who asks.
    pub caller: Caller,
    /// The present password.
    #[serde(serialize_with = "expose")]
    pub current_password: SecretString,
    /// The new one.
    #[serde(serialize_with = "expose")]
    pub new_password: SecretString,
    /// A code of the caller's factor, where there is one.
    #[serde(default, serialize_with = "expose_some")]
    pub code: Option<SecretString>,
}

/// The answer to [`SetPassword`] and [`ChangePassword`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PasswordSet {
    /// Proof that the sessions concerned are dead on every edge.
    pub receipt: Receipt,
}

/// Somebody says that they forgot their password. The answer says nothing about whether there is
/// such a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgotPassword {
    /// The tenant's short name.
    pub tenant: String,
    /// In whatever spelling.
    pub email: String,
    /// Where the request came from.
    pub origin: Origin,
}

/// The answer to [`ForgotPassword`], whatever comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgotPasswordNoted {}

/// A one-time token for somebody who forgot their password, as that is mailed to them. Of several
/// for one event the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueReset {
    /// The event `account.password-forgotten`, no older than half an hour.
    pub event_id: EventId,
    /// The hash of the token, which the mailer made.
    pub token: TokenHash,
}

requests! {
    ListUsers => Users, UserList, SHORT;
    GetUser => OneUser, UserGet, SHORT;
    CreateUser => OneUser, UserCreate, SHORT;
    ChangeUser => ChangedUser, UserChange, WITH_RECEIPT;
    ResetPassword => PasswordTokenIssued, UserResetPassword, SHORT;
    SetPassword => PasswordSet, AccountSetPassword, WITH_RECEIPT;
    ChangePassword => PasswordSet, AccountChangePassword, WITH_RECEIPT;
    ForgotPassword => ForgotPasswordNoted, AccountForgotPassword, SHORT;
    IssueReset => PasswordTokenIssued, AccountIssueReset, SHORT;
}
