//! What runs by itself: the beacon (W6) and the fence (W4).

use std::time::Duration;

use shared::{lease::worker::FenceWatch, message::revocation::Broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Revocations, store};

/// How often the head is told and the rows are read.
const BEAT: Duration = Duration::from_millis(250);

impl Revocations {
    /// Tells every edge the head, and fences those whose lease has run out, until `stop`.
    pub(crate) async fn watch(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut fences = FenceWatch::default();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut out = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = beat.tick() => {}
            }
            let beaten = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                beaten = self.beat(&mut fences) => beaten,
            };
            match beaten {
                Ok(()) if out => info!("the database is back"),
                Err(ref error) if !out => {
                    error!(%error, "the database is out of reach: no beacons, no fencing");
                }
                _ => {}
            }
            out = beaten.is_err();
        }
    }

    async fn beat(&self, fences: &mut FenceWatch) -> Result<(), sqlx::Error> {
        let (head, _) = store::head(&self.pool).await?;
        self.bus.publish(&Broadcast { head, entries: Vec::new() }).await;

        let rows = store::live(&self.pool).await?;
        // The clock is read after the rows have arrived (W4).
        fences.observe(self.clock.monotonic(), &rows);
        for overdue in fences.overdue(self.clock.monotonic()) {
            if store::fence(&self.pool, overdue).await? {
                warn!(incarnation = %overdue.incarnation, "fenced: its lease ran out");
            }
        }
        let mut acks = self.acks.applied.lock();
        acks.retain(|(edge, life), _| {
            rows.iter().any(|row| row.edge == *edge && row.incarnation == *life)
        });
        Ok(())
    }
}
