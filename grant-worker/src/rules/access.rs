//! Who may see a grant, and who may end it.

use shared::{
    database::caller::Known,
    id::UserId,
    message::grant::{Grant, State},
    refusal::{Code, Refusal},
    role::Permission,
};

/// Whether the caller sees all grants of the tenant. Everybody else sees their own and those that
/// are active.
#[must_use]
pub fn sees_all(caller: &Known) -> bool {
    [Permission::EmergencyApprove, Permission::EmergencyRevoke, Permission::AuditRead]
        .into_iter()
        .any(|permission| caller.may(permission))
}

/// Whether the caller may end a grant, given as its user and its state as of now; `None` is one
/// that the caller's tenant does not have.
///
/// One's own: yes. Others' need `emergency.revoke`. Who lacks it is told so (403) about a grant
/// that everybody sees, and nothing (404) about what they cannot see, be it there or not.
pub fn may_revoke(caller: &Known, grant: Option<(UserId, State)>) -> Result<(), Refusal> {
    let Some((owner, state)) = grant else { return Err(Refusal::not_found()) };
    if owner == caller.user_id {
        return Ok(());
    }
    match caller.require(Permission::EmergencyRevoke) {
        Err(_) if state != State::Active && !sees_all(caller) => Err(Refusal::not_found()),
        decision => decision,
    }
}

/// The grant, as of now, if it is the caller's own. Others learn of one that they see that it is not
/// theirs (403), and of any other nothing (404).
pub fn own(caller: &Known, grant: Option<Grant>) -> Result<Grant, Refusal> {
    let grant = grant.ok_or_else(Refusal::not_found)?;
    if grant.user.id == caller.user_id {
        Ok(grant)
    } else if sees_all(caller) {
        Err(Refusal::new(Code::Forbidden, "This is somebody else's."))
    } else {
        Err(hidden(grant.state))
    }
}

/// What is told about somebody else's grant to who sees but those that are active.
#[must_use]
pub fn hidden(state: State) -> Refusal {
    if state == State::Active {
        Refusal::new(Code::Forbidden, "This is somebody else's.")
    } else {
        Refusal::not_found()
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        clock::Timestamp,
        id::{GrantId, SessionId, TenantId},
        message::{grant::STATES, session::Elevation},
        role::{ROLES, Role},
    };
    use uuid::Uuid;

    use super::*;

    const OWN: UserId = UserId(Uuid::from_u128(1));
    const OTHER: UserId = UserId(Uuid::from_u128(2));

    fn caller(role: Role, elevated: Option<Role>) -> Known {
        let now = Timestamp::from_micros(0);
        Known {
            user_id: OWN,
            tenant_id: TenantId(Uuid::nil()),
            session_id: SessionId(Uuid::nil()),
            role,
            elevation: elevated.map(|role| Elevation {
                grant_id: GrantId(Uuid::nil()),
                role,
                expires_at: now,
            }),
            enrollment_only: false,
            now,
        }
    }

    #[test]
    fn everybody_may_end_their_own() {
        for role in ROLES {
            for state in STATES {
                assert_eq!(may_revoke(&caller(role, None), Some((OWN, state))), Ok(()));
            }
        }
    }

    #[test]
    fn others_grants_need_the_permission_and_hide_without_it() {
        for state in STATES {
            let grant = Some((OTHER, state));
            let refused = |caller| may_revoke(&caller, grant).map_err(|refusal| refusal.code);
            let expected = if state == State::Active { Code::Forbidden } else { Code::NotFound };
            assert_eq!(refused(caller(Role::Member, None)), Err(expected), "{state:?}");
            assert_eq!(refused(caller(Role::Manager, None)), Ok(()));
            assert_eq!(refused(caller(Role::Admin, None)), Ok(()));
            assert_eq!(refused(caller(Role::Member, Some(Role::Admin))), Ok(()));
        }
    }

    #[test]
    fn what_the_tenant_does_not_have_is_not_found() {
        for role in ROLES {
            let refusal = may_revoke(&caller(role, None), None).expect_err("refused");
            assert_eq!(refusal.code, Code::NotFound);
        }
    }

    #[test]
    fn members_see_what_is_active_and_their_own() {
        assert!(!sees_all(&caller(Role::Member, None)));
        assert!(sees_all(&caller(Role::Member, Some(Role::Manager))));
        assert!(sees_all(&caller(Role::Manager, None)));
        assert!(sees_all(&caller(Role::Admin, None)));
    }
}
