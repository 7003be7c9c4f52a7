//! What every handler is given.

use std::sync::Arc;

use shared::{
    clock::Clock,
    database::{
        Transaction, failed,
        revocation::{self, Change},
    },
    message::revocation::Receipt,
    refusal::Refusal,
    sealing::Keys,
};
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

use crate::{
    batch::Queue,
    later::Later,
    location::Locations,
    password::{Hashing, rules::Blocklist},
    revocation::{Enforcing, Revocations},
    session::ending::{End, Ended},
};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
    /// For looking sessions up alone.
    pub(crate) resolve_pool: PgPool,
    pub(crate) clock: Arc<dyn Clock>,
    /// Requests to end sessions.
    pub(crate) endings: Queue<End, Ended>,
    pub(crate) revocations: Revocations,
    pub(crate) hashing: Hashing,
    /// Passwords that may not be set.
    pub(crate) blocklist: Blocklist,
    /// With which shared secrets are sealed.
    pub(crate) keys: Keys,
    /// Where addresses are.
    pub(crate) locations: Arc<Locations>,
    /// How long a new session may be unused.
    pub(crate) idle_seconds: u32,
    /// How long a new session lives at most.
    pub(crate) absolute_seconds: u32,
    /// What is written down while nobody waits for it.
    pub(crate) later: Later,
    /// What nobody waits for but the end of the process.
    pub(crate) background: TaskTracker,
}

/// A change on its way to every edge.
pub(crate) struct Committed {
    revision: u64,
    enforcing: Enforcing,
}

impl State {
    /// Ends the transaction of a change of rights with its revision, and broadcasts it.
    pub(crate) async fn commit(
        &self,
        tx: Transaction,
        change: Change,
    ) -> Result<Committed, Refusal> {
        let entry = revocation::commit(tx, change).await.map_err(failed)?;
        let revision = entry.revision.number;
        let enforcing = self.revocations.enforce(vec![entry]).await?;
        Ok(Committed { revision, enforcing })
    }
}

impl Committed {
    /// See [`Enforcing::receipt`].
    pub(crate) async fn receipt(&self) -> Receipt {
        self.enforcing.receipt(self.revision).await
    }
}
