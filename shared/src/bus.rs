//! The bus: typed requests and events over core NATS.
//!
//! Every request carries its deadline and its trace. A bus that is out of reach is an answer
//! ([`Refusal::unavailable`]), never a hang.

pub mod events;
mod server;

use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

use async_nats::{HeaderMap, Subscriber, client::RequestErrorKind, connection::State};
use tracing::{Instrument as _, Span, debug, info_span, warn};

pub use self::server::{Server, answering_within, patience, remaining};
use crate::{
    message::{Event, Outcome, Request, VERSION},
    refusal::{Code, Refusal},
    runtime::config::ConfigError,
    subject::{Identity, Subject},
    trace,
};

/// Milliseconds that the asker will still wait, when it sent the request.
const DEADLINE: &str = "Breakglass-Deadline-Ms";
/// The schema of the body: `<path>/<version>`.
const SCHEMA: &str = "Breakglass-Schema";

/// How the asker wants its answer, as in HTTP (RFC 7240).
const PREFER: &str = "Breakglass-Prefer";
/// At the commit, without waiting for any edge.
const RESPOND_ASYNC: &str = "respond-async";
/// And for how long it may wait for edges before, in milliseconds, if at all.
const WAIT: &str = "; wait-ms=";

/// How long an event may wait to be sent, where the connection is stalled.
const PUBLISH: Duration = Duration::from_secs(1);

/// How to reach the bus.
#[derive(Debug, Clone, clap::Args)]
pub struct BusConfig {
    /// The NATS server.
    #[arg(long, env = "BREAKGLASS_NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub nats_url: String,
    /// File with this service's nkey seed.
    #[arg(long, env = "BREAKGLASS_NATS_NKEY_FILE")]
    pub nats_nkey_file: Option<PathBuf>,
    /// First part of every subject.
    #[arg(long, env = "BREAKGLASS_SUBJECT_PREFIX", default_value = "breakglass")]
    pub subject_prefix: String,
}

/// A connection to the bus, as one service.
#[derive(Debug, Clone)]
pub struct Bus {
    client: async_nats::Client,
    prefix: String,
    identity: Identity,
}

impl Bus {
    /// Connects, or starts trying: a server that is not there yet is not an error.
    pub async fn connect(config: &BusConfig, identity: Identity) -> Result<Self, ConfigError> {
        let mut options = async_nats::ConnectOptions::new()
            .name(identity.name())
            .custom_inbox_prefix(identity.inbox_prefix())
            .retry_on_initial_connect()
            .connection_timeout(Duration::from_secs(2))
            .ping_interval(Duration::from_secs(2))
            .reconnect_delay_callback(|attempt| {
                Duration::from_millis((25 * attempt as u64).min(500))
            })
            .request_timeout(None)
            .subscription_capacity(8_192)
            .event_callback(|event| async move {
                tracing::info!(%event, "bus");
            });
        if let Some(file) = &config.nats_nkey_file {
            let seed = tokio::fs::read_to_string(file)
                .await
                .map_err(|source| ConfigError::Read { path: file.clone(), source })?;
            options = options.nkey(seed.trim().to_owned());
        }
        let client = options
            .connect(&config.nats_url)
            .await
            .map_err(|error| ConfigError::NatsUrl { url: config.nats_url.clone(), error })?;
        Ok(Self { client, prefix: config.subject_prefix.clone(), identity })
    }

    /// Whether the connection stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// How often there was a connection. Whoever hears something has missed what was said between two.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Asks, and waits for the answer at most as long as the request's kind allows.
    pub async fn request<R: Request>(&self, request: &R) -> Result<R::Reply, Refusal> {
        self.request_within(request, R::DEADLINE).await
    }

    /// Asks, and waits for the answer at most `deadline`.
    pub async fn request_within<R: Request>(
        &self,
        request: &R,
        deadline: Duration,
    ) -> Result<R::Reply, Refusal> {
        let path = R::SUBJECT.path();
        let deadline = remaining().map_or(deadline, |left| left.min(deadline));
        // Traces begin at a door (HTTP, a timer, a load); the bus continues them and begins none.
        let span = if Span::current().is_none() {
            Span::none()
        } else {
            info_span!(
                "bus.request",
                otel.name = format!("request {path}"),
                otel.kind = "client",
                messaging.system = "nats",
                messaging.destination.name = path,
            )
        };
        async {
            if !self.is_connected() {
                return Err(Refusal::unavailable());
            }
            let body = serde_json::to_vec(request).map_err(|error| misfit(path, &error))?;
            let mut headers = headers(R::SUBJECT);
            headers.insert(DEADLINE, deadline.as_millis().to_string());
            if let Some(patience) = patience() {
                headers.insert(PREFER, server::prefer(patience));
            }
            let message = async_nats::Request::new()
                .payload(body.into())
                .headers(headers)
                .timeout(Some(deadline));
            let subject = R::SUBJECT.publish(&self.prefix, request.edge());
            // Sending may wait as well, where the connection is stalled.
            let sent = self.client.send_request(subject, message);
            let Ok(reply) = tokio::time::timeout(deadline, sent).await else {
                debug!(subject = path, "not even sent");
                return Err(Refusal::unavailable());
            };
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) if error.kind() == RequestErrorKind::MaxPayloadExceeded => {
                    return Err(Refusal::new(Code::PayloadTooLarge, "The request is too large."));
                }
                Err(error) => {
                    debug!(subject = path, %error, "no answer");
                    return Err(Refusal::unavailable());
                }
            };
            match serde_json::from_slice(&reply.payload).map_err(|error| misfit(path, &error))? {
                Outcome::Ok(reply) => Ok(reply),
                Outcome::Refused(refusal) => Err(refusal),
            }
        }
        .instrument(span)
        .await
    }

    /// Publishes an event; says whether it was handed over. Whoever is not there does not hear it,
    /// and without a connection nobody does: it is not kept for later.
    pub async fn publish<E: Event>(&self, event: &E) -> bool {
        let path = E::SUBJECT.path();
        if !self.is_connected() {
            return false;
        }
        let Ok(body) = serde_json::to_vec(event) else { return false };
        let subject = E::SUBJECT.publish(&self.prefix, event.edge());
        let published = self.client.publish_with_headers(subject, headers(E::SUBJECT), body.into());
        match tokio::time::timeout(PUBLISH, published).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                warn!(subject = path, %error, "not published");
                false
            }
            Err(_) => false,
        }
    }

    /// Hears every event of a kind, however many replicas there are.
    pub async fn subscribe(&self, subject: Subject) -> Result<Subscriber, ConfigError> {
        let subscription = self.client.subscribe(subject.subscribe(&self.prefix)).await;
        subscription.map_err(|_| ConfigError::Subject { prefix: self.prefix.clone() })
    }

    /// Hears events of a kind, each of them by one of the replicas alone.
    pub async fn subscribe_shared(&self, subject: Subject) -> Result<Subscriber, ConfigError> {
        let queue = self.identity.name().to_owned();
        let subscription =
            self.client.queue_subscribe(subject.subscribe(&self.prefix), queue).await;
        subscription.map_err(|_| ConfigError::Subject { prefix: self.prefix.clone() })
    }

    /// Waits until everything that was published has gone out, at most `deadline`.
    pub async fn flush(&self, deadline: Duration) -> bool {
        matches!(tokio::time::timeout(deadline, self.client.flush()).await, Ok(Ok(())))
    }
}

/// Reads an event; one that does not parse is logged without its body and dropped.
#[must_use]
pub fn parse_event<E: Event>(message: &async_nats::Message) -> Option<E> {
    match serde_json::from_slice::<E>(&message.payload) {
        Ok(event) if addressed_by(message.subject.as_str(), event.edge()) => Some(event),
        Ok(_) => {
            warn!(subject = E::SUBJECT.path(), "message speaks for another edge: dropped");
            None
        }
        Err(_) => {
            warn!(
                subject = E::SUBJECT.path(),
                bytes = message.payload.len(),
                "message does not parse: dropped"
            );
            None
        }
    }
}

/// The server's permissions rest on the subject, so the body must not say another edge.
fn addressed_by(subject: &str, edge: Option<&crate::id::EdgeId>) -> bool {
    edge.is_none_or(|edge| subject.rsplit('.').next() == Some(edge.as_str()))
}

fn headers(subject: Subject) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(SCHEMA, format!("{}/{VERSION}", subject.path()));
    if let Some(traceparent) = trace::current_traceparent() {
        headers.insert(trace::TRACEPARENT, traceparent);
    }
    headers
}

fn misfit(subject: &str, error: &serde_json::Error) -> Refusal {
    tracing::error!(subject, %error, "message does not fit its schema");
    internal()
}

fn internal() -> Refusal {
    Refusal::new(Code::Internal, "Something went wrong on our side.")
}
