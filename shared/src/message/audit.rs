//! The audit record.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    message::{Caller, SHORT, requests},
};

/// Entries of the caller's tenant, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAudit {
    /// Who asks.
    pub caller: Caller,
    /// Only by this actor (user id, or the name of a service).
    pub actor: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only after this time.
    pub after: Option<Timestamp>,
    /// Only before this time.
    pub before: Option<Timestamp>,
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Only those with a lower `seq`.
    pub cursor: Option<u64>,
}

requests! {
    ListAudit => AuditEntries, AuditList, SHORT;
}

/// The answer to [`ListAudit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntries {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Ask again with this cursor for more.
    pub next_cursor: Option<String>,
}

/// One entry of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the tenant's record, without gaps.
    pub seq: u64,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Who: a user id, or the name of a service.
    pub actor: String,
    /// What: `<concept>.<past tense>`.
    pub action: String,
    /// To what: `<concept>:<id>`.
    pub target: Option<String>,
    /// From where.
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    /// Particulars, by action.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
    /// The trace of the request.
    pub trace_id: Option<String>,
    /// The entry's place in the hash chain; absent until the chain exists.
    pub hash: Option<String>,
}
