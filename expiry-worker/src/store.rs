//! All SQL of expiry-worker. What is due is decided by the database's clock.

use std::time::Duration;

use shared::message::grant::MOST_EXPIRED;
use sqlx::PgPool;
use tracing::instrument;
use uuid::Uuid;

/// How long a timer is left to the worker that claimed it.
pub(crate) const CLAIM: Duration = Duration::from_secs(10);

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "kebab-case")]
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

/// A timer that is due.
#[derive(Debug)]
pub(crate) struct Timer {
    pub(crate) subject_id: Uuid,
    pub(crate) traceparent: Option<String>,
}

/// Claims at most `limit` timers of a kind that are due, the most overdue first. Replicas never get the
/// same one while a claim holds.
///
/// The time of the statement, unlike `clock_timestamp()`, lets the index bound the search.
#[instrument(level = "debug", skip_all, name = "timer.claim")]
pub(crate) async fn claim(
    pool: &PgPool,
    kind: Kind,
    limit: usize,
) -> Result<Vec<Timer>, sqlx::Error> {
    sqlx::query_as!(
        Timer,
        r#"WITH due AS (
               SELECT kind, subject_id FROM timers
               WHERE kind = $1 AND due_at <= statement_timestamp()
                 AND (claimed_until IS NULL OR claimed_until <= statement_timestamp())
               ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
           UPDATE timers SET claimed_until = clock_timestamp() + make_interval(secs => $3)
           FROM due WHERE timers.kind = due.kind AND timers.subject_id = due.subject_id
           RETURNING timers.subject_id, timers.traceparent"#,
        kind.as_str(),
        i64::try_from(limit).unwrap_or(i64::MAX),
        CLAIM.as_secs_f64(),
    )
    .fetch_all(pool)
    .await
}

/// How long until the next timer of a kind that nobody has claimed is due; zero if one is due now.
#[instrument(level = "debug", skip_all, name = "timer.next")]
pub(crate) async fn until_next(pool: &PgPool, kind: Kind) -> Result<Option<Duration>, sqlx::Error> {
    let seconds = sqlx::query_scalar!(
        r#"SELECT extract(epoch FROM due_at - statement_timestamp())::float8 AS "seconds!"
           FROM timers
           WHERE kind = $1 AND (claimed_until IS NULL OR claimed_until <= statement_timestamp())
           ORDER BY due_at LIMIT 1"#,
        kind.as_str(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(seconds
        .map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)))
}
