//! The audit record: written in the transaction of the change.

use serde_json::{Value, json};
use tracing::instrument;

use super::{Transaction, caller::Known, failed};
use crate::{
    id::{TenantId, UserId},
    message::Origin,
    refusal::Refusal,
    subject::Subject,
    trace,
};

/// Who did something.
#[derive(Debug, Clone, Copy)]
pub enum Actor {
    /// Somebody who is not signed in.
    Nobody,
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
        Actor::Nobody => "anonymous".to_owned(),
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

/// Who tried what, and was refused.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Who.
    pub by: &'a Known,
    /// From where.
    pub origin: &'a Origin,
    /// What was asked for.
    pub request: Subject,
    /// To what: `<concept>:<id>`.
    pub target: Option<String>,
}

/// Ends the transaction in which an attempt was refused, with a record of it where it is one of
/// substance: not permitted (403), or against the policy (422).
///
/// A refusal has changed nothing before it, so its record is all that is committed. An attempt
/// that cannot be recorded is answered as the failure that this is.
pub async fn refuse(mut tx: Transaction, attempt: Attempt<'_>, refusal: Refusal) -> Refusal {
    if !matches!(refusal.code.status(), 403 | 422) {
        return refusal;
    }
    let record = Record {
        tenant: attempt.by.tenant_id,
        actor: Actor::User(attempt.by.user_id),
        action: "access.refused",
        target: attempt.target,
        origin: attempt.origin,
        detail: json!({ "code": refusal.code, "request": attempt.request.path() }),
    };
    if let Err(error) = append(&mut tx, record).await {
        return failed(error);
    }
    match tx.commit().await {
        Ok(()) => refusal,
        Err(error) => failed(error),
    }
}
