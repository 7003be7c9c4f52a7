//! Ending sessions, many at once: requests that wait while one batch is on its way are the next
//! one. They share a transaction, a commit and a broadcast; each gets its own revision and receipt.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::json;
use shared::{
    database::{
        audit::{self, Actor, Attempt, Record},
        caller::{self, Known},
        failed,
        revocation::{self, Change},
    },
    id::{SessionId, UserId},
    message::{
        Caller, WITH_RECEIPT,
        revocation::{Cause, Entry, Receipt},
    },
    refusal::Refusal,
    role::Permission,
    subject::Subject,
    trace,
};
use sqlx::PgPool;
use tokio::{
    sync::{Mutex, mpsc::Receiver},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, error, info_span, warn};

use super::store::{self, Ending};
use crate::{
    batch::{self, Queue, Waiting},
    revocation::{Enforcing, Revocations},
};

/// Most requests that wait.
const MOST: usize = 2_048;
/// Most requests in one batch.
const AT_ONCE: usize = 512;
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

    fn ending(&self, known: &Known) -> Ending {
        let (owner, by) = (self.user.unwrap_or(known.user_id), known.user_id);
        let (session, keep) = match self.what {
            What::One(session) => (Some(session), None),
            What::All => (None, self.user.is_none().then_some(known.session_id)),
            What::Own => (Some(known.session_id), None),
        };
        Ending { owner, session, keep, by }
    }

    fn record(&self, known: &Known, owner: UserId, sessions: &[SessionId]) -> Record<'_> {
        let (action, target) = match (self.what, sessions) {
            (What::Own, _) => ("session.signed-out", format!("session:{}", known.session_id)),
            (What::One(session), _) => ("session.revoked", format!("session:{session}")),
            (What::All, _) => ("session.revoked-all", format!("user:{owner}")),
        };
        Record {
            tenant: known.tenant_id,
            actor: Actor::User(known.user_id),
            action,
            target: Some(target),
            origin: &self.caller.origin,
            detail: json!({"user": owner, "sessions": sessions}),
            trace_id: self.trace_id.clone(),
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
    /// So many sessions ended, in this change of the batch.
    Ended {
        sessions: usize,
        change: usize,
    },
}

type Request = Waiting<End, Ended>;

/// One of those that end sessions. They share the queue.
#[derive(Clone)]
pub(crate) struct Ender {
    pool: PgPool,
    revocations: Revocations,
    waiting: Arc<Mutex<Receiver<Request>>>,
}

/// The queue, and who works on it.
pub(crate) fn start(pool: PgPool, revocations: Revocations) -> (Queue<End, Ended>, Ender) {
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
            Ok((outcomes, entries)) => self.conclude(batch, outcomes, entries).await,
            // Whatever it was that one of them met, the others have nothing to do with it.
            Err(error @ sqlx::Error::Database(_)) if batch.len() > 1 => {
                warn!(%error, requests = batch.len(), "a batch failed: each by itself");
                let mut alone = JoinSet::new();
                for request in batch {
                    alone.spawn(self.clone().end_alone(request));
                }
                alone.join_all().await;
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
            Ok((outcomes, entries)) => {
                self.conclude(batch, outcomes, entries).await;
            }
            Err(error) => refuse(batch, error),
        }
    }

    /// One transaction for all of them.
    async fn attempt(&self, batch: &[Request]) -> Result<(Vec<Outcome>, Vec<Entry>), sqlx::Error> {
        let span = batch.first().map_or_else(Span::none, |first| {
            info_span!(parent: &first.request.span, "session.end-batch", batch.size = batch.len())
        });
        for other in batch.iter().skip(1) {
            span.follows_from(&other.request.span);
        }
        self.attempt_within(batch).instrument(span).await
    }

    async fn attempt_within(
        &self,
        batch: &[Request],
    ) -> Result<(Vec<Outcome>, Vec<Entry>), sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        let calls: Vec<_> = batch
            .iter()
            .map(|waiting| (waiting.request.caller.token, waiting.request.user))
            .collect();
        let locked = caller::lock_all(&mut tx, &calls).await?;

        let mut outcomes = Vec::new();
        let mut records = Vec::new();
        let mut endings = Vec::new();
        let mut owners = HashSet::new();
        let mut asked = HashMap::new();
        for (place, waiting) in batch.iter().enumerate() {
            let end = &waiting.request;
            let admitted = locked.known(&end.caller.token).and_then(|known| {
                let admitted = end.admit(known, |user| locked.is_colleague(known, user));
                if let Err(refusal) = &admitted {
                    records.extend(end.refused(known, refusal));
                }
                admitted.map(|()| known)
            });
            outcomes.push(match admitted {
                Err(refusal) => Outcome::Refused(refusal),
                // As if they had come one after the other.
                Ok(known)
                    if owners.contains(&known.user_id)
                        || owners.contains(&end.user.unwrap_or(known.user_id)) =>
                {
                    Outcome::Later
                }
                Ok(known) => {
                    let ending = end.ending(known);
                    owners.insert(ending.owner);
                    asked.insert(place, (known, endings.len()));
                    endings.push(ending);
                    Outcome::Refused(Refusal::not_found())
                }
            });
        }
        let ended = store::end(&mut tx, &endings).await?;

        let mut changes = Vec::new();
        for (place, waiting) in batch.iter().enumerate() {
            let Some((known, ending)) = asked.get(&place) else { continue };
            let (end, sessions) = (&waiting.request, &ended[*ending]);
            let owner = endings[*ending].owner;
            // All of none is done; one that is gone is not found.
            if sessions.is_empty() && end.what != What::All {
                continue;
            }
            records.push(end.record(known, owner, sessions));
            outcomes[place] = Outcome::Ended { sessions: sessions.len(), change: changes.len() };
            changes.push(Change {
                tenant: known.tenant_id,
                user: Some(owner),
                sessions: sessions.clone(),
                cause: end.cause(),
                traceparent: end.traceparent.clone(),
            });
        }
        if !records.is_empty() {
            audit::append_all(&mut tx, &records).await?;
        }
        let entries = revocation::commit_all(tx, changes).await?;
        Ok((outcomes, entries))
    }

    /// After the commit: broadcasts, and answers everybody but those who come later.
    async fn conclude(
        &self,
        batch: Vec<Request>,
        outcomes: Vec<Outcome>,
        entries: Vec<Entry>,
    ) -> Vec<Request> {
        let revisions: Vec<_> = entries.iter().map(|entry| entry.revision.number).collect();
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
                Outcome::Ended { sessions, change } => {
                    request.answer(enforcing.clone().map(|enforcing| Ended {
                        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
                        revision: revisions[change],
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

impl End {
    /// The permission first, then whether there is such a user. Anybody may sign out.
    fn admit(&self, known: &Known, is_colleague: impl Fn(UserId) -> bool) -> Result<(), Refusal> {
        if known.enrollment_only && self.what != What::Own {
            return Err(Refusal::enrollment_required());
        }
        let Some(user) = self.user else { return Ok(()) };
        known.require(Permission::SessionRevokeAny)?;
        if is_colleague(user) { Ok(()) } else { Err(Refusal::not_found()) }
    }

    /// The record of a refused attempt, where it is one of substance.
    fn refused(&self, known: &Known, refusal: &Refusal) -> Option<Record<'_>> {
        let target = self.user.map(|user| format!("user:{user}"));
        let origin = &self.caller.origin;
        let attempt = Attempt { by: known, origin, request: self.subject(), target };
        let record = attempt.record(refusal);
        record.map(|record| Record { trace_id: self.trace_id.clone(), ..record })
    }
}
