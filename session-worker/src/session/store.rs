//! SQL of sessions.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use shared::{
    clock::Timestamp,
    database::{Transaction, caller::LiveGrant, revocation::revision},
    id::{SessionId, TenantId, UserId},
    message::{
        MOST_ITEMS,
        session::{
            Elevation, IDLE_SLACK_SECONDS, Method, Resolved, ResolvedSession, Session, TOUCH_EVERY,
        },
    },
    role::Role,
    token::TokenHash,
};
use sqlx::{PgPool, types::Json};
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::{device, location::Locations, state::State};

/// Most live sessions of a user.
const MOST_LIVE: i64 = 100;
/// Most devices that are remembered of a user.
const MOST_DEVICES: i64 = 200;

/// The head and the live session of a token, in one statement and so from one snapshot.
#[instrument(skip_all, name = "session.select")]
pub(crate) async fn resolve(pool: &PgPool, token: &TokenHash) -> Result<Resolved, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT h.revision, current_timeline() AS "timeline!",
                  s.id AS "id?", s.user_id AS "user_id?", s.tenant_id AS "tenant_id?",
                  s.slug AS "slug?", s.email AS "email?", s.role AS "role?: Role",
                  s.methods AS "methods?", s.last_active_at AS "last_active_at?",
                  s.idle_seconds AS "idle_seconds?", s.expires_at AS "expires_at?",
                  s.enrollment_only_from AS "enrollment_only_from?",
                  s.enrollment_only AS "enrollment_only?",
                  s.grants AS "grants?: Json<Vec<LiveGrant>>"
           FROM revocation_head h LEFT JOIN LATERAL (
               SELECT s.id, s.user_id, s.tenant_id, t.slug, u.email, u.role, s.methods,
                      s.last_active_at, s.idle_seconds, s.expires_at, m.enrollment_only_from,
                      m.enrollment_only_from <= clock_timestamp() AS enrollment_only,
                      (SELECT coalesce(json_agg(json_build_object(
                                  'id', g.id, 'role', g.role,
                                  'expires_at_micros', (extract(epoch FROM g.expires_at) * 1000000)::bigint)), '[]')
                       FROM emergency_grants g
                       WHERE g.user_id = s.user_id AND g.state = 'active'
                         AND g.expires_at > clock_timestamp()
                         AND (g.applies_to = 'user' OR g.session_id = s.id)) AS grants
               FROM sessions s JOIN users u ON u.id = s.user_id JOIN tenants t ON t.id = s.tenant_id
               JOIN mfa_standing m ON m.user_id = s.user_id
               WHERE s.token_hash = $1 AND s.ended_at IS NULL AND u.disabled_at IS NULL
                 AND s.expires_at > clock_timestamp()
                 AND s.last_active_at + make_interval(secs => s.idle_seconds + $2) > clock_timestamp()
           ) s ON true"#,
        &token.0[..],
        IDLE_SLACK_SECONDS,
    )
    .fetch_one(pool)
    .await?;
    let session = (|| {
        Some(ResolvedSession {
            session_id: SessionId(row.id?),
            user_id: UserId(row.user_id?),
            tenant_id: TenantId(row.tenant_id?),
            tenant: row.slug?,
            email: row.email?,
            role: row.role?,
            methods: methods(&row.methods?),
            enrollment_only: row.enrollment_only.unwrap_or(false),
            enrollment_only_from: row.enrollment_only_from.map(Timestamp::from),
            last_active_at: row.last_active_at?.into(),
            idle_seconds: row.idle_seconds?.cast_unsigned(),
            expires_at: row.expires_at?.into(),
            grants: row.grants?.0.iter().map(Elevation::from).collect(),
        })
    })();
    Ok(Resolved { snapshot: revision(row.timeline, row.revision), session })
}

fn methods(names: &[String]) -> Vec<Method> {
    let all = [Method::Password, Method::Totp, Method::BackupCode];
    all.into_iter().filter(|method| names.iter().any(|name| name == method.as_str())).collect()
}

/// Live sessions of a user: the one that asks first, then by last activity. At most
/// [`MOST_ITEMS`].
#[instrument(skip_all, name = "session.select-live")]
pub(crate) async fn live(
    state: &State,
    user: UserId,
    current: SessionId,
) -> Result<Vec<Session>, sqlx::Error> {
    let rows = sqlx::query_as!(
        SessionRow,
        r#"SELECT id, id = $2 AS "current!", methods, user_agent, ip, created_at, last_active_at,
                  idle_seconds, expires_at
           FROM sessions
           WHERE user_id = $1 AND ended_at IS NULL AND expires_at > clock_timestamp()
             AND last_active_at + make_interval(secs => idle_seconds + $3) > clock_timestamp()
           ORDER BY id = $2 DESC, last_active_at DESC LIMIT $4"#,
        user.0,
        current.0,
        IDLE_SLACK_SECONDS,
        i64::from(MOST_ITEMS),
    )
    .fetch_all(&state.pool)
    .await?;
    Ok(rows.into_iter().map(|row| row.into_session(&state.locations)).collect())
}

/// The session that asks, if it lives.
#[instrument(skip_all, name = "session.select-current")]
pub(crate) async fn current(
    state: &State,
    session: SessionId,
) -> Result<Option<Session>, sqlx::Error> {
    let row = sqlx::query_as!(
        SessionRow,
        r#"SELECT id, true AS "current!", methods, user_agent, ip, created_at, last_active_at,
                  idle_seconds, expires_at
           FROM sessions
           WHERE id = $1 AND ended_at IS NULL AND expires_at > clock_timestamp()"#,
        session.0,
    )
    .fetch_optional(&state.pool)
    .await?;
    Ok(row.map(|row| row.into_session(&state.locations)))
}

struct SessionRow {
    id: Uuid,
    current: bool,
    methods: Vec<String>,
    user_agent: Option<String>,
    ip: Option<String>,
    created_at: OffsetDateTime,
    last_active_at: OffsetDateTime,
    idle_seconds: i32,
    expires_at: OffsetDateTime,
}

impl SessionRow {
    fn into_session(self, locations: &Locations) -> Session {
        let ip: Option<IpAddr> = self.ip.and_then(|ip| ip.parse().ok());
        let last_active_at = Timestamp::from(self.last_active_at);
        let idle = Duration::from_secs(u64::from(self.idle_seconds.cast_unsigned()));
        let expires_at = Timestamp::from(self.expires_at);
        Session {
            id: SessionId(self.id),
            current: self.current,
            device: device::describe(self.user_agent.as_deref()),
            ip,
            location: ip.and_then(|ip| locations.of(ip)),
            created_at: self.created_at.into(),
            last_active_at,
            idle_expires_at: last_active_at.plus(idle).min(expires_at),
            expires_at,
            methods: methods(&self.methods),
        }
    }
}

/// Ends a user's sessions but one, and the sign-ins that wait for a code, under the lock of the user's
/// row; names the sessions that were alive. Without `by` it was the operator.
#[instrument(skip_all, name = "session.end-all")]
pub(crate) async fn end_all(
    tx: &mut Transaction,
    owner: UserId,
    keep: Option<SessionId>,
    by: Option<UserId>,
) -> Result<Vec<SessionId>, sqlx::Error> {
    sqlx::query!("DELETE FROM sign_in_challenges WHERE user_id = $1", owner.0)
        .execute(&mut **tx)
        .await?;
    let rows = sqlx::query!(
        r#"UPDATE sessions SET ended_at = clock_timestamp(), ended_by = $3
           WHERE user_id = $1 AND ended_at IS NULL AND id IS DISTINCT FROM $2
           RETURNING id, expires_at > clock_timestamp()
               AND last_active_at + make_interval(secs => idle_seconds + $4) > clock_timestamp()
               AS "alive!""#,
        owner.0,
        keep.map(|session| session.0),
        by.map(|user| user.0),
        IDLE_SLACK_SECONDS,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().filter(|row| row.alive).map(|row| SessionId(row.id)).collect())
}

/// Makes room for a session that was just opened, under the lock of the user's row: of the other live
/// ones those that were opened first end, until there are [`MOST_LIVE`] with it.
#[instrument(skip_all, name = "session.displace")]
pub(crate) async fn displace(
    tx: &mut Transaction,
    user: UserId,
    opened: SessionId,
) -> Result<Vec<SessionId>, sqlx::Error> {
    let displaced = sqlx::query_scalar!(
        "UPDATE sessions SET ended_at = clock_timestamp(), ended_by = user_id
         WHERE id IN (
             SELECT id FROM sessions
             WHERE user_id = $1 AND id <> $2 AND ended_at IS NULL AND expires_at > clock_timestamp()
               AND last_active_at + make_interval(secs => idle_seconds + $3) > clock_timestamp()
             ORDER BY created_at DESC, id DESC OFFSET $4)
         RETURNING id",
        user.0,
        opened.0,
        IDLE_SLACK_SECONDS,
        MOST_LIVE - 1,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(displaced.into_iter().map(SessionId).collect())
}

/// Notes that a user signed in from a device, under the lock of the user's row. Says whether it is
/// the first time, for a user who has signed in before.
#[instrument(skip_all, name = "known-device.note")]
pub(crate) async fn is_new_device(
    tx: &mut Transaction,
    user: UserId,
    fingerprint: &[u8],
) -> Result<bool, sqlx::Error> {
    // Each part sees the table as it was before.
    let row = sqlx::query!(
        r#"WITH seen AS (
               UPDATE known_devices SET last_seen_at = clock_timestamp()
               WHERE user_id = $1 AND fingerprint = $2 RETURNING 1
           ), added AS (
               INSERT INTO known_devices (user_id, fingerprint)
               SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM seen) RETURNING 1
           )
           SELECT EXISTS (SELECT FROM added) AS "is_added!",
                  EXISTS (SELECT FROM known_devices WHERE user_id = $1) AS "has_others!""#,
        user.0,
        fingerprint,
    )
    .fetch_one(&mut **tx)
    .await?;
    if row.is_added && row.has_others {
        sqlx::query!(
            "DELETE FROM known_devices WHERE user_id = $1 AND fingerprint IN (
                 SELECT fingerprint FROM known_devices WHERE user_id = $1
                 ORDER BY last_seen_at DESC OFFSET $2)",
            user.0,
            MOST_DEVICES,
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(row.is_added && row.has_others)
}

/// Whether a user is of a tenant.
pub(crate) async fn user_exists(
    tx: &mut Transaction,
    user: UserId,
    tenant: TenantId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM users WHERE id = $1 AND tenant_id = $2) AS "exists!""#,
        user.0,
        tenant.0,
    )
    .fetch_one(&mut **tx)
    .await
}

/// Moves last uses forward, never back, never past now, and by [`TOUCH_EVERY`] at least. A use that came
/// when the session had been idle for too long does not count; one that came before does, however
/// late it is told. A row that is being changed is left alone, so that this waits for nobody while it
/// holds others. Gives the last use of each session that lives.
#[instrument(skip_all, name = "session.touch")]
pub(crate) async fn touch(
    pool: &PgPool,
    used: &HashMap<SessionId, Timestamp>,
) -> Result<Vec<(SessionId, Timestamp)>, sqlx::Error> {
    let (ids, times): (Vec<Uuid>, Vec<OffsetDateTime>) =
        used.iter().map(|(id, at)| (id.0, OffsetDateTime::from(*at))).unzip();
    let rows = sqlx::query!(
        r#"WITH told AS (
               SELECT s.id, told.at, s.last_active_at FROM sessions s
               JOIN unnest($1::uuid[], $2::timestamptz[]) AS told (id, at) ON told.id = s.id
               WHERE s.ended_at IS NULL
                 AND s.last_active_at + make_interval(secs => s.idle_seconds + $3) > told.at
           ), used AS (
               SELECT s.id, told.at FROM sessions s JOIN told ON told.id = s.id
               WHERE s.ended_at IS NULL AND s.last_active_at + make_interval(secs => $4) <= told.at
               FOR NO KEY UPDATE OF s SKIP LOCKED
           ), written AS (
               UPDATE sessions s SET last_active_at = least(used.at, clock_timestamp())
               FROM used WHERE s.id = used.id
               RETURNING s.id, s.last_active_at
           )
           SELECT told.id AS "id!", coalesce(written.last_active_at, told.last_active_at) AS "last_active_at!"
           FROM told LEFT JOIN written ON written.id = told.id"#,
        &ids,
        &times,
        IDLE_SLACK_SECONDS,
        TOUCH_EVERY.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (SessionId(row.id), row.last_active_at.into())).collect())
}
