//! Verification of an exported record: by its lines and the public keys alone.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{Content, EXPORTED, HEAD_SIGNED, Hash, KeyId, PublicKey, SIGNER, SignedHead};

/// So many problems are told one by one; the others are counted.
const TOLD: usize = 100;

/// Something that is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A line is no entry, or has something that no hash covers.
    #[error("line {line} is not an entry as it is exported: {why}")]
    Unreadable {
        /// Counted from 1.
        line: u64,
        /// Why not.
        why: String,
    },
    /// An entry is another tenant's.
    #[error("line {line} (entry {seq}) is of another tenant")]
    OtherTenant {
        /// Counted from 1.
        line: u64,
        /// The entry.
        seq: u64,
    },
    /// Entries are not there.
    #[error("entries {from} to {to} are missing")]
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// An entry comes again, or after a later one.
    #[error("line {line} has entry {seq} after entry {after}")]
    OutOfOrder {
        /// Counted from 1.
        line: u64,
        /// The entry.
        seq: u64,
        /// What came before it.
        after: u64,
    },
    /// An entry is not what was hashed, or does not follow the one before it.
    #[error("entry {seq} is not what was written after the entry before it")]
    Changed {
        /// The entry.
        seq: u64,
    },
    /// A head was signed for something else than what is there now.
    #[error(
        "entry {seq} is not what was signed: it, or something before it, was changed after that"
    )]
    Rewritten {
        /// The entry that was signed.
        seq: u64,
    },
    /// A head in the record is not one.
    #[error("entry {seq} is no signed head: {why}")]
    NoHead {
        /// The entry.
        seq: u64,
        /// Why not.
        why: &'static str,
    },
    /// The last heads were signed with a key that is not known.
    #[error("the head in entry {seq} was signed with the key {key_id}, which is not given")]
    UnknownKey {
        /// The entry, the last one of this key.
        seq: u64,
        /// The key.
        key_id: KeyId,
    },
    /// The record ends before a head that was seen elsewhere.
    #[error("the record ends with entry {last}, but entry {signed} was signed")]
    Truncated {
        /// The last entry.
        last: u64,
        /// What was signed.
        signed: u64,
    },
    /// A head that was seen elsewhere is none of this record's.
    #[error(
        "the given head of entry {seq} was not signed for this record with a key that is given"
    )]
    SeenHead {
        /// What it says was signed.
        seq: u64,
    },
    /// No head is signed with a known key, so nothing is proved.
    #[error("no entry is covered by a signed head")]
    NothingSigned,
}

/// Entries that waited for a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsigned {
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// From the first of them to the head, or to the last entry where no head follows.
    pub lasted: Duration,
}

/// What is known of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Whose it says that it is.
    pub tenant: Option<Uuid>,
    /// How many entries there are.
    pub entries: u64,
    /// The number of the last one.
    pub last: u64,
    /// How many heads of known keys are in it.
    pub heads: u64,
    /// Everything up to this entry is covered by a head; 0: nothing.
    pub covered: u64,
    /// When the last of these heads was signed, as the record says it.
    pub covered_at: Option<String>,
    /// How many entries come after what is covered. The last head is one of them itself.
    pub uncovered: u64,
    /// What waited longest for a head. One that is signed every minute leaves little time to change
    /// something before it.
    pub longest_unsigned: Option<Unsigned>,
    /// Whether the last entry is the export's own: else the file may have lost its end.
    pub ends_with_export: bool,
    /// What is wrong, in the order of the lines, at most 100.
    pub problems: Vec<Problem>,
    /// How many more problems there are.
    pub more_problems: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.problems.is_empty()
    }
}

/// A line of an export. What no hash covers is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    tenant: Uuid,
    seq: u64,
    at: String,
    actor: String,
    action: String,
    target: Option<String>,
    ip: Option<String>,
    #[serde(borrow)]
    detail: &'a RawValue,
    trace_id: Option<String>,
    hash: Hash,
}

/// Verifies a record line by line.
#[derive(Debug, Default)]
pub struct Verifier {
    keys: BTreeMap<KeyId, PublicKey>,
    /// Heads that were seen elsewhere.
    seen: Vec<SignedHead>,
    report: Report,
    lines: u64,
    /// The hash that the last entry has, right or wrong.
    hash: Option<Hash>,
    /// The first entry that waits for a head.
    waiting: Option<(u64, i64)>,
    last_at: Option<i64>,
    /// Heads of unknown keys after the last one that is known: key, entry.
    unknown: BTreeMap<KeyId, u64>,
}

/// Verifies a record by all its lines, the keys that may have signed it, and heads that were seen
/// elsewhere: in a log, in the stream of events, in an answer of the API.
pub fn verify<L: AsRef<[u8]>>(
    lines: impl IntoIterator<Item = L>,
    keys: &[PublicKey],
    seen: &[SignedHead],
) -> Report {
    let mut verifier = Verifier::new(keys, seen);
    for line in lines {
        verifier.line(line.as_ref());
    }
    verifier.finish()
}

impl Verifier {
    /// Knows these keys, and heads that were seen elsewhere.
    #[must_use]
    pub fn new(keys: &[PublicKey], seen: &[SignedHead]) -> Self {
        let keys = keys.iter().map(|key| (key.id(), *key)).collect();
        Self { keys, seen: seen.to_vec(), ..Self::default() }
    }

    /// The next line, without its end.
    pub fn line(&mut self, text: &[u8]) {
        self.lines += 1;
        let number = self.lines;
        let (line, at) = match read(text) {
            Ok(read) => read,
            Err(why) => return self.tell(Problem::Unreadable { line: number, why }),
        };
        let seq = line.seq;
        let tenant = *self.report.tenant.get_or_insert(line.tenant);
        if line.tenant != tenant {
            return self.tell(Problem::OtherTenant { line: number, seq });
        }
        let last = self.report.last;
        if seq <= last {
            return self.tell(Problem::OutOfOrder { line: number, seq, after: last });
        }
        let mut before = Some(self.hash.unwrap_or_else(|| Hash::beginning(tenant)));
        if seq - last > 1 {
            self.tell(Problem::Missing { from: last + 1, to: seq - 1 });
            before = None;
        }
        let content = Content {
            seq,
            at_micros: at,
            actor: &line.actor,
            action: &line.action,
            target: line.target.as_deref(),
            ip: line.ip.as_deref(),
            detail: line.detail.get(),
            trace_id: line.trace_id.as_deref(),
        };
        if before.is_some_and(|before| content.hash(before) != line.hash) {
            self.tell(Problem::Changed { seq });
        }
        if self.seen.iter().any(|head| head.seq == seq && head.hash != line.hash) {
            self.tell(Problem::Rewritten { seq });
        }
        self.report.entries += 1;
        self.report.uncovered += 1;
        self.report.last = seq;
        self.report.ends_with_export = line.action == EXPORTED;
        self.hash = Some(line.hash);
        self.last_at = Some(at);
        if line.action == HEAD_SIGNED && line.actor == SIGNER {
            self.head(tenant, &line, at, before);
        } else {
            self.waiting.get_or_insert((seq, at));
        }
    }

    /// What is known after the last line.
    #[must_use]
    pub fn finish(mut self) -> Report {
        if let Some(at) = self.last_at {
            self.waited(self.report.last, at);
        }
        for head in std::mem::take(&mut self.seen) {
            let (seq, last) = (head.seq, self.report.last);
            let of_this = |key: &PublicKey| {
                self.report.tenant.is_some_and(|tenant| key.signed(tenant, &head))
            };
            if !self.keys.get(&head.key_id).is_some_and(of_this) {
                self.tell(Problem::SeenHead { seq });
            } else if seq > last {
                self.tell(Problem::Truncated { last, signed: seq });
            }
        }
        for (key_id, seq) in std::mem::take(&mut self.unknown) {
            self.tell(Problem::UnknownKey { seq, key_id });
        }
        if self.report.covered == 0 {
            self.tell(Problem::NothingSigned);
        }
        self.report
    }

    /// A head in the record, after an entry of the hash `before`.
    fn head(&mut self, tenant: Uuid, line: &Line<'_>, at: i64, before: Option<Hash>) {
        let seq = line.seq;
        let Ok(head) = serde_json::from_str::<SignedHead>(line.detail.get()) else {
            return self.tell(Problem::NoHead { seq, why: "it has no head in it" });
        };
        if head.seq.checked_add(1) != Some(seq) {
            return self.tell(Problem::NoHead { seq, why: "it does not follow what it covers" });
        }
        let Some(key) = self.keys.get(&head.key_id) else {
            self.unknown.insert(head.key_id, seq);
            return;
        };
        if !key.signed(tenant, &head) {
            return self.tell(Problem::NoHead { seq, why: "the signature is not of its key" });
        }
        match before {
            Some(hash) if hash == head.hash => {
                self.waited(head.seq, at);
                self.report.heads += 1;
                self.report.covered = head.seq;
                self.report.covered_at = Some(line.at.clone());
                self.report.uncovered = 1;
                self.unknown.clear();
            }
            Some(_) => self.tell(Problem::Rewritten { seq: head.seq }),
            // What is missing has been told.
            None => {}
        }
    }

    /// Nothing waits for a head any more.
    fn waited(&mut self, to: u64, until: i64) {
        let Some((from, since)) = self.waiting.take() else { return };
        let micros = u64::try_from(until.saturating_sub(since)).unwrap_or(0);
        let lasted = Duration::from_micros(micros);
        if self.report.longest_unsigned.is_none_or(|longest| longest.lasted < lasted) {
            self.report.longest_unsigned = Some(Unsigned { from, to, lasted });
        }
    }

    fn tell(&mut self, problem: Problem) {
        if self.report.problems.len() < TOLD {
            self.report.problems.push(problem);
        } else {
            self.report.more_problems += 1;
        }
    }
}

fn read(text: &[u8]) -> Result<(Line<'_>, i64), String> {
    let line: Line<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let at = micros(&line.at).ok_or("the time is not written as the record writes it")?;
    Ok((line, at))
}

/// Microseconds since the Unix epoch. Only what is hashed may be said, and only in one way.
fn micros(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let micros = i64::try_from(at.unix_timestamp_nanos() / 1_000).ok()?;
    let is_exact = at.offset() == UtcOffset::UTC && at.nanosecond() % 1_000 == 0;
    (is_exact && at.format(&Rfc3339).is_ok_and(|same| same == text)).then_some(micros)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{Head, SigningKey, tests::tenant},
        *,
    };

    /// A record that is written as the database and session-worker write it.
    #[derive(Clone)]
    struct Record {
        tenant: Uuid,
        lines: Vec<Value>,
        hash: Hash,
    }

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&[n; 32])
    }

    impl Record {
        fn new() -> Self {
            Self::of(tenant())
        }

        fn of(tenant: Uuid) -> Self {
            Self { tenant, lines: Vec::new(), hash: Hash::beginning(tenant) }
        }

        fn seq(&self) -> u64 {
            self.lines.len() as u64
        }

        fn append(&mut self, actor: &str, action: &str, detail: &Value) {
            // One entry a second.
            let seconds = self.seq();
            let seq = seconds + 1;
            let detail_text = detail.to_string();
            let content = Content {
                seq,
                at_micros: seconds.cast_signed() * 1_000_000,
                actor,
                action,
                target: Some("user:1"),
                ip: None,
                detail: &detail_text,
                trace_id: None,
            };
            self.hash = content.hash(self.hash);
            self.lines.push(json!({
                "tenant": self.tenant, "seq": seq, "at": format!("1970-01-01T00:00:{seconds:02}Z"), "actor": actor, "action": action,
                "target": "user:1", "ip": null, "detail": detail, "trace_id": null, "hash": self.hash,
            }));
        }

        fn entries(&mut self, count: usize) {
            (0..count).for_each(|n| self.append("somebody", "thing.done", &json!({"n": n})));
        }

        fn sign(&mut self, key: &SigningKey) -> SignedHead {
            let head = key.sign(Head { tenant: self.tenant, seq: self.seq(), hash: self.hash });
            self.append(SIGNER, HEAD_SIGNED, &serde_json::to_value(&head).expect("JSON"));
            head
        }

        /// Hashes everything from an entry on anew, as somebody would who owns the database.
        fn rehash(&mut self) {
            let mut hash = Hash::beginning(self.tenant);
            for (seq, line) in (1..).zip(&mut self.lines) {
                line["seq"] = json!(seq);
                let text = line.to_string();
                let (read, at) = read(text.as_bytes()).expect("a line");
                let content = Content {
                    seq,
                    at_micros: at,
                    actor: &read.actor,
                    action: &read.action,
                    target: read.target.as_deref(),
                    ip: read.ip.as_deref(),
                    detail: read.detail.get(),
                    trace_id: read.trace_id.as_deref(),
                };
                hash = content.hash(hash);
                line["hash"] = json!(hash);
            }
            self.hash = hash;
        }

        fn verify(&self, keys: &[PublicKey], seen: &[SignedHead]) -> Report {
            verify(self.lines.iter().map(Value::to_string), keys, seen)
        }

        fn problems(&self) -> Vec<Problem> {
            self.verify(&[key(1).public()], &[]).problems
        }
    }

    /// Entries 1 to 5, head 6, entries 7 to 9, head 10, entries 11 and 12.
    fn record() -> (Record, SignedHead) {
        let mut record = Record::new();
        record.entries(5);
        record.sign(&key(1));
        record.entries(3);
        let head = record.sign(&key(1));
        record.entries(2);
        (record, head)
    }

    #[test]
    fn a_record_is_intact_and_what_is_covered_is_told() {
        let (mut record, head) = record();
        let report = record.verify(&[key(2).public(), key(1).public()], &[head]);
        let expected = Report {
            tenant: Some(tenant()),
            entries: 12,
            last: 12,
            heads: 2,
            covered: 9,
            covered_at: Some("1970-01-01T00:00:09Z".to_owned()),
            uncovered: 3,
            longest_unsigned: Some(Unsigned { from: 1, to: 5, lasted: Duration::from_secs(5) }),
            ends_with_export: false,
            problems: Vec::new(),
            more_problems: 0,
        };
        assert_eq!(report, expected);
        record.append("somebody", EXPORTED, &json!({}));
        assert!(record.verify(&[key(1).public()], &[]).ends_with_export);
    }

    #[test]
    fn an_edited_entry_is_found_whatever_was_edited() {
        let (record, _) = record();
        for (member, value) in [
            ("at", json!("1970-01-01T00:00:02.000001Z")),
            ("actor", json!("somebody else")),
            ("action", json!("thing.done.not")),
            ("target", json!(null)),
            ("ip", json!("192.0.2.7")),
            ("detail", json!({"n": 3})),
            ("trace_id", json!("")),
        ] {
            let mut edited = record.clone();
            edited.lines[2][member] = value;
            assert_eq!(edited.problems(), [Problem::Changed { seq: 3 }], "{member}");
        }
        // With its own hash set right, the next one does not follow.
        let mut edited = record.clone();
        edited.lines[2]["actor"] = json!("somebody else");
        let mut rehashed = edited.clone();
        rehashed.rehash();
        edited.lines[2]["hash"] = rehashed.lines[2]["hash"].clone();
        assert_eq!(edited.problems(), [Problem::Changed { seq: 4 }]);
        // With all hashes set right, the heads do not fit.
        let expected = [Problem::Rewritten { seq: 5 }, Problem::Rewritten { seq: 9 }];
        assert_eq!(&rehashed.problems()[..2], expected);
        assert_eq!(rehashed.verify(&[key(1).public()], &[]).covered, 0);
    }

    #[test]
    fn a_dropped_an_inserted_and_a_reordered_entry_is_found() {
        let (record, _) = record();
        let mut dropped = record.clone();
        dropped.lines.remove(2);
        assert_eq!(dropped.problems(), [Problem::Missing { from: 3, to: 3 }]);
        dropped.rehash();
        assert!(!dropped.problems().is_empty(), "renumbered and hashed anew");

        let mut first = record.clone();
        first.lines.drain(..2);
        assert_eq!(first.problems(), [Problem::Missing { from: 1, to: 2 }]);

        let mut inserted = record.clone();
        inserted.lines.insert(3, record.lines[2].clone());
        assert_eq!(inserted.problems(), [Problem::OutOfOrder { line: 4, seq: 3, after: 3 }]);
        inserted.rehash();
        assert!(!inserted.problems().is_empty(), "renumbered and hashed anew");

        let mut reordered = record.clone();
        reordered.lines.swap(2, 3);
        let expected = [
            Problem::Missing { from: 3, to: 3 },
            Problem::OutOfOrder { line: 4, seq: 3, after: 4 },
        ];
        assert_eq!(reordered.problems(), expected);
        reordered.rehash();
        assert!(!reordered.problems().is_empty(), "renumbered and hashed anew");
    }

    #[test]
    fn a_head_that_was_seen_elsewhere_shows_truncation_and_rewriting() {
        let (record, head) = record();
        let keys = [key(1).public()];
        let mut cut = record.clone();
        cut.lines.truncate(8);
        assert!(cut.verify(&keys, &[]).is_intact(), "by itself it is an older state");
        let problems = cut.verify(&keys, std::slice::from_ref(&head)).problems;
        assert_eq!(problems, [Problem::Truncated { last: 8, signed: 9 }]);

        // What whoever owns the database and has the key signed anew would look like.
        let mut other = Record::new();
        other.entries(6);
        other.sign(&key(1));
        other.entries(4);
        other.sign(&key(1));
        assert!(other.verify(&keys, &[]).is_intact());
        let problems = other.verify(&keys, std::slice::from_ref(&head)).problems;
        assert_eq!(problems, [Problem::Rewritten { seq: 9 }]);

        // A head that proves nothing is not taken for one that was seen.
        for foreign in [
            SignedHead { seq: 8, ..head.clone() },
            key(2).sign(Head { tenant: tenant(), seq: 9, hash: head.hash }),
        ] {
            let problems = record.verify(&keys, std::slice::from_ref(&foreign)).problems;
            assert!(problems.contains(&Problem::SeenHead { seq: foreign.seq }), "{problems:?}");
        }
    }

    #[test]
    fn keys_rotate_and_strangers_cover_nothing() {
        let mut record = Record::new();
        record.entries(2);
        record.sign(&key(1));
        record.entries(2);
        record.sign(&key(2));
        let report = record.verify(&[key(1).public(), key(2).public()], &[]);
        assert!(report.is_intact());
        assert_eq!((report.heads, report.covered), (2, 5));
        // What the newer key has signed holds for what the older one signed as well.
        let report = record.verify(&[key(2).public()], &[]);
        assert!(report.is_intact());
        assert_eq!((report.heads, report.covered), (1, 5));
        let report = record.verify(&[key(1).public()], &[]);
        let expected = [Problem::UnknownKey { seq: 6, key_id: key(2).public().id() }];
        assert_eq!((report.covered, &report.problems[..]), (2, &expected[..]));

        // Somebody else's whole record, and one without heads.
        let mut strange = Record::new();
        strange.entries(2);
        assert_eq!(strange.problems(), [Problem::NothingSigned]);
        strange.sign(&key(3));
        assert!(strange.problems().contains(&Problem::NothingSigned));
        assert_eq!(Record::new().problems(), [Problem::NothingSigned]);
    }

    #[test]
    fn a_head_that_is_none_is_told() {
        let (key, tenant) = (key(1), tenant());
        let sign =
            |seq, hash| serde_json::to_value(key.sign(Head { tenant, seq, hash })).expect("JSON");
        let mut record = Record::new();
        record.entries(2);
        let good = sign(2, record.hash);
        let mut forged = good.clone();
        forged["signature"] = sign(1, record.hash)["signature"].clone();
        for (detail, why) in [
            (json!({}), "it has no head in it"),
            (sign(1, record.hash), "it does not follow what it covers"),
            (forged, "the signature is not of its key"),
        ] {
            let mut record = record.clone();
            record.append(SIGNER, HEAD_SIGNED, &detail);
            let expected = [Problem::NoHead { seq: 3, why }, Problem::NothingSigned];
            assert_eq!(record.problems(), expected);
        }
        // Nobody but the signer signs: whatever an action is called, by whom.
        let mut by_other = record.clone();
        by_other.append("somebody", HEAD_SIGNED, &good);
        assert_eq!(by_other.problems(), [Problem::NothingSigned]);
        record.append(SIGNER, HEAD_SIGNED, &good);
        assert!(record.problems().is_empty());
    }

    #[test]
    fn another_tenants_entries_and_heads_do_not_count() {
        let (mut record, _) = record();
        let mut other = Record::of("0192f0c1-2b3c-7d4e-8f50-000000000009".parse().expect("an id"));
        other.entries(12);
        other.sign(&key(1));
        record.lines.push(other.lines[12].clone());
        assert_eq!(record.problems(), [Problem::OtherTenant { line: 13, seq: 13 }]);
        // The same with the name changed.
        record.lines[12]["tenant"] = json!(tenant());
        let expected = [
            Problem::Changed { seq: 13 },
            Problem::NoHead { seq: 13, why: "the signature is not of its key" },
        ];
        assert_eq!(record.problems(), expected);
    }

    #[test]
    fn what_no_hash_covers_is_refused() {
        let (record, _) = record();
        let line = record.lines[0].to_string();
        let says = |text: String| verify([text], &[], &[]).problems[0].to_string();
        for (changed, why) in [
            (line.replacen('{', "{\"note\": 1,", 1), "unknown field `note`"),
            (line.replacen("\"ip\":null", "\"ip\":null,\"ip\":null", 1), "duplicate field `ip`"),
            (line.replace("00:00:00Z", "00:00:00.000000000Z"), "the time is not written"),
            (line.replace("00:00:00Z", "01:00:00+01:00"), "the time is not written"),
            (line[..line.len() - 5].to_owned(), "EOF"),
            (String::new(), "EOF"),
        ] {
            let told = says(changed.clone());
            assert!(told.contains("line 1") && told.contains(why), "{changed}: {told}");
        }
    }

    #[test]
    fn a_line_that_is_no_text_is_refused() {
        let (record, _) = record();
        let text = record.lines[0].to_string();
        for (name, place) in [("actor", "somebody"), ("detail", "\"n\"")] {
            let mut bytes = text.clone().into_bytes();
            let at = text.find(place).expect("it is there") + 2;
            bytes[at] = 0xff;
            let problems = verify([bytes], &[], &[]).problems;
            assert!(
                matches!(problems[0], Problem::Unreadable { line: 1, .. }),
                "{name}: {problems:?}"
            );
        }
    }

    #[test]
    fn details_count_as_they_are_written() {
        let tenant = tenant();
        let line = |detail: &str, hash: Hash| {
            format!(
                r#"{{"tenant":"{tenant}","seq":1,"at":"1970-01-01T00:00:00Z","actor":"a","action":"b","target":null,"ip":null,"detail":{detail},"trace_id":null,"hash":"{hash}"}}"#
            )
        };
        let details = [
            "{}",
            "{ }",
            r#"{"n": 1.0}"#,
            r#"{"n": 1}"#,
            r#"{"n": 1e400, "m": 123456789012345678901234567890}"#,
            r#"{"a": "\u00fc"}"#,
            r#"{"a": "ü"}"#,
        ];
        for detail in details {
            let content = Content {
                seq: 1,
                at_micros: 0,
                actor: "a",
                action: "b",
                target: None,
                ip: None,
                detail,
                trace_id: None,
            };
            let hash = content.hash(Hash::beginning(tenant));
            for written in details {
                let problems = verify([line(written, hash)], &[], &[]).problems;
                let changed = problems.contains(&Problem::Changed { seq: 1 });
                assert_eq!(changed, written != detail, "{detail} as {written}: {problems:?}");
            }
        }
    }

    #[test]
    fn problems_past_a_hundred_are_counted() {
        let report = verify(vec![""; 150], &[], &[]);
        assert_eq!((report.problems.len(), report.more_problems), (100, 51));
    }
}
