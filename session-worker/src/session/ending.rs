//! Ending sessions, many at once: requests that wait while one batch is on its way are the next
//! one. They share a transaction, a commit and a broadcast; each gets its own revision and receipt.

mod store;

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use shared::{
    database::failed,
    id::{SessionId, UserId},
    message::{
        Caller, WITH_RECEIPT,
        revocation::{Cause, Entry, Receipt},
    },
    refusal::Refusal,
    subject::Subject,
    trace,
};
use tokio::sync::{Mutex, mpsc::Receiver};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, error, info_span, warn};

use crate::{
    batch::{self, Queue, Waiting},
    revocation::{Enforcing, Revocations},
    warm::Warm,
};

/// Most requests that wait.
const MOST: usize = 2_048;
/// Most requests in one batch.
const AT_ONCE: usize = 512;
/// Of a batch that failed, so many are tried at once: connections are everybody's.
const ALONE: usize = 4;
/// So many batches are on their way at once, so that one that waits for a lock keeps not all others.
pub(crate) const ENDERS: usize = 3;

/// A request to end sessions.
#[derive(Debug)]
pub(crate) struct End {
    caller: Caller,
    /// Whose; absent: the caller's own.
    user: Option<UserId>,
    what: What,
    trace_id: Option<String>,
    traceparent: Option<String>,
    span: Span,
}

/// Which sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// This one.
    One(SessionId),
    /// All; of one's own, all others.
    All,
    /// The one that asks.
    Own,
}

/// Sessions that were ended, on the way to every edge.
pub(crate) struct Ended {
    /// How many.
    pub(crate) sessions: u32,
    revision: u64,
    enforcing: Enforcing,
}

impl End {
    /// In the trace of the present span.
    pub(crate) fn new(caller: Caller, user: Option<UserId>, what: What) -> Self {
        Self {
            caller,
            user,
            what,
            trace_id: trace::current_trace_id(),
            traceparent: trace::current_traceparent(),
            span: Span::current(),
        }
    }

    const fn subject(&self) -> Subject {
        match self.what {
            What::One(_) => Subject::SessionRevoke,
            What::All => Subject::SessionRevokeAll,
            What::Own => Subject::SessionSignOut,
        }
    }

    const fn cause(&self) -> Cause {
        match self.what {
            What::One(_) => Cause::SessionRevoked,
            What::All => Cause::SessionsRevoked,
            What::Own => Cause::SignedOut,
        }
    }

    /// The one that it names.
    const fn session(&self) -> Option<SessionId> {
        match self.what {
            What::One(session) => Some(session),
            What::All | What::Own => None,
        }
    }

    const fn signs_out(&self) -> bool {
        matches!(self.what, What::Own)
    }

    /// What the audit record calls it.
    const fn action(&self) -> &'static str {
        match self.what {
            What::One(_) => "session.revoked",
            What::All => "session.revoked-all",
            What::Own => "session.signed-out",
        }
    }
}

impl Ended {
    /// See [`Enforcing::receipt`].
    pub(crate) async fn receipt(&self) -> Receipt {
        self.enforcing.receipt(self.revision).await
    }
}

/// What became of a request in a transaction.
enum Outcome {
    Refused(Refusal),
    /// It concerns somebody whose sessions another one of the batch ends: it comes after that.
    Later,
    /// So many sessions ended.
    Ended {
        sessions: u32,
        entry: Entry,
    },
}

type Request = Waiting<End, Ended>;

/// One of those that end sessions. They share the queue.
#[derive(Clone)]
pub(crate) struct Ender {
    pool: Warm,
    revocations: Revocations,
    waiting: Arc<Mutex<Receiver<Request>>>,
}

/// The queue, and who works on it.
pub(crate) fn start(pool: Warm, revocations: Revocations) -> (Queue<End, Ended>, Ender) {
    let (queue, waiting) = batch::queue(MOST);
    (queue, Ender { pool, revocations, waiting: Arc::new(Mutex::new(waiting)) })
}

impl Ender {
    /// Ends sessions until `finished`.
    pub(crate) async fn run(self, finished: CancellationToken) -> anyhow::Result<()> {
        let mut later = Vec::new();
        loop {
            let mut batch = std::mem::take(&mut later);
            if batch.is_empty() {
                tokio::select! {
                    () = finished.cancelled() => return Ok(()),
                    () = async {
                        self.waiting.lock().await.recv_many(&mut batch, AT_ONCE).await;
                    } => {}
                }
            }
            batch.retain(Waiting::is_wanted);
            if batch.is_empty() {
                continue;
            }
            // Longer nobody waits. What was committed and not broadcast is found by the beacon.
            let ended = tokio::time::timeout(WITH_RECEIPT, self.end(batch)).await;
            later = ended.unwrap_or_else(|_| {
                error!("sessions not ended in time: the database does not answer");
                Vec::new()
            });
        }
    }

    /// Ends what one batch asks for; gives back what has to come later.
    async fn end(&self, batch: Vec<Request>) -> Vec<Request> {
        match self.attempt(&batch).await {
            Ok(outcomes) => self.conclude(batch, outcomes).await,
            // Whatever it was that one of them met, the others have nothing to do with it.
            Err(error @ sqlx::Error::Database(_)) if batch.len() > 1 => {
                warn!(%error, requests = batch.len(), "a batch failed: each by itself");
                let alone = |request| self.clone().end_alone(request);
                stream::iter(batch).for_each_concurrent(ALONE, alone).await;
                Vec::new()
            }
            Err(error) => {
                refuse(batch, error);
                Vec::new()
            }
        }
    }

    async fn end_alone(self, request: Request) {
        let batch = vec![request];
        match self.attempt(&batch).await {
            Ok(outcomes) => {
                self.conclude(batch, outcomes).await;
            }
            Err(error) => refuse(batch, error),
        }
    }

    /// One transaction for all of them.
    async fn attempt(&self, batch: &[Request]) -> Result<Vec<Outcome>, sqlx::Error> {
        let span = batch.first().map_or_else(Span::none, |first| {
            info_span!(parent: &first.request.span, "session.end-batch", batch.size = batch.len())
        });
        for other in batch.iter().skip(1) {
            span.follows_from(&other.request.span);
        }
        let asked: Vec<_> = batch.iter().map(|waiting| &waiting.request).collect();
        store::end(&self.pool, &asked).instrument(span).await
    }

    /// After the commit: broadcasts, and answers everybody but those who come later.
    async fn conclude(&self, batch: Vec<Request>, outcomes: Vec<Outcome>) -> Vec<Request> {
        let entries = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Ended { entry, .. } => Some(entry.clone()),
            Outcome::Refused(_) | Outcome::Later => None,
        });
        let entries: Vec<_> = entries.collect();
        let enforcing = if entries.is_empty() {
            Err(Refusal::not_found())
        } else {
            let span = batch.first().map_or_else(Span::none, |first| first.request.span.clone());
            self.revocations.enforce(entries).instrument(span).await
        };
        let mut later = Vec::new();
        for (request, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Later => later.push(request),
                Outcome::Refused(refusal) => request.answer(Err(refusal)),
                Outcome::Ended { sessions, entry } => {
                    let revision = entry.revision.number;
                    request.answer(enforcing.clone().map(|enforcing| Ended {
                        sessions,
                        revision,
                        enforcing,
                    }));
                }
            }
        }
        later
    }
}

fn refuse(batch: Vec<Request>, error: sqlx::Error) {
    let refusal = failed(error);
    for request in batch {
        request.answer(Err(refusal.clone()));
    }
}
