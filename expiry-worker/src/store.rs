//! All SQL of expiry-worker. What is due is decided by the database's clock.

use std::time::Duration;

use shared::message::grant::MOST_EXPIRED;
use sqlx::PgPool;
use tracing::instrument;
use uuid::Uuid;

/// How long a timer is left to the worker that claimed it, from when it is due.
pub(crate) const CLAIM: Duration = Duration::from_secs(10);

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The time of a grant is over.
    GrantExpiry,
    /// A grant ends soon.
    GrantWarning,
    /// The use of a grant was not reviewed in time.
    ReviewOverdue,
    /// The time to set up a second factor is over.
    MfaDeadline,
}

impl Kind {
    /// The name, as the database keeps it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::GrantExpiry => "grant-expiry",
            Self::GrantWarning => "grant-warning",
            Self::ReviewOverdue => "review-overdue",
            Self::MfaDeadline => "mfa-deadline",
        }
    }

    /// How many the owner takes at once.
    pub(crate) const fn batch(self) -> usize {
        match self {
            Self::GrantExpiry => MOST_EXPIRED,
            Self::GrantWarning | Self::ReviewOverdue | Self::MfaDeadline => 1,
        }
    }

    /// How many requests are under way at once.
    pub(crate) const fn at_once(self) -> u32 {
        match self {
            Self::GrantExpiry => 4,
            Self::GrantWarning | Self::ReviewOverdue | Self::MfaDeadline => 32,
        }
    }

    /// Who acts on it.
    pub(crate) const fn owner(self) -> &'static str {
        match self {
            Self::GrantExpiry | Self::GrantWarning | Self::ReviewOverdue => "grant-worker",
            Self::MfaDeadline => "session-worker",
        }
    }
}

/// The kinds that this version knows; it leaves others to a newer one.
pub(crate) const KINDS: [Kind; 4] =
    [Kind::GrantExpiry, Kind::GrantWarning, Kind::ReviewOverdue, Kind::MfaDeadline];

/// What was to happen to what.
#[derive(Debug)]
pub(crate) struct Timer {
    pub(crate) subject_id: Uuid,
    pub(crate) traceparent: Option<String>,
}

/// A timer in hand.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Zero if it is overdue; never less than what is left by the database's clock.
    pub(crate) due_in: Duration,
    pub(crate) timer: Timer,
}

/// A clock that runs a little faster than the database's must not make a timer early: its owner would
/// find nothing to do yet.
const CARE: Duration = Duration::from_millis(2);

/// Claims at most `limit` timers of a kind that are due within a time, the most overdue first. Replicas
/// never get the same one while a claim holds.
///
/// The time of the statement, unlike `clock_timestamp()`, lets the index bound the search; and an array
/// is looked up in the index, where a join may read all of it.
#[instrument(level = "debug", skip_all, name = "timer.claim")]
pub(crate) async fn claim(
    pool: &PgPool,
    kind: Kind,
    within: Duration,
    limit: usize,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"WITH next AS (
               SELECT subject_id FROM timers
               WHERE kind = $1 AND due_at <= statement_timestamp() + make_interval(secs => $2)
                 AND (claimed_until IS NULL OR claimed_until <= statement_timestamp())
               ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
           UPDATE timers
           SET claimed_until = greatest(clock_timestamp(), due_at) + make_interval(secs => $4)
           WHERE kind = $1 AND subject_id = ANY(ARRAY(SELECT subject_id FROM next))
           RETURNING subject_id, traceparent,
                     extract(epoch FROM due_at - clock_timestamp())::float8 AS "seconds!""#,
        kind.as_str(),
        within.as_secs_f64(),
        i64::try_from(limit).unwrap_or(i64::MAX),
        CLAIM.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    let claimed = rows.into_iter().map(|row| {
        let left = Duration::try_from_secs_f64(row.seconds).ok();
        Claimed {
            due_in: left.map_or(Duration::ZERO, |left| left + CARE),
            timer: Timer { subject_id: row.subject_id, traceparent: row.traceparent },
        }
    });
    Ok(claimed.collect())
}

/// Makes timers free after a while, but for those that somebody changes at this moment.
#[instrument(level = "debug", skip_all, name = "timer.release")]
pub(crate) async fn release(
    pool: &PgPool,
    kind: Kind,
    subjects: &[Uuid],
    after: Duration,
) -> Result<(), sqlx::Error> {
    if subjects.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "WITH held AS (SELECT subject_id FROM timers WHERE kind = $1 AND subject_id = ANY($2)
                       FOR UPDATE SKIP LOCKED)
         UPDATE timers SET claimed_until = clock_timestamp() + make_interval(secs => $3)
         WHERE kind = $1 AND subject_id = ANY(ARRAY(SELECT subject_id FROM held))",
        kind.as_str(),
        subjects,
        after.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(())
}
