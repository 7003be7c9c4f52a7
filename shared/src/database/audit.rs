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
    /// The trace of the request, [`trace::current_trace_id`].
    pub trace_id: Option<String>,
}

/// Appends an entry. Takes the lock of the tenant's record until the end of the transaction, so
/// it comes late in it.
pub async fn append(tx: &mut Transaction, record: Record<'_>) -> Result<(), sqlx::Error> {
    append_all(tx, &[record]).await
}

/// Appends entries, of whatever tenants, in this order.
#[instrument(skip_all, name = "audit.append", fields(audit.action = records.first().map(|record| record.action)))]
pub async fn append_all(tx: &mut Transaction, records: &[Record<'_>]) -> Result<(), sqlx::Error> {
    fn column<'a, T>(records: &'a [Record<'_>], of: impl Fn(&'a Record<'_>) -> T) -> Vec<T> {
        records.iter().map(of).collect()
    }
    let actors = column(records, |record| match record.actor {
        Actor::User(id) => id.to_string(),
        Actor::Service(name) => name.to_owned(),
        Actor::Nobody => "anonymous".to_owned(),
    });
    sqlx::query!(
        "SELECT append_audit($1, $2, $3, $4, $5, $6, $7)",
        &column(records, |record| record.tenant.0),
        &actors,
        &column(records, |record| record.action.to_owned()),
        &column(records, |record| record.target.clone()) as &[Option<String>],
        &column(records, |record| record.origin.ip.map(|ip| ip.to_string())) as &[Option<String>],
        &column(records, |record| record.detail.clone()),
        &column(records, |record| record.trace_id.clone()) as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Who tried what, and was refused.
#[derive(Debug)]
pub struct Attempt<'a, 'o> {
    /// Who.
    pub by: &'a Known,
    /// From where.
    pub origin: &'o Origin,
    /// What was asked for.
    pub request: Subject,
    /// To what: `<concept>:<id>`.
    pub target: Option<String>,
}

impl<'o> Attempt<'_, 'o> {
    /// The record of the attempt, where it is one of substance: not permitted (403), or against the
    /// policy (422).
    #[must_use]
    pub fn record(&self, refusal: &Refusal) -> Option<Record<'o>> {
        matches!(refusal.code.status(), 403 | 422).then(|| Record {
            tenant: self.by.tenant_id,
            actor: Actor::User(self.by.user_id),
            action: "access.refused",
            target: self.target.clone(),
            origin: self.origin,
            detail: json!({ "code": refusal.code, "request": self.request.path() }),
            trace_id: trace::current_trace_id(),
        })
    }
}

/// Ends the transaction in which an attempt was refused, with its record if it has one.
///
/// A refusal has changed nothing before it, so its record is all that is committed. An attempt
/// that cannot be recorded is answered as the failure that this is.
pub async fn refuse(mut tx: Transaction, attempt: Attempt<'_, '_>, refusal: Refusal) -> Refusal {
    let Some(record) = attempt.record(&refusal) else { return refusal };
    if let Err(error) = append(&mut tx, record).await {
        return failed(error);
    }
    match tx.commit().await {
        Ok(()) => refusal,
        Err(error) => failed(error),
    }
}
