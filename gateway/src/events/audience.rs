//! Who hears of an event. Pure rules.
//!
//! Nobody hears of what they could not look up: the user whom it concerns does, who may read the record
//! does, and besides whoever may see such things of others.

use serde_json::Value;
use shared::role::{
    Permission::{
        self, AuditRead, EmergencyApprove, EmergencyRevoke, SessionRevokeAny, TenantManage,
    },
    Role, permits,
};

/// That one or more sessions of a user have ended. Told by the gateway itself, of revisions that it
/// applies, for there is no event of it.
pub(super) const SESSION_ENDED: &str = "session.ended";

/// Who hears of an event besides the user whom it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Everybody in the tenant.
    Everybody,
    /// Who has one of these permissions.
    Holders(&'static [Permission]),
}

use Audience::{Everybody, Holders};

/// Of pending and past grants.
const GRANTS: Audience = Holders(&[AuditRead, EmergencyApprove, EmergencyRevoke]);
const TENANT: Audience = Holders(&[AuditRead, TenantManage]);
const SESSIONS: Audience = Holders(&[AuditRead, SessionRevokeAny]);
const RECORD: Audience = Holders(&[AuditRead]);

/// Who hears of an event of this kind with these particulars.
pub(super) fn of(kind: &str, data: &Value) -> Audience {
    match kind {
        // Everybody sees active grants, and so that they have ended; and the policies.
        "grant.activated"
        | "grant.extended"
        | "grant.revoked"
        | "emergency-policy.changed"
        | "mfa-policy.changed" => Everybody,
        // A request that nobody decided about expires as well: that is for those who could see it.
        "grant.expired" if data["expires_at"].is_string() => Everybody,
        "grant.requested"
        | "grant.approved"
        | "grant.bypassed"
        | "grant.denied"
        | "grant.cancelled"
        | "grant.expired"
        | "grant.expiring"
        | "grant.review-overdue"
        | "grant.reviewed" => GRANTS,
        "user.created"
        | "user.changed"
        | "user.role-changed"
        | "user.disabled"
        | "user.enabled"
        | "user.password-reset-issued"
        | "account.password-changed"
        | "account.password-set"
        | "account.password-forgotten"
        | "account.locked"
        | "mfa.enabled"
        | "mfa.replaced"
        | "mfa.disabled"
        | "mfa.reset"
        | "mfa.backup-codes-renewed"
        | "mfa.grace-ended"
        | "notification-endpoint.disabled" => TENANT,
        "session.new-device" | SESSION_ENDED => SESSIONS,
        _ => RECORD,
    }
}

impl Audience {
    /// Whether somebody hears of it: who it concerns or not, of role `assigned`, elevated or not.
    pub(super) fn includes(self, concerned: bool, assigned: Role, elevated: Option<Role>) -> bool {
        let may = |permission: &Permission| permits(assigned, elevated, *permission);
        concerned
            || match self {
                Everybody => true,
                Holders(permissions) => permissions.iter().any(may),
            }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::role::Role::{Admin, Manager, Member};

    use super::*;

    /// Which of these hear of another's event: a member, a manager, an admin, a member who is elevated
    /// to manager, one who is elevated to admin.
    fn others(kind: &str, data: &Value) -> [bool; 5] {
        let audience = of(kind, data);
        let people = [
            (Member, None),
            (Manager, None),
            (Admin, None),
            (Member, Some(Manager)),
            (Member, Some(Admin)),
        ];
        people.map(|(assigned, elevated)| {
            assert!(audience.includes(true, assigned, elevated), "one's own {kind}");
            audience.includes(false, assigned, elevated)
        })
    }

    const ALL: [bool; 5] = [true; 5];
    const NO_PLAIN_MEMBER: [bool; 5] = [false, true, true, true, true];

    #[test]
    fn everybody_hears_of_active_grants_and_policies() {
        let none = json!({});
        for kind in ["grant.activated", "grant.extended", "grant.revoked"] {
            assert_eq!(others(kind, &none), ALL, "{kind}");
        }
        assert_eq!(others("grant.expired", &json!({"expires_at": "2026-11-22T03:00:00Z"})), ALL);
        for kind in ["emergency-policy.changed", "mfa-policy.changed"] {
            assert_eq!(others(kind, &none), ALL, "{kind}");
        }
    }

    #[test]
    fn a_member_hears_nothing_else_of_others_unless_elevated() {
        let kinds = [
            "grant.requested",
            "grant.approved",
            "grant.bypassed",
            "grant.denied",
            "grant.cancelled",
            "grant.expired",
            "grant.expiring",
            "grant.review-overdue",
            "grant.reviewed",
            "user.created",
            "account.locked",
            "mfa.reset",
            "notification-endpoint.disabled",
            "session.new-device",
            SESSION_ENDED,
            "audit.head-signed",
            "made.up",
            "",
        ];
        for kind in kinds {
            assert_eq!(others(kind, &json!({})), NO_PLAIN_MEMBER, "{kind}");
        }
        let waited = json!({"pending_until": "2026-11-22T03:00:00Z"});
        assert_eq!(others("grant.expired", &waited), NO_PLAIN_MEMBER);
    }

    #[test]
    fn each_kind_is_for_who_may_see_such_things_and_for_readers_of_the_record() {
        let holders = |kind| match of(kind, &json!({})) {
            Everybody => panic!("{kind} is for everybody"),
            Holders(permissions) => permissions,
        };
        assert_eq!(holders("grant.requested"), [AuditRead, EmergencyApprove, EmergencyRevoke]);
        assert_eq!(holders("user.disabled"), [AuditRead, TenantManage]);
        assert_eq!(holders(SESSION_ENDED), [AuditRead, SessionRevokeAny]);
        assert_eq!(holders("grant.made-up"), [AuditRead]);
    }
}
