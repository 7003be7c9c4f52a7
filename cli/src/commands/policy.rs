//! What is allowed in an emergency.

use crate::{
    context::Context,
    failure::{Exit, Failure},
    grant::fields,
    message::{Policy, Text},
    when,
};

pub(super) fn policy(context: &Context) -> Result<Exit, Failure> {
    let answer = context.api()?.get("/v1/emergency/policy")?;
    let policy: Policy = answer.read()?;
    context.answer(&answer.body, &words(&policy))?;
    Ok(Exit::Done)
}

fn words(policy: &Policy) -> String {
    let list =
        |roles: &[Text]| roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let scope = match policy.applies_to.raw() {
        "user" => "in all your sessions".to_owned(),
        "session" => "in the session that asked".to_owned(),
        _ => policy.applies_to.to_string(),
    };
    let approvals = match policy.approvals_needed {
        0 => "none needed".to_owned(),
        n => format!("{n}, by {}", list(&policy.approvers)),
    };
    let mut rows = vec![
        ("Role", format!("{}, {scope}", policy.role)),
        ("Who may ask", list(&policy.requesters)),
        (
            "How long",
            format!(
                "{}, at most {}",
                when::duration(policy.default_duration_seconds),
                when::duration(policy.max_duration_seconds)
            ),
        ),
        ("Extensions", policy.extensions_allowed.to_string()),
        ("Approvals", approvals),
        ("Reason", format!("at least {} characters", policy.min_reason_length)),
    ];
    if let Some(pattern) = &policy.ticket_pattern {
        rows.push(("Ticket", format!("like {pattern}")));
    }
    if policy.require_fresh_mfa {
        rows.push(("Code", "who has a second factor shows a code".to_owned()));
    }
    if policy.approvals_needed > 0 {
        rows.push(("A request waits", when::duration(policy.pending_timeout_seconds)));
        let bypass = if policy.bypass.allowed {
            format!(
                "--bypass-approval, for at most {}",
                when::duration(policy.bypass.max_duration_seconds)
            )
        } else {
            "not allowed".to_owned()
        };
        rows.push(("Without approval", bypass));
    }
    rows.push(("At a time", format!("{} of a user", policy.max_active_per_user)));
    if policy.cooldown_seconds > 0 {
        rows.push(("Pause after one", when::duration(policy.cooldown_seconds)));
    }
    rows.push(("Review", format!("within {} h", policy.review_within_hours)));
    fields(&rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_is_told_in_words() {
        let policy = json!({
            "role": "admin", "applies_to": "user", "requesters": ["member", "manager"],
            "max_duration_seconds": 14400, "default_duration_seconds": 3600, "approvals_needed": 2,
            "approvers": ["manager", "admin"], "require_fresh_mfa": true, "min_reason_length": 10,
            "ticket_pattern": "INC-\\d+", "max_active_per_user": 1, "cooldown_seconds": 300,
            "pending_timeout_seconds": 1800, "review_within_hours": 24, "extensions_allowed": 1,
            "bypass": {"allowed": true, "max_duration_seconds": 900}, "later": true,
        });
        let text = words(&serde_json::from_value(policy).expect("a policy"));
        for row in [
            "  Role              admin, in all your sessions\n",
            "  How long          1 h, at most 4 h\n",
            "  Approvals         2, by manager, admin\n",
            "  Ticket            like INC-\\d+\n",
            "  A request waits   30 min\n",
            "  Without approval  --bypass-approval, for at most 15 min\n",
        ] {
            assert!(text.contains(row), "{text}");
        }
    }
}
