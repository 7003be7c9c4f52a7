//! Where a tenant has its events sent, for its admins.

use axum::{
    Json, extract,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse as _, Response},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use shared::{
    id::{DeliveryId, EndpointId},
    message::notification::{
        Attempted, ChangeEndpoint, CreateEndpoint, DeleteEndpoint, Deliveries, Endpoint, Endpoints,
        GetEndpoint, Kind, ListDeliveries, ListEndpoints, OneDelivery, OneEndpoint, RetryDelivery,
        RotateSecret, State as DeliveryState, TestEndpoint,
    },
    token,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    body::{Body, Nothing},
    caller::Signed,
    parameters::{Id, Ids, Parameters, page},
    problem::Refused,
    responses,
};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(get, change, delete))
        .routes(routes!(test))
        .routes(routes!(rotate_secret))
        .routes(routes!(deliveries))
        .routes(routes!(retry))
}

/// Where the tenant has its events sent.
///
/// Needs `tenant.manage`.
#[utoipa::path(
    get, path = "/v1/notifications/endpoints", tag = "Notifications", operation_id = "listEndpoints",
    responses((status = 200, description = "The endpoints.", body = Endpoints), responses::Signed),
)]
async fn list(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
) -> Result<Json<Endpoints>, Refused> {
    Ok(Json(state.bus.request(&ListEndpoints { caller }).await?))
}

/// An endpoint to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEndpoint {
    /// What kind of thing listens there.
    #[schema(inline)]
    kind: Kind,
    /// What you say of it, at most 200 characters.
    #[serde(default)]
    description: String,
    /// Of a webhook and of Slack: where to, `https://…`, on an address that is public or that the operator has
    /// allowed.
    #[schema(value_type = Option<String>)]
    url: Option<SecretString>,
    /// Of mail: to whom, at most 10.
    #[serde(default)]
    addresses: Vec<String>,
    /// Kinds of events, or `grant.*` for all that begin so; none: all but `audit.*`.
    #[serde(default)]
    events: Vec<String>,
}

/// A new endpoint.
#[derive(Serialize, ToSchema)]
struct CreatedEndpoint {
    /// The endpoint.
    endpoint: Endpoint,
    /// Of a webhook: with what it is signed (Standard Webhooks). Shown this once.
    secret: Option<String>,
}

/// Have events sent somewhere.
///
/// Needs `tenant.manage`. A tenant has at most 20 endpoints.
#[utoipa::path(
    post, path = "/v1/notifications/endpoints", tag = "Notifications", operation_id = "createEndpoint",
    request_body = NewEndpoint,
    responses(
        (
            status = 201, description = "The endpoint.", body = CreatedEndpoint,
            headers(("Location" = String, description = "The endpoint.")),
        ),
        responses::Signed, responses::WithBody, responses::Conflicting,
    ),
)]
async fn create(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Body(new): Body<NewEndpoint>,
) -> Result<Response, Refused> {
    let secret = token::webhook_secret();
    let request = CreateEndpoint {
        caller,
        endpoint_id: EndpointId::new(state.clock.wall()),
        kind: new.kind,
        description: new.description,
        url: new.url,
        addresses: new.addresses,
        events: new.events,
        secret: secret.clone(),
    };
    let OneEndpoint { endpoint } = state.bus.request(&request).await?;
    let place = format!("/v1/notifications/endpoints/{}", endpoint.id);
    let secret = (new.kind == Kind::Webhook).then(|| secret.expose_secret().to_owned());
    let created = CreatedEndpoint { endpoint, secret };
    Ok((StatusCode::CREATED, [(LOCATION, place)], Json(created)).into_response())
}

/// One endpoint.
///
/// Needs `tenant.manage`.
#[utoipa::path(
    get, path = "/v1/notifications/endpoints/{id}", tag = "Notifications", operation_id = "getEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint.")),
    responses(
        (status = 200, description = "The endpoint.", body = OneEndpoint),
        responses::Signed, responses::About,
    ),
)]
async fn get(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(id): Id,
) -> Result<Json<OneEndpoint>, Refused> {
    Ok(Json(state.bus.request(&GetEndpoint { caller, endpoint_id: EndpointId(id) }).await?))
}

/// What is to be different. What is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EndpointChanges {
    /// What you say of it.
    description: Option<String>,
    /// Where to.
    #[schema(value_type = Option<String>)]
    url: Option<SecretString>,
    /// To whom.
    addresses: Option<Vec<String>>,
    /// Which events.
    events: Option<Vec<String>>,
    /// Whether anything is sent. What waits when it is disabled is set aside.
    enabled: Option<bool>,
}

/// Change an endpoint.
///
/// Needs `tenant.manage`. The kind stays.
#[utoipa::path(
    patch, path = "/v1/notifications/endpoints/{id}", tag = "Notifications", operation_id = "changeEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint.")),
    request_body = EndpointChanges,
    responses(
        (status = 200, description = "The endpoint.", body = OneEndpoint),
        responses::Signed, responses::WithBody, responses::About, responses::Conflicting,
    ),
)]
async fn change(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(id): Id,
    Body(changes): Body<EndpointChanges>,
) -> Result<Json<OneEndpoint>, Refused> {
    let request = ChangeEndpoint {
        caller,
        endpoint_id: EndpointId(id),
        description: changes.description,
        url: changes.url,
        addresses: changes.addresses,
        events: changes.events,
        enabled: changes.enabled,
    };
    Ok(Json(state.bus.request(&request).await?))
}

/// Send nothing there any more.
///
/// Needs `tenant.manage`. What was sent there is forgotten as well; the record of changes stays.
#[utoipa::path(
    delete, path = "/v1/notifications/endpoints/{id}", tag = "Notifications", operation_id = "deleteEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint.")),
    request_body = Option<Nothing>,
    responses(
        (status = 204, description = "It is gone."),
        responses::Signed, responses::WithBody, responses::About,
    ),
)]
async fn delete(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(id): Id,
    Body(Nothing {}): Body<Nothing>,
) -> Result<StatusCode, Refused> {
    state.bus.request(&DeleteEndpoint { caller, endpoint_id: EndpointId(id) }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a test.
///
/// Needs `tenant.manage`. It is tried once, whether or not the endpoint is enabled, and not kept.
#[utoipa::path(
    post, path = "/v1/notifications/endpoints/{id}/test", tag = "Notifications", operation_id = "testEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "What came of it.", body = Attempted),
        responses::Signed, responses::WithBody, responses::About,
    ),
)]
async fn test(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(id): Id,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Attempted>, Refused> {
    Ok(Json(state.bus.request(&TestEndpoint { caller, endpoint_id: EndpointId(id) }).await?))
}

/// A webhook with its new secret.
#[derive(Serialize, ToSchema)]
struct RotatedSecret {
    /// The endpoint.
    endpoint: Endpoint,
    /// With what it is signed from now on. Shown this once.
    secret: String,
}

/// Sign with another secret.
///
/// Needs `tenant.manage`. For a day the one before signs as well, so every message carries two signatures.
#[utoipa::path(
    post, path = "/v1/notifications/endpoints/{id}/rotate-secret", tag = "Notifications",
    operation_id = "rotateSecret",
    params(("id" = EndpointId, Path, description = "The endpoint.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The new secret.", body = RotatedSecret),
        responses::Signed, responses::WithBody, responses::About, responses::Conflicting,
    ),
)]
async fn rotate_secret(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Id(id): Id,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<RotatedSecret>, Refused> {
    let secret = token::webhook_secret();
    let request = RotateSecret { caller, endpoint_id: EndpointId(id), secret: secret.clone() };
    let OneEndpoint { endpoint } = state.bus.request(&request).await?;
    Ok(Json(RotatedSecret { endpoint, secret: secret.expose_secret().to_owned() }))
}

/// Which deliveries.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WhichDeliveries {
    /// Only those in this state.
    #[param(inline)]
    state: Option<DeliveryState>,
    /// At most so many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<DeliveryId>,
}

/// What was sent to an endpoint, newest first.
///
/// Needs `tenant.manage`. Kept for 14 days.
#[utoipa::path(
    get, path = "/v1/notifications/endpoints/{id}/deliveries", tag = "Notifications",
    operation_id = "listDeliveries",
    params(("id" = EndpointId, Path, description = "The endpoint."), WhichDeliveries),
    responses(
        (status = 200, description = "The deliveries.", body = Deliveries),
        responses::Signed, responses::About,
    ),
)]
async fn deliveries(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(which): Parameters<WhichDeliveries>,
    Id(id): Id,
) -> Result<Json<Deliveries>, Refused> {
    let request = ListDeliveries {
        caller,
        endpoint_id: EndpointId(id),
        state: which.state,
        limit: page(which.limit)?,
        cursor: which.cursor,
    };
    Ok(Json(state.bus.request(&request).await?))
}

/// Send something once more.
///
/// Needs `tenant.manage`. Tried at once, and then for another day; whatever has come of it before.
#[utoipa::path(
    post, path = "/v1/notifications/endpoints/{id}/deliveries/{delivery}/retry", tag = "Notifications",
    operation_id = "retryDelivery",
    params(
        ("id" = EndpointId, Path, description = "The endpoint."),
        ("delivery" = DeliveryId, Path, description = "The delivery."),
    ),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The delivery.", body = OneDelivery),
        responses::Signed, responses::WithBody, responses::About, responses::Conflicting,
    ),
)]
async fn retry(
    extract::State(state): extract::State<State>,
    Signed(caller): Signed,
    Parameters(Nothing {}): Parameters<Nothing>,
    Ids(endpoint, delivery): Ids,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<OneDelivery>, Refused> {
    let request = RetryDelivery {
        caller,
        endpoint_id: EndpointId(endpoint),
        delivery_id: DeliveryId(delivery),
    };
    Ok(Json(state.bus.request(&request).await?))
}
