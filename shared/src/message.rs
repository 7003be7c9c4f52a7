//! What travels on the bus, version 1.
//!
//! A request names its subject, its reply and how long the asker waits; an event names its subject.
//! Readers ignore unknown fields. The JSON of every message is frozen by a snapshot test: a change
//! that breaks it needs a new version, in a new module, with an upgrade function.

pub mod account;
pub mod audit;
pub mod edge;
pub mod grant;
pub mod mfa;
pub mod notification;
pub mod revocation;
pub mod session;
pub mod user;

use std::{net::IpAddr, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};

use crate::{id::EdgeId, refusal::Refusal, subject::Subject, token::TokenHash};

/// The version of these schemas, sent in a header.
pub const VERSION: u32 = 1;

/// Most callers wait this long.
pub const SHORT: Duration = Duration::from_secs(5);

/// Callers wait this long where the answer holds a receipt: the receipt's own deadline
/// (4/3 lease + margin + 1 s, 5.4 s with the default lease) and some time for the change.
pub const WITH_RECEIPT: Duration = Duration::from_secs(12);

/// Callers wait this long where a password is hashed: in a storm of sign-ins, it may stand in line.
pub const WITH_PASSWORD: Duration = Duration::from_secs(10);

/// Most items of a page.
pub const MOST_ITEMS: u32 = 200;

/// Most bytes of a page: an answer has to fit into one message of the bus.
const PAGE_BYTES: usize = 128 * 1024;

/// Cuts a page to `limit` items, and to what fits into an answer; says whether there are more.
/// At least one item stays.
#[must_use]
pub fn page<T: Serialize>(mut items: Vec<T>, limit: u32) -> (Vec<T>, bool) {
    let mut bytes = 0;
    let fitting = items.iter().take_while(|item| {
        bytes += serde_json::to_vec(item).map_or(0, |json| json.len());
        bytes <= PAGE_BYTES
    });
    let length = fitting.count().max(1).min(limit as usize);
    let more = items.len() > length;
    items.truncate(length);
    (items, more)
}

/// A message that is answered.
pub trait Request: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What answers it.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// Where it goes.
    const SUBJECT: Subject;
    /// How long the asker waits. Travels with the request, so that nobody works on for nobody.
    const DEADLINE: Duration;
    /// The edge that sends, where the subject is addressed by edge.
    fn edge(&self) -> Option<&EdgeId> {
        None
    }
}

/// A message that is not answered.
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Where it goes.
    const SUBJECT: Subject;
    /// The edge that sends, where the subject is addressed by edge.
    fn edge(&self) -> Option<&EdgeId> {
        None
    }
}

/// What every answer is wrapped in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome<T> {
    /// Done; here is the answer.
    Ok(T),
    /// Not done, and why.
    Refused(Refusal),
}

/// Where a call came from, as the gateway saw it. For the record; no decision rests on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The client's `User-Agent`, cut to 512 bytes.
    pub user_agent: Option<String>,
}

/// A request on behalf of somebody who is signed in.
///
/// The gateway says which token came with it, never who the caller is: the worker looks that up
/// in the transaction of the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The hash of the token that came with the request.
    pub token: TokenHash,
    /// Where the request came from.
    pub origin: Origin,
    /// Whether nobody asked: a page follows by itself what happens. Then it is no use of the session,
    /// which would otherwise never be idle while a page is open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unattended: bool,
}

/// Writes a secret out: for the bus alone, which is encrypted and whose inboxes are private.
fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// [`expose`] for what need not be there.
#[expect(clippy::ref_option, reason = "so serde calls it")]
fn expose_some<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(ExposeSecret::expose_secret).serialize(serializer)
}

/// Implements [`Request`] for types that no edge addresses.
macro_rules! requests {
    ($($request:ty => $reply:ty, $subject:ident, $deadline:expr;)*) => {$(
        impl $crate::message::Request for $request {
            type Reply = $reply;
            const SUBJECT: $crate::subject::Subject = $crate::subject::Subject::$subject;
            const DEADLINE: std::time::Duration = $deadline;
        }
    )*};
}
use requests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_limit_or_where_an_answer_is_full() {
        let items = |length: usize, count: usize| vec!["x".repeat(length); count];
        let lengths = |(items, more): (Vec<String>, bool)| (items.len(), more);
        assert_eq!(lengths(page(items(10, 3), 3)), (3, false));
        assert_eq!(lengths(page(items(10, 4), 3)), (3, true));
        assert_eq!(lengths(page(items(60_000, 4), 3)), (2, true));
        assert_eq!(lengths(page(items(200_000, 1), 3)), (1, false));
        assert_eq!(lengths(page(items(10, 0), 3)), (0, false));
    }
}
