//! Reading a request's body: JSON, of bounded length, in bounded time, nothing unknown in it.

use std::{error::Error as _, time::Duration};

use axum::{
    Json,
    extract::{FromRequest, Request},
};
use futures_util::StreamExt as _;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;
use shared::refusal::{Code, Refusal};
use utoipa::ToSchema;

use super::problem::Refused;

/// Longer bodies are refused.
const LIMIT: usize = 64 * 1024;
/// Of a body that is refused, so much is read and thrown away: a client that still sends when the
/// connection closes may never see the answer.
const DISCARDED: usize = 4 * 1024 * 1024;
/// A body has to be there within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Explanations repeat what was sent; not all of it.
const DETAIL_LIMIT: usize = 300;

/// A JSON body. What is absent, or `null`, counts as `{}`; the content type does not matter.
pub(super) struct Body<T>(pub(super) T);

/// The body of a call that takes none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A value of a type that is read leniently where it travels on the bus: here, what is unknown is
/// refused.
pub(super) struct Exactly<T>(pub(super) T);

impl<'de, T: DeserializeOwned + Serialize> Deserialize<'de> for Exactly<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Value::deserialize(deserializer)?;
        let value = T::deserialize(&given).map_err(D::Error::custom)?;
        let known = serde_json::to_value(&value).map_err(D::Error::custom)?;
        match unknown(&given, &known) {
            Some(name) => Err(D::Error::custom(format_args!("unknown field `{name}`"))),
            None => Ok(Self(value)),
        }
    }
}

/// A field of `given` that `known` has not, however deep.
fn unknown(given: &Value, known: &Value) -> Option<String> {
    let (Value::Object(given), Value::Object(known)) = (given, known) else { return None };
    given.iter().find_map(|(name, value)| match known.get(name) {
        Some(known) => unknown(value, known).map(|inner| format!("{name}.{inner}")),
        None => Some(name.clone()),
    })
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        match tokio::time::timeout(PATIENCE, read(request)).await {
            Ok(body) => parse(&body?).map(Self),
            Err(_) => Err(Refused::bad_request("The body did not arrive in time.")),
        }
    }
}

async fn read(request: Request) -> Result<Vec<u8>, Refused> {
    let (mut body, mut length) = (Vec::new(), 0_usize);
    let mut chunks = request.into_body().into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Refused::bad_request("The body broke off."))?;
        length += chunk.len();
        if length <= LIMIT {
            body.extend_from_slice(&chunk);
        } else if length > DISCARDED {
            break;
        }
    }
    if length > LIMIT {
        let detail = "A body has at most 65536 bytes.";
        return Err(Refused(Refusal::new(Code::PayloadTooLarge, detail)));
    }
    Ok(body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let body = match body.trim_ascii() {
        b"" | b"null" => b"{}",
        body => body,
    };
    // Serde would also take an array for a struct, its fields in order.
    if body.first() != Some(&b'{') {
        return Err(Refused::bad_request("The body must be a JSON object."));
    }
    Json::from_bytes(body).map(|Json(value)| value).map_err(|rejection| {
        let cause = rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
        Refused::bad_request(format!("The body does not fit: {}.", shortened(&cause)))
    })
}

/// As much of an explanation as is worth sending.
pub(super) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(DETAIL_LIMIT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        reason: Option<String>,
        seconds: Option<u32>,
    }

    fn refused(body: &str) -> String {
        let Refused(refusal) = parse::<Asked>(body.as_bytes()).expect_err(body);
        assert_eq!(refusal.code, Code::BadRequest);
        refusal.detail
    }

    #[test]
    fn what_is_absent_is_an_empty_object() {
        for body in ["", " \n", "null", "{}", "{\"reason\": null}"] {
            let asked = parse::<Asked>(body.as_bytes()).expect(body);
            assert_eq!(asked, Asked { reason: None, seconds: None });
        }
    }

    #[test]
    fn an_explanation_names_the_field() {
        assert!(refused("{\"seconds\": \"x\"}").contains("seconds: invalid type"));
        assert!(refused("{\"second\": 5}").contains("unknown field `second`"));
        assert!(refused("{\"seconds\": -1}").contains("seconds"));
        assert!(refused("{\"reason\": \"a\", \"reason\": \"b\"}").contains("duplicate field"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in
            ["[]", "[\"a\", 5]", "\"x\"", "{", "{} {}", "{}x", "\u{feff}{}", "{\"a\":\u{0}}"]
        {
            refused(body);
        }
        assert!(parse::<Asked>(b"{\"reason\": \"\xff\"}").is_err());
        refused(&format!("{{\"x\": {}", "[".repeat(60_000)));
    }

    #[test]
    fn what_is_read_exactly_has_nothing_unknown_in_it() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Lenient {
            seconds: u32,
            inner: Option<Inner>,
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Inner {
            reason: String,
        }
        let read = |body: &str| {
            let read = parse::<Exactly<Lenient>>(body.as_bytes());
            read.map(|Exactly(value)| value).map_err(|Refused(refusal)| refusal.detail)
        };
        assert_eq!(read(r#"{"seconds": 5}"#), Ok(Lenient { seconds: 5, inner: None }));
        let whole = Lenient { seconds: 5, inner: Some(Inner { reason: "a".to_owned() }) };
        assert_eq!(read(r#"{"seconds": 5, "inner": {"reason": "a"}}"#), Ok(whole));
        for (body, name) in [
            (r#"{"seconds": 5, "second": 5}"#, "unknown field `second`"),
            (r#"{"seconds": 5, "inner": {"reason": "a", "x": 1}}"#, "unknown field `inner.x`"),
            (r#"{"inner": null}"#, "missing field `seconds`"),
        ] {
            assert!(read(body).expect_err(body).contains(name), "{body}");
        }
    }

    #[test]
    fn an_explanation_is_short() {
        let detail = refused(&format!("{{\"{}\": 1}}", "ü".repeat(30_000)));
        assert!(detail.len() < DETAIL_LIMIT + 40, "{}", detail.len());
    }
}
