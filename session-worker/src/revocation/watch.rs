//! What runs by itself: the beacon (W6) and the fence (W4).

use std::time::Duration;

use shared::{
    clock::{Monotonic, Timestamp},
    lease::server_clock::STEP,
    message::revocation::Broadcast,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Revocations, store};

/// How often the head is told and the rows are read.
const BEAT: Duration = Duration::from_millis(250);
/// How long the database may take for it: a host that vanished does not answer at all.
const PATIENCE: Duration = Duration::from_secs(2);

impl Revocations {
    /// Tells every edge the head, and fences those whose lease has run out, until `stop`.
    pub(crate) async fn watch(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut steps = StepWatch::default();
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
                beaten = tokio::time::timeout(PATIENCE, self.beat(&mut steps)) => {
                    beaten.unwrap_or(Err(sqlx::Error::PoolTimedOut))
                }
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

    async fn beat(&self, steps: &mut StepWatch) -> Result<(), sqlx::Error> {
        let asked_at = self.clock.monotonic();
        let (head, server_time) = store::head(&self.pool).await?;
        if let Some(seconds) = steps.read(asked_at, self.clock.monotonic(), server_time) {
            error!(
                seconds,
                "the database's clock stepped: sessions and grants end early or late by that much"
            );
        }
        self.bus.publish(&Broadcast { head, entries: Vec::new() }).await;

        let edges = store::live(&self.pool).await?.edges;
        // The clock is read after the rows have arrived (W4).
        let arrived_at = self.clock.monotonic();
        let overdue = {
            let mut fences = self.fences.lock();
            fences.observe(arrived_at, &edges);
            fences.overdue(arrived_at)
        };
        self.receipts.keep(&edges);
        for overdue in overdue {
            if store::fence(&self.pool, edges.timeline, overdue).await? {
                warn!(incarnation = %overdue.incarnation, "fenced: its lease ran out");
            }
        }
        Ok(())
    }
}

/// E8: holds the database's clock against this machine's steady one.
#[derive(Debug, Default)]
struct StepWatch {
    /// Server time minus steady time, in microseconds: at least, at most. The time was read
    /// somewhere between asking and the answer.
    offset: Option<(i64, i64)>,
}

impl StepWatch {
    /// A reading that was asked for at `asked_at` and arrived at `now`. By how many seconds the
    /// clock stepped since the last one, at least, if it was more than [`STEP`].
    fn read(&mut self, asked_at: Monotonic, now: Monotonic, server_time: Timestamp) -> Option<f64> {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let (least, most) =
            (server_time.micros() - micros(now.0), server_time.micros() - micros(asked_at.0));
        let (old_least, old_most) = self.offset.replace((least, most))?;
        let step = (least - old_most).max(0) + (most - old_least).min(0);
        (step.abs() > micros(STEP)).then(|| step as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e8_a_step_of_the_databases_clock_is_noticed_both_ways() {
        let mut watch = StepWatch::default();
        let mut read = |steady_ms: u64, took_ms: u64, server_ms: i64| {
            let at = |ms| Monotonic(Duration::from_millis(ms));
            let server = Timestamp::from_micros(server_ms * 1_000);
            watch.read(at(steady_ms), at(steady_ms + took_ms), server)
        };
        assert_eq!(read(0, 1, 10_000), None);
        assert_eq!(read(250, 1, 10_250), None);
        assert_eq!(read(500, 1_500, 12_000), None, "a slow answer is no step");
        assert_eq!(read(2_250, 0, 12_250), None);
        assert_eq!(read(2_500, 0, 612_500), Some(600.0));
        assert_eq!(read(2_750, 0, 12_750), Some(-600.0));
        assert_eq!(read(3_000, 1, 13_000), None);
    }
}
