//! Who somebody is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    id::{GrantId, TenantId, UserId},
    message::{Caller, SHORT, requests, session::Session},
    role::{Permission, Role},
};

/// Who is the caller?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// Who asks.
    pub caller: Caller,
}

requests! {
    Me => Account, AccountMe, SHORT;
}

/// The caller, as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The person.
    pub user: User,
    /// The organisation.
    pub tenant: Tenant,
    /// The session that asks.
    pub session: Session,
    /// All that the caller may do inside Breakglass now.
    pub permissions: Vec<Permission>,
    /// The grant that raises the caller's role now; grant-worker knows more of it.
    pub elevation: Option<GrantId>,
    /// The second factor.
    pub mfa: Mfa,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The user.
    pub id: UserId,
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their assigned role.
    pub role: Role,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// The tenant.
    pub id: TenantId,
    /// Its short name, as people type it to sign in.
    pub slug: String,
    /// Its name.
    pub name: String,
}

/// How a user stands with two-factor sign-in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mfa {
    /// Whether a factor is set up.
    pub enabled: bool,
    /// Whether policy requires one.
    pub required: bool,
    /// Until when one may do without.
    pub grace_ends_at: Option<Timestamp>,
    /// Unused backup codes.
    pub backup_codes_left: u32,
}
