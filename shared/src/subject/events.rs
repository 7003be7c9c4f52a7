//! The stream of events in `JetStream`: what it is called, and what its one user may ask of it. Gateways
//! hear the same subjects without the stream.

/// The durable consumer by which notifications are fanned out.
pub const CONSUMER: &str = "notifications";

/// Where events of a kind (`grant.requested`) go.
#[must_use]
pub fn subject(prefix: &str, kind: &str) -> String {
    format!("{prefix}.v1.event.{kind}")
}

/// Where all of them are.
#[must_use]
pub fn all(prefix: &str) -> String {
    subject(prefix, ">")
}

/// The name of the stream. A name has no dots, a prefix may.
#[must_use]
pub fn stream(prefix: &str) -> String {
    format!("{}-events", prefix.replace('.', "_"))
}

/// Whether text is the kind of an event: words of `a-z`, `0-9` and `-`, with dots between them.
#[must_use]
pub fn is_kind(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 100 && text.split('.').all(is_word)
}

/// What grant-worker publishes to besides its requests: the events, and what it asks of their
/// stream alone.
pub(super) fn permissions(prefix: &str) -> [String; 7] {
    let stream = stream(prefix);
    [
        all(prefix),
        format!("$JS.API.STREAM.INFO.{stream}"),
        format!("$JS.API.STREAM.CREATE.{stream}"),
        format!("$JS.API.CONSUMER.CREATE.{stream}.{CONSUMER}"),
        format!("$JS.API.CONSUMER.INFO.{stream}.{CONSUMER}"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{CONSUMER}"),
        format!("$JS.ACK.{stream}.{CONSUMER}.>"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_part_of_a_subject() {
        for kind in ["grant.requested", "session.new-device", "x"] {
            assert!(is_kind(kind), "{kind}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "A", "a b", "ä", &"a".repeat(101)] {
            assert!(!is_kind(bad), "{bad}");
        }
    }

    #[test]
    fn a_stream_is_named_after_the_prefix() {
        assert_eq!(stream("a.b-c"), "a_b-c-events");
        assert_eq!(subject("p", "grant.revoked"), "p.v1.event.grant.revoked");
    }
}
