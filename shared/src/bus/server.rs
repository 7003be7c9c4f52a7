//! Answering requests: one handler per kind, all replicas of a service sharing the load.

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::Message;
use futures_util::StreamExt as _;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, Span, error, info_span, warn};

use super::{Bus, DEADLINE, PREFER, RESPOND_ASYNC, WAIT, addressed_by, internal};
use crate::{
    message::{Outcome, Request},
    refusal::Refusal,
    runtime::config::ConfigError,
    trace,
};

/// At most this many requests of one kind are worked on at once; more are refused at once, not
/// queued. Each kind has its own places, so that a flood of one takes none from another.
const AT_ONCE: usize = 512;

tokio::task_local! {
    /// Until when the asker of the request that is being answered waits.
    static UNTIL: Instant;
}

tokio::task_local! {
    /// How long the asker lets the answer wait for edges; none: as long as a receipt takes at most.
    static PATIENCE: Option<Duration>;
}

/// How long the asker of what this task does lets the answer wait for edges after the commit; none:
/// as long as a receipt takes at most. What is asked of others meanwhile says so, too.
#[must_use]
pub fn patience() -> Option<Duration> {
    PATIENCE.try_with(|patience| *patience).unwrap_or_default()
}

/// Does something whose answer waits for edges no longer than this after the commit.
pub async fn answering_within<F: Future>(patience: Duration, what: F) -> F::Output {
    PATIENCE.scope(Some(patience), what).await
}

/// As the header says it.
pub(super) fn prefer(patience: Duration) -> String {
    if patience.is_zero() {
        return RESPOND_ASYNC.to_owned();
    }
    format!("{RESPOND_ASYNC}{WAIT}{}", patience.as_millis())
}

fn preferred(header: &str) -> Option<Duration> {
    match header.strip_prefix(RESPOND_ASYNC)? {
        "" => Some(Duration::ZERO),
        wait => wait.strip_prefix(WAIT)?.parse().ok().map(Duration::from_millis),
    }
}

/// How much longer the asker waits for the request that this task answers, if it answers one.
/// What is asked of others meanwhile has no longer than that.
#[must_use]
pub fn remaining() -> Option<Duration> {
    UNTIL.try_with(|until| until.saturating_duration_since(Instant::now())).ok()
}

/// Serves requests until told to stop, then lets what it has begun come to its end.
#[derive(Debug)]
pub struct Server {
    bus: Bus,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Cancelled when a subscription ended that should not.
    deaf: CancellationToken,
}

impl Server {
    /// A server that takes no new requests once `stop` is cancelled.
    #[must_use]
    pub fn new(bus: Bus, stop: CancellationToken) -> Self {
        Self { bus, tasks: TaskTracker::new(), stop, deaf: CancellationToken::new() }
    }

    /// Answers requests of one kind. The handler must be idempotent: a request may come twice.
    pub async fn handle<R, S, F, Fut>(&self, state: &S, handler: F) -> Result<(), ConfigError>
    where
        R: Request,
        S: Clone + Send + Sync + 'static,
        F: Fn(S, R) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<R::Reply, Refusal>> + Send + 'static,
    {
        let mut requests = self.bus.subscribe_shared(R::SUBJECT).await?;
        let bus = self.bus.clone();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let (tasks, stop, state) = (self.tasks.clone(), self.stop.clone(), state.clone());
        let deaf = self.deaf.clone();
        self.tasks.spawn(async move {
            let mut stopping = false;
            loop {
                let message = tokio::select! {
                    () = stop.cancelled(), if !stopping => {
                        // What has arrived is still answered; then `next` gives nothing more.
                        stopping = true;
                        let _ = requests.drain().await;
                        continue;
                    }
                    message = requests.next() => message,
                };
                let Some(message) = message else { break };
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    reply::<R>(&bus, &message, Err(Refusal::unavailable())).await;
                    continue;
                };
                let (bus, state) = (bus.clone(), state.clone());
                tasks.spawn(async move {
                    answer(&bus, &message, |request| handler(state, request)).await;
                    drop(place);
                });
            }
            if !stopping {
                deaf.cancel();
            }
        });
        Ok(())
    }

    /// Returns once everything that was begun has ended, at most `deadline` after the stop. An
    /// error says that the bus closed a subscription before.
    pub async fn drained(&self, deadline: Duration) -> anyhow::Result<()> {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.deaf.cancelled() => anyhow::bail!("the bus closed a subscription"),
        }
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            warn!(unfinished = self.tasks.len(), "stopped before all requests were answered");
        }
        Ok(())
    }
}

async fn answer<R: Request, Fut>(bus: &Bus, message: &Message, handler: impl FnOnce(R) -> Fut)
where
    Fut: Future<Output = Result<R::Reply, Refusal>>,
{
    let path = R::SUBJECT.path();
    let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name));
    let traceparent = header(trace::TRACEPARENT).map(async_nats::HeaderValue::as_str);
    let span = if traceparent.is_some() {
        info_span!(
            "bus.process",
            otel.name = format!("process {path}"),
            otel.kind = "server",
            messaging.system = "nats",
            messaging.destination.name = path,
        )
    } else {
        Span::none()
    };
    trace::continue_trace(&span, traceparent);
    async {
        let request = match serde_json::from_slice::<R>(&message.payload) {
            Ok(request) if addressed_by(message.subject.as_str(), request.edge()) => request,
            Ok(_) => return warn!(subject = path, "request speaks for another edge: dropped"),
            Err(_) => {
                return warn!(
                    subject = path,
                    bytes = message.payload.len(),
                    "request does not parse: dropped"
                );
            }
        };
        let asked = header(DEADLINE).and_then(|value| value.as_str().parse().ok());
        let deadline = asked.map_or(R::DEADLINE, Duration::from_millis).min(R::DEADLINE);
        let until = Instant::now() + deadline;
        let patience = header(PREFER).and_then(|value| preferred(value.as_str()));
        let answered = UNTIL.scope(until, PATIENCE.scope(patience, handler(request)));
        let outcome = tokio::time::timeout_at(until, answered).await;
        let outcome = outcome.unwrap_or_else(|_| {
            error!(subject = path, "given up: the asker no longer waits");
            Err(Refusal::unavailable())
        });
        reply::<R>(bus, message, outcome).await;
    }
    .instrument(span)
    .await;
}

async fn reply<R: Request>(bus: &Bus, message: &Message, outcome: Result<R::Reply, Refusal>) {
    let Some(inbox) = message.reply.clone() else { return };
    let outcome = outcome.map_or_else(Outcome::Refused, Outcome::Ok);
    let sent = match serde_json::to_vec(&outcome) {
        Ok(body) => bus.client.publish(inbox.clone(), body.into()).await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = sent {
        // Too large, most likely. Whoever asked is told, rather than left to wait.
        error!(subject = R::SUBJECT.path(), error, "answer not sent");
        let refused = Outcome::<R::Reply>::Refused(internal());
        if let Ok(body) = serde_json::to_vec(&refused) {
            let _ = bus.client.publish(inbox, body.into()).await;
        }
    }
}
