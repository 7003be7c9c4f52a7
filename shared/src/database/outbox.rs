//! Events that people are told of, written in the transaction of the change.
//!
//! grant-worker publishes them in a durable stream and fans them out from there. What a payload holds is
//! up to its kind, but for these keys:
//!
//! - `user`: the id of whom it concerns, who gets a mail (of `grant.*` only if another did it);
//! - `by`: the id of who did it, or the name of what did (`operator`);
//! - `recipients`: ids of others who get a mail; they are told to nobody else;
//! - `grant`: the id of a grant; its reason is looked up for those who are told.

use serde_json::Value;

use super::{Transaction, caller::Known};
use crate::{
    clock::Timestamp,
    id::{EventId, TenantId},
    trace,
};

/// Writes an event down; kept for 30 days.
///
/// `kind` is concept and past tense; `payload` never holds codes, tokens, hashes or passwords.
pub async fn append(
    tx: &mut Transaction,
    now: Timestamp,
    tenant: TenantId,
    kind: &str,
    payload: Value,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO outbox (id, tenant_id, kind, payload, traceparent) VALUES ($1, $2, $3, $4, $5)",
        EventId::new(now).0,
        tenant.0,
        kind,
        payload,
        trace::current_traceparent(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// [`append`] for what somebody did.
pub async fn append_by(
    tx: &mut Transaction,
    by: &Known,
    kind: &str,
    payload: Value,
) -> Result<(), sqlx::Error> {
    append(tx, by.now, by.tenant_id, kind, payload).await
}
