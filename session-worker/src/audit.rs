//! Reading the audit record.

use serde_json::Value;
use shared::{
    database::{
        audit::{self, Attempt},
        caller, failed,
    },
    message::{
        MOST_ITEMS,
        audit::{AuditEntries, AuditEntry, ListAudit},
        page,
    },
    refusal::{Code, Refusal},
    role::Permission,
    subject::Subject,
};
use time::OffsetDateTime;
use tracing::instrument;

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
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    if let Err(refusal) = known.require(Permission::AuditRead) {
        let attempt = Attempt {
            by: &known,
            origin: &request.caller.origin,
            request: Subject::AuditList,
            target: None,
        };
        return Err(audit::refuse(tx, attempt, refusal).await);
    }
    let rows = sqlx::query!(
        r#"SELECT seq, at, actor, action, target, ip, detail AS "detail: Value", trace_id FROM audit
           WHERE tenant_id = $1
             AND ($2::text IS NULL OR actor = $2) AND ($3::text IS NULL OR action = $3)
             AND ($4::timestamptz IS NULL OR at > $4) AND ($5::timestamptz IS NULL OR at < $5)
             AND ($6::bigint IS NULL OR seq < $6)
           ORDER BY seq DESC LIMIT $7"#,
        known.tenant_id.0,
        request.actor,
        request.action,
        request.after.map(OffsetDateTime::from),
        request.before.map(OffsetDateTime::from),
        request.cursor.map(u64::cast_signed),
        i64::from(request.limit) + 1,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let entries = rows
        .into_iter()
        .map(|row| AuditEntry {
            seq: row.seq.cast_unsigned(),
            at: row.at.into(),
            actor: row.actor,
            action: row.action,
            target: row.target,
            ip: row.ip.and_then(|ip| ip.parse().ok()),
            detail: row.detail,
            trace_id: row.trace_id,
            hash: None,
        })
        .collect();
    let (entries, more) = page(entries, request.limit);
    let next_cursor = entries.last().filter(|_| more).map(|entry| entry.seq.to_string());
    Ok(AuditEntries { entries, next_cursor })
}
