//! The durable stream of events in `JetStream`, fed from the outbox. Nothing waits for it: while it is
//! away or full, events stay in the outbox.

use std::time::Duration;

use async_nats::{
    Subscriber,
    jetstream::{
        self, AckKind, Context,
        consumer::{AckPolicy, PullConsumer, pull},
        context::ContextBuilder,
        message::PublishMessage,
        stream,
    },
};
use futures_util::{StreamExt as _, future::join_all};
use tracing::warn;

use super::{Bus, SCHEMA};
use crate::{
    id::EventId,
    message::{VERSION, notification::Happened},
    runtime::config::ConfigError,
    subject::events::{self, CONSUMER},
    trace,
};

/// How long one thing that is asked of `JetStream` may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is older is forgotten.
const MAX_AGE: Duration = Duration::from_hours(7 * 24);
/// What does not fit into so many bytes pushes the oldest out.
const MAX_BYTES: i64 = 256 * 1024 * 1024;
/// The same event within this time is one message, however often it is published.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);
/// The largest event.
pub const LARGEST: usize = 64 * 1024;
/// What was taken and not acknowledged comes again after this time.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// At most so many are taken and not acknowledged yet.
const MAX_ACK_PENDING: i64 = 256;
/// Events are waited for so long at a time.
const PULL: Duration = Duration::from_secs(5);
/// At most so many at a time.
const BATCH: usize = 16;

/// `JetStream` does not do what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// There is no connection.
    #[error("the bus is out of reach")]
    Disconnected,
    /// It is not there, or does not allow it.
    #[error("the stream of events: {0}")]
    JetStream(String),
}

/// Not taken by the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It never will be: it is too large, or of a kind that is none.
    #[error("an event that no stream takes")]
    Unfit,
    /// Not now.
    #[error("the stream did not take it: {0}")]
    Failed(String),
}

/// The stream, and the one durable consumer of it.
#[derive(Debug, Clone)]
pub struct Events {
    bus: Bus,
    context: Context,
    consumer: PullConsumer,
}

/// An event that was taken from the stream.
pub struct Taken {
    /// The event; `None` if it does not parse.
    pub event: Option<Happened>,
    /// The trace of the change.
    pub traceparent: Option<String>,
    message: jetstream::Message,
}

impl Events {
    /// Makes sure that stream and consumer are there. One that the operator has made is left as it
    /// is.
    pub async fn open(bus: &Bus) -> Result<Self, EventsError> {
        if !bus.is_connected() {
            return Err(EventsError::Disconnected);
        }
        let context = ContextBuilder::new().timeout(PATIENCE).build(bus.client.clone());
        let stream = stream::Config {
            name: events::stream(&bus.prefix),
            description: Some("What happened in Breakglass".to_owned()),
            subjects: vec![events::all(&bus.prefix)],
            storage: stream::StorageType::File,
            retention: stream::RetentionPolicy::Limits,
            discard: stream::DiscardPolicy::Old,
            max_age: MAX_AGE,
            max_bytes: MAX_BYTES,
            duplicate_window: DUPLICATE_WINDOW,
            ..stream::Config::default()
        };
        let stream = context.get_or_create_stream(stream).await.map_err(failed)?;
        let consumer = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: MAX_ACK_PENDING,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(consumer).await.map_err(failed)?;
        Ok(Self { bus: bus.clone(), context, consumer })
    }

    /// How many events the consumer has not taken yet.
    pub async fn behind(&self) -> Result<u64, EventsError> {
        self.connected()?;
        Ok(self.consumer.get_info().await.map_err(failed)?.num_pending)
    }

    /// Publishes events, with their traces; says of each whether the stream has it. One that it has
    /// already is taken again, and is there once.
    pub async fn publish(
        &self,
        events: &[(Happened, Option<String>)],
    ) -> Vec<(EventId, Result<(), PublishError>)> {
        let published = events.iter().map(|(event, traceparent)| async {
            (event.id, self.publish_one(event, traceparent.as_deref()).await)
        });
        join_all(published).await
    }

    async fn publish_one(
        &self,
        event: &Happened,
        traceparent: Option<&str>,
    ) -> Result<(), PublishError> {
        let body = serde_json::to_vec(event).map_err(|_| PublishError::Unfit)?;
        if body.len() > LARGEST || !events::is_kind(&event.kind) {
            return Err(PublishError::Unfit);
        }
        let failed = |error: &dyn std::fmt::Display| PublishError::Failed(error.to_string());
        self.connected().map_err(|error| failed(&error))?;
        let mut message = PublishMessage::build()
            .payload(body.into())
            .message_id(event.id.to_string())
            .header(SCHEMA, format!("event/{VERSION}"));
        if let Some(traceparent) = traceparent {
            message = message.header(trace::TRACEPARENT, traceparent);
        }
        let subject = events::subject(&self.bus.prefix, &event.kind);
        let published = self.context.send_publish(subject, message);
        let acknowledged = published.await.map_err(|error| failed(&error))?;
        acknowledged.await.map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Asks for events, as many as come within a few seconds.
    pub async fn pull(&self) -> Result<Pull, EventsError> {
        self.connected()?;
        let pull = self.consumer.batch().max_messages(BATCH).expires(PULL);
        Ok(Pull(pull.messages().await.map_err(failed)?))
    }

    fn connected(&self) -> Result<(), EventsError> {
        if self.bus.is_connected() { Ok(()) } else { Err(EventsError::Disconnected) }
    }
}

impl Bus {
    /// Hears events as they are published: for who can do without those that come while there is no connection. One may come twice.
    pub async fn hear_events(&self) -> Result<Heard, ConfigError> {
        let subscription = self.client.subscribe(events::all(&self.prefix)).await;
        subscription.map(Heard).map_err(|_| ConfigError::Subject { prefix: self.prefix.clone() })
    }
}

/// Events as they are published.
pub struct Heard(Subscriber);

impl Heard {
    /// The next one; `None`: the connection is closed for good.
    pub async fn next(&mut self) -> Option<Happened> {
        loop {
            let message = self.0.next().await?;
            if let Ok(happened) = serde_json::from_slice(&message.payload) {
                return Some(happened);
            }
            warn!(bytes = message.payload.len(), "event does not parse: dropped");
        }
    }
}

/// Events on their way.
pub struct Pull(pull::Batch);

impl Pull {
    /// The next one, as it comes; `None`: ask again.
    pub async fn next(&mut self) -> Result<Option<Taken>, EventsError> {
        match tokio::time::timeout(PULL + PATIENCE, self.0.next()).await {
            Ok(Some(message)) => Ok(Some(Taken::new(message.map_err(failed)?))),
            Ok(None) => Ok(None),
            Err(_) => Err(EventsError::JetStream("it no longer answers".to_owned())),
        }
    }
}

impl Taken {
    fn new(message: jetstream::Message) -> Self {
        let event = serde_json::from_slice(&message.payload).ok();
        if event.is_none() {
            warn!(bytes = message.payload.len(), "event does not parse: dropped");
        }
        let traceparent =
            message.headers.as_ref().and_then(|headers| headers.get(trace::TRACEPARENT));
        let traceparent = traceparent.map(|value| value.as_str().to_owned());
        Self { event, traceparent, message }
    }

    /// It was dealt with, and need not come again.
    pub async fn done(&self) {
        if let Err(error) = self.message.ack().await {
            warn!(%error, "event not acknowledged: it comes again");
        }
    }

    /// It was not dealt with: it shall come again, a little later.
    pub async fn again(&self) {
        let _ = self.message.ack_with(AckKind::Nak(Some(Duration::from_secs(1)))).await;
    }
}

fn failed(error: impl std::fmt::Display) -> EventsError {
    EventsError::JetStream(error.to_string())
}
