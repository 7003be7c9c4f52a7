//! The record of refused attempts.

use serde_json::json;
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Record},
        caller::Known,
        failed,
    },
    id::GrantId,
    message::Origin,
    refusal::Refusal,
};

use crate::store;

/// Who tried what.
pub(crate) struct Attempt<'a> {
    pub(crate) by: &'a Known,
    pub(crate) origin: &'a Origin,
    /// What was asked for, as the subject says it.
    pub(crate) request: &'static str,
    pub(crate) target: Option<GrantId>,
}

/// Ends the transaction in which an attempt was refused, with a record of it where it is one of
/// substance: not permitted (403), or against the policy (422).
///
/// A refusal has changed nothing before it, so its record is all that is committed. An attempt
/// that cannot be recorded is answered as the failure that this is.
pub(crate) async fn record(mut tx: Transaction, attempt: Attempt<'_>, refusal: Refusal) -> Refusal {
    if !matches!(refusal.code.status(), 403 | 422) {
        return refusal;
    }
    let record = Record {
        tenant: attempt.by.tenant_id,
        actor: Actor::User(attempt.by.user_id),
        action: "grant.refused",
        target: attempt.target.map(|id| format!("grant:{id}")),
        origin: attempt.origin,
        detail: json!({ "code": refusal.code, "request": attempt.request }),
    };
    if let Err(error) = audit::append(&mut tx, record).await {
        return failed(error);
    }
    store::commit(tx).await.err().unwrap_or(refusal)
}
