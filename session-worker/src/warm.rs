//! Connections for what has to be fast. The pool asks each connection on its way back whether it
//! lives, which is a round trip while others wait for the processor, and gives out the one that was
//! idle for longest, whose server process is cold. So some are kept: the last one comes first.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use parking_lot::Mutex;
use shared::{
    clock::{Clock, Monotonic},
    database::TRUSTED,
};
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};

/// Keeps connections of a pool; cheap to clone.
#[derive(Clone)]
pub(crate) struct Warm {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    kept: Arc<Mutex<Vec<Kept>>>,
    /// Few, for others ask the pool itself.
    most: usize,
}

/// A connection that waits, and since when.
type Kept = (PoolConnection<Postgres>, Monotonic);

/// A connection. One that is dropped goes back to the pool, which finds out how it is.
pub(crate) struct Taken {
    connection: PoolConnection<Postgres>,
    from: Warm,
}

impl Warm {
    /// Keeps at most a quarter of the pool's connections.
    pub(crate) fn new(pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        let most = usize::try_from(pool.options().get_max_connections() / 4).unwrap_or(0);
        Self { pool, clock, kept: Arc::default(), most }
    }

    /// The connection that was used last, or one of the pool.
    pub(crate) async fn take(&self) -> Result<Taken, sqlx::Error> {
        let kept = self.kept.lock().pop();
        let trusted = kept.filter(|(_, kept_at)| self.clock.monotonic().since(*kept_at) <= TRUSTED);
        let connection = match trusted {
            Some((connection, _)) => connection,
            None => self.pool.acquire().await?,
        };
        Ok(Taken { connection, from: self.clone() })
    }
}

impl Taken {
    /// Keeps it for the next one, after it has done what was asked of it.
    pub(crate) fn keep(self) {
        let Self { connection, from } = self;
        let now = from.clock.monotonic();
        let mut kept = from.kept.lock();
        if kept.len() < from.most {
            kept.push((connection, now));
        }
    }
}

impl Deref for Taken {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
