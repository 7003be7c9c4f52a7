//! Texts that a rule chooses.

use shared::{
    clock::Timestamp,
    message::{
        edge::EdgeStatus,
        grant::{ReviewState, State},
    },
};
use time::OffsetDateTime;

/// What was done, and how the next page says it.
const DONE: &[(&str, &str)] = &[
    ("grant-activated", "Emergency access was granted."),
    ("grant-requested", "Your request waits for approval."),
    ("grant-revoked", "Emergency access was revoked."),
    ("grant-approved", "Approved."),
    ("grant-approved-active", "Approved. Emergency access was granted."),
    ("grant-denied", "The request was denied."),
    ("grant-cancelled", "The request was withdrawn."),
    ("grant-extended", "Extended. The new grant has taken the place of the old one."),
    ("grant-reviewed", "The review is on record."),
    ("emergency-policy-saved", "The policy for emergency access was saved."),
    ("signed-out", "You are signed out."),
    ("session-revoked", "The session was revoked."),
    ("sessions-revoked", "All other sessions were revoked."),
    ("user-sessions-revoked", "All sessions of this user were revoked."),
    ("password-changed", "Your password was changed. Your other sessions were ended."),
    ("password-set", "Your password is set. Sign in with it."),
    ("password-forgotten", "If there is such a user, a link is on its way to that address."),
    ("mfa-enabled", "Two-factor sign-in is on."),
    ("mfa-disabled", "Two-factor sign-in is off."),
    ("mfa-policy-saved", "The MFA policy was saved."),
    ("mfa-reset", "The second factor was taken away. The user has to sign in again."),
    ("user-changed", "The user was changed."),
    ("user-disabled", "The user is disabled. Their sessions have ended."),
    ("user-enabled", "The user can sign in again."),
];

/// What is wrong with a form.
pub(super) const FORM_TOO_LONG: &str = "The form is too long, or broke off.";
pub(super) const FORM_TOO_SLOW: &str = "The form did not arrive in time.";
pub(super) const FORM_MISFIT: &str = "The form does not fit. Reload the page and try again.";
pub(super) const WHOLE_NUMBER: &str = "A whole number is needed here.";
pub(super) const GRACE_PERIOD: &str = "The grace period is 0 to 90 days.";
pub(super) const FIRST_CODE_LATE: &str = "The time to enter the first code is over. Begin again.";
pub(super) const NO_LINK: &str = "This is no link for a password. Ask for another one.";

/// What was done, by its name.
pub(super) fn done(name: &str) -> Option<(&'static str, &'static str)> {
    DONE.iter().find(|(known, _)| *known == name).copied()
}

/// Why somebody has to sign in, by the reason that their session ended.
pub(super) fn ended(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "session-revoked" => "This session was revoked. Sign in again.",
        "sessions-revoked" => "This session was revoked together with others. Sign in again.",
        "session-displaced" => "You signed in at too many places: the oldest session was ended.",
        "signed-out" => "You signed out.",
        "password-changed" => "Your password was changed, which ended this session. Sign in again.",
        "factor-enabled" => {
            "Two-factor sign-in was set up, which ended this session. Sign in again."
        }
        "factor-reset" => "An admin has reset your second factor. Sign in again.",
        "user-disabled" => "This account was disabled. Ask an admin of your organisation.",
        "mfa-due" => "Two-factor sign-in has to be set up now. Sign in to do so.",
        "ended" => "Your session has ended. Sign in again.",
        "expired" => "Your session has ended after its time. Sign in again.",
        _ => return None,
    })
}

/// Seconds as people say them: “2h 15m”, “15m”, “40s”.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, 1..5) if rest > 0 => format!("{minutes}m {rest}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, _, 0) => format!("{hours}h"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        (_, 0, _) => format!("{days}d"),
        (_, _, _) => format!("{days}d {hours}h"),
    }
}

/// A time as people say it, seen from `now`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let (since, until) = (now.since(at).as_secs(), at.since(now).as_secs());
    let said = |seconds: u64| {
        let (n, unit) = match seconds {
            0..3_600 => (seconds / 60, "minute"),
            3_600..86_400 => (seconds / 3_600, "hour"),
            86_400..5_184_000 => (seconds / 86_400, "day"),
            _ => (seconds / 2_592_000, "month"),
        };
        format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
    };
    match (since, until) {
        (0..60, 0) => "just now".to_owned(),
        (_, 0) => format!("{} ago", said(since)),
        (_, 0..60) => "in a moment".to_owned(),
        (_, _) => format!("in {}", said(until)),
    }
}

/// A time in full, in UTC.
pub(super) fn stamp(at: Timestamp) -> String {
    let at = OffsetDateTime::from(at);
    let month = &at.month().to_string()[..3];
    let (hour, minute, second) = at.to_hms();
    format!("{} {month} {}, {hour:02}:{minute:02}:{second:02} UTC", at.day(), at.year())
}

/// The first letters of the first and the last word of a name.
pub(super) fn initials(name: &str) -> String {
    let letter = |word: &str| word.chars().find(|c| c.is_alphanumeric());
    let mut words = name.split_whitespace().filter_map(letter);
    let first = words.next();
    first.into_iter().chain(words.next_back()).flat_map(char::to_uppercase).collect()
}

/// What is to be done with a grant, by the name of its form.
pub(super) fn grant_task(name: &str) -> &'static str {
    match name {
        "revoke" => "Revoke emergency access",
        "approve" => "Approve emergency access",
        "deny" => "Deny emergency access",
        "cancel" => "Withdraw the request",
        "extend" => "Extend emergency access",
        _ => "Review the use of emergency access",
    }
}

/// What is to be done with a user, by the name of its form.
pub(super) fn user_task(name: &str) -> &'static str {
    match name {
        "change" => "Change user",
        "disable" => "Disable user",
        "enable" => "Enable user",
        "reset-password" => "Link for a new password",
        "reset-mfa" => "Reset two-factor sign-in",
        _ => "Revoke all sessions",
    }
}

/// The state of a grant, in a word.
pub(super) const fn state(state: State) -> &'static str {
    match state {
        State::Pending => "Waiting for approval",
        State::Active => "Active",
        State::Denied => "Denied",
        State::Cancelled => "Withdrawn",
        State::Revoked => "Revoked",
        State::Expired => "Expired",
    }
}

/// The state of a review, in a few words.
pub(super) const fn review(state: ReviewState) -> &'static str {
    match state {
        ReviewState::Due => "Review due",
        ReviewState::Overdue => "Review overdue",
        ReviewState::Justified => "Justified",
        ReviewState::Misuse => "Misuse",
    }
}

/// Whether an edge decides, in a word or two.
pub(super) const fn standing(edge: &EdgeStatus) -> &'static str {
    match (edge.fenced, edge.lease_remaining_ms) {
        (true, _) => "Fenced",
        (false, 0) => "Lease over",
        (false, _) => "Deciding",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_as_the_guide_says_them() {
        for (seconds, said) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (125, "2m 5s"),
            (900, "15m"),
            (3_600, "1h"),
            (8_100, "2h 15m"),
            (86_400, "1d"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }

    #[test]
    fn times_are_said_from_now() {
        let at = |seconds: i64| Timestamp::from_micros((1_000_000 + seconds) * 1_000_000);
        for (seconds, said) in [
            (0, "just now"),
            (-59, "just now"),
            (-60, "1 minute ago"),
            (-7_200, "2 hours ago"),
            (-172_800, "2 days ago"),
            (30, "in a moment"),
            (3_700, "in 1 hour"),
        ] {
            assert_eq!(ago(at(seconds), at(0)), said);
        }
        assert_eq!(stamp(at(0)), "12 Jan 1970, 13:46:40 UTC");
    }

    #[test]
    fn initials_are_letters() {
        for (name, letters) in [
            ("Ada Lovelace", "AL"),
            ("ada", "A"),
            ("Ada K. Lovelace", "AL"),
            ("<b>", "B"),
            ("", ""),
        ] {
            assert_eq!(initials(name), letters, "{name}");
        }
    }

    #[test]
    fn every_cause_of_an_end_is_explained() {
        use shared::message::revocation::Cause;
        for cause in [
            Cause::SignedOut,
            Cause::SessionRevoked,
            Cause::SessionsRevoked,
            Cause::SessionDisplaced,
            Cause::PasswordChanged,
            Cause::FactorEnabled,
            Cause::FactorReset,
            Cause::UserDisabled,
            Cause::MfaDue,
        ] {
            assert!(ended(cause.as_str()).is_some(), "{cause:?}");
        }
        assert!(ended("<script>").is_none());
    }
}
