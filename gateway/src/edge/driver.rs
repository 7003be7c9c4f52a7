//! Carries the rules' actions to the bus, and what comes back to the rules.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use shared::{
    bus::parse_event,
    clock::Monotonic,
    id::Incarnation,
    lease::{
        Revision,
        edge::{Action, Alarm},
    },
    message::{
        edge::{Ack, Join, Joined, Leave, Renew, Renewed},
        revocation::{Broadcast, Entry, Since},
    },
    refusal::Refusal,
    subject::Subject,
    trace,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, info_span, warn};

use super::{Applied, Edge, Options};

/// How often the rules are asked what time has made due.
const TICK: Duration = Duration::from_millis(25);
/// The same while revisions are missing.
const TICK_BEHIND: Duration = Duration::from_millis(2);
/// Uses of sessions are reported this often.
const REPORT: Duration = Duration::from_secs(5);
/// Entries fetched at once.
const FETCH: u32 = 500;

/// Keeps an edge's lease and applies revocations. One per process.
pub struct Driver {
    edge: Edge,
    options: Options,
    replies: JoinSet<Reply>,
    /// Whether a report is on its way.
    is_reporting: bool,
}

/// What came back, with the moment at which it was asked for.
enum Reply {
    Joined(Monotonic, Result<Joined, Refusal>),
    Renewed(Monotonic, Revision, Result<Renewed, Refusal>),
    Fetched(Revision, Result<Broadcast, Refusal>),
    /// Uses of sessions were reported, or could not be.
    Reported,
}

impl Driver {
    pub(super) fn new(edge: Edge, options: Options) -> Self {
        Self { edge, options, replies: JoinSet::new(), is_reporting: false }
    }

    /// Runs until `stop`, then leaves (E9).
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        // Subscribed first, joined after (E1).
        let mut broadcasts = self.edge.0.bus.subscribe(Subject::RevocationBroadcast).await?;
        let mut report = tokio::time::interval(REPORT);
        loop {
            let behind = self.edge.0.cache.inspect(shared::lease::edge::Edge::is_behind);
            let tick = if behind { TICK_BEHIND } else { TICK };
            let actions = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(reply) = self.replies.join_next() => self.take(reply.context("a request crashed")?),
                message = broadcasts.next() => {
                    let message = message.context("the bus closed the subscription")?;
                    match parse_event::<Broadcast>(&message) {
                        Some(broadcast) => self.apply(broadcast),
                        None => Vec::new(),
                    }
                }
                _ = report.tick() => {
                    self.report();
                    Vec::new()
                }
                () = tokio::time::sleep(tick) => {
                    let now = self.now();
                    self.edge.0.cache.update(|rules| rules.poll(now))
                }
            };
            for action in actions {
                self.perform(action).await?;
            }
        }
        self.leave().await;
        Ok(())
    }

    fn now(&self) -> Monotonic {
        self.edge.0.clock.monotonic()
    }

    /// E3, in the trace of each change.
    fn apply(&self, broadcast: Broadcast) -> Vec<Action> {
        let spans: Vec<_> = broadcast
            .entries
            .iter()
            .map(|entry| {
                let span = info_span!(
                    "revocation.apply",
                    otel.kind = "consumer",
                    edge.id = %self.options.id,
                    revocation.revision = entry.revision.number,
                );
                trace::continue_trace(&span, entry.traceparent.as_deref());
                span.entered().exit()
            })
            .collect();
        let now = self.now();
        let actions = self.edge.0.cache.update(|rules| rules.heard(now, &broadcast));
        drop(spans);
        self.tell(broadcast.entries);
        actions
    }

    /// Tells those who watch what has just been applied.
    fn tell(&self, entries: Vec<Entry>) {
        let applied = &self.edge.0.applied;
        if !entries.is_empty() && applied.receiver_count() > 0 {
            // Whoever stopped to listen meanwhile need not know.
            let _ = applied.send(Applied::Entries(entries.into()));
        }
    }

    fn take(&mut self, reply: Reply) -> Vec<Action> {
        let now = self.now();
        self.is_reporting &= !matches!(reply, Reply::Reported);
        let may_jump = matches!(reply, Reply::Joined(_, Ok(_)) | Reply::Fetched(_, Ok(_)));
        let floor = may_jump.then(|| self.edge.0.cache.inspect(shared::lease::edge::Edge::floor));
        let mut fetched = Vec::new();
        let actions = self.edge.0.cache.update(|rules| match reply {
            Reply::Joined(sent_at, Ok(joined)) => {
                let actions = rules.joined(now, sent_at, &joined);
                if rules.incarnation() == Some(joined.incarnation) {
                    info!(incarnation = %joined.incarnation, head = %joined.head, "joined");
                }
                actions
            }
            Reply::Joined(_, Err(_)) => {
                rules.join_failed(now);
                Vec::new()
            }
            Reply::Renewed(sent_at, applied, Ok(renewed)) => {
                rules.renewed(now, sent_at, applied, &renewed)
            }
            Reply::Renewed(_, _, Err(_)) => {
                rules.renew_failed(now);
                Vec::new()
            }
            Reply::Fetched(after, Ok(broadcast)) => {
                let actions = rules.caught_up(now, after, &broadcast);
                fetched = broadcast.entries;
                actions
            }
            Reply::Fetched(_, Err(_)) => {
                rules.fetch_failed(now);
                Vec::new()
            }
            Reply::Reported => Vec::new(),
        });
        self.tell(fetched);
        let risen = |floor| floor < self.edge.0.cache.inspect(shared::lease::edge::Edge::floor);
        if floor.is_some_and(risen) {
            let _ = self.edge.0.applied.send(Applied::Anything);
        }
        actions
    }

    async fn perform(&mut self, action: Action) -> anyhow::Result<()> {
        let bus = self.edge.0.bus.clone();
        let sent_at = self.now();
        match action {
            Action::Join => {
                let request = Join {
                    edge: self.options.id.clone(),
                    region: self.options.region.clone(),
                    allow_cached_ms: self.options.on_partition.allow_cached_ms(),
                };
                self.replies
                    .spawn(async move { Reply::Joined(sent_at, bus.request(&request).await) });
            }
            Action::Renew { incarnation, applied } => {
                let request = Renew {
                    edge: self.options.id.clone(),
                    incarnation,
                    applied,
                    cached_sessions: self.edge.0.cache.sessions(),
                };
                self.replies.spawn(async move {
                    Reply::Renewed(sent_at, applied, bus.request(&request).await)
                });
            }
            Action::Fetch { after } => {
                let request = Since { after, limit: FETCH };
                self.replies
                    .spawn(async move { Reply::Fetched(after, bus.request(&request).await) });
            }
            Action::Ack { incarnation, applied } => {
                bus.publish(&Ack { edge: self.options.id.clone(), incarnation, applied }).await;
            }
            // What was cached may be from what was lost, so only a new life is safe (E7).
            Action::Alarm(Alarm::CommitsLost) => anyhow::bail!(
                "the database has forgotten revisions that this edge applied: it has to start anew"
            ),
            Action::Alarm(Alarm::TimelineChanged) => {
                warn!("the database failed over: joining anew");
            }
            Action::Alarm(Alarm::Fenced) => warn!("this edge was fenced: joining anew"),
        }
        Ok(())
    }

    /// Reports beside everything else, unless the last report is still on its way.
    fn report(&mut self) {
        if !self.is_reporting {
            self.is_reporting = true;
            let edge = self.edge.clone();
            self.replies.spawn(async move {
                edge.report().await;
                Reply::Reported
            });
        }
    }

    /// E9. Decisions take no time after their verdict, so with the rules locked none is under way.
    async fn leave(self) {
        let incarnation: Option<Incarnation> =
            self.edge.0.cache.update(shared::lease::edge::Edge::leave);
        let leave = async {
            let Some(incarnation) = incarnation else { return };
            let leave = Leave { edge: self.options.id.clone(), incarnation };
            match self.edge.0.bus.request(&leave).await {
                Ok(()) => info!("left"),
                Err(refusal) => {
                    warn!(%refusal, "left without an answer: workers will fence this edge");
                }
            }
        };
        tokio::join!(leave, self.edge.report());
    }
}
