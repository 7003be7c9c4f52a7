//! What a tenant's policy says to a request.

use shared::{
    message::grant::SHORTEST_SECONDS,
    refusal::{Code, Refusal},
    role::Role,
};

use super::wording;

/// How a tenant grants emergency access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// To which role a grant raises.
    pub role: Role,
    /// Assigned roles that may ask.
    pub requesters: Vec<Role>,
    /// Length of a grant where none is asked for.
    pub default_duration_seconds: u32,
    /// Greatest length of a grant.
    pub max_duration_seconds: u32,
    /// Fewest meaningful characters of a reason.
    pub min_reason_length: u32,
    /// Most grants that a user may hold at once.
    pub max_active_per_user: u32,
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Why.
    pub reason: &'a str,
    /// The incident's ticket.
    pub ticket: Option<&'a str>,
    /// For how long; absent: as the policy says.
    pub duration_seconds: Option<u32>,
    /// To which role; absent: as the policy says.
    pub role: Option<Role>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Requester<'a> {
    /// The role without any grant: nobody is elevated by elevation.
    pub assigned: Role,
    /// How many grants they hold now, by the clock.
    pub active: u32,
    /// The reason of their latest grant.
    pub last_reason: Option<&'a str>,
}

/// What is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'a> {
    /// To which role.
    pub role: Role,
    /// The incident's ticket.
    pub ticket: Option<&'a str>,
    /// For how long.
    pub duration_seconds: u32,
}

impl Policy {
    /// Judges a request: first whether they may ask, then what they ask, then what they hold.
    pub fn judge<'a>(&self, ask: &Ask<'a>, by: &Requester<'_>) -> Result<Terms<'a>, Refusal> {
        if !self.requesters.contains(&by.assigned) {
            return Err(Refusal::new(
                Code::NotARequester,
                format!("The policy does not let the role {} ask.", by.assigned),
            ));
        }
        wording::judge_reason(ask.reason, self.min_reason_length, by.last_reason)?;
        let ticket = wording::ticket(ask.ticket)?;
        if let Some(role) = ask.role.filter(|role| *role != self.role) {
            let detail = format!("The policy grants the role {}, not {role}.", self.role);
            return Err(Refusal::new(Code::BadRequest, detail));
        }
        let duration_seconds = self.judge_duration(ask.duration_seconds)?;
        if by.active >= self.max_active_per_user {
            let detail = format!(
                "You hold {} active grants and the policy allows {}; revoke one first.",
                by.active, self.max_active_per_user,
            );
            return Err(Refusal::new(Code::TooManyActive, detail));
        }
        Ok(Terms { role: self.role, ticket, duration_seconds })
    }

    fn judge_duration(&self, asked: Option<u32>) -> Result<u32, Refusal> {
        let duration = asked.unwrap_or(self.default_duration_seconds);
        if duration < SHORTEST_SECONDS {
            let detail = format!("A grant lasts at least {SHORTEST_SECONDS} seconds.");
            return Err(Refusal::new(Code::BadRequest, detail));
        }
        if duration > self.max_duration_seconds {
            let detail =
                format!("The policy allows at most {} seconds.", self.max_duration_seconds);
            return Err(Refusal::new(Code::DurationTooLong, detail));
        }
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use shared::role::ROLES;

    use super::*;

    fn policy() -> Policy {
        Policy {
            role: Role::Admin,
            requesters: ROLES.to_vec(),
            default_duration_seconds: 3_600,
            max_duration_seconds: 14_400,
            min_reason_length: 15,
            max_active_per_user: 3,
        }
    }

    const ASK: Ask<'_> = Ask {
        reason: "Primary database is down",
        ticket: None,
        duration_seconds: None,
        role: None,
    };
    const BY: Requester<'_> = Requester { assigned: Role::Member, active: 0, last_reason: None };

    fn code(policy: &Policy, ask: Ask<'_>, by: Requester<'_>) -> Option<Code> {
        policy.judge(&ask, &by).err().map(|refusal| refusal.code)
    }

    #[test]
    fn what_is_not_asked_for_is_as_the_policy_says() {
        let terms = Terms { role: Role::Admin, ticket: None, duration_seconds: 3_600 };
        assert_eq!(policy().judge(&ASK, &BY), Ok(terms));
        let ask = Ask {
            ticket: Some("INC-1"),
            duration_seconds: Some(5),
            role: Some(Role::Admin),
            ..ASK
        };
        let terms = Terms { ticket: Some("INC-1"), duration_seconds: 5, ..terms };
        assert_eq!(policy().judge(&ask, &BY), Ok(terms));
    }

    #[test]
    fn only_requesters_ask() {
        let policy = Policy { requesters: vec![Role::Manager], ..policy() };
        for assigned in ROLES {
            let expected = (assigned != Role::Manager).then_some(Code::NotARequester);
            assert_eq!(code(&policy, ASK, Requester { assigned, ..BY }), expected);
            // Whoever may not ask learns nothing about what they asked.
            let empty = Ask { reason: "", ..ASK };
            let expected = expected.or(Some(Code::ReasonRequired));
            assert_eq!(code(&policy, empty, Requester { assigned, ..BY }), expected);
        }
        assert_eq!(
            code(&Policy { requesters: vec![], ..policy }, ASK, BY),
            Some(Code::NotARequester)
        );
    }

    #[test]
    fn a_duration_is_within_its_bounds() {
        for (seconds, expected) in [
            (0, Some(Code::BadRequest)),
            (4, Some(Code::BadRequest)),
            (5, None),
            (14_400, None),
            (14_401, Some(Code::DurationTooLong)),
            (u32::MAX, Some(Code::DurationTooLong)),
        ] {
            let ask = Ask { duration_seconds: Some(seconds), ..ASK };
            assert_eq!(code(&policy(), ask, BY), expected, "{seconds}");
        }
    }

    #[test]
    fn another_role_than_the_policys_is_refused() {
        for role in ROLES {
            let expected = (role != Role::Admin).then_some(Code::BadRequest);
            assert_eq!(code(&policy(), Ask { role: Some(role), ..ASK }, BY), expected);
        }
    }

    #[test]
    fn so_many_grants_at_once_and_no_more() {
        for (active, expected) in
            [(2, None), (3, Some(Code::TooManyActive)), (4, Some(Code::TooManyActive))]
        {
            assert_eq!(code(&policy(), ASK, Requester { active, ..BY }), expected);
        }
    }

    #[test]
    fn the_last_reason_does_not_count_twice() {
        let by = Requester { last_reason: Some(ASK.reason), ..BY };
        assert_eq!(code(&policy(), ASK, by), Some(Code::ReasonTooWeak));
    }
}
