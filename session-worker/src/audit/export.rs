//! The whole record, page by page.
//!
//! The first page records the export, and that entry is the end of it: whatever is written meanwhile is
//! left to the next export. Entries below it change no more, so pages fit together whenever they are
//! asked for. Each is asked for with the caller's token: a session that ends meanwhile ends the export.

use serde_json::json;
use shared::{
    chain::EXPORTED,
    database::{
        audit::{self, Actor, Record},
        failed,
    },
    message::{
        audit::{ExportAudit, ExportCursor, ExportedEntries},
        page,
    },
    refusal::{Code, Refusal},
    subject::Subject,
    trace,
};
use tracing::instrument;

use super::{Row, admit, entries};
use crate::state::State;

/// So many entries are read for a page at most: about as many as fit into an answer, as entries are.
const MOST: u32 = 300;

/// A page of the record of the caller's tenant, oldest first, with `audit.read`.
#[instrument(skip_all, name = "audit.export")]
pub(crate) async fn export(state: State, request: ExportAudit) -> Result<ExportedEntries, Refusal> {
    let numbers = |cursor: ExportCursor| -> Option<(i64, i64)> {
        Some((cursor.after.try_into().ok()?, cursor.last.try_into().ok()?))
    };
    let cursor = match request.cursor.map(numbers) {
        Some(None) => return Err(Refusal::new(Code::BadRequest, "There is no such cursor.")),
        Some(Some(cursor)) => Some(cursor),
        None => None,
    };
    let (mut tx, known) = admit(&state, &request.caller, Subject::AuditExport).await?;
    let tenant = known.tenant_id;
    let (after, last) = if let Some(cursor) = cursor {
        cursor
    } else {
        let record = Record {
            tenant,
            actor: Actor::User(known.user_id),
            action: EXPORTED,
            target: None,
            origin: &request.caller.origin,
            detail: json!({}),
            trace_id: trace::current_trace_id(),
        };
        audit::append(&mut tx, record).await.map_err(failed)?;
        let last = sqlx::query_scalar!("SELECT audit_seq FROM tenants WHERE id = $1", tenant.0)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
        (0, last)
    };
    // Nobody waits for the record while it is read.
    tx.commit().await.map_err(failed)?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT seq, at, actor, action, target, ip, detail::text AS "detail!", trace_id, hash FROM audit
           WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4"#,
        tenant.0,
        after,
        last,
        i64::from(MOST) + 1,
    )
    .fetch_all(&state.pool)
    .await
    .map_err(failed)?;
    let (entries, more) = page(entries(rows)?, MOST);
    let next = entries.last().filter(|_| more);
    let next = next.map(|entry| ExportCursor { after: entry.seq, last: last.cast_unsigned() });
    Ok(ExportedEntries { tenant, entries, next })
}
