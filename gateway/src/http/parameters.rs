//! Reading what stands in a request's path and query.

use std::error::Error as _;

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use serde::de::DeserializeOwned;
use shared::message::MOST_ITEMS;
use uuid::Uuid;

use super::{body::shortened, problem::Refused};

/// How many items a page has if the client does not say.
const PAGE: u32 = 50;

/// The query. Parameters that are unknown, repeated or malformed are refused.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(parameters)| Self(parameters)).map_err(|rejection| {
            let cause =
                rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
            Refused::bad_request(format!("The query does not fit: {}.", shortened(&cause)))
        })
    }
}

/// How many items to ask for.
pub(super) fn page(limit: Option<u32>) -> Result<u32, Refused> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=MOST_ITEMS => Ok(limit),
        _ => Err(Refused::bad_request(format!("`limit` is 1 to {MOST_ITEMS}."))),
    }
}

/// The id in the path.
///
/// Text that is no id names nothing. It is passed on as the nil id, which nothing has, so that the
/// worker gives the answer that any id without an object gets: 401, 403 or 404, in this order.
pub(super) struct Id(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(path.map(|Path(text)| id(&text)).unwrap_or_default()))
    }
}

/// Both ids in the path, as [`Id`].
pub(super) struct Ids(pub(super) Uuid, pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Ok(Path((first, second))) = path else {
            return Ok(Self(Uuid::nil(), Uuid::nil()));
        };
        Ok(Self(id(&first), id(&second)))
    }
}

/// The number in the path. Text that is none is passed on as 0, which nothing has, as [`Id`] does.
pub(super) struct Number(pub(super) u64);

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(path.ok().and_then(|Path(text)| text.parse().ok()).unwrap_or_default()))
    }
}

fn id(text: &str) -> Uuid {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use serde::Deserialize;
    use shared::{
        clock::Timestamp,
        id::GrantId,
        message::grant::State,
        refusal::{Code, Refusal},
    };

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        state: Option<State>,
        after: Option<Timestamp>,
        limit: Option<u32>,
        cursor: Option<GrantId>,
    }

    async fn query(text: &str) -> Result<Asked, Refusal> {
        let request = Request::get(format!("/x?{text}")).body(()).expect("a request");
        let asked = Parameters::from_request_parts(&mut request.into_parts().0, &()).await;
        asked.map(|Parameters(asked)| asked).map_err(|Refused(refusal)| refusal)
    }

    #[tokio::test]
    async fn a_query_is_read() {
        let id = "0199f0a0-0000-7000-8000-000000000001";
        let text = format!("state=active&after=2026-11-22T03%3A00%3A00Z&limit=7&cursor={id}");
        let expected = Asked {
            state: Some(State::Active),
            after: Some(Timestamp::from_micros(1_795_316_400_000_000)),
            limit: Some(7),
            cursor: Some(id.parse().expect("an id")),
        };
        assert_eq!(query(&text).await, Ok(expected));
    }

    #[tokio::test]
    async fn a_wrong_query_is_refused_by_name() {
        for (text, named) in [
            ("state=over", "unknown variant `over`"),
            ("limit=x", "limit"),
            ("limit=-1", "limit"),
            ("limit=1&limit=2", "duplicate field `limit`"),
            ("offset=3", "unknown field `offset`"),
            ("cursor=x", "cursor"),
            ("after=yesterday", "after"),
        ] {
            let refusal = query(text).await.expect_err(text);
            assert_eq!(refusal.code, Code::BadRequest);
            assert!(refusal.detail.contains(named), "{text}: {}", refusal.detail);
        }
    }

    #[test]
    fn a_page_is_bounded() {
        assert_eq!(page(None).ok(), Some(50));
        assert_eq!(page(Some(200)).ok(), Some(200));
        assert!(page(Some(0)).is_err());
        assert!(page(Some(201)).is_err());
    }

    #[test]
    fn what_is_no_id_names_nothing() {
        for text in ["", "x", "1", "../me", "0199f0a0-0000-7000-8000-00000000000"] {
            assert!(id(text).is_nil(), "{text}");
        }
        assert!(!id("0199f0a0-0000-7000-8000-000000000001").is_nil());
    }
}
