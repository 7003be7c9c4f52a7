//! Where a tenant has its events sent, and what has come of it.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    id::{DeliveryId, EndpointId, EventId, TenantId},
    message::{Caller, SHORT, expose, expose_some, requests},
};

/// Most endpoints of a tenant.
pub const MOST_ENDPOINTS: u32 = 20;

/// Something that happened, as the stream carries it on `event.<kind>`. Its message id is `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// Of the row in the outbox: the same however often it comes.
    pub id: EventId,
    /// In which tenant.
    pub tenant: TenantId,
    /// What: concept and past tense.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// Particulars, by kind.
    pub data: Value,
}

/// What kind of thing listens at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[cfg_attr(
    feature = "database",
    derive(sqlx::Type),
    sqlx(type_name = "text", rename_all = "lowercase")
)]
#[serde(rename_all = "kebab-case")]
#[schema(as = EndpointKind)]
pub enum Kind {
    /// Takes signed JSON (Standard Webhooks).
    Webhook,
    /// Takes what Slack's incoming webhooks take.
    Slack,
    /// Mailboxes.
    Mail,
}

impl Kind {
    /// The name, as in JSON and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Mail => "mail",
        }
    }
}

/// Where a tenant has its events sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// The endpoint.
    pub id: EndpointId,
    /// What kind of thing listens there.
    pub kind: Kind,
    /// What the tenant says of it.
    pub description: String,
    /// Of a webhook: where to. Of Slack the part that is no secret.
    pub url: Option<String>,
    /// Of mail: to whom.
    pub addresses: Vec<String>,
    /// Kinds of events, or `grant.*` for all that begin so; none: all but `audit.*`.
    pub events: Vec<String>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Why not, where nobody of the tenant has said so.
    pub disabled_because: Option<String>,
    /// Since when nothing has arrived, if the last attempt failed.
    pub failing_since: Option<Timestamp>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
    /// When something arrived last.
    pub last_delivered_at: Option<Timestamp>,
    /// Until when the secret before signs as well.
    pub previous_secret_until: Option<Timestamp>,
    /// Deliveries that wait.
    pub pending: u32,
    /// Deliveries that were given up.
    pub set_aside: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// All endpoints of the caller's tenant, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEndpoints {
    /// Who asks.
    pub caller: Caller,
}

/// The answer to [`ListEndpoints`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoints {
    /// The endpoints in the order of their creation.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetEndpoint {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub endpoint_id: EndpointId,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OneEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
}

/// Have events sent somewhere, with `tenant.manage`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateEndpoint {
    /// Who asks.
    pub caller: Caller,
    /// The id, which the gateway made: the same message twice makes one endpoint.
    pub endpoint_id: EndpointId,
    /// What kind of thing listens there.
    pub kind: Kind,
    /// What the tenant says of it.
    pub description: String,
    /// Of a webhook and of Slack: where to. Slack's is a secret.
    #[serde(default, serialize_with = "expose_some")]
    pub url: Option<SecretString>,
    /// Of mail: to whom.
    pub addresses: Vec<String>,
    /// Which events.
    pub events: Vec<String>,
    /// With what a webhook is signed, `whsec_…`; the gateway made it and shows it once.
    #[serde(serialize_with = "expose")]
    pub secret: SecretString,
}

/// Change an endpoint, with `tenant.manage`. What is absent stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangeEndpoint {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub endpoint_id: EndpointId,
    /// What the tenant says of it.
    pub description: Option<String>,
    /// Where to.
    #[serde(default, serialize_with = "expose_some")]
    pub url: Option<SecretString>,
    /// To whom.
    pub addresses: Option<Vec<String>>,
    /// Which events.
    pub events: Option<Vec<String>>,
    /// Whether anything is sent. What waits when it is disabled is set aside.
    pub enabled: Option<bool>,
}

/// Send nothing there any more, and forget what was sent. With `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteEndpoint {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub endpoint_id: EndpointId,
}

/// The answer to [`DeleteEndpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointDeleted {}

/// Sign with another secret from now on. The one before signs as well for a day. With
/// `tenant.manage`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RotateSecret {
    /// Who asks.
    pub caller: Caller,
    /// Which endpoint.
    pub endpoint_id: EndpointId,
    /// The new secret; the gateway made it and shows it once.
    #[serde(serialize_with = "expose")]
    pub secret: SecretString,
}

/// Send a test there, and tell what came of it. With `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestEndpoint {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub endpoint_id: EndpointId,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempted {
    /// Whether it was taken.
    pub delivered: bool,
    /// The HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why not, in a few words.
    pub error: Option<String>,
    /// How long it took.
    pub took_ms: u64,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[cfg_attr(
    feature = "database",
    derive(sqlx::Type),
    sqlx(type_name = "text", rename_all = "kebab-case")
)]
#[serde(rename_all = "kebab-case")]
#[schema(as = DeliveryState)]
pub enum State {
    /// Will be tried, or tried again.
    Pending,
    /// Was taken.
    Delivered,
    /// Was given up.
    SetAside,
}

impl State {
    /// The name, as in JSON and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::SetAside => "set-aside",
        }
    }
}

/// What was sent to an endpoint, newest first, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDeliveries {
    /// Who asks.
    pub caller: Caller,
    /// To which endpoint.
    pub endpoint_id: EndpointId,
    /// Only those in this state.
    pub state: Option<State>,
    /// At most so many.
    pub limit: u32,
    /// Where the last page ended.
    pub cursor: Option<DeliveryId>,
}

/// One event on its way to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// The delivery.
    pub id: DeliveryId,
    /// The event: the `webhook-id` of every attempt.
    pub event_id: EventId,
    /// The kind of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was tried last.
    pub last_attempt_at: Option<Timestamp>,
    /// The HTTP status of the last answer.
    pub last_status: Option<u16>,
    /// Why the last attempt failed, in a few words.
    pub last_error: Option<String>,
    /// When it was delivered or given up.
    pub ended_at: Option<Timestamp>,
}

/// The answer to [`ListDeliveries`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deliveries {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Ask again with this cursor for more.
    pub next_cursor: Option<DeliveryId>,
}

/// Send something once more, whatever has come of it, with `tenant.manage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryDelivery {
    /// Who asks.
    pub caller: Caller,
    /// To which endpoint.
    pub endpoint_id: EndpointId,
    /// What.
    pub delivery_id: DeliveryId,
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OneDelivery {
    /// The delivery.
    pub delivery: Delivery,
}

/// A test ends within 10 seconds, and its record has to be written.
const TEST: std::time::Duration = std::time::Duration::from_secs(14);

requests! {
    ListEndpoints => Endpoints, NotificationList, SHORT;
    GetEndpoint => OneEndpoint, NotificationGet, SHORT;
    CreateEndpoint => OneEndpoint, NotificationCreate, SHORT;
    ChangeEndpoint => OneEndpoint, NotificationChange, SHORT;
    DeleteEndpoint => EndpointDeleted, NotificationDelete, SHORT;
    RotateSecret => OneEndpoint, NotificationRotateSecret, SHORT;
    TestEndpoint => Attempted, NotificationTest, TEST;
    ListDeliveries => Deliveries, NotificationDeliveries, SHORT;
    RetryDelivery => OneDelivery, NotificationRetry, SHORT;
}
