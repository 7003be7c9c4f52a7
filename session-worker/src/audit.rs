//! The audit record: reading it, and signing its heads.

mod export;
mod head;

use shared::{
    chain::Hash,
    database::{
        Transaction,
        audit::{self, Attempt},
        caller::{self, Known},
        failed,
    },
    message::{
        Caller, MOST_ITEMS,
        audit::{AuditEntries, AuditEntry, Detail, ListAudit},
        page,
    },
    refusal::{Code, Refusal},
    role::Permission,
    subject::Subject,
};
use sqlx::error::BoxDynError;
use time::OffsetDateTime;
use tracing::instrument;

pub(crate) use self::{
    export::export,
    head::{Heads, head},
};
use crate::state::State;

/// Entries of the caller's tenant, newest first, with `audit.read`.
#[instrument(skip_all, name = "audit.list")]
pub(crate) async fn list(state: State, request: ListAudit) -> Result<AuditEntries, Refusal> {
    if !(1..=MOST_ITEMS).contains(&request.limit) {
        return Err(Refusal::new(Code::BadRequest, format!("limit is 1 to {MOST_ITEMS}.")));
    }
    if request.cursor.is_some_and(|cursor| i64::try_from(cursor).is_err()) {
        return Err(Refusal::new(Code::BadRequest, "There is no such cursor."));
    }
    let (mut tx, known) = admit(&state, &request.caller, Subject::AuditList).await?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT seq, at, actor, action, target, ip, detail::text AS "detail!", trace_id, hash FROM audit
           WHERE tenant_id = $1
             AND ($2::text IS NULL OR actor = $2) AND ($3::text IS NULL OR action = $3)
             AND ($4::text IS NULL OR target = $4)
             AND ($5::timestamptz IS NULL OR at > $5) AND ($6::timestamptz IS NULL OR at < $6)
             AND ($7::bigint IS NULL OR seq < $7)
           ORDER BY seq DESC LIMIT $8"#,
        known.tenant_id.0,
        request.actor,
        request.action,
        request.target,
        request.after.map(OffsetDateTime::from),
        request.before.map(OffsetDateTime::from),
        request.cursor.map(u64::cast_signed),
        i64::from(request.limit) + 1,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let (entries, more) = page(entries(rows)?, request.limit);
    let next_cursor = entries.last().filter(|_| more).map(|entry| entry.seq.to_string());
    Ok(AuditEntries { entries, next_cursor })
}

/// A transaction of somebody who may read the record; others are refused, on record.
async fn admit(
    state: &State,
    caller: &Caller,
    request: Subject,
) -> Result<(Transaction, Known), Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, caller).await?;
    if let Err(refusal) = known.require(Permission::AuditRead) {
        let attempt = Attempt { by: &known, origin: &caller.origin, request, target: None };
        return Err(audit::refuse(tx, attempt, refusal).await);
    }
    Ok((tx, known))
}

/// An entry as it is stored.
struct Row {
    seq: i64,
    at: OffsetDateTime,
    actor: String,
    action: String,
    target: Option<String>,
    ip: Option<String>,
    detail: String,
    trace_id: Option<String>,
    hash: Vec<u8>,
}

impl TryFrom<Row> for AuditEntry {
    type Error = BoxDynError;

    fn try_from(row: Row) -> Result<Self, BoxDynError> {
        Ok(Self {
            seq: row.seq.try_into()?,
            at: row.at.into(),
            actor: row.actor,
            action: row.action,
            target: row.target,
            ip: row.ip,
            detail: Detail::from_text(row.detail)?,
            trace_id: row.trace_id,
            hash: Some(hash(&row.hash)?),
        })
    }
}

fn entries(rows: Vec<Row>) -> Result<Vec<AuditEntry>, Refusal> {
    let entries = rows.into_iter().map(AuditEntry::try_from).collect::<Result<_, _>>();
    entries.map_err(|error| failed(sqlx::Error::Decode(error)))
}

fn hash(bytes: &[u8]) -> Result<Hash, BoxDynError> {
    Ok(Hash(bytes.try_into()?))
}
