//! Hearing of timers that are due before the next look: the database tells of them as they are
//! committed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::store::Kind;

/// The channel, as the database knows it.
const CHANNEL: &str = "timers";
/// Before the database is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Wakes the watch of each kind of which there is news, until `stop`. It keeps a connection; while it
/// has none, watches look as often as they always do.
pub(crate) async fn listen(
    pool: PgPool,
    soon: HashMap<Kind, Arc<Notify>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listening = async {
        loop {
            if let Err(error) = hear(&pool, &soon).await {
                debug!(%error, "not told of timers");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(listening).await;
    Ok(())
}

async fn hear(pool: &PgPool, soon: &HashMap<Kind, Arc<Notify>>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // What was told before, or meanwhile, was missed.
        for soon in soon.values() {
            soon.notify_one();
        }
        while let Some(told) = listener.try_recv().await? {
            for (_, soon) in soon.iter().filter(|(kind, _)| kind.as_str() == told.payload()) {
                soon.notify_one();
            }
        }
    }
}
