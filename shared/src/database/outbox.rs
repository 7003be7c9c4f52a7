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
    append_all(tx, now, kind, vec![(tenant, payload)]).await
}

/// Writes down that the same happened several times.
pub async fn append_all(
    tx: &mut Transaction,
    now: Timestamp,
    kind: &str,
    events: Vec<(TenantId, Value)>,
) -> Result<(), sqlx::Error> {
    let ids: Vec<_> = events.iter().map(|_| EventId::new(now).0).collect();
    let (tenants, payloads): (Vec<_>, Vec<_>) =
        events.into_iter().map(|(tenant, payload)| (tenant.0, payload)).unzip();
    sqlx::query!(
        "INSERT INTO outbox (id, tenant_id, kind, payload, traceparent)
         SELECT id, tenant_id, $1, payload, $2
         FROM unnest($3::uuid[], $4::uuid[], $5::jsonb[]) AS event (id, tenant_id, payload)",
        kind,
        trace::current_traceparent(),
        &ids,
        &tenants,
        &payloads,
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
