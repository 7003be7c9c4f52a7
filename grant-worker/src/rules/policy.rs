//! What a tenant's policy says to a request, and which policies there can be.

use regex::{Regex, RegexBuilder};
use shared::{
    message::grant::{EmergencyPolicy, SHORTEST_SECONDS},
    refusal::{Code, Refusal},
    role::{Permission, Role, permits},
};

use super::wording;

/// The longest of any time in a policy: 30 days.
const LONGEST_SECONDS: u32 = 30 * 24 * 3_600;
/// Most requests of a user in an hour: people are told of each.
pub const MOST_IN_AN_HOUR: u32 = 100;
/// Most characters of a pattern.
const LONGEST_PATTERN: usize = 500;
/// Greatest size of a compiled pattern, in bytes.
const LARGEST_PATTERN: usize = 256 * 1024;

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
    /// Whether to go without approvals.
    pub bypass: bool,
    /// What it is to replace.
    pub extends: Option<Extends>,
}

/// The grant that a request is to replace.
#[derive(Debug, Clone, Copy)]
pub struct Extends {
    /// How many it has replaced itself, one after the other.
    pub extensions: u32,
    /// Seconds since the first of them began, rounded up.
    pub spent_seconds: u32,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Requester<'a> {
    /// The role without any grant: nobody is elevated by elevation.
    pub assigned: Role,
    /// How many grants they hold or wait for now, by the clock; the one to be replaced aside.
    pub held: u32,
    /// The reason of their latest grant.
    pub last_reason: Option<&'a str>,
    /// Whether they have a second factor.
    pub has_factor: bool,
    /// Whether the review of a use of theirs is overdue.
    pub review_overdue: bool,
    /// Seconds until the policy's cool-down is over; 0: it is.
    pub cooling_seconds: u32,
    /// How many requests they made in the last hour.
    pub last_hour: u32,
}

/// What is granted, or waits for approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// To which role.
    pub role: Role,
    /// The incident's ticket.
    pub ticket: Option<String>,
    /// For how long.
    pub duration_seconds: u32,
    /// How many approvals it takes.
    pub approvals_needed: u32,
    /// Whether it goes without those that the policy wants.
    pub bypassed: bool,
    /// How long after its end its use is to be reviewed.
    pub review_within_seconds: u32,
    /// Whether a code of the second factor has to be shown.
    pub wants_code: bool,
}

/// Judges a request: first whether they may ask, then what they ask, then what they hold.
pub fn judge(
    policy: &EmergencyPolicy,
    ask: &Ask<'_>,
    by: &Requester<'_>,
) -> Result<Terms, Refusal> {
    may_request(policy, by.assigned)?;
    let bypassed = ask.bypass && policy.bypass.allowed;
    if ask.bypass && !bypassed && policy.approvals_needed > 0 {
        let detail = "The policy lets nobody go without approvals; ask without `bypass_approval`.";
        return Err(Refusal::new(Code::Forbidden, detail));
    }
    if by.review_overdue && !bypassed {
        return Err(Refusal::new(
            Code::ReviewOverdue,
            "How you used an earlier grant was not reviewed in time; have somebody review it first.",
        ));
    }
    wording::judge_reason(ask.reason, policy.min_reason_length, by.last_reason)?;
    let ticket = judge_ticket(policy, ask.ticket)?;
    if let Some(role) = ask.role.filter(|role| *role != policy.role) {
        let detail = format!("The policy grants the role {}, not {role}.", policy.role);
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    let longest = if bypassed {
        policy.bypass.max_duration_seconds.min(policy.max_duration_seconds)
    } else {
        policy.max_duration_seconds
    };
    let duration_seconds = judge_duration(policy, ask, longest)?;
    if by.held >= policy.max_active_per_user {
        let detail = format!(
            "You hold or wait for {} grants and the policy allows {}; revoke or cancel one first.",
            by.held, policy.max_active_per_user,
        );
        return Err(Refusal::new(Code::TooManyActive, detail));
    }
    if by.cooling_seconds > 0 && ask.extends.is_none() {
        let detail = format!(
            "Your last grant has only just ended; the policy lets you ask again in {} seconds.",
            by.cooling_seconds,
        );
        let retry_after = Some(by.cooling_seconds);
        return Err(Refusal { retry_after, ..Refusal::new(Code::CoolingDown, detail) });
    }
    if by.last_hour >= MOST_IN_AN_HOUR {
        let detail =
            "You have made too many requests in the last hour; each of them is told to others.";
        return Err(Refusal {
            retry_after: Some(60),
            ..Refusal::new(Code::TooManyAttempts, detail)
        });
    }
    let review = policy.review_within_hours * 3_600;
    Ok(Terms {
        role: policy.role,
        ticket: ticket.map(ToOwned::to_owned),
        duration_seconds,
        approvals_needed: if bypassed { 0 } else { policy.approvals_needed },
        bypassed,
        // Nobody looked beforehand, so somebody looks the sooner afterwards.
        review_within_seconds: if bypassed { review / 4 } else { review },
        wants_code: policy.require_fresh_mfa && by.has_factor,
    })
}

/// Whether somebody with this assigned role may ask.
pub fn may_request(policy: &EmergencyPolicy, assigned: Role) -> Result<(), Refusal> {
    if policy.requesters.contains(&assigned) {
        return Ok(());
    }
    let detail = format!("The policy does not let the role {assigned} ask.");
    Err(Refusal::new(Code::NotARequester, detail))
}

fn judge_duration(policy: &EmergencyPolicy, ask: &Ask<'_>, longest: u32) -> Result<u32, Refusal> {
    let too_long = |detail| Err(Refusal::new(Code::DurationTooLong, detail));
    let duration =
        ask.duration_seconds.unwrap_or_else(|| policy.default_duration_seconds.min(longest));
    if duration < SHORTEST_SECONDS {
        let detail = format!("A grant lasts at least {SHORTEST_SECONDS} seconds.");
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    if let Some(extends) = ask.extends {
        if extends.extensions >= policy.extensions_allowed {
            let detail = format!(
                "The policy lets a grant be extended {} times; ask for a new one.",
                policy.extensions_allowed,
            );
            return Err(Refusal::new(Code::Conflict, detail));
        }
        let left = longest.saturating_sub(extends.spent_seconds);
        if duration > left {
            return too_long(format!(
                "The policy allows {longest} seconds from when you first had access; {left} are left.",
            ));
        }
    }
    if duration > longest {
        return too_long(format!("The policy allows at most {longest} seconds."));
    }
    Ok(duration)
}

fn judge_ticket<'a>(
    policy: &EmergencyPolicy,
    ticket: Option<&'a str>,
) -> Result<Option<&'a str>, Refusal> {
    let ticket = wording::ticket(ticket)?;
    let Some(pattern) = &policy.ticket_pattern else { return Ok(ticket) };
    let whole = whole(pattern).map_err(|_| {
        Refusal::new(Code::TicketInvalid, "No ticket matches the policy; its pattern is broken.")
    })?;
    if ticket.is_some_and(|ticket| whole.is_match(ticket)) {
        Ok(ticket)
    } else {
        let detail = format!("The policy wants a ticket that matches {pattern}.");
        Err(Refusal::new(Code::TicketInvalid, detail))
    }
}

/// A pattern that matches a whole text. Matching takes time linear in the text.
fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
    // By itself as well: what is unbalanced could undo the anchors.
    compile(pattern)?;
    compile(&format!(r"\A(?:{pattern})\z"))
}

/// Refuses a policy that cannot be.
pub fn check(policy: &EmergencyPolicy) -> Result<(), Refusal> {
    let length = SHORTEST_SECONDS..=LONGEST_SECONDS;
    let bounds = [
        ("max_duration_seconds", policy.max_duration_seconds, length.clone()),
        (
            "default_duration_seconds",
            policy.default_duration_seconds,
            SHORTEST_SECONDS..=policy.max_duration_seconds,
        ),
        ("approvals_needed", policy.approvals_needed, 0..=20),
        ("min_reason_length", policy.min_reason_length, 1..=2_000),
        ("max_active_per_user", policy.max_active_per_user, 1..=100),
        ("cooldown_seconds", policy.cooldown_seconds, 0..=LONGEST_SECONDS),
        ("pending_timeout_seconds", policy.pending_timeout_seconds, length.clone()),
        ("review_within_hours", policy.review_within_hours, 0..=8_760),
        ("extensions_allowed", policy.extensions_allowed, 0..=100),
        ("bypass.max_duration_seconds", policy.bypass.max_duration_seconds, length),
    ];
    for (name, value, bounds) in bounds {
        if !bounds.contains(&value) {
            let (least, most) = bounds.into_inner();
            return Err(bad(format!("`{name}` is {least} to {most}.")));
        }
    }
    let approves = |role: &Role| permits(*role, None, Permission::EmergencyApprove);
    if let Some(role) = policy.approvers.iter().find(|role| !approves(role)) {
        return Err(bad(format!("`approvers`: the role {role} has no permission to approve.")));
    }
    if policy.approvals_needed > 0 && policy.approvers.is_empty() {
        return Err(bad("`approvers` is empty, so nobody could approve.".to_owned()));
    }
    if let Some(pattern) = &policy.ticket_pattern {
        if pattern.is_empty() || pattern.chars().count() > LONGEST_PATTERN {
            return Err(bad(format!("`ticket_pattern` has 1 to {LONGEST_PATTERN} characters.")));
        }
        whole(pattern).map_err(|error| bad(format!("`ticket_pattern`: {error}")))?;
    }
    Ok(())
}

fn bad(detail: String) -> Refusal {
    Refusal::new(Code::BadRequest, detail)
}

#[cfg(test)]
pub(crate) mod tests {
    use shared::{
        message::grant::{AppliesTo, Bypass},
        role::ROLES,
    };

    use super::*;

    pub(crate) fn policy() -> EmergencyPolicy {
        EmergencyPolicy {
            role: Role::Admin,
            applies_to: AppliesTo::User,
            requesters: ROLES.into(),
            max_duration_seconds: 14_400,
            default_duration_seconds: 3_600,
            approvals_needed: 0,
            approvers: [Role::Manager, Role::Admin].into(),
            require_fresh_mfa: true,
            min_reason_length: 15,
            ticket_pattern: None,
            max_active_per_user: 3,
            cooldown_seconds: 0,
            pending_timeout_seconds: 3_600,
            review_within_hours: 24,
            extensions_allowed: 3,
            bypass: Bypass { allowed: false, max_duration_seconds: 1_800 },
        }
    }

    const ASK: Ask<'_> = Ask {
        reason: "Primary database is down",
        ticket: None,
        duration_seconds: None,
        role: None,
        bypass: false,
        extends: None,
    };
    const BY: Requester<'_> = Requester {
        assigned: Role::Member,
        held: 0,
        last_reason: None,
        has_factor: false,
        review_overdue: false,
        cooling_seconds: 0,
        last_hour: 0,
    };
    const TERMS: Terms = Terms {
        role: Role::Admin,
        ticket: None,
        duration_seconds: 3_600,
        approvals_needed: 0,
        bypassed: false,
        review_within_seconds: 86_400,
        wants_code: false,
    };

    fn code(policy: &EmergencyPolicy, ask: Ask<'_>, by: Requester<'_>) -> Option<Code> {
        judge(policy, &ask, &by).err().map(|refusal| refusal.code)
    }

    #[test]
    fn what_is_not_asked_for_is_as_the_policy_says() {
        assert_eq!(judge(&policy(), &ASK, &BY), Ok(TERMS));
        let ask = Ask {
            ticket: Some("INC-1"),
            duration_seconds: Some(5),
            role: Some(Role::Admin),
            ..ASK
        };
        let terms = Terms { ticket: Some("INC-1".to_owned()), duration_seconds: 5, ..TERMS };
        assert_eq!(judge(&policy(), &ask, &BY), Ok(terms));
    }

    #[test]
    fn only_requesters_ask() {
        let policy = EmergencyPolicy { requesters: [Role::Manager].into(), ..policy() };
        for assigned in ROLES {
            let expected = (assigned != Role::Manager).then_some(Code::NotARequester);
            assert_eq!(code(&policy, ASK, Requester { assigned, ..BY }), expected);
            // Whoever may not ask learns nothing about what they asked.
            let empty = Ask { reason: "", ..ASK };
            let expected = expected.or(Some(Code::ReasonRequired));
            assert_eq!(code(&policy, empty, Requester { assigned, ..BY }), expected);
        }
        let nobody = EmergencyPolicy { requesters: [].into(), ..policy };
        assert_eq!(code(&nobody, ASK, BY), Some(Code::NotARequester));
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
        for (held, expected) in
            [(2, None), (3, Some(Code::TooManyActive)), (4, Some(Code::TooManyActive))]
        {
            assert_eq!(code(&policy(), ASK, Requester { held, ..BY }), expected);
        }
    }

    #[test]
    fn the_last_reason_does_not_count_twice() {
        let by = Requester { last_reason: Some(ASK.reason), ..BY };
        assert_eq!(code(&policy(), ASK, by), Some(Code::ReasonTooWeak));
    }

    #[test]
    fn approvals_are_waited_for_unless_they_may_be_and_are_bypassed() {
        let bypass = |allowed| EmergencyPolicy {
            approvals_needed: 2,
            bypass: Bypass { allowed, max_duration_seconds: 1_800 },
            ..policy()
        };
        let asked = Ask { bypass: true, ..ASK };
        let waits = Terms { approvals_needed: 2, ..TERMS };
        for allowed in [false, true] {
            assert_eq!(judge(&bypass(allowed), &ASK, &BY), Ok(waits.clone()));
        }
        assert_eq!(code(&bypass(false), asked, BY), Some(Code::Forbidden));
        let bypassed = Terms {
            duration_seconds: 1_800,
            bypassed: true,
            review_within_seconds: 21_600,
            ..TERMS
        };
        assert_eq!(judge(&bypass(true), &asked, &BY), Ok(bypassed));
        let long = Ask { duration_seconds: Some(1_801), ..asked };
        assert_eq!(code(&bypass(true), long, BY), Some(Code::DurationTooLong));
        // Where nothing is to be bypassed, the wish to is harmless.
        assert_eq!(judge(&policy(), &asked, &BY), Ok(TERMS));
    }

    #[test]
    fn an_overdue_review_leaves_the_bypass_alone() {
        let by = Requester { review_overdue: true, ..BY };
        let open = EmergencyPolicy {
            bypass: Bypass { allowed: true, max_duration_seconds: 1_800 },
            ..policy()
        };
        let asked = Ask { bypass: true, ..ASK };
        for policy in [&policy(), &open] {
            assert_eq!(code(policy, ASK, by), Some(Code::ReviewOverdue));
        }
        assert_eq!(code(&policy(), asked, by), Some(Code::ReviewOverdue));
        assert_eq!(judge(&open, &asked, &by).map(|terms| terms.bypassed), Ok(true));
    }

    #[test]
    fn a_cool_down_is_waited_for() {
        let by = Requester { cooling_seconds: 7, ..BY };
        let refusal = judge(&policy(), &ASK, &by).expect_err("refused");
        assert_eq!((refusal.code, refusal.retry_after), (Code::CoolingDown, Some(7)));
        let extends = Some(Extends { extensions: 0, spent_seconds: 1 });
        assert_eq!(code(&policy(), Ask { extends, ..ASK }, by), None);
    }

    #[test]
    fn nobody_keeps_others_busy_with_requests() {
        let by = |last_hour| Requester { last_hour, ..BY };
        assert_eq!(code(&policy(), ASK, by(99)), None);
        assert_eq!(code(&policy(), ASK, by(100)), Some(Code::TooManyAttempts));
    }

    #[test]
    fn a_code_is_wanted_of_who_has_a_factor_if_the_policy_wants_it() {
        for (wants, has_factor) in [(true, true), (true, false), (false, true), (false, false)] {
            let policy = EmergencyPolicy { require_fresh_mfa: wants, ..policy() };
            let terms = judge(&policy, &ASK, &Requester { has_factor, ..BY });
            assert_eq!(terms.map(|terms| terms.wants_code), Ok(wants && has_factor));
        }
    }

    #[test]
    fn an_extension_ends_by_the_cap_counted_from_the_first_activation() {
        for (spent_seconds, seconds, expected) in [
            (600, 13_800, None),
            (600, 13_801, Some(Code::DurationTooLong)),
            (14_390, 10, None),
            (14_400, 5, Some(Code::DurationTooLong)),
            (u32::MAX, 5, Some(Code::DurationTooLong)),
        ] {
            let extends = Some(Extends { extensions: 2, spent_seconds });
            let ask = Ask { duration_seconds: Some(seconds), extends, ..ASK };
            assert_eq!(code(&policy(), ask, BY), expected, "{spent_seconds} {seconds}");
        }
        let extends = Some(Extends { extensions: 3, spent_seconds: 1 });
        let ask = Ask { duration_seconds: Some(5), extends, ..ASK };
        assert_eq!(code(&policy(), ask, BY), Some(Code::Conflict));
    }

    #[test]
    fn a_ticket_matches_as_a_whole_where_the_policy_has_a_pattern() {
        let wants = |pattern: &str| EmergencyPolicy {
            ticket_pattern: Some(pattern.to_owned()),
            ..policy()
        };
        let of = |policy: &EmergencyPolicy, ticket| code(policy, Ask { ticket, ..ASK }, BY);
        for (ticket, fits) in [
            (Some("INC-4711"), true),
            (Some("OPS-1"), true),
            (Some("xINC-4711"), false),
            (Some("INC-4711\n"), false),
            (Some("INC-"), false),
            (Some(""), false),
            (None, false),
        ] {
            let expected = (!fits).then_some(Code::TicketInvalid);
            assert_eq!(of(&wants("INC-[0-9]+|OPS-[0-9]+"), ticket), expected, "{ticket:?}");
        }
        // One that is broken lets nothing pass.
        assert_eq!(of(&wants("("), Some("(")), Some(Code::TicketInvalid));
    }

    #[test]
    fn a_policy_that_cannot_be_is_refused() {
        assert_eq!(check(&policy()), Ok(()));
        let bypass = |max_duration_seconds| Bypass { allowed: true, max_duration_seconds };
        let pattern =
            |text: &str| EmergencyPolicy { ticket_pattern: Some(text.to_owned()), ..policy() };
        for (what, policy) in [
            ("too short", EmergencyPolicy { default_duration_seconds: 4, ..policy() }),
            ("over the longest", EmergencyPolicy { default_duration_seconds: 14_401, ..policy() }),
            ("too long", EmergencyPolicy { max_duration_seconds: 2_592_001, ..policy() }),
            ("too many", EmergencyPolicy { approvals_needed: 21, ..policy() }),
            ("no reason", EmergencyPolicy { min_reason_length: 0, ..policy() }),
            ("none at once", EmergencyPolicy { max_active_per_user: 0, ..policy() }),
            ("no time", EmergencyPolicy { pending_timeout_seconds: 4, ..policy() }),
            ("too late", EmergencyPolicy { review_within_hours: 8_761, ..policy() }),
            ("too often", EmergencyPolicy { extensions_allowed: 101, ..policy() }),
            ("no bypass", EmergencyPolicy { bypass: bypass(4), ..policy() }),
            ("not permitted", EmergencyPolicy { approvers: [Role::Member].into(), ..policy() }),
            ("nobody", EmergencyPolicy { approvals_needed: 1, approvers: [].into(), ..policy() }),
            ("empty", pattern("")),
            ("unbalanced", pattern("(")),
            ("without anchors", pattern("a)|(?:b")),
            ("commented out", pattern("(?x)a # ")),
            ("huge", pattern("(?:[^x]{1000}){1000}")),
            ("long", pattern(&"a".repeat(501))),
        ] {
            assert_eq!(check(&policy).map_err(|r| r.code), Err(Code::BadRequest), "{what}");
        }
    }
}
