//! Numbering what narrows or widens a cached right.

use tracing::instrument;
use uuid::Uuid;

use super::Transaction;
#[cfg(doc)]
use crate::trace;
use crate::{
    id::{SessionId, TenantId, UserId},
    lease::Revision,
    message::revocation::{Cause, Entry},
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
    /// The trace of the change, [`trace::current_traceparent`].
    pub traceparent: Option<String>,
}

/// Writes the entry, raises the head, and commits: the end of every change of rights (W3).
pub async fn commit(tx: Transaction, change: Change) -> Result<Entry, sqlx::Error> {
    let entries = commit_all(tx, vec![change]).await?;
    entries.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

/// The same for several changes of one transaction, which get consecutive numbers in this order.
/// Without any, it only commits.
///
/// The head is raised by the last statement, so commit order is revision order. That statement
/// also lifts the statement time-out off the COMMIT: a wait for a synchronous standby that is
/// cancelled would report success (W7).
#[instrument(skip_all, name = "revocation.commit", fields(revocation.revision))]
pub async fn commit_all(
    mut tx: Transaction,
    changes: Vec<Change>,
) -> Result<Vec<Entry>, sqlx::Error> {
    if changes.is_empty() {
        tx.commit().await?;
        return Ok(Vec::new());
    }
    let tenants: Vec<_> = changes.iter().map(|change| change.tenant.0).collect();
    let users: Vec<_> = changes.iter().map(|change| change.user.map(|user| user.0)).collect();
    let causes: Vec<_> = changes.iter().map(|change| change.cause.as_str().to_owned()).collect();
    let traces: Vec<_> = changes.iter().map(|change| change.traceparent.clone()).collect();
    // Postgres has no arrays of arrays of different lengths.
    let sessions: Vec<_> = changes
        .iter()
        .map(|change| {
            let ids: Vec<_> = change.sessions.iter().map(ToString::to_string).collect();
            format!("{{{}}}", ids.join(","))
        })
        .collect();
    let row = sqlx::query!(
        r#"SELECT revision AS "revision!", timeline AS "timeline!",
                  set_config('statement_timeout', '0', true)
           FROM number_revocations($1, $2, $3, $4, $5)"#,
        &tenants,
        &users as &[Option<Uuid>],
        &sessions,
        &causes,
        &traces as &[Option<String>],
    )
    .fetch_one(&mut *tx)
    .await?;
    let last = revision(row.timeline, row.revision);
    tracing::Span::current().record("revocation.revision", last.number);
    tx.commit().await?;
    let before = last.number - changes.len() as u64;
    let entries = changes.into_iter().zip(before + 1..).map(|(change, number)| Entry {
        revision: Revision { timeline: last.timeline, number },
        tenant_id: change.tenant,
        user_id: change.user,
        cause: change.cause.as_str().to_owned(),
        traceparent: change.traceparent,
    });
    Ok(entries.collect())
}

/// A revision from the database's columns, which are never negative.
#[must_use]
pub fn revision(timeline: i64, number: i64) -> Revision {
    Revision {
        timeline: u32::try_from(timeline).unwrap_or(0),
        number: u64::try_from(number).unwrap_or(0),
    }
}
