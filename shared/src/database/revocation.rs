//! Numbering what narrows or widens a cached right.

use tracing::instrument;

use super::Transaction;
use crate::{
    id::{SessionId, TenantId, UserId},
    lease::Revision,
    message::revocation::{Cause, Entry},
    trace,
};

/// What is to get a number.
#[derive(Debug)]
pub struct Change {
    /// In which tenant.
    pub tenant: TenantId,
    /// Whose rights; absent: the whole tenant's.
    pub user: Option<UserId>,
    /// The sessions that end with it.
    pub sessions: Vec<SessionId>,
    /// Why.
    pub cause: Cause,
}

/// Writes the entry, raises the head, and commits: the end of every change of rights (W3).
///
/// The head is raised by the last statement, so commit order is revision order. That statement
/// also lifts the statement time-out off the COMMIT: a wait for a synchronous standby that is
/// cancelled would report success (W7).
#[instrument(skip_all, name = "revocation.commit", fields(revocation.revision))]
pub async fn commit(mut tx: Transaction, change: Change) -> Result<Entry, sqlx::Error> {
    let traceparent = trace::current_traceparent();
    let sessions: Vec<_> = change.sessions.iter().map(|session| session.0).collect();
    let row = sqlx::query!(
        r#"WITH head AS (UPDATE revocation_head SET revision = revision + 1 RETURNING revision)
           INSERT INTO revocations (revision, tenant_id, user_id, sessions, cause, traceparent)
           SELECT revision, $1, $2, $3, $4, $5 FROM head
           RETURNING revision, current_timeline() AS "timeline!",
                     set_config('statement_timeout', '0', true)"#,
        change.tenant.0,
        change.user.map(|user| user.0),
        &sessions,
        change.cause.as_str(),
        traceparent,
    )
    .fetch_one(&mut *tx)
    .await?;
    let revision = revision(row.timeline, row.revision);
    tracing::Span::current().record("revocation.revision", revision.number);
    tx.commit().await?;
    Ok(Entry {
        revision,
        tenant_id: change.tenant,
        user_id: change.user,
        cause: change.cause.as_str().to_owned(),
        traceparent,
    })
}

/// A revision from the database's columns, which are never negative.
#[must_use]
pub fn revision(timeline: i64, number: i64) -> Revision {
    Revision {
        timeline: u32::try_from(timeline).unwrap_or(0),
        number: u64::try_from(number).unwrap_or(0),
    }
}
