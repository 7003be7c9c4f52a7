//! Loses single messages out of a stream of the NATS protocol, and keeps its framing.

use shared::subject::Subject;

/// One direction of a NATS connection, from its first byte on.
#[derive(Debug, Default)]
pub(super) struct NatsFilter {
    /// The control line that is not whole yet.
    line: Vec<u8>,
    /// Bytes of a payload that are still to come, the line end behind it included.
    payload: usize,
    /// Whether that payload's message is lost.
    losing: bool,
    /// How many messages were lost since somebody asked.
    lost: u64,
}

impl NatsFilter {
    /// What arrives of some bytes where messages of a subject are lost.
    pub(super) fn pass(&mut self, mut bytes: &[u8], lost: Option<Subject>) -> Vec<u8> {
        let mut arriving = Vec::with_capacity(bytes.len() + self.line.len());
        while !bytes.is_empty() {
            if self.payload > 0 {
                let (payload, rest) = bytes.split_at(self.payload.min(bytes.len()));
                self.payload -= payload.len();
                bytes = rest;
                if !self.losing {
                    arriving.extend(payload);
                }
                continue;
            }
            let length =
                bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            let (line, rest) = bytes.split_at(length);
            self.line.extend(line);
            bytes = rest;
            if self.line.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.line);
                let message = Message::of(&line);
                self.payload = message.as_ref().map_or(0, |message| message.length + 2);
                self.losing = message.is_some_and(|message| message.is_of(lost));
                if self.losing {
                    self.lost += 1;
                } else {
                    arriving.extend(line);
                }
            }
        }
        arriving
    }

    /// How many messages were lost since this was last asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

/// The control line of a message.
struct Message<'a> {
    subject: &'a str,
    length: usize,
}

impl<'a> Message<'a> {
    /// The subject comes second and the length last, with headers or without, in either direction.
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
        let is_message = matches!(words.next()?, "MSG" | "HMSG" | "PUB" | "HPUB");
        let subject = words.next().filter(|_| is_message)?;
        Some(Self { subject, length: words.next_back()?.parse().ok()? })
    }

    /// Subjects are `<prefix>.v1.<path>`, and some go on with the edge that sends.
    fn is_of(&self, lost: Option<Subject>) -> bool {
        let Some((_, path)) = self.subject.split_once(".v1.") else { return false };
        let rest = lost.and_then(|lost| path.strip_prefix(lost.path()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "INFO {\"x\":1}\r\n\
        MSG t.v1.revocation.broadcast 1 5\r\nMSG a\r\n\
        PING\r\n\
        HMSG t.v1.revocation.broadcast 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n\
        MSG _INBOX.gateway-1.x 2 0\r\n\r\n\
        HPUB t.v1.edge.ack.gateway-1 12 12\r\nNATS/1.0\r\n\r\n\r\n\
        PUB t.v1.edge.ack-not 2\r\nok\r\n";

    fn pass(lost: Option<Subject>, chunk: usize) -> String {
        let mut filter = NatsFilter::default();
        let chunks = STREAM.as_bytes().chunks(chunk);
        let arrived = chunks.flat_map(|chunk| filter.pass(chunk, lost)).collect();
        String::from_utf8(arrived).expect("text")
    }

    #[test]
    fn one_subject_is_lost_however_the_bytes_come() {
        for chunk in 1..=STREAM.len() {
            assert_eq!(pass(None, chunk), STREAM);
            assert_eq!(
                pass(Some(Subject::RevocationBroadcast), chunk),
                "INFO {\"x\":1}\r\nPING\r\nMSG _INBOX.gateway-1.x 2 0\r\n\r\n\
                 HPUB t.v1.edge.ack.gateway-1 12 12\r\nNATS/1.0\r\n\r\n\r\n\
                 PUB t.v1.edge.ack-not 2\r\nok\r\n"
            );
            let without_ack = pass(Some(Subject::EdgeAck), chunk);
            assert_eq!(without_ack.matches("edge.ack").count(), 1);
            assert!(without_ack.ends_with("PUB t.v1.edge.ack-not 2\r\nok\r\n"));
        }
    }
}
