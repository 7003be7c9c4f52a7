//! Reading the audit record.

use serde_json::Value;
use shared::{
    database::{caller, failed},
    message::audit::{AuditEntries, AuditEntry, ListAudit},
    refusal::{Code, Refusal},
    role::Permission,
};
use time::OffsetDateTime;
use tracing::instrument;

use crate::state::State;

/// Most entries in one answer.
const MOST: u32 = 200;

/// Entries of the caller's tenant, newest first, with `audit.read`.
#[instrument(skip_all, name = "audit.list")]
pub(crate) async fn list(state: State, request: ListAudit) -> Result<AuditEntries, Refusal> {
    if !(1..=MOST).contains(&request.limit) {
        return Err(Refusal::new(Code::BadRequest, format!("limit is 1 to {MOST}.")));
    }
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    known.require(Permission::AuditRead)?;
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
    let mut entries: Vec<_> = rows
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
    let more = entries.len() > request.limit as usize;
    entries.truncate(request.limit as usize);
    let next_cursor = entries.last().filter(|_| more).map(|entry| entry.seq.to_string());
    Ok(AuditEntries { entries, next_cursor })
}
