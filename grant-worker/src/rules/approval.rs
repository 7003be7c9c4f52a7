//! When a request has the approvals that it takes, and who may decide and review.

use std::collections::HashSet;

use shared::{
    database::caller::Known,
    id::UserId,
    message::grant::{Decision, EmergencyPolicy, SHORTEST_SECONDS},
    refusal::{Code, Refusal},
    role::{Permission, Role, permits},
};

use super::policy::may_request;

/// What somebody decided about a request, and how they stand now.
#[derive(Debug, Clone, Copy)]
pub struct Vote {
    /// Who.
    pub user: UserId,
    /// What.
    pub decision: Decision,
    /// Their role without any grant.
    pub assigned: Role,
    /// Whether they can do nothing any more.
    pub disabled: bool,
}

/// How many approvals count: of distinct people who may approve now, never of the requester.
#[must_use]
pub fn count(policy: &EmergencyPolicy, requester: UserId, votes: &[Vote]) -> u32 {
    let approvers: HashSet<_> = votes
        .iter()
        .filter(|vote| vote.decision == Decision::Approve)
        .filter(|vote| vote.user != requester && !vote.disabled && approves(policy, vote.assigned))
        .map(|vote| vote.user)
        .collect();
    u32::try_from(approvers.len()).unwrap_or(u32::MAX)
}

/// Whether somebody with this assigned role may approve under a policy.
#[must_use]
pub fn approves(policy: &EmergencyPolicy, assigned: Role) -> bool {
    policy.approvers.contains(&assigned) && permits(assigned, None, Permission::EmergencyApprove)
}

/// Refuses who may not decide about the request of `owner`.
pub fn may_decide(policy: &EmergencyPolicy, caller: &Known, owner: UserId) -> Result<(), Refusal> {
    if owner == caller.user_id {
        let detail = "This is your own request: others have to decide about it.";
        return Err(Refusal::new(Code::SelfApproval, detail));
    }
    if approves(policy, caller.role) {
        return Ok(());
    }
    let detail = format!("The policy does not let the role {} decide.", caller.role);
    Err(Refusal::new(Code::Forbidden, detail))
}

/// Refuses who may not review how `owner` used a grant.
pub fn may_review(caller: &Known, owner: UserId) -> Result<(), Refusal> {
    if owner == caller.user_id {
        let detail = "This was your own grant: somebody else has to review it.";
        return Err(Refusal::new(Code::SelfApproval, detail));
    }
    Ok(())
}

/// A request that waited, as it would become active.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// The requester's role without any grant.
    pub assigned: Role,
    /// How many others they hold now, the one to be replaced aside.
    pub active: u32,
    /// To which role.
    pub role: Role,
    /// For how long.
    pub duration_seconds: u32,
    /// Seconds since the first grant that it extends began; absent: it extends none.
    pub spent_seconds: Option<u32>,
}

/// Whether the policy now in force still lets a request become active that has its approvals; says
/// for how long.
pub fn judge_activation(policy: &EmergencyPolicy, waiting: &Waiting) -> Result<u32, Refusal> {
    may_request(policy, waiting.assigned).map_err(|_| changed("its requesters"))?;
    if waiting.role != policy.role {
        return Err(changed("the role that it grants"));
    }
    if waiting.duration_seconds > policy.max_duration_seconds {
        return Err(changed("how long a grant may last"));
    }
    if waiting.active >= policy.max_active_per_user {
        let detail = "The requester holds as many grants as the policy allows by now.";
        return Err(Refusal::new(Code::TooManyActive, detail));
    }
    let left = policy.max_duration_seconds.saturating_sub(waiting.spent_seconds.unwrap_or(0));
    let duration = waiting.duration_seconds.min(left);
    if duration < SHORTEST_SECONDS {
        let detail = "The time that the policy allows from the first activation is over.";
        return Err(Refusal::new(Code::DurationTooLong, detail));
    }
    Ok(duration)
}

fn changed(what: &str) -> Refusal {
    let detail =
        format!("The policy has changed since the request, in {what}; it has to be made again.");
    Refusal::new(Code::Conflict, detail)
}

#[cfg(test)]
mod tests {
    use shared::role::ROLES;
    use uuid::Uuid;

    use super::{super::policy::tests::policy, *};

    const REQUESTER: UserId = UserId(Uuid::from_u128(0));

    fn vote(user: u128, assigned: Role) -> Vote {
        let user = UserId(Uuid::from_u128(user));
        Vote { user, decision: Decision::Approve, assigned, disabled: false }
    }

    #[test]
    fn distinct_people_count_who_may_approve_now() {
        let count = |votes: &[Vote]| count(&policy(), REQUESTER, votes);
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[vote(1, Role::Manager), vote(2, Role::Admin)]), 2);
        assert_eq!(count(&[vote(1, Role::Manager), vote(1, Role::Manager)]), 1);
        assert_eq!(count(&[vote(0, Role::Admin)]), 0, "one's own");
        assert_eq!(count(&[vote(1, Role::Member)]), 0, "not permitted any more");
        assert_eq!(count(&[Vote { disabled: true, ..vote(1, Role::Admin) }]), 0);
        assert_eq!(count(&[Vote { decision: Decision::Deny, ..vote(1, Role::Admin) }]), 0);
    }

    #[test]
    fn the_policy_narrows_who_approves_and_widens_it_for_nobody() {
        let of = |approvers: &[Role], assigned| {
            let approvers = approvers.iter().copied().collect();
            approves(&EmergencyPolicy { approvers, ..policy() }, assigned)
        };
        assert!(!of(&[Role::Admin], Role::Manager));
        assert!(of(&[Role::Admin], Role::Admin));
        assert!(!of(&ROLES, Role::Member));
        assert!(!of(&[], Role::Admin));
    }

    #[test]
    fn a_request_that_waited_is_judged_by_the_policy_now_in_force() {
        let waiting = Waiting {
            assigned: Role::Member,
            active: 0,
            role: Role::Admin,
            duration_seconds: 3_600,
            spent_seconds: None,
        };
        let judge = |policy: &EmergencyPolicy, waiting: Waiting| {
            judge_activation(policy, &waiting).map_err(|refusal| refusal.code)
        };
        assert_eq!(judge(&policy(), waiting), Ok(3_600));
        let extended = |spent| Waiting { spent_seconds: Some(spent), ..waiting };
        assert_eq!(judge(&policy(), extended(10_800)), Ok(3_600));
        assert_eq!(judge(&policy(), extended(14_000)), Ok(400));
        assert_eq!(judge(&policy(), extended(14_396)), Err(Code::DurationTooLong));
        assert_eq!(judge(&policy(), Waiting { active: 3, ..waiting }), Err(Code::TooManyActive));
        for changed in [
            EmergencyPolicy { requesters: [Role::Admin].into(), ..policy() },
            EmergencyPolicy { role: Role::Manager, ..policy() },
            EmergencyPolicy { max_duration_seconds: 3_599, ..policy() },
        ] {
            assert_eq!(judge(&changed, waiting), Err(Code::Conflict));
        }
    }
}
