//! Roles and what they permit. Pure rules.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A built-in role. Ordered: a later one includes the earlier ones.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[cfg_attr(
    feature = "database",
    derive(sqlx::Type),
    sqlx(type_name = "text", rename_all = "lowercase")
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everybody.
    Member,
    /// Decides about others' emergencies and reads the record.
    Manager,
    /// Everything.
    Admin,
}

/// All roles, lowest first.
pub const ROLES: [Role; 3] = [Role::Member, Role::Manager, Role::Admin];

impl Role {
    /// The name, as in JSON and in `X-Auth-Role`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Manager => "manager",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the roles are member, manager and admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        ROLES.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// Something that one may be allowed to do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
pub enum Permission {
    /// Policies and users.
    #[serde(rename = "tenant.manage")]
    TenantManage,
    /// Ask for emergency access.
    #[serde(rename = "emergency.request")]
    EmergencyRequest,
    /// Decide about others' requests.
    #[serde(rename = "emergency.approve")]
    EmergencyApprove,
    /// End others' grants.
    #[serde(rename = "emergency.revoke")]
    EmergencyRevoke,
    /// See and end others' sessions.
    #[serde(rename = "session.revoke-any")]
    SessionRevokeAny,
    /// Read the audit record and the state of the edges.
    #[serde(rename = "audit.read")]
    AuditRead,
}

use Permission::{
    AuditRead, EmergencyApprove, EmergencyRequest, EmergencyRevoke, SessionRevokeAny, TenantManage,
};

/// All permissions.
pub const PERMISSIONS: [Permission; 6] = [
    TenantManage,
    EmergencyRequest,
    EmergencyApprove,
    EmergencyRevoke,
    SessionRevokeAny,
    AuditRead,
];

impl Permission {
    /// The name, as in JSON and in `?permission=`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            TenantManage => "tenant.manage",
            EmergencyRequest => "emergency.request",
            EmergencyApprove => "emergency.approve",
            EmergencyRevoke => "emergency.revoke",
            SessionRevokeAny => "session.revoke-any",
            AuditRead => "audit.read",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown permission")]
pub struct UnknownPermission;

impl FromStr for Permission {
    type Err = UnknownPermission;
    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        PERMISSIONS.into_iter().find(|p| p.as_str() == text).ok_or(UnknownPermission)
    }
}

/// What a role permits by itself.
#[must_use]
pub const fn permissions_of(role: Role) -> &'static [Permission] {
    match role {
        Role::Member => &[EmergencyRequest],
        Role::Manager => &[EmergencyRequest, EmergencyApprove, EmergencyRevoke, AuditRead],
        Role::Admin => &PERMISSIONS,
    }
}

/// What an active grant may add inside Breakglass. Never `tenant.manage` nor `emergency.approve`,
/// so that nobody makes an emergency permanent or approves by it.
const CONFERRED_BY_GRANT: [Permission; 3] = [SessionRevokeAny, EmergencyRevoke, AuditRead];

/// Whether somebody of role `assigned`, elevated to `elevated` or not, has a permission.
#[must_use]
pub fn permits(assigned: Role, elevated: Option<Role>, permission: Permission) -> bool {
    permissions_of(assigned).contains(&permission)
        || elevated.is_some_and(|role| confers(role, permission))
}

fn confers(elevated: Role, permission: Permission) -> bool {
    CONFERRED_BY_GRANT.contains(&permission) && permissions_of(elevated).contains(&permission)
}

/// The assigned roles that have a permission by themselves.
#[must_use]
pub fn permitted(permission: Permission) -> Vec<Role> {
    ROLES.into_iter().filter(|role| permits(*role, None, permission)).collect()
}

/// The roles that a grant confers a permission with.
#[must_use]
pub fn conferring(permission: Permission) -> Vec<Role> {
    ROLES.into_iter().filter(|role| confers(*role, permission)).collect()
}

/// All that [`permits`] allows.
#[must_use]
pub fn effective_permissions(assigned: Role, elevated: Option<Role>) -> Vec<Permission> {
    PERMISSIONS.into_iter().filter(|p| permits(assigned, elevated, *p)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_role_includes_the_lower() {
        for pair in ROLES.windows(2) {
            for permission in permissions_of(pair[0]) {
                assert!(permits(pair[1], None, *permission));
            }
        }
    }

    #[test]
    fn nobody_is_elevated_by_elevation() {
        for elevated in ROLES {
            for forbidden in [TenantManage, EmergencyApprove] {
                assert!(!permits(Role::Member, Some(elevated), forbidden));
            }
        }
        assert!(permits(Role::Member, Some(Role::Admin), SessionRevokeAny));
        assert!(!permits(Role::Member, Some(Role::Manager), SessionRevokeAny));
    }

    #[test]
    fn what_a_list_of_roles_says_is_what_permits_says() {
        for permission in PERMISSIONS {
            let (permitted, conferring) = (permitted(permission), conferring(permission));
            for assigned in ROLES {
                for elevated in ROLES.into_iter().map(Some).chain([None]) {
                    let listed = permitted.contains(&assigned)
                        || elevated.is_some_and(|role| conferring.contains(&role));
                    assert_eq!(listed, permits(assigned, elevated, permission));
                }
            }
        }
        assert_eq!(conferring(SessionRevokeAny), [Role::Admin]);
        assert_eq!(conferring(EmergencyApprove), []);
    }

    #[test]
    fn names_parse_back() {
        for role in ROLES {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        for permission in PERMISSIONS {
            assert_eq!(permission.as_str().parse(), Ok(permission));
            let json = serde_json::to_value(permission).expect("serializes");
            assert_eq!(json, permission.as_str());
        }
    }
}
