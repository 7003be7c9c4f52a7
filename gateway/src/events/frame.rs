//! What is sent, in the text of server-sent events (WHATWG HTML §9.2).

use axum::body::Bytes;
use serde::{
    Deserialize as _, Serialize,
    de::value::{self, StrDeserializer},
};
use shared::{
    clock::Timestamp,
    id::{EventId, GrantId, UserId},
    message::revocation::Cause,
};

/// A comment, by which both sides see that the other is there.
pub(super) const HEARTBEAT: &[u8] = b":\n\n";
/// How long a browser waits before it connects again, in milliseconds.
pub(super) const RETRY: &[u8] = b"retry: 1000\n";

/// The first thing on a stream.
#[derive(Serialize)]
pub(super) struct Hello {
    pub(super) server_time: Timestamp,
    /// Whether this edge hears everything; if not, `live` comes when it does.
    pub(super) live: bool,
}

/// Something happened that the session may know of.
#[derive(Serialize)]
pub(super) struct Change<'a> {
    pub(super) kind: &'a str,
    pub(super) at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grant: Option<GrantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<UserId>,
}

/// What the session itself may do is, or may be, different.
#[derive(Serialize)]
pub(super) struct Rights<'a> {
    pub(super) cause: &'a str,
}

/// The session is over, or can do nothing any more but set up a second factor.
#[derive(Serialize)]
pub(super) struct SignedOut {
    pub(super) reason: Reason,
}

/// The edge hears everything again.
#[derive(Serialize)]
pub(super) struct Live {
    pub(super) server_time: Timestamp,
}

/// Nothing to say but the name.
#[derive(Serialize)]
pub(super) struct Bare {}

/// Why a session can do nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reason {
    SignedOut,
    SessionRevoked,
    SessionDisplaced,
    PasswordChanged,
    FactorEnabled,
    FactorReset,
    UserDisabled,
    MfaDue,
    /// By the clock: unused for too long, or open for as long as it may be.
    Expired,
    /// Nobody here knows why.
    Ended,
}

/// What a revision whose cause this is says to a session that has ended. `None`: such a revision ends none.
pub(super) fn reason(cause: &str) -> Option<Reason> {
    let cause = StrDeserializer::<value::Error>::new(cause);
    let cause = Cause::deserialize(cause).ok()?;
    match cause {
        Cause::SignedOut => Some(Reason::SignedOut),
        Cause::SessionRevoked | Cause::SessionsRevoked => Some(Reason::SessionRevoked),
        Cause::SessionDisplaced => Some(Reason::SessionDisplaced),
        Cause::PasswordChanged => Some(Reason::PasswordChanged),
        Cause::FactorEnabled => Some(Reason::FactorEnabled),
        Cause::FactorReset => Some(Reason::FactorReset),
        Cause::UserDisabled => Some(Reason::UserDisabled),
        Cause::GrantActivated
        | Cause::GrantExtended
        | Cause::GrantRevoked
        | Cause::GrantExpired
        | Cause::RoleChanged
        | Cause::MfaPolicyChanged
        | Cause::MfaDue => None,
    }
}

/// One event. Data is JSON, which has no line feeds here, so it is one line.
pub(super) fn frame(name: &str, id: Option<EventId>, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("nothing that does not serialize");
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_name_id_and_one_line_of_data() {
        let id: UserId = "0192f0c1-2b3c-7d4e-8f50-000000000001".parse().expect("an id");
        let change = Change {
            kind: "grant.requested\n\ndata: x",
            at: Timestamp::from_micros(0),
            grant: None,
            user: Some(id),
        };
        let text = frame("change", Some(EventId(id.0)), &change);
        assert_eq!(
            text,
            "event: change\nid: 0192f0c1-2b3c-7d4e-8f50-000000000001\n\
             data: {\"kind\":\"grant.requested\\n\\ndata: x\",\"at\":\"1970-01-01T00:00:00Z\",\
             \"user\":\"0192f0c1-2b3c-7d4e-8f50-000000000001\"}\n\n"
        );
        assert_eq!(frame("stale", None, &Bare {}), "event: stale\ndata: {}\n\n");
    }

    #[test]
    fn what_ends_sessions_is_a_reason_and_nothing_else_is() {
        let said = |cause: Cause| {
            reason(cause.as_str()).map(|reason| serde_json::to_value(reason).expect("JSON"))
        };
        assert_eq!(said(Cause::SessionsRevoked).as_ref().expect("a reason"), "session-revoked");
        for cause in [Cause::SignedOut, Cause::PasswordChanged, Cause::UserDisabled] {
            assert_eq!(said(cause).as_ref().expect("a reason"), cause.as_str());
        }
        assert_eq!(said(Cause::GrantRevoked), None);
        assert_eq!(reason("made-up"), None);
    }
}
