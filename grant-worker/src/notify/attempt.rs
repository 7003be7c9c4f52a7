//! One attempt to tell an event to one receiver.

use std::time::Duration;

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT},
};
use serde_json::Value;
use shared::{
    clock::Timestamp,
    id::{DeliveryId, EventId},
    message::notification::Kind,
    sealing::Keys,
};
use tracing::{error, instrument};

use super::{
    Notify,
    http::PostError,
    mail, sign, slack,
    store::{Reached, To},
    target::{Target, TargetError},
};

/// What is told.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    /// `None`: a test.
    pub(super) delivery: Option<DeliveryId>,
    pub(super) event: EventId,
    pub(super) kind: &'a str,
    pub(super) at: Timestamp,
    pub(super) body: &'a Value,
}

/// It did not arrive.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: Option<u16>,
    /// In a few words of ours.
    pub(super) error: String,
    pub(super) then: Then,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Try again, if the receiver asks for it not before this time.
    Retry(Option<Duration>),
    /// The receiver wants nothing more, ever.
    Gone,
    /// It would fail again.
    SetAside,
}

impl Failure {
    pub(super) fn retry(error: impl Into<String>) -> Self {
        Self { status: None, error: error.into(), then: Then::Retry(None) }
    }

    pub(super) fn set_aside(error: impl Into<String>) -> Self {
        Self { status: None, error: error.into(), then: Then::SetAside }
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        Self::retry(error.to_string())
    }
}

impl From<PostError> for Failure {
    fn from(error: PostError) -> Self {
        Self::retry(error.to_string())
    }
}

/// Tells it; answers with the status, where there is one.
#[instrument(
    skip_all, name = "notification.attempt",
    fields(event.id = %told.event, event.kind = told.kind),
)]
pub(super) async fn attempt(
    notify: &Notify,
    to: &To,
    told: Told<'_>,
) -> Result<Option<u16>, Failure> {
    match to {
        To::Endpoint(endpoint) => match endpoint.kind {
            Kind::Webhook => webhook(notify, endpoint, told).await.map(Some),
            Kind::Slack => to_slack(notify, endpoint, told).await.map(Some),
            Kind::Mail => {
                mail::to_addresses(notify, &endpoint.addresses, told).await.map(|()| None)
            }
        },
        To::Person(address) => mail::to_person(notify, address, told).await.map(|()| None),
    }
}

async fn webhook(notify: &Notify, endpoint: &Reached, told: Told<'_>) -> Result<u16, Failure> {
    let url = endpoint.url.as_deref().unwrap_or_default();
    let target = Target::parse(url, &notify.allowed)?;
    let secrets = endpoint.secret.iter().chain(&endpoint.previous);
    let keys = secrets
        .map(|(key_id, sealed)| {
            let opened = open(&notify.keys, endpoint, key_id, sealed)?;
            sign::key(&opened).ok_or_else(|| Failure::retry("the secret is none"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let body = serde_json::to_vec(told.body)
        .map_err(|_| Failure::set_aside("it cannot be written as a request"))?;
    let id = told.event.to_string();
    let timestamp = notify.clock.wall().micros() / 1_000_000;
    let signature = sign::signatures(&keys, &id, timestamp, &body);
    let headers = [
        (HeaderName::from_static("webhook-id"), id),
        (HeaderName::from_static("webhook-timestamp"), timestamp.to_string()),
        (HeaderName::from_static("webhook-signature"), signature),
    ];
    post(notify, &target, headers, body).await
}

async fn to_slack(notify: &Notify, endpoint: &Reached, told: Told<'_>) -> Result<u16, Failure> {
    let (key_id, sealed) =
        endpoint.secret.as_ref().ok_or_else(|| Failure::set_aside("there is no URL"))?;
    let url = open(&notify.keys, endpoint, key_id, sealed)?;
    let target = Target::parse(&url, &notify.allowed)?;
    let message = slack::message(told.kind, told.body, notify.public_url.as_deref());
    let body = serde_json::to_vec(&message)
        .map_err(|_| Failure::set_aside("it cannot be written as a request"))?;
    post(notify, &target, [], body).await
}

fn open(keys: &Keys, endpoint: &Reached, key_id: &str, sealed: &[u8]) -> Result<String, Failure> {
    let opened = keys.open_any(endpoint.id, key_id, sealed);
    opened.ok().and_then(|secret| String::from_utf8(secret).ok()).ok_or_else(|| {
        error!(endpoint.id = %endpoint.id, key_id, "a webhook's secret cannot be opened");
        Failure::retry("its secret cannot be opened here")
    })
}

async fn post<const N: usize>(
    notify: &Notify,
    target: &Target,
    more: [(HeaderName, String); N],
    body: Vec<u8>,
) -> Result<u16, Failure> {
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static(concat!("Breakglass/", env!("CARGO_PKG_VERSION")))),
    ];
    for (name, value) in more {
        headers.push((
            name,
            HeaderValue::try_from(value)
                .map_err(|_| Failure::set_aside("it cannot be written as a request"))?,
        ));
    }
    let answer = notify.poster.post(target, &headers, body).await?;
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        return Ok(status);
    }
    let then = match answer.status {
        StatusCode::GONE => Then::Gone,
        _ => Then::Retry(answer.retry_after),
    };
    let error = match status {
        300..=399 => format!("it answered {status}; redirects are not followed"),
        _ => format!("it answered {status}"),
    };
    Err(Failure { status: Some(status), error, then })
}
