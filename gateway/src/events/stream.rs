//! One stream: what its session hears, as long as the edge allows it.
//!
//! Whatever is sent is decided about anew at that moment, as any request is (E2).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Bytes;
use shared::{clock::Timestamp, token::TokenHash};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    time::{Instant, sleep_until},
};

use super::{
    Change, Link, Notice, Place,
    frame::{self, Bare, HEARTBEAT, Hello, Live, RETRY, Reason, Rights, SignedOut, frame},
};
use crate::edge::{Standing, Undecided};

/// How often something is sent at least. The session is looked at as often.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// When to look again at a session that could not be looked up.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long an entry may be on its way after its change is there to be loaded.
const ENTRY_COMES: Duration = Duration::from_millis(500);

/// A stream of events for one session.
pub struct Stream {
    token: TokenHash,
    standing: Standing,
    // Before the place, whose end looks whether anybody listens.
    notices: broadcast::Receiver<Arc<Notice>>,
    link: watch::Receiver<Link>,
    place: Place,
    said: Said,
    /// Something may have happened that was not told.
    missed: bool,
    heartbeat_at: Instant,
    look_at: Instant,
}

/// What the page was told last of how things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Live,
    Stale,
    /// Nothing comes after that.
    SignedOut,
}

impl Stream {
    pub(super) fn new(
        token: TokenHash,
        standing: Standing,
        notices: broadcast::Receiver<Arc<Notice>>,
        link: watch::Receiver<Link>,
        place: Place,
    ) -> Self {
        let now = Instant::now();
        let look_at = now + standing.until.since(standing.decision.at);
        let heartbeat_at = now + HEARTBEAT_EVERY;
        let (said, missed) = (Said::Nothing, false);
        Self { token, standing, notices, link, place, said, missed, heartbeat_at, look_at }
    }

    /// The text, as it comes, until the session is over or the gateway stops.
    pub fn text(self) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::unfold(self, |mut stream| async move {
            let stop = stream.place.events.0.stop.clone();
            let text = stop.run_until_cancelled(stream.next()).await.flatten()?;
            Some((Ok(text), stream))
        })
    }

    /// What is to be sent next. Nothing: the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        match self.said {
            Said::SignedOut => return None,
            Said::Nothing => {
                out.extend_from_slice(RETRY);
                self.hello(&mut out);
            }
            Said::Live | Said::Stale => {}
        }
        while out.is_empty() {
            tokio::select! {
                biased;
                changed = self.link.changed() => {
                    changed.ok()?;
                    self.linked(&mut out).await;
                }
                notice = self.notices.recv() => match notice {
                    Ok(notice) => self.told(&notice, &mut out).await,
                    Err(RecvError::Lagged(_)) => {
                        self.missed = true;
                        self.look(None, &mut out).await;
                    }
                    Err(RecvError::Closed) => return None,
                },
                () = sleep_until(self.look_at.min(self.heartbeat_at)) => {
                    if Instant::now() >= self.heartbeat_at {
                        self.heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
                        out.extend_from_slice(HEARTBEAT);
                    }
                    self.look(None, &mut out).await;
                }
            }
        }
        Some(out.into())
    }

    fn hello(&mut self, out: &mut Vec<u8>) {
        let live = self.link.borrow_and_update().live;
        self.said = if live { Said::Live } else { Said::Stale };
        let server_time = self.standing.decision.at;
        out.extend_from_slice(&frame("hello", None, &Hello { server_time, live }));
    }

    /// The edge has lost touch, or is back.
    async fn linked(&mut self, out: &mut Vec<u8>) {
        let link = *self.link.borrow_and_update();
        if link.live {
            // Also where it was away so shortly that nobody was told.
            self.said = Said::Stale;
            self.look(None, out).await;
        } else {
            if self.said == Said::Live {
                out.extend_from_slice(&frame("stale", None, &Bare {}));
            }
            self.said = Said::Stale;
        }
    }

    async fn told(&mut self, notice: &Notice, out: &mut Vec<u8>) {
        match notice {
            Notice::Change(change) => self.change(change, out).await,
            Notice::Anything => {
                self.missed = true;
                self.look(None, out).await;
            }
            Notice::Revision { user, cause, ended } => {
                if user.is_none_or(|user| user == self.standing.decision.session.user_id) {
                    let is_known = self.look(Some(cause), out).await;
                    if is_known && ended.is_none() {
                        out.extend_from_slice(&frame("rights", None, &Rights { cause }));
                    }
                }
                if let Some(ended) = ended {
                    self.change(ended, out).await;
                }
            }
        }
    }

    async fn change(&mut self, change: &Change, out: &mut Vec<u8>) {
        if self.may_hear(change) && self.look(None, out).await && self.may_hear(change) {
            out.extend_from_slice(&change.text);
        }
    }

    fn may_hear(&self, change: &Change) -> bool {
        let decision = &self.standing.decision;
        let concerned = change.user == Some(decision.session.user_id);
        let elevated = decision.elevation.as_ref().map(|elevation| elevation.role);
        change.audience.includes(concerned, decision.session.role, elevated)
    }

    /// Decides about the session anew, after a revision with this `cause` where one is the reason to
    /// look. Says whether the session may hear things.
    async fn look(&mut self, cause: Option<&str>, out: &mut Vec<u8>) -> bool {
        if self.said == Said::SignedOut {
            return false;
        }
        match self.place.events.0.edge.look(self.token).await {
            Ok(standing) if standing.decision.enrollment_only => {
                self.sign_out(Reason::MfaDue, out);
                false
            }
            Ok(standing) => {
                self.stands(standing, out);
                true
            }
            Err(Undecided::NoSession) => {
                let reason = self.why(cause).await;
                self.sign_out(reason, out);
                false
            }
            Err(Undecided::Fenced | Undecided::Unavailable) => {
                self.missed = true;
                self.look_at = Instant::now() + LOOK_AGAIN;
                false
            }
        }
    }

    fn stands(&mut self, standing: Standing, out: &mut Vec<u8>) {
        let now = standing.decision.at;
        self.look_at = Instant::now() + standing.until.since(now);
        let before = std::mem::replace(&mut self.standing, standing).decision;
        let is_live = self.link.borrow().live;
        if is_live && self.said == Said::Stale {
            out.extend_from_slice(&frame("live", None, &Live { server_time: now }));
            self.said = Said::Live;
            self.missed = false;
        } else if is_live && std::mem::take(&mut self.missed) {
            out.extend_from_slice(&frame("reset", None, &Bare {}));
        }
        // The end of a grant by the clock is a revision only once a worker has seen it.
        let is_over = |until: Timestamp| until <= now;
        if before.elevation.is_some_and(|elevation| is_over(elevation.expires_at)) {
            let cause = shared::message::revocation::Cause::GrantExpired.as_str();
            out.extend_from_slice(&frame("rights", None, &Rights { cause }));
        }
    }

    fn sign_out(&mut self, reason: Reason, out: &mut Vec<u8>) {
        out.extend_from_slice(&frame("signed-out", None, &SignedOut { reason }));
        self.said = Said::SignedOut;
    }

    /// Why there is no session any more.
    async fn why(&mut self, cause: Option<&str>) -> Reason {
        if let Some(reason) = cause.and_then(frame::reason) {
            return reason;
        }
        let now = self.place.events.0.edge.server_time();
        if now.is_some_and(|now| now >= self.standing.ends_at) {
            return Reason::Expired;
        }
        // The end was found by looking, before the entry that tells of it.
        let own = self.standing.decision.session.user_id;
        let told = async {
            loop {
                match self.notices.recv().await.as_deref() {
                    Ok(Notice::Revision { user, cause, .. }) if user.is_none_or(|u| u == own) => {
                        if let Some(reason) = frame::reason(cause) {
                            return reason;
                        }
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Reason::Ended,
                }
            }
        };
        tokio::time::timeout(ENTRY_COMES, told).await.unwrap_or(Reason::Ended)
    }
}
