//! Grants in words.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::{
    message::{Grant, Review, Text},
    table::Table,
    terminal::{Style, Terminal},
    when,
};

/// How many characters of an id are shown: its end, since the beginning of a `UUIDv7` is the time, and the
/// same for all that was made within seconds.
const SHORT: usize = 8;

/// An id as it is shown, and as commands take it.
pub(crate) fn short(id: &Text) -> String {
    let text = id.to_string();
    let skip = text.chars().count().saturating_sub(SHORT);
    text.chars().skip(skip).collect()
}

impl Grant {
    pub(crate) fn is_active(&self) -> bool {
        self.state.is("active")
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.state.is("pending")
    }

    /// Whether it can still do something.
    pub(crate) fn is_live(&self) -> bool {
        self.is_active() || self.is_pending()
    }

    pub(crate) fn approved(&self) -> usize {
        self.approvals.iter().filter(|approval| approval.decision.is("approve")).count()
    }

    /// `1 of 2 approvals`
    pub(crate) fn approvals_in_words(&self) -> String {
        let noun = if self.approvals_needed == 1 { "approval" } else { "approvals" };
        format!("{} of {} {noun}", self.approved(), self.approvals_needed)
    }

    /// How it stands: `29 min 58 s left`, `1 of 2 approvals`, `ended 3 min ago`.
    pub(crate) fn standing(&self, now: Timestamp) -> String {
        if let (true, Some(left)) = (self.is_active(), self.remaining_seconds) {
            return format!("{} left", when::duration(left));
        }
        if self.is_pending() {
            return self.approvals_in_words();
        }
        self.ended_at.map(|end| when::relative(end, now)).unwrap_or_default()
    }

    pub(crate) fn style(&self) -> Style {
        match self.state.raw() {
            "active" => Style::Good,
            "pending" => Style::Warning,
            "denied" | "revoked" => Style::Bad,
            _ => Style::Faint,
        }
    }
}

/// Grants as rows.
pub(crate) fn table(
    grants: &[Grant],
    terminal: Terminal,
    now: Timestamp,
    width: Option<usize>,
) -> String {
    let mut table = Table::new(&["ID", "STATE", "WHO", "ROLE", "TIME", "REASON"]);
    for grant in grants {
        table.row([
            (short(&grant.id), Style::Strong),
            (grant.state.to_string(), grant.style()),
            (grant.user.email.to_string(), Style::Plain),
            (grant.role.to_string(), Style::Plain),
            (grant.standing(now), Style::Plain),
            (reason(grant), Style::Plain),
        ]);
    }
    table.render(terminal, width)
}

/// The reason on one line, after the ticket if there is one.
pub(crate) fn reason(grant: &Grant) -> String {
    match &grant.ticket {
        Some(ticket) => format!("[{ticket}] {}", grant.reason),
        None => grant.reason.to_string(),
    }
}

/// All that is known of a grant.
pub(crate) fn details(grant: &Grant, terminal: Terminal, now: Timestamp) -> String {
    let mut rows: Vec<(&str, String)> =
        vec![("Who", grant.user.to_string()), ("Role", role(grant))];
    if grant.duration_seconds > 0 {
        rows.push(("For", when::duration(grant.duration_seconds)));
    }
    rows.push(("Reason", indented(&grant.reason)));
    if let Some(ticket) = &grant.ticket {
        rows.push(("Ticket", ticket.to_string()));
    }
    rows.push(("Requested", requested(grant, now)));
    if grant.bypassed || grant.approvals_needed > 0 || !grant.approvals.is_empty() {
        rows.push(("Approvals", approvals(grant, now)));
    }
    if let (true, Some(end)) = (grant.is_pending(), grant.pending_until) {
        rows.push(("Waits until", when::both(end, now)));
    }
    if let Some(begin) = grant.activated_at {
        rows.push(("Began", when::both(begin, now)));
    }
    match (grant.expires_at, grant.ended_at) {
        (_, Some(end)) => rows.push(("Ended", ended(grant, end, now))),
        (Some(end), None) => rows.push(("Ends", when::both(end, now))),
        (None, None) => {}
    }
    if let Some(extended) = &grant.extended_from {
        rows.push(("Extends", short(extended)));
    }
    if let Some(review) = &grant.review {
        rows.push(("Review", reviewed(review, now)));
    }
    rows.push(("Full id", grant.id.to_string()));
    let state = terminal.paint(grant.style(), &grant.state.to_string());
    let standing = match grant.standing(now).as_str() {
        "" => String::new(),
        standing => format!(", {standing}"),
    };
    let id = terminal.paint(Style::Strong, &short(&grant.id));
    format!("Grant {id}: {state}{standing}\n\n{}", fields(&rows))
}

/// Names and values under each other. Further lines of a value are indented like its first.
pub(crate) fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 2;
    let mut text = String::new();
    for (name, value) in rows {
        for (at, line) in value.split('\n').enumerate() {
            let name = if at == 0 { name } else { "" };
            text.push_str(format!("  {name:<width$}{line}").trim_end());
            text.push('\n');
        }
    }
    text
}

fn indented(text: &Text) -> String {
    text.lines().collect::<Vec<_>>().join("\n")
}

fn role(grant: &Grant) -> String {
    match grant.applies_to.raw() {
        "session" => format!("{}, in the session that asked alone", grant.role),
        _ => grant.role.to_string(),
    }
}

fn requested(grant: &Grant, now: Timestamp) -> String {
    let at = when::both(grant.requested_at, now);
    match grant.factor.as_ref().map(Text::raw) {
        None => at,
        Some("totp") => format!("{at}, with a code of an authenticator app"),
        Some("backup-code") => format!("{at}, with a backup code"),
        Some(_) => format!("{at}, with a second factor"),
    }
}

fn reviewed(review: &Review, now: Timestamp) -> String {
    let mut said = match (&review.reviewer, review.at) {
        (Some(reviewer), Some(at)) => {
            format!("{} by {reviewer} at {}", review.state, when::local(at, now))
        }
        (Some(reviewer), None) => format!("{} by {reviewer}", review.state),
        (None, _) => format!("{}: by {}", review.state, when::both(review.due_at, now)),
    };
    if let Some(note) = &review.note {
        let _ = write!(said, "\n{}", indented(note));
    }
    said
}

fn approvals(grant: &Grant, now: Timestamp) -> String {
    let mut lines = vec![format!("{} of {}", grant.approved(), grant.approvals_needed)];
    if grant.bypassed {
        lines[0].push_str(", bypassed");
    }
    for approval in &grant.approvals {
        let verb = match approval.decision.raw() {
            "approve" => "approved".to_owned(),
            "deny" => "denied".to_owned(),
            _ => approval.decision.to_string(),
        };
        let mut line = format!("{verb} by {} at {}", approval.user, when::local(approval.at, now));
        if let Some(comment) = &approval.comment {
            let _ = write!(line, ": {comment}");
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn ended(grant: &Grant, end: Timestamp, now: Timestamp) -> String {
    let mut said = when::both(end, now);
    if let Some(by) = &grant.ended_by {
        let _ = write!(said, " by {by}");
    }
    if let Some(reason) = &grant.end_reason {
        let _ = write!(said, ": {reason}");
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::environment::Environment;

    fn grant() -> Grant {
        serde_json::from_value(json!({
            "id": "01a20386-a8c9-79c6-91ae-41c83c3686e6", "state": "active",
            "user": {"id": "u", "email": "eve@acme.test", "name": "Eve\u{1b}[2J"},
            "role": "admin", "reason": "line one\n\u{202e}line two\u{7}", "ticket": "INC-1\u{9b}2J",
            "requested_at": "2026-11-22T13:51:26Z", "activated_at": "2026-11-22T13:51:26Z",
            "expires_at": "2026-11-22T14:51:26Z", "remaining_seconds": 3540,
            "approvals": [{
                "user": {"id": "a", "email": "ada@acme.test", "name": ""}, "decision": "approve",
                "comment": "fine\u{8}", "at": "2026-11-22T13:51:20Z",
            }],
            "approvals_needed": 1, "ended_at": null, "ended_by": null, "end_reason": null,
            "extended_from": null, "request_digest": "d", "something_new": {"of": "a newer server"},
            "review": {"due_at": "2026-11-23T13:51:26Z", "state": "open", "reviewer": null, "note": null},
        }))
        .expect("a grant")
    }

    fn plain() -> Terminal {
        Terminal::new(&Environment { dumb: true, ..Environment::default() })
    }

    fn now() -> Timestamp {
        "2026-11-22T13:52:26Z".parse().expect("a time")
    }

    #[test]
    fn nothing_that_others_wrote_reaches_the_terminal_as_it_is() {
        for text in [details(&grant(), plain(), now()), table(&[grant()], plain(), now(), None)] {
            let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!text.contains(bad), "{text:?}");
            assert!(text.contains("\\u{202e}line two\\u{7}"), "{text}");
        }
        assert!(details(&grant(), plain(), now()).contains("Eve\\u{1b}[2J <eve@acme.test>"));
    }

    #[test]
    fn a_row_fits_the_terminal_and_says_what_matters() {
        let text = table(&[grant()], plain(), now(), Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("3c3686e6  active  eve@acme.test  admin  59 min left"), "{text}");
    }

    #[test]
    fn details_are_aligned_also_where_a_reason_has_lines() {
        let text = details(&grant(), plain(), now());
        assert!(text.starts_with("Grant 3c3686e6: active, 59 min left\n\n"), "{text}");
        assert!(text.contains("\n  Reason     line one\n             \\u{202e}line two"), "{text}");
        assert!(
            text.contains("\n  Approvals  1 of 1\n             approved by ada@acme.test at "),
            "{text}"
        );
    }
}
