//! Endpoints, as the admins of a tenant manage them.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use shared::{
    database::{
        Transaction,
        audit::{self, Actor, Attempt, Record},
        caller::{self, Known},
        failed,
    },
    id::{EndpointId, EventId},
    message::{
        Caller, MOST_ITEMS,
        notification::{
            Attempted, ChangeEndpoint, CreateEndpoint, DeleteEndpoint, Deliveries, Endpoint,
            EndpointDeleted, Endpoints, GetEndpoint, Kind, ListDeliveries, ListEndpoints,
            MOST_ENDPOINTS, OneDelivery, OneEndpoint, RetryDelivery, RotateSecret, TestEndpoint,
        },
        page,
    },
    refusal::{Code, Refusal},
    role::Permission,
    sealing::Sealed,
    subject::{Subject, events},
    trace,
};
use tokio::time::timeout;
use tracing::instrument;

use super::{
    Notify, attempt, content, http, mail, sign,
    store::{self, Reached, Stored, To},
    target::Target,
};

/// Longest description, in characters.
const DESCRIPTION: usize = 200;
/// Most kinds that an endpoint names.
const KINDS: usize = 50;
/// Most addresses of an endpoint.
const ADDRESSES: usize = 10;
/// Resolving the name of a new endpoint takes no longer; one that takes longer is checked when something
/// is sent.
const RESOLVE: Duration = Duration::from_secs(2);

/// Somebody who manages the tenant, in the transaction of what they ask for.
struct Managing {
    tx: Transaction,
    known: Known,
}

/// Refuses whoever may not manage the tenant, with the record of it.
async fn manage(
    notify: &Notify,
    caller: &Caller,
    request: Subject,
    endpoint: Option<EndpointId>,
) -> Result<Managing, Refusal> {
    let mut tx = notify.pool.begin().await.map_err(failed)?;
    let known = caller::lock(&mut tx, caller, None).await?;
    if let Err(refusal) = known.require(Permission::TenantManage) {
        let target = endpoint.map(name);
        let attempt = Attempt { by: &known, origin: &caller.origin, request, target };
        return Err(audit::refuse(tx, attempt, refusal).await);
    }
    Ok(Managing { tx, known })
}

impl Managing {
    async fn find(&mut self, id: EndpointId) -> Result<(Endpoint, Reached), Refusal> {
        let found = store::endpoints(&mut self.tx, self.known.tenant_id, Some(id)).await;
        found.map_err(failed)?.pop().ok_or_else(Refusal::not_found)
    }

    /// [`Managing::find`], kept from changing.
    async fn find_locked(&mut self, id: EndpointId) -> Result<(Endpoint, Reached), Refusal> {
        let locked = store::lock_endpoint(&mut self.tx, self.known.tenant_id, id).await;
        if locked.map_err(failed)? { self.find(id).await } else { Err(Refusal::not_found()) }
    }

    async fn record(
        &mut self,
        caller: &Caller,
        action: &str,
        id: EndpointId,
        detail: Value,
    ) -> Result<(), Refusal> {
        let record = Record {
            tenant: self.known.tenant_id,
            actor: Actor::User(self.known.user_id),
            action,
            target: Some(name(id)),
            origin: &caller.origin,
            detail,
            trace_id: trace::current_trace_id(),
        };
        audit::append(&mut self.tx, record).await.map_err(failed)
    }

    async fn commit(self) -> Result<(), Refusal> {
        self.tx.commit().await.map_err(failed)
    }
}

fn name(id: EndpointId) -> String {
    format!("notification-endpoint:{id}")
}

fn bad(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, detail)
}

/// All endpoints of the tenant.
#[instrument(skip_all, name = "notification.list")]
pub(super) async fn list(notify: Notify, request: ListEndpoints) -> Result<Endpoints, Refusal> {
    let mut managing = manage(&notify, &request.caller, Subject::NotificationList, None).await?;
    let found = store::endpoints(&mut managing.tx, managing.known.tenant_id, None).await;
    let endpoints = found.map_err(failed)?.into_iter().map(|(endpoint, _)| endpoint).collect();
    managing.commit().await?;
    Ok(Endpoints { endpoints })
}

/// One endpoint.
#[instrument(skip_all, name = "notification.get")]
pub(super) async fn get(notify: Notify, request: GetEndpoint) -> Result<OneEndpoint, Refusal> {
    let id = request.endpoint_id;
    let mut managing = manage(&notify, &request.caller, Subject::NotificationGet, Some(id)).await?;
    let (endpoint, _) = managing.find(id).await?;
    managing.commit().await?;
    Ok(OneEndpoint { endpoint })
}

/// Makes an endpoint. The same message twice makes one.
#[instrument(skip_all, name = "notification.create")]
pub(super) async fn create(
    notify: Notify,
    request: CreateEndpoint,
) -> Result<OneEndpoint, Refusal> {
    let id = request.endpoint_id;
    let managing = manage(&notify, &request.caller, Subject::NotificationCreate, None).await?;
    // Names are resolved while no transaction is open.
    managing.commit().await?;
    let place = place(&notify, id, request.kind, request.url.as_ref(), &request.addresses).await?;
    let description = description(&request.description)?;
    let events = kinds(&request.events)?;
    let secret = match request.kind {
        Kind::Webhook => {
            let secret = request.secret.expose_secret();
            sign::key(secret).ok_or_else(|| bad("The secret is none."))?;
            Some(notify.keys.seal(id, secret.as_bytes()))
        }
        Kind::Slack => place.secret,
        Kind::Mail => None,
    };

    let mut managing = manage(&notify, &request.caller, Subject::NotificationCreate, None).await?;
    let tenant = managing.known.tenant_id;
    let count = store::lock_count(&mut managing.tx, tenant).await.map_err(failed)?;
    let stored = Stored {
        description: &description,
        url: place.url.as_deref(),
        addresses: &request.addresses,
        events: &events,
        enabled: true,
    };
    let before = store::endpoints(&mut managing.tx, tenant, Some(id)).await.map_err(failed)?;
    if before.is_empty() {
        if count >= i64::from(MOST_ENDPOINTS) {
            let detail = format!("There are {MOST_ENDPOINTS} endpoints, which is the most.");
            return Err(Refusal::new(Code::Conflict, detail));
        }
        let tx = &mut managing.tx;
        let inserted =
            store::insert_endpoint(tx, tenant, id, request.kind, &stored, secret.as_ref()).await;
        if !inserted.map_err(failed)? {
            return Err(Refusal::new(Code::Conflict, "The id is taken."));
        }
        let detail = told(request.kind, &stored);
        managing
            .record(&request.caller, "notification-endpoint.created", id, detail.into())
            .await?;
    }
    let (endpoint, _) = managing.find(id).await?;
    managing.commit().await?;
    Ok(OneEndpoint { endpoint })
}

/// Changes an endpoint.
#[instrument(skip_all, name = "notification.change")]
pub(super) async fn change(
    notify: Notify,
    request: ChangeEndpoint,
) -> Result<OneEndpoint, Refusal> {
    let id = request.endpoint_id;
    let subject = Subject::NotificationChange;
    let mut managing = manage(&notify, &request.caller, subject, Some(id)).await?;
    let (before, _) = managing.find(id).await?;
    managing.commit().await?;
    let moves = request.url.is_some() || request.addresses.is_some();
    let place = if moves {
        let addresses = request.addresses.as_deref().unwrap_or(&before.addresses);
        Some(place(&notify, id, before.kind, request.url.as_ref(), addresses).await?)
    } else {
        None
    };

    let mut managing = manage(&notify, &request.caller, subject, Some(id)).await?;
    let (before, _) = managing.find_locked(id).await?;
    let description = request.description.as_deref().map(description).transpose()?;
    let events = request.events.as_deref().map(kinds).transpose()?;
    let as_before = Stored {
        description: &before.description,
        url: before.url.as_deref(),
        addresses: &before.addresses,
        events: &before.events,
        enabled: before.enabled,
    };
    let after = Stored {
        description: description.as_deref().unwrap_or(&before.description),
        url: place.as_ref().map_or(before.url.as_deref(), |place| place.url.as_deref()),
        addresses: request.addresses.as_deref().unwrap_or(&before.addresses),
        events: events.as_deref().unwrap_or(&before.events),
        enabled: request.enabled.unwrap_or(before.enabled),
    };
    let secret = place.as_ref().and_then(|place| place.secret.as_ref());
    let enabled_again = after.enabled && !before.enabled;
    let tx = &mut managing.tx;
    store::update_endpoint(tx, id, &after, moves || enabled_again, secret).await.map_err(failed)?;
    if before.enabled && !after.enabled {
        let because = "the endpoint was disabled";
        store::set_aside_waiting(&mut managing.tx, id, because).await.map_err(failed)?;
    }
    let (was, is) = (told(before.kind, &as_before), told(before.kind, &after));
    let mut changed = differences(&was, &is);
    if moves && before.url.as_deref() != after.url || secret.is_some() {
        // Of a URL only scheme and host are told.
        changed.insert("moved".to_owned(), json!(true));
    }
    if !changed.is_empty() {
        managing
            .record(&request.caller, "notification-endpoint.changed", id, changed.into())
            .await?;
    }
    let (endpoint, _) = managing.find(id).await?;
    managing.commit().await?;
    Ok(OneEndpoint { endpoint })
}

/// Deletes an endpoint with its deliveries.
#[instrument(skip_all, name = "notification.delete")]
pub(super) async fn delete(
    notify: Notify,
    request: DeleteEndpoint,
) -> Result<EndpointDeleted, Refusal> {
    let id = request.endpoint_id;
    let mut managing =
        manage(&notify, &request.caller, Subject::NotificationDelete, Some(id)).await?;
    let (before, _) = managing.find_locked(id).await?;
    store::delete_endpoint(&mut managing.tx, id).await.map_err(failed)?;
    let stored = Stored {
        description: &before.description,
        url: before.url.as_deref(),
        addresses: &before.addresses,
        events: &before.events,
        enabled: before.enabled,
    };
    let detail = told(before.kind, &stored);
    managing.record(&request.caller, "notification-endpoint.deleted", id, detail.into()).await?;
    managing.commit().await?;
    Ok(EndpointDeleted {})
}

/// Another secret for a webhook. The present one signs as well for a day.
#[instrument(skip_all, name = "notification.rotate-secret")]
pub(super) async fn rotate_secret(
    notify: Notify,
    request: RotateSecret,
) -> Result<OneEndpoint, Refusal> {
    let id = request.endpoint_id;
    let mut managing =
        manage(&notify, &request.caller, Subject::NotificationRotateSecret, Some(id)).await?;
    let (before, reached) = managing.find_locked(id).await?;
    if before.kind != Kind::Webhook {
        return Err(Refusal::new(Code::Conflict, "Only webhooks are signed."));
    }
    let secret = request.secret.expose_secret();
    sign::key(secret).ok_or_else(|| bad("The secret is none."))?;
    let opened = |(key_id, sealed): &(String, Vec<u8>)| notify.keys.open_any(id, key_id, sealed);
    let is_present = reached.secret.as_ref().and_then(|sealed| opened(sealed).ok());
    // The same message twice rotates once.
    if is_present.as_deref() != Some(secret.as_bytes()) {
        let sealed = notify.keys.seal(id, secret.as_bytes());
        store::rotate_secret(&mut managing.tx, id, &sealed).await.map_err(failed)?;
        let action = "notification-endpoint.secret-rotated";
        managing.record(&request.caller, action, id, json!({})).await?;
    }
    let (endpoint, _) = managing.find(id).await?;
    managing.commit().await?;
    Ok(OneEndpoint { endpoint })
}

/// Sends a test, and tells what came of it.
#[instrument(skip_all, name = "notification.test")]
pub(super) async fn test(notify: Notify, request: TestEndpoint) -> Result<Attempted, Refusal> {
    let id = request.endpoint_id;
    let mut managing =
        manage(&notify, &request.caller, Subject::NotificationTest, Some(id)).await?;
    let (_, reached) = managing.find(id).await?;
    let _place = notify.tests.try_acquire().map_err(|_| Refusal::unavailable())?;
    let Known { tenant_id, user_id, now, .. } = managing.known;
    let tenant = store::tenant(&mut managing.tx, tenant_id).await.map_err(failed)?;
    let people = store::people(&mut managing.tx, tenant_id, &[user_id.0]).await.map_err(failed)?;
    let action = "notification-endpoint.tested";
    managing.record(&request.caller, action, id, json!({})).await?;
    managing.commit().await?;
    let data = json!({ "tenant": tenant, "by": people.get(&user_id.0), "endpoint": id });
    let body = content::envelope("notification.test", now, &data);
    let told = attempt::Told {
        delivery: None,
        event: EventId::new(now),
        kind: "notification.test",
        at: now,
        body: &body,
    };
    let began = notify.clock.monotonic();
    let to = To::Endpoint(reached);
    let attempted =
        timeout(http::TOTAL + Duration::from_secs(1), attempt::attempt(&notify, &to, told));
    let attempted = attempted
        .await
        .unwrap_or_else(|_| Err(attempt::Failure::retry("no answer within 10 seconds")));
    let took = notify.clock.monotonic().since(began).as_millis();
    let took_ms = u64::try_from(took).unwrap_or(u64::MAX);
    Ok(match attempted {
        Ok(status) => Attempted { delivered: true, status, error: None, took_ms },
        Err(failure) => Attempted {
            delivered: false,
            status: failure.status,
            error: Some(failure.error),
            took_ms,
        },
    })
}

/// What was sent to an endpoint, newest first.
#[instrument(skip_all, name = "notification.deliveries")]
pub(super) async fn deliveries(
    notify: Notify,
    request: ListDeliveries,
) -> Result<Deliveries, Refusal> {
    if !(1..=MOST_ITEMS).contains(&request.limit) {
        return Err(bad(format!("The limit is 1 to {MOST_ITEMS}.")));
    }
    let id = request.endpoint_id;
    let mut managing =
        manage(&notify, &request.caller, Subject::NotificationDeliveries, Some(id)).await?;
    managing.find(id).await?;
    let (state, cursor, limit) = (request.state, request.cursor, request.limit + 1);
    let found = store::deliveries(&mut managing.tx, id, None, state, cursor, limit).await;
    managing.commit().await?;
    let (deliveries, more) = page(found.map_err(failed)?, request.limit);
    let next_cursor = deliveries.last().filter(|_| more).map(|delivery| delivery.id);
    Ok(Deliveries { deliveries, next_cursor })
}

/// Sends something once more.
#[instrument(skip_all, name = "notification.retry")]
pub(super) async fn retry(notify: Notify, request: RetryDelivery) -> Result<OneDelivery, Refusal> {
    let id = request.endpoint_id;
    let mut managing =
        manage(&notify, &request.caller, Subject::NotificationRetry, Some(id)).await?;
    let (endpoint, _) = managing.find_locked(id).await?;
    let delivery = Some(request.delivery_id);
    let found = store::deliveries(&mut managing.tx, id, delivery, None, None, 1).await;
    if found.map_err(failed)?.is_empty() {
        return Err(Refusal::not_found());
    }
    if !endpoint.enabled {
        return Err(Refusal::new(Code::Conflict, "The endpoint is disabled: enable it first."));
    }
    store::retry(&mut managing.tx, request.delivery_id).await.map_err(failed)?;
    let detail = json!({ "delivery": request.delivery_id });
    managing.record(&request.caller, "notification-endpoint.retried", id, detail).await?;
    let found = store::deliveries(&mut managing.tx, id, delivery, None, None, 1).await;
    let delivery = found.map_err(failed)?.pop().ok_or_else(Refusal::not_found)?;
    managing.commit().await?;
    notify.wake.notify_one();
    Ok(OneDelivery { delivery })
}

/// Where an endpoint is.
struct Place {
    /// What may be shown of the URL.
    url: Option<String>,
    /// The URL of Slack, sealed.
    secret: Option<Sealed>,
}

/// Checks where an endpoint is to be, as far as can be told now.
async fn place(
    notify: &Notify,
    id: EndpointId,
    kind: Kind,
    url: Option<&SecretString>,
    addresses: &[String],
) -> Result<Place, Refusal> {
    match (kind, url) {
        (Kind::Mail, None) => {
            if notify.mailer.is_none() {
                return Err(Refusal::new(Code::Conflict, "Mail is not configured here."));
            }
            if !(1..=ADDRESSES).contains(&addresses.len()) {
                return Err(bad(format!("`addresses` has 1 to {ADDRESSES} addresses.")));
            }
            match addresses.iter().find(|address| !mail::is_address(address)) {
                Some(_) => Err(bad("`addresses` holds something that is no address.")),
                None => Ok(Place { url: None, secret: None }),
            }
        }
        (Kind::Mail, Some(_)) => Err(bad("Mail goes to `addresses`, not to a `url`.")),
        (_, None) => Err(bad("`url` is missing.")),
        (_, Some(_)) if !addresses.is_empty() => Err(bad("`addresses` are for mail alone.")),
        (kind, Some(url)) => {
            let refused = |error: &dyn std::fmt::Display| {
                bad(format!("This is no place for a webhook: {error}."))
            };
            let target = Target::parse(url.expose_secret(), &notify.allowed)
                .map_err(|error| refused(&error))?;
            // One that is not resolved now may come to be; what counts is checked when something is sent.
            let resolved = timeout(RESOLVE, notify.poster.resolve(&target)).await;
            if let Ok(Err(error @ http::PostError::NotPublic)) = resolved {
                return Err(refused(&error));
            }
            Ok(match kind {
                Kind::Slack => Place {
                    url: Some(format!("{}/…", target.origin())),
                    secret: Some(notify.keys.seal(id, target.url.as_str().as_bytes())),
                },
                _ => Place { url: Some(target.url.into()), secret: None },
            })
        }
    }
}

fn description(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.chars().count() <= DESCRIPTION && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(bad("`description` has at most 200 characters, none of them control characters."))
    }
}

/// Kinds of events, and beginnings of such.
fn kinds(kinds: &[String]) -> Result<Vec<String>, Refusal> {
    if kinds.len() > KINDS {
        return Err(bad(format!("`events` has at most {KINDS} entries.")));
    }
    let mut sorted = kinds.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    match sorted.iter().find(|kind| !events::is_kind(kind.strip_suffix(".*").unwrap_or(kind))) {
        Some(_) => Err(bad(
            "`events` holds kinds such as `grant.requested`, or `grant.*` for all of them.",
        )),
        None => Ok(sorted),
    }
}

/// An endpoint as the record tells of it.
fn told(kind: Kind, stored: &Stored<'_>) -> Map<String, Value> {
    // The rest of a URL may be a secret.
    let origin = stored.url.map(|url| match url::Url::parse(url) {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => String::new(),
    });
    let fields = json!({
        "kind": kind, "description": stored.description, "url": origin,
        "addresses": stored.addresses, "events": stored.events, "enabled": stored.enabled,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn differences(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let different = before.iter().filter_map(|(key, was)| {
        let is = after.get(key)?;
        (was != is).then(|| (key.clone(), json!({ "before": was, "after": is })))
    });
    different.collect()
}
