//! The audit record: written in the transaction of the change.

use serde_json::Value;
use tracing::instrument;

use super::Transaction;
use crate::{
    id::{TenantId, UserId},
    message::Origin,
    trace,
};

/// Who did something.
#[derive(Debug, Clone, Copy)]
pub enum Actor {
    /// A person.
    User(UserId),
    /// A service, by its name.
    Service(&'static str),
}

/// One entry to be written.
#[derive(Debug)]
pub struct Record<'a> {
    /// In which tenant.
    pub tenant: TenantId,
    /// Who.
    pub actor: Actor,
    /// What: `<concept>.<past tense>`.
    pub action: &'a str,
    /// To what: `<concept>:<id>`.
    pub target: Option<String>,
    /// From where.
    pub origin: &'a Origin,
    /// Particulars. Never codes, tokens, hashes or passwords.
    pub detail: Value,
}

/// Appends an entry. Takes the lock of the tenant's record until the end of the transaction, so
/// it comes late in it.
#[instrument(skip_all, name = "audit.append", fields(audit.action = record.action))]
pub async fn append(tx: &mut Transaction, record: Record<'_>) -> Result<(), sqlx::Error> {
    let actor = match record.actor {
        Actor::User(id) => id.to_string(),
        Actor::Service(name) => name.to_owned(),
    };
    sqlx::query!(
        "WITH number AS (UPDATE tenants SET audit_seq = audit_seq + 1 WHERE id = $1 RETURNING audit_seq)
         INSERT INTO audit (tenant_id, seq, actor, action, target, ip, detail, trace_id)
         SELECT $1, audit_seq, $2, $3, $4, $5, $6, $7 FROM number",
        record.tenant.0,
        actor,
        record.action,
        record.target,
        record.origin.ip.map(|ip| ip.to_string()),
        record.detail,
        trace::current_trace_id(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
