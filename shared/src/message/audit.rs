//! The audit record.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    chain::{Hash, KeyId, PublicKey, Signature},
    clock::Timestamp,
    id::TenantId,
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
    /// Only to this target.
    pub target: Option<String>,
    /// Only after this time.
    pub after: Option<Timestamp>,
    /// Only before this time.
    pub before: Option<Timestamp>,
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Only those with a lower `seq`.
    pub cursor: Option<u64>,
}

/// A page of the whole record of the caller's tenant, oldest first.
///
/// Whoever asks for the first one has their export recorded; that is the last entry of the export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportAudit {
    /// Who asks.
    pub caller: Caller,
    /// Where to go on; none: the first page.
    pub cursor: Option<ExportCursor>,
}

/// How far an export has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportCursor {
    /// The last entry that there was.
    pub after: u64,
    /// The last entry that there will be.
    pub last: u64,
}

/// The last signed head of the record of the caller's tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetHead {
    /// Who asks.
    pub caller: Caller,
}

requests! {
    ListAudit => AuditEntries, AuditList, SHORT;
    ExportAudit => ExportedEntries, AuditExport, SHORT;
    GetHead => AuditHead, AuditHead, SHORT;
}

/// The answer to [`ListAudit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntries {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Ask again with this cursor for more.
    pub next_cursor: Option<String>,
}

/// The answer to [`ExportAudit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedEntries {
    /// Whose record.
    pub tenant: TenantId,
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Where to go on; none: this was all.
    pub next: Option<ExportCursor>,
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
    pub ip: Option<String>,
    /// Particulars, by action.
    #[schema(value_type = Object)]
    pub detail: Detail,
    /// The trace of the request.
    pub trace_id: Option<String>,
    /// SHA-256 of the entry and of the hash before it, in hexadecimal. Absent from workers that do not
    /// know of it yet.
    #[schema(value_type = String)]
    pub hash: Option<Hash>,
}

/// Particulars of an entry: JSON that is passed on exactly as it was stored, for that is what is hashed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Detail(Box<RawValue>);

impl Detail {
    /// From its text.
    pub fn from_text(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Detail {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Detail {}

/// The last signed head of a record: everything up to that entry is as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHead {
    /// Whose record.
    pub tenant: TenantId,
    /// The entry. The head itself is the entry after it.
    pub seq: u64,
    /// Its hash, in hexadecimal.
    #[schema(value_type = String)]
    pub hash: Hash,
    /// Ed25519, over tenant, `seq` and `hash`, in base64.
    #[schema(value_type = String)]
    pub signature: Signature,
    /// By which key: the first 16 digits of the SHA-256 of the public key.
    #[schema(value_type = String)]
    pub key_id: KeyId,
    /// That key, in base64. Compare it with one that you have from the operator: whoever could change
    /// the record could change this as well.
    #[schema(value_type = String)]
    pub public_key: PublicKey,
}
