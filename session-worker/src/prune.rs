//! Deleting what nobody needs any more, so that no table grows without end.
//!
//! The time of the statement, unlike `clock_timestamp()`, lets indexes bound the search.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often.
const EVERY: Duration = Duration::from_mins(10);
/// What has to be kept for some time is kept for so long, in days.
const KEEP_DAYS: i32 = 30;

/// Deletes until `stop`.
pub(crate) async fn prune(pool: PgPool, stop: CancellationToken) -> anyhow::Result<()> {
    let mut due = tokio::time::interval(EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = due.tick() => {}
        }
        let pruned = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            pruned = tokio::time::timeout(EVERY, delete_all(&pool)) => pruned,
        };
        match pruned.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(0) => {}
            Ok(rows) => info!(rows, "deleted what is over or old"),
            Err(error) => warn!(%error, "old rows not deleted"),
        }
    }
}

/// All of it, a part at a time: what anybody can make goes faster than they make it.
async fn delete_all(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let mut all = over(pool).await?;
    loop {
        match old(pool).await? {
            0 => return Ok(all),
            rows => all += rows,
        }
    }
}

/// What is older than [`KEEP_DAYS`]. An edge that missed a forgotten revision jumps over it (E4); its
/// receipt cannot be asked for again.
async fn old(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let lives = sqlx::query!(
        "DELETE FROM edges WHERE (fenced OR has_left)
           AND ended_at < statement_timestamp() - make_interval(days => $1)",
        KEEP_DAYS,
    )
    .execute(pool)
    .await?;
    let revisions = sqlx::query!(
        "DELETE FROM revocations WHERE revision IN (
             SELECT revision FROM revocations
             WHERE committed_at < statement_timestamp() - make_interval(days => $1) LIMIT 10000)",
        KEEP_DAYS,
    )
    .execute(pool)
    .await?;
    let events = sqlx::query!(
        "DELETE FROM outbox WHERE id IN (
             SELECT id FROM outbox
             WHERE created_at < statement_timestamp() - make_interval(days => $1) LIMIT 10000)",
        KEEP_DAYS,
    )
    .execute(pool)
    .await?;
    // Anybody can make rows for accounts that do not exist.
    let failures = sqlx::query!(
        "DELETE FROM sign_in_failures WHERE account IN (
             SELECT account FROM sign_in_failures
             WHERE last_at < statement_timestamp() - make_interval(days => $1) LIMIT 10000)",
        KEEP_DAYS,
    )
    .execute(pool)
    .await?;
    let deleted = [lives, revisions, events, failures];
    Ok(deleted.iter().map(sqlx::postgres::PgQueryResult::rows_affected).sum())
}

/// What counts no more.
async fn over(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let challenges =
        // A sign-in may be deleting those of its user.
        sqlx::query!(
            "DELETE FROM sign_in_challenges WHERE token_hash IN (
                 SELECT token_hash FROM sign_in_challenges WHERE expires_at < statement_timestamp()
                 FOR UPDATE SKIP LOCKED)"
        )
        .execute(pool)
        .await?;
    let tokens =
        sqlx::query!("DELETE FROM password_tokens WHERE expires_at < statement_timestamp()")
            .execute(pool)
            .await?;
    let enrollments =
        sqlx::query!("DELETE FROM totp_enrollments WHERE expires_at < statement_timestamp()")
            .execute(pool)
            .await?;
    let deleted = [challenges, tokens, enrollments];
    Ok(deleted.iter().map(sqlx::postgres::PgQueryResult::rows_affected).sum())
}
