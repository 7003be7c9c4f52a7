//! Events in words, for people.

use serde_json::Value;

/// What is said of an event: a headline, and lines of a name and a value.
pub(super) struct Said {
    pub(super) headline: String,
    pub(super) lines: Vec<(&'static str, String)>,
}

/// The page that shows more.
pub(super) fn page(kind: &str) -> &'static str {
    match kind.split('.').next().unwrap_or_default() {
        "grant" | "emergency-policy" => "/dashboard?view=rbac-emergency-access",
        "session" | "account" | "mfa" => "/settings/security",
        "audit" => "/dashboard?view=audit-logs",
        _ => "/dashboard?view=rbac-security",
    }
}

/// Says it. Whatever somebody may have typed goes through `shown`.
pub(super) fn of(kind: &str, data: &Value, shown: &mut dyn FnMut(&str) -> String) -> Said {
    let mut person = |key: &str| {
        let person = &data[key];
        let name = person["name"].as_str().or_else(|| person["email"].as_str());
        match (name, person.as_str()) {
            (Some(name), _) => shown(name),
            (None, Some("operator")) => "The operator".to_owned(),
            _ => "Somebody".to_owned(),
        }
    };
    let (user, by) = (person("user"), person("by"));
    let mut text = |value: &Value| value.as_str().map(&mut *shown);
    let role = text(&data["grant"]["role"]).unwrap_or_else(|| "a higher role".to_owned());
    let headline = match kind {
        "grant.requested" => format!("{user} asks for emergency access as {role}"),
        "grant.activated" => format!("{user} has emergency access as {role}"),
        "grant.approved" => format!("{by} approved emergency access for {user}"),
        "grant.denied" => format!("{by} denied emergency access to {user}"),
        "grant.cancelled" => format!("{user} withdrew a request for emergency access"),
        "grant.revoked" => format!("{by} ended the emergency access of {user}"),
        "grant.expired" if data["pending_until"].is_string() => {
            format!("Nobody decided in time about the emergency access of {user}")
        }
        "grant.expired" => format!("The emergency access of {user} has ended"),
        "grant.extended" => format!("The emergency access of {user} was extended"),
        "grant.expiring" => match data["minutes_left"].as_u64() {
            Some(1) => format!("The emergency access of {user} ends in a minute"),
            Some(minutes) => format!("The emergency access of {user} ends in {minutes} minutes"),
            None => format!("The emergency access of {user} ends soon"),
        },
        "grant.bypassed" => format!("{user} took emergency access without approval"),
        "grant.review-overdue" => {
            format!("The review of the emergency access of {user} is overdue")
        }
        "grant.reviewed" => format!("{by} reviewed the emergency access of {user}"),
        "emergency-policy.changed" => format!("{by} changed the policy of emergency access"),
        "session.new-device" => format!("{user} signed in from a new device"),
        "account.locked" => format!("The account of {user} is locked after too many wrong guesses"),
        "account.password-forgotten" => format!("Somebody asked for a new password for {user}"),
        "account.password-changed" => format!("The password of {user} was changed"),
        "account.password-set" => format!("The password of {user} was set with a one-time token"),
        "user.created" => format!("{by} created an account for {user}"),
        "user.disabled" => format!("{by} disabled the account of {user}"),
        "user.enabled" => format!("{by} enabled the account of {user}"),
        "user.role-changed" => format!("{by} changed the role of {user}"),
        "user.unlocked" => format!("{by} unlocked the account of {user}"),
        "user.changed" => format!("{by} changed the account of {user}"),
        "user.password-reset-issued" => format!("{by} issued a token for a new password of {user}"),
        "mfa.enabled" => format!("Two-factor sign-in of {user} was set up"),
        "mfa.replaced" => format!("The authenticator app of {user} was replaced"),
        "mfa.disabled" => format!("Two-factor sign-in of {user} was switched off"),
        "mfa.reset" => format!("{by} removed the second factor of {user}"),
        "mfa.backup-codes-renewed" => format!("The backup codes of {user} were renewed"),
        "mfa.grace-ended" => {
            format!("{user} has to set up two-factor sign-in before anything else")
        }
        "mfa-policy.changed" => format!("{by} changed of whom two-factor sign-in is required"),
        "notification-endpoint.disabled" => {
            "An endpoint for notifications was disabled: it is gone".to_owned()
        }
        "notification.test" => "This is a test".to_owned(),
        other => format!("{other}: {user}"),
    };
    let mut lines = Vec::new();
    let fields = [
        ("Reason", &data["grant"]["reason"]),
        ("Ticket", &data["grant"]["ticket"]),
        ("Comment", &data["comment"]),
        ("Ends", &data["grant"]["expires_at"]),
        ("Device", &data["device"]["label"]),
        ("Address", &data["ip"]),
        ("Place", &data["location"]["label"]),
        ("Account", &data["user"]["email"]),
        ("Organisation", &data["tenant"]["name"]),
    ];
    for (name, value) in fields {
        if let Some(value) = text(value) {
            lines.push((name, value));
        }
    }
    Said { headline, lines }
}
