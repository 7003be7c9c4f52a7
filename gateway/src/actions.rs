//! What is done under grants, as `/authorize` sees it: counted by the minute, and told to grant-worker
//! in batches, for the evidence.
//!
//! A decision waits for none of it. Each run of an edge tells the whole count of a minute, again until
//! it is confirmed: so nothing is counted twice, and what is lost is what a killed process had not told
//! yet.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, header::HOST, request::Parts};
use parking_lot::Mutex;
use shared::{
    bus::Bus,
    clock::{Clock, Monotonic, Timestamp},
    id::{GrantId, RecorderId, SessionId},
    message::grant::{Action, Counted, RecordActions},
    refusal::Refusal,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::edge::Decision;

/// How often grant-worker is told.
const REPORT: Duration = Duration::from_secs(5);
/// How long the last report may take.
const LAST_REPORT: Duration = Duration::from_secs(2);
/// Most grants, sessions and minutes that are counted at once.
const MOST_PLACES: usize = 2_000;
/// Most different actions in one minute of one grant and session; others are one.
const MOST_ACTIONS: usize = 200;
/// Most in one message.
const TOLD_AT_ONCE: usize = 100;
/// So long after its first action, nothing more comes to a minute.
const OVER: Duration = Duration::from_mins(2);
/// A minute that cannot be told is kept for so long.
const KEPT: Duration = Duration::from_mins(30);
/// Longest method, host and path; what is longer is cut, to characters of so many bytes.
const METHOD_BYTES: usize = 16;
const HOST_BYTES: usize = 255;
const PATH_BYTES: usize = 512;

const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Counts actions. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    id: RecorderId,
    bus: Bus,
    clock: Arc<dyn Clock>,
    places: Mutex<HashMap<Place, Counts>>,
}

/// The counts of a place.
struct Counts {
    since: Monotonic,
    actions: BTreeMap<Action, Count>,
}

/// Under which grant, in which session and minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    grant: GrantId,
    session: SessionId,
    minute: Timestamp,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: u64,
    /// So many of them are written down.
    told: u64,
}

impl Recorder {
    /// One for this run of the process.
    #[must_use]
    pub fn new(id: RecorderId, bus: Bus, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { id, bus, clock, places: Mutex::default() }))
    }

    /// Counts a decision, if it was made under a grant.
    pub(crate) fn note(&self, decision: &Decision, allowed: bool, request: &Parts) {
        let Some(elevation) = &decision.elevation else { return };
        let place = Place {
            grant: elevation.grant_id,
            session: decision.session.session_id,
            minute: decision.at.minute(),
        };
        let action = action(request, allowed);
        let mut places = self.0.places.lock();
        let full = places.len() >= MOST_PLACES;
        let actions = match places.entry(place) {
            Entry::Occupied(counts) => &mut counts.into_mut().actions,
            Entry::Vacant(_) if full => return,
            Entry::Vacant(place) => {
                let since = self.0.clock.monotonic();
                &mut place.insert(Counts { since, actions: BTreeMap::new() }).actions
            }
        };
        let action = if actions.len() < MOST_ACTIONS || actions.contains_key(&action) {
            action
        } else {
            Action { method: String::new(), host: String::new(), path: String::new(), allowed }
        };
        actions.entry(action).or_default().all += 1;
    }

    /// Tells grant-worker until `stop`, and once more then.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut is_failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(REPORT)).await.is_some() {
            let told = self.report().await;
            if told.is_err() && !is_failing {
                warn!(
                    "what is done under grants cannot be written down now; it is kept for a while"
                );
            }
            is_failing = told.is_err();
        }
        let _ = tokio::time::timeout(LAST_REPORT, self.report()).await;
        Ok(())
    }

    async fn report(&self) -> Result<(), Refusal> {
        self.forget();
        let untold = self.untold();
        for counted in untold.chunks(TOLD_AT_ONCE) {
            let report = RecordActions { recorder: self.0.id, counted: counted.to_vec() };
            self.0.bus.request(&report).await?;
            self.settle(counted);
        }
        Ok(())
    }

    fn untold(&self) -> Vec<Counted> {
        let places = self.0.places.lock();
        let counted = places.iter().flat_map(|(place, counts)| {
            counts.actions.iter().filter(|(_, count)| count.all > count.told).map(
                |(action, count)| Counted {
                    grant_id: place.grant,
                    session_id: place.session,
                    minute: place.minute,
                    action: action.clone(),
                    count: count.all,
                },
            )
        });
        counted.collect()
    }

    /// Notes what is written down.
    fn settle(&self, counted: &[Counted]) {
        let mut places = self.0.places.lock();
        for Counted { grant_id, session_id, minute, action, count } in counted {
            let place = Place { grant: *grant_id, session: *session_id, minute: *minute };
            let known = places.get_mut(&place).and_then(|counts| counts.actions.get_mut(action));
            if let Some(known) = known {
                known.told = *count;
            }
        }
    }

    /// Forgets minutes that are over and told, and those that could not be told for too long.
    fn forget(&self) {
        let now = self.0.clock.monotonic();
        self.0.places.lock().retain(|_, counts| {
            let age = now.since(counts.since);
            let is_told = counts.actions.values().all(|count| count.told == count.all);
            age < OVER || (!is_told && age < KEPT)
        });
    }
}

/// What is asked about: what the proxy says in `X-Forwarded-Method`, `-Host` and `-Uri`, else this very
/// request's method and host.
fn action(request: &Parts, allowed: bool) -> Action {
    let headers = &request.headers;
    let method = text(headers, &FORWARDED_METHOD);
    let host = text(headers, &FORWARDED_HOST).or_else(|| text(headers, &HOST)).unwrap_or_default();
    let uri = text(headers, &FORWARDED_URI).unwrap_or_default();
    Action {
        method: cut(method.unwrap_or_else(|| request.method.to_string()), METHOD_BYTES),
        host: cut(host, HOST_BYTES),
        path: cut(path(&uri).to_owned(), PATH_BYTES),
        allowed,
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    // Postgres' text holds no NUL; a header neither.
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The path of a URI, which may hold scheme and host: queries hold what is nobody's business.
fn path(uri: &str) -> &str {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    match uri.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => uri,
    }
}

fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method("GET").uri("/authorize?role=admin");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn an_action_is_what_the_proxy_was_asked_for_without_its_query() {
        let asked = action(
            &parts(&[
                ("host", "gateway.internal"),
                ("x-forwarded-method", "DELETE"),
                ("x-forwarded-host", "shop.test"),
                ("x-forwarded-uri", "/orders/7?token=secret#x"),
            ]),
            true,
        );
        let expected = Action {
            method: "DELETE".to_owned(),
            host: "shop.test".to_owned(),
            path: "/orders/7".to_owned(),
            allowed: true,
        };
        assert_eq!(asked, expected);
        let asked = action(&parts(&[("host", "gateway.internal")]), false);
        let expected = Action {
            method: "GET".to_owned(),
            host: "gateway.internal".to_owned(),
            path: String::new(),
            allowed: false,
        };
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_path_is_a_path_however_it_is_written() {
        for (uri, expected) in [
            ("/a/b", "/a/b"),
            ("/a?b=c://d/e", "/a"),
            ("https://shop.test/a?x", "/a"),
            ("https://shop.test", "/"),
            ("https://shop.test?x", "/"),
            ("/go/https://other.test/a", "/go/https://other.test/a"),
            ("", ""),
            ("?x", ""),
        ] {
            assert_eq!(path(uri), expected, "{uri}");
        }
        assert_eq!(cut("aé".repeat(200), 4), "aéa");
    }
}
