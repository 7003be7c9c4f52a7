//! All SQL of notifications.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};
use shared::{
    clock::Timestamp,
    database::Transaction,
    id::{DeliveryId, EndpointId, EventId, TenantId, UserId},
    message::notification::{Delivery, Endpoint, Happened, Kind, State},
    role::Role,
    sealing::Sealed,
};
use sqlx::PgPool;
use tracing::instrument;
use uuid::Uuid;

/// A claim that was not settled within this time is lost, and the delivery is tried again: longer than
/// an attempt takes and its settling.
pub(super) const CLAIM: Duration = Duration::from_secs(15);
/// At most so many deliveries to one endpoint wait; what is more is set aside at once.
pub(super) const MOST_WAITING: i64 = 10_000;
/// Attempts at once to one endpoint; a failing one gets one.
pub(super) const LANE: i32 = 4;
/// Attempts at once for one tenant.
pub(super) const TENANT: i32 = 16;
/// Counts end here.
const COUNTED: i64 = 10_000;
/// For how long a delivery is tried, and an old secret signs.
const DAY_SECONDS: f64 = 86_400.0;
/// What is over is kept for so long, in days.
const KEEP_DAYS: i32 = 14;

/// Events that were not published yet, the oldest first, locked until the end of the transaction.
pub(super) async fn unpublished(
    tx: &mut Transaction,
    limit: i64,
) -> Result<Vec<(Happened, Option<String>)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT id, tenant_id, kind, payload, traceparent, created_at FROM outbox
         WHERE published_at IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
        limit,
    )
    .fetch_all(&mut **tx)
    .await?;
    let events = rows.into_iter().map(|row| {
        let event = Happened {
            id: EventId(row.id),
            tenant: TenantId(row.tenant_id),
            kind: row.kind,
            at: row.created_at.into(),
            data: row.payload,
        };
        (event, row.traceparent)
    });
    Ok(events.collect())
}

/// Notes that the stream has events.
pub(super) async fn mark_published(tx: &mut Transaction, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query!("UPDATE outbox SET published_at = clock_timestamp() WHERE id = ANY($1)", ids,)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether anything of a tenant may want an event.
pub(super) async fn has_endpoints(pool: &PgPool, tenant: TenantId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM notification_endpoints WHERE tenant_id = $1 AND enabled) AS "any!""#,
        tenant.0,
    )
    .fetch_one(pool)
    .await
}

/// Endpoints that want an event, and of each whether as much waits for it as may. None of them is
/// disabled before the end of the transaction.
pub(super) async fn listening(
    tx: &mut Transaction,
    tenant: TenantId,
    kind: &str,
) -> Result<Vec<(EndpointId, bool)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT e.id,
                  (SELECT count(*) FROM (
                       SELECT FROM notification_deliveries d
                       WHERE d.lane = e.id AND d.state = 'pending' LIMIT $3) AS waiting
                  ) >= $3 AS "full!"
           FROM notification_endpoints e
           WHERE e.tenant_id = $1 AND e.enabled
             AND (e.kind = 'webhook' OR NOT starts_with($2, 'audit.'))
             AND CASE WHEN e.events = '{}' THEN NOT starts_with($2, 'audit.')
                 ELSE EXISTS (SELECT FROM unnest(e.events) AS wanted
                              WHERE wanted = $2
                                 OR (right(wanted, 2) = '.*' AND starts_with($2, left(wanted, -1))))
                 END
           FOR SHARE OF e"#,
        tenant.0,
        kind,
        MOST_WAITING,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (EndpointId(row.id), row.full)).collect())
}

/// Those of some people who are of the tenant and not disabled.
pub(super) async fn reachable(
    tx: &mut Transaction,
    tenant: TenantId,
    people: &[UserId],
) -> Result<Vec<UserId>, sqlx::Error> {
    if people.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = people.iter().map(|user| user.0).collect();
    sqlx::query_scalar!(
        r#"SELECT id AS "id: UserId" FROM users
           WHERE tenant_id = $1 AND id = ANY($2) AND disabled_at IS NULL"#,
        tenant.0,
        &ids,
    )
    .fetch_all(&mut **tx)
    .await
}

/// A delivery to be written down.
pub(super) struct NewDelivery {
    pub(super) id: DeliveryId,
    pub(super) endpoint: Option<EndpointId>,
    pub(super) user: Option<UserId>,
    pub(super) lane: Uuid,
    /// Whether too many wait already.
    pub(super) full: bool,
}

/// Writes deliveries of an event down, but for those that are there.
pub(super) async fn insert_deliveries(
    tx: &mut Transaction,
    event: &Happened,
    body: &Value,
    traceparent: Option<&str>,
    deliveries: &[NewDelivery],
) -> Result<(), sqlx::Error> {
    let ids: Vec<_> = deliveries.iter().map(|new| new.id.0).collect();
    let endpoints: Vec<_> = deliveries.iter().map(|new| new.endpoint.map(|id| id.0)).collect();
    let users: Vec<_> = deliveries.iter().map(|new| new.user.map(|id| id.0)).collect();
    let lanes: Vec<_> = deliveries.iter().map(|new| new.lane).collect();
    let full: Vec<_> = deliveries.iter().map(|new| new.full).collect();
    sqlx::query!(
        "INSERT INTO notification_deliveries (
             id, endpoint_id, user_id, lane, tenant_id, event_id, kind, occurred_at, body, traceparent,
             state, last_error, ended_at, give_up_at)
         SELECT new.id, new.endpoint_id, new.user_id, new.lane, $6, $7, $8, $9, $10, $11,
                CASE WHEN new.is_full THEN 'set-aside' ELSE 'pending' END,
                CASE WHEN new.is_full THEN 'too many deliveries wait' END,
                CASE WHEN new.is_full THEN clock_timestamp() END,
                clock_timestamp() + make_interval(secs => $12)
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::boolean[])
              AS new (id, endpoint_id, user_id, lane, is_full)
         ON CONFLICT DO NOTHING",
        &ids,
        &endpoints as &[Option<Uuid>],
        &users as &[Option<Uuid>],
        &lanes,
        &full,
        event.tenant.0,
        event.id.0,
        event.kind,
        time::OffsetDateTime::from(event.at),
        body,
        traceparent,
        DAY_SECONDS,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// People, as they are told of.
pub(super) async fn people(
    tx: &mut Transaction,
    tenant: TenantId,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Value>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT id, email, name FROM users WHERE tenant_id = $1 AND id = ANY($2)",
        tenant.0,
        ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    let people = rows
        .into_iter()
        .map(|row| (row.id, json!({ "id": row.id, "email": row.email, "name": row.name })));
    Ok(people.collect())
}

/// A grant, as it is told of.
pub(super) async fn grant(
    tx: &mut Transaction,
    tenant: TenantId,
    id: Uuid,
) -> Result<Option<Value>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT role AS "role: Role", reason, ticket, duration_seconds, expires_at FROM emergency_grants
           WHERE tenant_id = $1 AND id = $2"#,
        tenant.0,
        id,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| {
        json!({
            "id": id, "role": row.role, "reason": row.reason, "ticket": row.ticket,
            "duration_seconds": row.duration_seconds,
            "expires_at": row.expires_at.map(Timestamp::from),
        })
    }))
}

/// A tenant, as it is told of.
pub(super) async fn tenant(tx: &mut Transaction, id: TenantId) -> Result<Value, sqlx::Error> {
    let row = sqlx::query!("SELECT slug, name FROM tenants WHERE id = $1", id.0)
        .fetch_one(&mut **tx)
        .await?;
    Ok(json!({ "id": id, "slug": row.slug, "name": row.name }))
}

/// What an endpoint is reached with.
#[derive(Clone)]
pub(super) struct Reached {
    pub(super) id: EndpointId,
    pub(super) kind: Kind,
    pub(super) url: Option<String>,
    pub(super) addresses: Vec<String>,
    /// Sealed, with the id of the key.
    pub(super) secret: Option<(String, Vec<u8>)>,
    /// The one before, while it counts.
    pub(super) previous: Option<(String, Vec<u8>)>,
}

/// A delivery to be tried now.
pub(super) struct Claimed {
    pub(super) id: DeliveryId,
    pub(super) tenant: TenantId,
    pub(super) lane: Uuid,
    pub(super) to: To,
    pub(super) event: EventId,
    pub(super) kind: String,
    pub(super) at: Timestamp,
    pub(super) body: Value,
    pub(super) traceparent: Option<String>,
    pub(super) attempts: i32,
}

/// Where a delivery goes.
pub(super) enum To {
    Endpoint(Reached),
    /// Somebody's address.
    Person(String),
}

/// What is on its way, so that no claim takes more than may be: lanes and tenants with how many
/// attempts each.
pub(super) struct UnderWay<'a> {
    pub(super) lanes: &'a [(Uuid, i32)],
    pub(super) tenants: &'a [(Uuid, i32)],
}

/// Claims deliveries that are due, the longest due first; they count as attempted.
#[instrument(skip_all, name = "notification.claim")]
pub(super) async fn claim(
    pool: &PgPool,
    limit: i64,
    under_way: UnderWay<'_>,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let (lanes, in_lanes): (Vec<_>, Vec<_>) = under_way.lanes.iter().copied().unzip();
    let (tenants, in_tenants): (Vec<_>, Vec<_>) = under_way.tenants.iter().copied().unzip();
    let full = |busy: &[(Uuid, i32)], most| {
        busy.iter().filter(|(_, count)| *count >= most).map(|(id, _)| *id).collect::<Vec<_>>()
    };
    let rows = sqlx::query!(
        r#"WITH due AS (
               SELECT id, lane, tenant_id, next_attempt_at FROM notification_deliveries
               WHERE state = 'pending' AND next_attempt_at <= statement_timestamp()
                 AND lane <> ALL($5) AND tenant_id <> ALL($6)
               ORDER BY next_attempt_at LIMIT 256 FOR UPDATE SKIP LOCKED),
           ranked AS (
               SELECT due.id,
                      row_number() OVER (PARTITION BY due.lane ORDER BY due.next_attempt_at)
                          + coalesce(l.used, 0) AS in_lane,
                      row_number() OVER (PARTITION BY due.tenant_id ORDER BY due.next_attempt_at)
                          + coalesce(t.used, 0) AS in_tenant,
                      CASE WHEN e.failing_since IS NULL THEN $7::integer ELSE 1 END AS room
               FROM due
               LEFT JOIN unnest($1::uuid[], $2::integer[]) AS l (lane, used) ON l.lane = due.lane
               LEFT JOIN unnest($3::uuid[], $4::integer[]) AS t (tenant_id, used) ON t.tenant_id = due.tenant_id
               LEFT JOIN notification_endpoints e ON e.id = due.lane),
           chosen AS (
               SELECT id FROM ranked WHERE in_lane <= room AND in_tenant <= $8::integer LIMIT $9),
           claimed AS (
               UPDATE notification_deliveries d
               SET attempts = d.attempts + 1, last_attempt_at = clock_timestamp(),
                   next_attempt_at = clock_timestamp() + make_interval(secs => $10)
               FROM chosen WHERE d.id = chosen.id
               RETURNING d.*)
           SELECT c.id AS "id!", c.tenant_id AS "tenant_id!", c.lane AS "lane!", c.event_id AS "event_id!",
                  c.kind AS "kind!", c.occurred_at AS "occurred_at!", c.body AS "body!", c.traceparent,
                  c.attempts AS "attempts!", c.user_id AS "user_id?: UserId", u.email AS "email?",
                  e.id AS "endpoint_id?", e.kind AS "endpoint_kind?: Kind", e.url AS "url?",
                  e.addresses AS "addresses?", e.secret AS "secret?", e.secret_key_id AS "secret_key_id?",
                  CASE WHEN e.previous_until > clock_timestamp() THEN e.previous END AS previous,
                  e.previous_key_id AS "previous_key_id?"
           FROM claimed c
           LEFT JOIN notification_endpoints e ON e.id = c.endpoint_id
           LEFT JOIN users u ON u.id = c.user_id"#,
        &lanes,
        &in_lanes,
        &tenants,
        &in_tenants,
        &full(under_way.lanes, LANE),
        &full(under_way.tenants, TENANT),
        LANE,
        TENANT,
        limit,
        CLAIM.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    let claimed = rows.into_iter().filter_map(|row| {
        let to = match (row.endpoint_id, row.endpoint_kind, row.user_id, row.email) {
            (Some(id), Some(kind), ..) => To::Endpoint(Reached {
                id: EndpointId(id),
                kind,
                url: row.url,
                addresses: row.addresses.unwrap_or_default(),
                secret: row.secret_key_id.zip(row.secret),
                previous: row.previous_key_id.zip(row.previous),
            }),
            (_, _, Some(_), Some(email)) => To::Person(email),
            // Deleted meanwhile.
            _ => return None,
        };
        Some(Claimed {
            id: DeliveryId(row.id),
            tenant: TenantId(row.tenant_id),
            lane: row.lane,
            to,
            event: EventId(row.event_id),
            kind: row.kind,
            at: row.occurred_at.into(),
            body: row.body,
            traceparent: row.traceparent,
            attempts: row.attempts,
        })
    });
    Ok(claimed.collect())
}

/// It arrived.
#[instrument(skip_all, name = "notification.delivered")]
pub(super) async fn delivered(
    pool: &PgPool,
    id: DeliveryId,
    status: Option<u16>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH delivered AS (
             UPDATE notification_deliveries
             SET state = 'delivered', ended_at = clock_timestamp(), last_status = $2, last_error = NULL
             WHERE id = $1 RETURNING endpoint_id)
         UPDATE notification_endpoints e
         SET failing_since = NULL, last_error = NULL, last_delivered_at = clock_timestamp()
         FROM delivered WHERE e.id = delivered.endpoint_id",
        id.0,
        status.map(i32::from),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Why an attempt failed, as it is written down.
pub(super) struct Failed<'a> {
    pub(super) status: Option<u16>,
    pub(super) error: &'a str,
    /// When to try again; `None`: not again.
    pub(super) again_in: Option<Duration>,
}

/// It did not arrive. Tried again, or set aside where its time is over. Whatever became of another
/// attempt meanwhile stays.
#[instrument(skip_all, name = "notification.failed")]
pub(super) async fn failed(
    pool: &PgPool,
    id: DeliveryId,
    attempts: i32,
    failed: Failed<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH failed AS (
             UPDATE notification_deliveries d
             SET last_status = $3, last_error = $4,
                 state = CASE WHEN next.at <= d.give_up_at THEN 'pending' ELSE 'set-aside' END,
                 ended_at = CASE WHEN next.at <= d.give_up_at THEN NULL ELSE clock_timestamp() END,
                 next_attempt_at = coalesce(next.at, d.next_attempt_at)
             FROM (SELECT clock_timestamp() + make_interval(secs => $5) AS at) AS next
             WHERE d.id = $1 AND d.attempts = $2 AND d.state = 'pending'
             RETURNING d.endpoint_id)
         UPDATE notification_endpoints e
         SET failing_since = coalesce(e.failing_since, clock_timestamp()), last_error = $4
         FROM failed WHERE e.id = failed.endpoint_id",
        id.0,
        attempts,
        failed.status.map(i32::from),
        failed.error,
        failed.again_in.map(|delay| delay.as_secs_f64()),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Sets aside what waits for an endpoint, since nothing is sent there any more.
pub(super) async fn set_aside_waiting(
    tx: &mut Transaction,
    endpoint: EndpointId,
    because: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE notification_deliveries
         SET state = 'set-aside', ended_at = clock_timestamp(), last_error = $2
         WHERE lane = $1 AND state = 'pending'",
        endpoint.0,
        because,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Disables an endpoint that said it is gone. False: it was disabled already.
pub(super) async fn disable(
    tx: &mut Transaction,
    endpoint: EndpointId,
    because: &str,
) -> Result<bool, sqlx::Error> {
    let disabled = sqlx::query!(
        "UPDATE notification_endpoints SET enabled = false, disabled_because = $2
         WHERE id = $1 AND enabled",
        endpoint.0,
        because,
    )
    .execute(&mut **tx)
    .await?;
    Ok(disabled.rows_affected() == 1)
}

/// Keeps other endpoints from being made in a tenant until the end of the transaction, and counts
/// those that there are.
pub(super) async fn lock_count(tx: &mut Transaction, tenant: TenantId) -> Result<i64, sqlx::Error> {
    sqlx::query!("SELECT id FROM tenants WHERE id = $1 FOR NO KEY UPDATE", tenant.0)
        .fetch_one(&mut **tx)
        .await?;
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM notification_endpoints WHERE tenant_id = $1"#,
        tenant.0,
    )
    .fetch_one(&mut **tx)
    .await
}

/// What is stored of an endpoint as the tenant has it.
pub(super) struct Stored<'a> {
    pub(super) description: &'a str,
    pub(super) url: Option<&'a str>,
    pub(super) addresses: &'a [String],
    pub(super) events: &'a [String],
    pub(super) enabled: bool,
}

/// Inserts an endpoint. False: the id is taken.
pub(super) async fn insert_endpoint(
    tx: &mut Transaction,
    tenant: TenantId,
    id: EndpointId,
    kind: Kind,
    stored: &Stored<'_>,
    secret: Option<&Sealed>,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query!(
        "INSERT INTO notification_endpoints (
             id, tenant_id, kind, description, url, addresses, events, enabled, secret, secret_key_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
        id.0,
        tenant.0,
        kind.as_str(),
        stored.description,
        stored.url,
        stored.addresses,
        stored.events,
        stored.enabled,
        secret.map(|sealed| &sealed.text[..]),
        secret.map(|sealed| sealed.key_id.as_str()),
    )
    .execute(&mut **tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Writes an endpoint anew; a new secret of Slack, its URL, takes the place of the old one.
pub(super) async fn update_endpoint(
    tx: &mut Transaction,
    id: EndpointId,
    stored: &Stored<'_>,
    moved: bool,
    secret: Option<&Sealed>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE notification_endpoints
         SET description = $2, url = $3, addresses = $4, events = $5, enabled = $6,
             disabled_because = CASE WHEN $6 THEN NULL ELSE disabled_because END,
             failing_since = CASE WHEN $7 THEN NULL ELSE failing_since END,
             last_error = CASE WHEN $7 THEN NULL ELSE last_error END,
             secret = coalesce($8, secret), secret_key_id = coalesce($9, secret_key_id)
         WHERE id = $1",
        id.0,
        stored.description,
        stored.url,
        stored.addresses,
        stored.events,
        stored.enabled,
        moved,
        secret.map(|sealed| &sealed.text[..]),
        secret.map(|sealed| sealed.key_id.as_str()),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Another secret; the present one becomes the one before.
pub(super) async fn rotate_secret(
    tx: &mut Transaction,
    id: EndpointId,
    secret: &Sealed,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE notification_endpoints
         SET previous = secret, previous_key_id = secret_key_id,
             previous_until = clock_timestamp() + make_interval(secs => $4),
             secret = $2, secret_key_id = $3
         WHERE id = $1",
        id.0,
        &secret.text[..],
        secret.key_id,
        DAY_SECONDS,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes an endpoint with its deliveries.
pub(super) async fn delete_endpoint(
    tx: &mut Transaction,
    id: EndpointId,
) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM notification_endpoints WHERE id = $1", id.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Endpoints of a tenant in the order of their creation, or one of them.
#[instrument(skip_all, name = "notification.select")]
pub(super) async fn endpoints(
    tx: &mut Transaction,
    tenant: TenantId,
    id: Option<EndpointId>,
) -> Result<Vec<(Endpoint, Reached)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT e.id, e.kind AS "kind: Kind", e.description, e.url, e.addresses, e.events, e.enabled,
                  e.disabled_because, e.failing_since, e.last_error, e.last_delivered_at, e.created_at,
                  e.secret, e.secret_key_id, e.previous_key_id,
                  CASE WHEN e.previous_until > clock_timestamp() THEN e.previous END AS previous,
                  CASE WHEN e.previous_until > clock_timestamp() THEN e.previous_until END AS previous_until,
                  (SELECT count(*) FROM (SELECT FROM notification_deliveries d
                       WHERE d.lane = e.id AND d.state = 'pending' LIMIT $3) AS p) AS "pending!",
                  (SELECT count(*) FROM (SELECT FROM notification_deliveries d
                       WHERE d.endpoint_id = e.id AND d.state = 'set-aside' LIMIT $3) AS s) AS "set_aside!"
           FROM notification_endpoints e
           WHERE e.tenant_id = $1 AND ($2::uuid IS NULL OR e.id = $2)
           ORDER BY e.id"#,
        tenant.0,
        id.map(|id| id.0),
        COUNTED,
    )
    .fetch_all(&mut **tx)
    .await?;
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    let endpoints = rows.into_iter().map(|row| {
        let endpoint = Endpoint {
            id: EndpointId(row.id),
            kind: row.kind,
            description: row.description,
            url: row.url.clone(),
            addresses: row.addresses.clone(),
            events: row.events,
            enabled: row.enabled,
            disabled_because: row.disabled_because,
            failing_since: row.failing_since.map(Timestamp::from),
            last_error: row.last_error,
            last_delivered_at: row.last_delivered_at.map(Timestamp::from),
            previous_secret_until: row.previous_until.map(Timestamp::from),
            pending: count(row.pending),
            set_aside: count(row.set_aside),
            created_at: row.created_at.into(),
        };
        let reached = Reached {
            id: EndpointId(row.id),
            kind: row.kind,
            url: row.url,
            addresses: row.addresses,
            secret: row.secret_key_id.zip(row.secret),
            previous: row.previous_key_id.zip(row.previous),
        };
        (endpoint, reached)
    });
    Ok(endpoints.collect())
}

/// Keeps an endpoint from changing until the end of the transaction.
pub(super) async fn lock_endpoint(
    tx: &mut Transaction,
    tenant: TenantId,
    id: EndpointId,
) -> Result<bool, sqlx::Error> {
    let locked = sqlx::query!(
        "SELECT id FROM notification_endpoints WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
        tenant.0,
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(locked.is_some())
}

/// Deliveries to an endpoint, newest first.
#[instrument(skip_all, name = "notification.deliveries")]
pub(super) async fn deliveries(
    tx: &mut Transaction,
    endpoint: EndpointId,
    id: Option<DeliveryId>,
    state: Option<State>,
    before: Option<DeliveryId>,
    limit: u32,
) -> Result<Vec<Delivery>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT id, event_id, kind, occurred_at, state AS "state: State", attempts, next_attempt_at,
                  last_attempt_at, last_status, last_error, ended_at
           FROM notification_deliveries
           WHERE endpoint_id = $1 AND ($2::uuid IS NULL OR id = $2) AND ($3::text IS NULL OR state = $3)
             AND ($4::uuid IS NULL OR id < $4)
           ORDER BY id DESC LIMIT $5"#,
        endpoint.0,
        id.map(|id| id.0),
        state.map(State::as_str),
        before.map(|id| id.0),
        i64::from(limit),
    )
    .fetch_all(&mut **tx)
    .await?;
    let deliveries = rows.into_iter().map(|row| Delivery {
        id: DeliveryId(row.id),
        event_id: EventId(row.event_id),
        kind: row.kind,
        occurred_at: row.occurred_at.into(),
        state: row.state,
        attempts: row.attempts.unsigned_abs(),
        next_attempt_at: (row.state == State::Pending).then(|| row.next_attempt_at.into()),
        last_attempt_at: row.last_attempt_at.map(Timestamp::from),
        last_status: row.last_status.and_then(|status| u16::try_from(status).ok()),
        last_error: row.last_error,
        ended_at: row.ended_at.map(Timestamp::from),
    });
    Ok(deliveries.collect())
}

/// A delivery is due now, and has another day.
pub(super) async fn retry(tx: &mut Transaction, id: DeliveryId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE notification_deliveries
         SET state = 'pending', ended_at = NULL, next_attempt_at = clock_timestamp(),
             give_up_at = clock_timestamp() + make_interval(secs => $2)
         WHERE id = $1",
        id.0,
        DAY_SECONDS,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A secret that another key than the present one has sealed.
pub(super) struct Old {
    pub(super) id: EndpointId,
    pub(super) secret: Vec<u8>,
    pub(super) key_id: String,
    pub(super) previous: bool,
}

/// Secrets that are not sealed with a key, of endpoints after one.
pub(super) async fn sealed_otherwise(
    pool: &PgPool,
    key_id: &str,
    limit: i64,
    after: Uuid,
) -> Result<Vec<Old>, sqlx::Error> {
    sqlx::query_as!(
        Old,
        r#"SELECT e.id AS "id: EndpointId", s.secret AS "secret!", s.key_id AS "key_id!",
                  s.previous AS "previous!"
           FROM notification_endpoints e,
                LATERAL (VALUES (e.secret, e.secret_key_id, false), (e.previous, e.previous_key_id, true))
                    AS s (secret, key_id, previous)
           WHERE e.id > $3 AND s.secret IS NOT NULL AND s.key_id <> $1
           ORDER BY e.id LIMIT $2"#,
        key_id,
        limit,
        after,
    )
    .fetch_all(pool)
    .await
}

/// Puts a secret in place of the same one, sealed otherwise.
pub(super) async fn seal_anew(
    pool: &PgPool,
    old: &Old,
    sealed: &Sealed,
) -> Result<(), sqlx::Error> {
    if old.previous {
        sqlx::query!(
            "UPDATE notification_endpoints SET previous = $3, previous_key_id = $4
             WHERE id = $1 AND previous = $2",
            old.id.0,
            old.secret,
            &sealed.text[..],
            sealed.key_id,
        )
        .execute(pool)
        .await?;
    } else {
        sqlx::query!(
            "UPDATE notification_endpoints SET secret = $3, secret_key_id = $4
             WHERE id = $1 AND secret = $2",
            old.id.0,
            old.secret,
            &sealed.text[..],
            sealed.key_id,
        )
        .execute(pool)
        .await?;
    }
    Ok(())
}

/// Forgets what is over and old; says how many deliveries that were.
pub(super) async fn prune(pool: &PgPool) -> Result<u64, sqlx::Error> {
    sqlx::query!(
        "UPDATE notification_endpoints
         SET previous = NULL, previous_key_id = NULL, previous_until = NULL
         WHERE previous_until < clock_timestamp()",
    )
    .execute(pool)
    .await?;
    let gone = sqlx::query!(
        "DELETE FROM notification_deliveries WHERE id IN (
             SELECT id FROM notification_deliveries
             WHERE created_at < statement_timestamp() - make_interval(days => $1) AND state <> 'pending'
             LIMIT 10000)",
        KEEP_DAYS,
    )
    .execute(pool)
    .await?;
    Ok(gone.rows_affected())
}
