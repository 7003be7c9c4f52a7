//! Emergency grants.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    id::{GrantId, UserId},
    message::{Caller, SHORT, WITH_RECEIPT, requests, revocation::Receipt},
    role::Role,
};

/// The shortest grant, in seconds.
pub const SHORTEST_SECONDS: u32 = 5;

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[cfg_attr(
    feature = "database",
    derive(sqlx::Type),
    sqlx(type_name = "text", rename_all = "lowercase")
)]
#[serde(rename_all = "kebab-case")]
#[schema(as = GrantState)]
pub enum State {
    /// Waits for approvals.
    Pending,
    /// Raises the role of its user.
    Active,
    /// Somebody refused it.
    Denied,
    /// Its user withdrew it.
    Cancelled,
    /// Ended early.
    Revoked,
    /// Came to its end.
    Expired,
}

/// All states.
pub const STATES: [State; 6] = [
    State::Pending,
    State::Active,
    State::Denied,
    State::Cancelled,
    State::Revoked,
    State::Expired,
];

impl State {
    /// The name, as in JSON and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// A grant, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// The grant.
    pub id: GrantId,
    /// Where it stands now; never `active` past its end.
    pub state: State,
    /// Whose it is.
    pub user: Person,
    /// To which role it raises.
    pub role: Role,
    /// Why, verbatim.
    pub reason: String,
    /// The incident's ticket.
    pub ticket: Option<String>,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it began.
    pub activated_at: Option<Timestamp>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Whole seconds until then, rounded up; absent unless active.
    pub remaining_seconds: Option<u64>,
    /// Decisions so far.
    pub approvals: Vec<Approval>,
    /// How many approvals it takes.
    pub approvals_needed: u32,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Who ended it; absent if time did.
    pub ended_by: Option<Person>,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// The grant that it extends.
    pub extended_from: Option<GrantId>,
    /// SHA-256 in hex over what is asked for; approvers decide about exactly this.
    pub request_digest: String,
    /// The review of its use.
    pub review: Option<Review>,
}

/// Somebody, named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Person {
    /// The user.
    pub id: UserId,
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
}

/// One approver's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Who decided.
    pub user: Person,
    /// `approve` or `deny`.
    pub decision: String,
    /// What they said.
    pub comment: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// The review of a grant's use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Review {
    /// By when.
    pub due_at: Timestamp,
    /// Where it stands.
    pub state: String,
    /// Who reviewed it.
    pub reviewer: Option<Person>,
    /// What they found.
    pub note: Option<String>,
}

/// Ask for emergency access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestGrant {
    /// Who asks.
    pub caller: Caller,
    /// The id of the new grant, made by the gateway: the same message twice makes one grant.
    pub grant_id: GrantId,
    /// Why.
    pub reason: String,
    /// For how long; absent: as the policy says.
    pub duration_seconds: Option<u32>,
    /// To which role; absent: the policy's. Another than the policy's is refused.
    pub role: Option<Role>,
    /// The incident's ticket.
    pub ticket: Option<String>,
}

/// A grant and, where a right changed, the proof that every edge knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantReceipt {
    /// The grant.
    pub grant: Grant,
    /// Absent if nothing changed for the edges.
    pub receipt: Option<Receipt>,
}

/// Grants that the caller may see, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListGrants {
    /// Who asks.
    pub caller: Caller,
    /// Only in this state.
    pub state: Option<State>,
    /// Only of this user.
    pub user_id: Option<UserId>,
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Only those older than this one.
    pub cursor: Option<GrantId>,
}

/// The answer to [`ListGrants`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grants {
    /// The grants.
    pub grants: Vec<Grant>,
    /// Ask again with this cursor for more.
    pub next_cursor: Option<GrantId>,
}

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetGrant {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub grant_id: GrantId,
}

/// The answer to [`GetGrant`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OneGrant {
    /// The grant.
    pub grant: Grant,
}

/// End a grant early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeGrant {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub grant_id: GrantId,
    /// Why.
    pub comment: Option<String>,
}

/// Make the end of a grant official. Does nothing if it is not due, or was done already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireGrant {
    /// Which one.
    pub grant_id: GrantId,
}

/// The answer to [`ExpireGrant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredGrant {
    /// Whether this very call ended it.
    pub ended: bool,
}

requests! {
    RequestGrant => GrantReceipt, GrantRequest, WITH_RECEIPT;
    ListGrants => Grants, GrantList, SHORT;
    GetGrant => OneGrant, GrantGet, SHORT;
    RevokeGrant => GrantReceipt, GrantRevoke, WITH_RECEIPT;
    ExpireGrant => ExpiredGrant, GrantExpire, WITH_RECEIPT;
}
