//! What a change leaves behind: its audit record, and the event of which people are told.

use serde_json::{Value, json};
use shared::{
    clock::Timestamp,
    database::{
        Transaction,
        audit::{self, Actor, Record},
        caller::Known,
        failed, outbox,
    },
    id::{GrantId, TenantId, UserId},
    message::Origin,
    refusal::Refusal,
    trace,
};

/// Something that happened to a grant.
pub(crate) struct Happened<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) actor: Actor,
    pub(crate) origin: &'a Origin,
    pub(crate) now: Timestamp,
    /// What: concept and past tense.
    pub(crate) action: &'a str,
    pub(crate) grant: GrantId,
    /// Whose it is.
    pub(crate) user: UserId,
    /// Particulars, of the record and of the event.
    pub(crate) detail: Value,
    /// Who is told besides the user.
    pub(crate) recipients: Vec<UserId>,
}

impl<'a> Happened<'a> {
    /// Something that somebody did.
    pub(crate) fn by(
        known: &Known,
        origin: &'a Origin,
        action: &'a str,
        grant: GrantId,
        user: UserId,
    ) -> Self {
        Self {
            tenant: known.tenant_id,
            actor: Actor::User(known.user_id),
            origin,
            now: known.now,
            action,
            grant,
            user,
            detail: json!({}),
            recipients: Vec::new(),
        }
    }
}

/// Writes the audit record and the event.
pub(crate) async fn write(tx: &mut Transaction, happened: Happened<'_>) -> Result<(), Refusal> {
    announce(tx, &happened).await?;
    let mut detail = happened.detail;
    detail["user"] = json!(happened.user);
    let record = Record {
        tenant: happened.tenant,
        actor: happened.actor,
        action: happened.action,
        target: Some(format!("grant:{}", happened.grant)),
        origin: happened.origin,
        detail,
        trace_id: trace::current_trace_id(),
    };
    audit::append(tx, record).await.map_err(failed)
}

/// Writes the event alone.
pub(crate) async fn announce(tx: &mut Transaction, happened: &Happened<'_>) -> Result<(), Refusal> {
    let mut payload = happened.detail.clone();
    payload["grant"] = json!(happened.grant);
    payload["user"] = json!(happened.user);
    if let Actor::User(by) = happened.actor {
        payload["by"] = json!(by);
    }
    if !happened.recipients.is_empty() {
        payload["recipients"] = json!(happened.recipients);
    }
    outbox::append(tx, happened.now, happened.tenant, happened.action, payload)
        .await
        .map_err(failed)
}
