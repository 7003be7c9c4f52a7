//! Emergency grants.

use std::collections::BTreeSet;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    id::{GrantId, RecorderId, SessionId, UserId},
    message::{
        Caller, SHORT, WITH_RECEIPT, audit::AuditEntry, expose_some, requests, revocation::Receipt,
        session::Method,
    },
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
    /// For how long, counted from its activation.
    #[serde(default)]
    pub duration_seconds: u32,
    /// In which sessions of its user it holds.
    #[serde(default)]
    pub applies_to: AppliesTo,
    /// Whether it goes without the approvals that the policy wants.
    #[serde(default)]
    pub bypassed: bool,
    /// By which second factor the request was confirmed.
    #[serde(default)]
    pub factor: Option<Method>,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// Until when it waits for approvals; absent: it never did.
    #[serde(default)]
    pub pending_until: Option<Timestamp>,
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
    /// What they decided.
    pub decision: Decision,
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
    pub state: ReviewState,
    /// Who reviewed it.
    pub reviewer: Option<Person>,
    /// What they said.
    pub note: Option<String>,
    /// When.
    #[serde(default)]
    pub at: Option<Timestamp>,
}

/// Where a review stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewState {
    /// Nobody has reviewed it yet.
    Due,
    /// Nor in time.
    Overdue,
    /// The use was justified.
    Justified,
    /// It was misuse.
    Misuse,
}

/// What a review finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[cfg_attr(
    feature = "database",
    derive(sqlx::Type),
    sqlx(type_name = "text", rename_all = "kebab-case")
)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ReviewOutcome)]
pub enum Outcome {
    /// The use was justified.
    Justified,
    /// It was misuse.
    Misuse,
}

impl Outcome {
    /// The name, as in JSON and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Justified => "justified",
            Self::Misuse => "misuse",
        }
    }
}

/// What an approver decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[cfg_attr(
    feature = "database",
    derive(sqlx::Type),
    sqlx(type_name = "text", rename_all = "kebab-case")
)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Yes.
    Approve,
    /// No, which one is enough for.
    Deny,
}

impl Decision {
    /// The name, as in JSON and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }
}

/// In which sessions of its user a grant holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[cfg_attr(
    feature = "database",
    derive(sqlx::Type),
    sqlx(type_name = "text", rename_all = "kebab-case")
)]
#[serde(rename_all = "kebab-case")]
pub enum AppliesTo {
    /// In all of them.
    #[default]
    User,
    /// In the one that asked.
    Session,
}

impl AppliesTo {
    /// The name, as in JSON and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Session => "session",
        }
    }
}

/// How a tenant grants emergency access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EmergencyPolicy {
    /// To which role a grant raises.
    pub role: Role,
    /// In which sessions of its user it holds.
    pub applies_to: AppliesTo,
    /// Assigned roles that may ask.
    pub requesters: BTreeSet<Role>,
    /// Greatest length of a grant, with all its extensions.
    #[schema(minimum = 5, maximum = 2_592_000)]
    pub max_duration_seconds: u32,
    /// Length of a grant where none is asked for.
    #[schema(minimum = 5, maximum = 2_592_000)]
    pub default_duration_seconds: u32,
    /// How many others have to approve; 0: a grant is active at once.
    #[schema(minimum = 0, maximum = 20)]
    pub approvals_needed: u32,
    /// Assigned roles that may approve: manager, admin.
    pub approvers: BTreeSet<Role>,
    /// Whether who has a second factor shows a code with each request.
    pub require_fresh_mfa: bool,
    /// Fewest letters and digits of a reason.
    #[schema(minimum = 1, maximum = 2_000)]
    pub min_reason_length: u32,
    /// A regular expression that the whole ticket has to match; none: no ticket is needed.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub ticket_pattern: Option<String>,
    /// Most grants that a user may hold or wait for at once.
    #[schema(minimum = 1, maximum = 100)]
    pub max_active_per_user: u32,
    /// How long after the end of a grant its user may not ask again.
    #[schema(minimum = 0, maximum = 2_592_000)]
    pub cooldown_seconds: u32,
    /// How long a request waits for approvals.
    #[schema(minimum = 5, maximum = 2_592_000)]
    pub pending_timeout_seconds: u32,
    /// Until when after its end the use of a grant is to be reviewed. Whoever has an overdue review
    /// may ask only by bypass.
    #[schema(minimum = 0, maximum = 8_760)]
    pub review_within_hours: u32,
    /// How often a grant may be extended.
    #[schema(minimum = 0, maximum = 100)]
    pub extensions_allowed: u32,
    /// Going without the approvals.
    pub bypass: Bypass,
}

/// Whether and for how long one may go without approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bypass {
    /// Whether.
    pub allowed: bool,
    /// Greatest length of such a grant.
    #[schema(minimum = 5, maximum = 2_592_000)]
    pub max_duration_seconds: u32,
}

/// Ask for emergency access.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// A code of the second factor. Never logged.
    #[serde(default, serialize_with = "expose_some")]
    pub code: Option<SecretString>,
    /// Go without the approvals that the policy wants.
    #[serde(default)]
    pub bypass_approval: bool,
}

/// Ask for more time: a new request, which replaces the grant when it becomes active.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExtendGrant {
    /// Who asks.
    pub caller: Caller,
    /// Which one is extended.
    pub grant_id: GrantId,
    /// The id of the new one, made by the gateway: the same message twice makes one grant.
    pub new_grant_id: GrantId,
    /// Why.
    pub reason: String,
    /// For how long, counted from the activation of the new one.
    pub duration_seconds: u32,
    /// A code of the second factor. Never logged.
    #[serde(default, serialize_with = "expose_some")]
    pub code: Option<SecretString>,
}

/// Decide about somebody's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecideGrant {
    /// Who decides.
    pub caller: Caller,
    /// Which request.
    pub grant_id: GrantId,
    /// What.
    pub decision: Decision,
    /// Why.
    pub comment: Option<String>,
    /// The digest of the request that they saw; another one is refused.
    pub request_digest: Option<String>,
}

/// Withdraw one's own request that is pending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelGrant {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub grant_id: GrantId,
}

/// Review how a grant that has ended was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewGrant {
    /// Who reviews.
    pub caller: Caller,
    /// Which one.
    pub grant_id: GrantId,
    /// What they say.
    pub note: String,
    /// What they find.
    pub outcome: Outcome,
}

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetEmergencyPolicy {
    /// Who asks.
    pub caller: Caller,
}

/// Change the policy, with `tenant.manage`. What is active stays as it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetEmergencyPolicy {
    /// Who asks.
    pub caller: Caller,
    /// The new policy.
    pub policy: EmergencyPolicy,
}

/// The answer to [`SetEmergencyPolicy`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EmergencyPolicySet {
    /// The policy in force now.
    pub policy: EmergencyPolicy,
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

/// Something that reverse proxies asked an edge about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Action {
    /// The method; empty, with host and path, where too many different ones came in a minute to be
    /// told apart.
    pub method: String,
    /// The host.
    pub host: String,
    /// The path, without the query.
    pub path: String,
    /// What the edge decided.
    pub allowed: bool,
}

/// How often something was done under a grant in a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counted {
    /// Under which grant.
    pub grant_id: GrantId,
    /// In which session.
    pub session_id: SessionId,
    /// The beginning of the minute.
    pub minute: Timestamp,
    /// What.
    #[serde(flatten)]
    pub action: Action,
    /// How often, since the minute began.
    pub count: u64,
}

/// What was done under grants, as an edge counted it. The same again, or with higher counts, changes
/// no more than it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordActions {
    /// Who counted.
    pub recorder: RecorderId,
    /// What.
    pub counted: Vec<Counted>,
}

/// The answer to [`RecordActions`]: it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionsRecorded {}

/// The whole story of a grant: of one's own, or with a permission to see others' past ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetEvidence {
    /// Who asks.
    pub caller: Caller,
    /// Of which one.
    pub grant_id: GrantId,
}

/// The whole story of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// The grant, with who approved it, how it ended, and its review.
    pub grant: Grant,
    /// The policy under which it was activated, or asked for if it never was.
    pub policy: Option<EmergencyPolicy>,
    /// The session that asked.
    pub session_id: SessionId,
    /// The grant that replaced it, if it was extended.
    pub extended_by: Option<GrantId>,
    /// What the audit record says of it, and of all that its user did while it was active, in order.
    pub record: Vec<AuditEntry>,
    /// How many entries that are; only the first ones are listed.
    pub record_total: u64,
    /// What was done with it behind reverse proxies, by minute.
    pub actions: Vec<Counted>,
    /// How many rows that are; only the first ones are listed.
    pub actions_total: u64,
    /// When this was put together.
    pub generated_at: Timestamp,
}

/// Most grants whose end is made official at once.
pub const MOST_EXPIRED: usize = 500;

/// Make the end of grants official. Does nothing to those that are not due, or were done already, and
/// leaves those alone whose users something else is being done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireGrants {
    /// Which ones, at most [`MOST_EXPIRED`].
    pub grant_ids: Vec<GrantId>,
}

/// The answer to [`ExpireGrants`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredGrants {
    /// Those that this very call ended.
    pub ended: Vec<GrantId>,
}

/// Tell the user of a grant that it ends soon. Does nothing if it is not time, or was done already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarnOfEnd {
    /// Which one.
    pub grant_id: GrantId,
}

/// Tell people that a review is overdue. Does nothing if it is not, or was done already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemindOfReview {
    /// Of which grant.
    pub grant_id: GrantId,
}

/// The answer to [`WarnOfEnd`] and [`RemindOfReview`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Whether this very call told somebody.
    pub told: bool,
}

requests! {
    RequestGrant => GrantReceipt, GrantRequest, WITH_RECEIPT;
    ExtendGrant => GrantReceipt, GrantExtend, WITH_RECEIPT;
    DecideGrant => GrantReceipt, GrantDecide, WITH_RECEIPT;
    CancelGrant => OneGrant, GrantCancel, SHORT;
    ReviewGrant => OneGrant, GrantReview, SHORT;
    GetEmergencyPolicy => EmergencyPolicy, GrantPolicyGet, SHORT;
    SetEmergencyPolicy => EmergencyPolicySet, GrantPolicySet, SHORT;
    WarnOfEnd => Told, GrantWarn, SHORT;
    RemindOfReview => Told, GrantRemind, SHORT;
    ListGrants => Grants, GrantList, SHORT;
    GetGrant => OneGrant, GrantGet, SHORT;
    GetEvidence => Evidence, GrantEvidence, SHORT;
    RecordActions => ActionsRecorded, GrantRecordActions, SHORT;
    RevokeGrant => GrantReceipt, GrantRevoke, WITH_RECEIPT;
    ExpireGrants => ExpiredGrants, GrantExpireAll, WITH_RECEIPT;
}
