//! What every handler is given.

use std::sync::Arc;

use shared::clock::Clock;
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

use crate::{
    batch::Queue,
    password::Hashing,
    revocation::Revocations,
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
    /// How long a new session may be unused.
    pub(crate) idle_seconds: u32,
    /// How long a new session lives at most.
    pub(crate) absolute_seconds: u32,
    /// What nobody waits for but the end of the process.
    pub(crate) background: TaskTracker,
}
