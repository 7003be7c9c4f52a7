//! All SQL of grant-worker.
//!
//! A transition is an UPDATE that names the state it leaves; whether it touched its row says
//! whether it happened.

use shared::{
    clock::Timestamp,
    database::{Transaction, failed},
    id::{GrantId, SessionId, TenantId, UserId},
    message::grant::{Grant, Person, State},
    refusal::Refusal,
    role::Role,
    trace,
};
use sqlx::PgPool;
use tracing::instrument;

use crate::rules::policy::{Policy, Terms};

/// A grant as it was stored at a time of the database's clock.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) grant: Grant,
    pub(crate) now: Timestamp,
}

/// Which grants of a tenant to read; what is absent does not matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection {
    pub(crate) tenant: TenantId,
    /// Who sees only active grants and their own; absent: everything is seen.
    pub(crate) viewer: Option<UserId>,
    pub(crate) id: Option<GrantId>,
    pub(crate) user: Option<UserId>,
    /// The state as it is by the clock.
    pub(crate) state: Option<State>,
    pub(crate) older_than: Option<GrantId>,
    pub(crate) limit: u32,
}

impl Selection {
    /// One grant of a tenant, whoever asks.
    pub(crate) fn one(tenant: TenantId, id: GrantId) -> Self {
        Self {
            tenant,
            viewer: None,
            id: Some(id),
            user: None,
            state: None,
            older_than: None,
            limit: 1,
        }
    }
}

/// What a user holds and said before.
pub(crate) struct Standing {
    pub(crate) active: u32,
    pub(crate) last_reason: Option<String>,
}

/// A grant to be inserted.
pub(crate) struct NewGrant<'a> {
    pub(crate) id: GrantId,
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) reason: &'a str,
    pub(crate) terms: Terms<'a>,
    pub(crate) digest: [u8; 32],
}

/// Whose grant ended, and when.
pub(crate) struct Ended {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) at: Timestamp,
}

#[instrument(skip_all, name = "transaction.begin")]
pub(crate) async fn begin(pool: &PgPool) -> Result<Transaction, Refusal> {
    pool.begin().await.map_err(failed)
}

#[instrument(skip_all, name = "transaction.commit")]
pub(crate) async fn commit(tx: Transaction) -> Result<(), Refusal> {
    tx.commit().await.map_err(failed)
}

/// The policy, kept from changing until the end of the transaction. A tenant without one gets the
/// defaults, written down, so that there is a row to keep.
#[instrument(skip_all, name = "policy.lock")]
pub(crate) async fn lock_policy(tx: &mut Transaction, tenant: TenantId) -> Result<Policy, Refusal> {
    if let Some(policy) = policy(tx, tenant).await.map_err(failed)? {
        return Ok(policy);
    }
    sqlx::query!(
        "INSERT INTO emergency_policies (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING",
        tenant.0,
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    policy(tx, tenant).await.map_err(failed)?.ok_or_else(|| failed(sqlx::Error::RowNotFound))
}

async fn policy(tx: &mut Transaction, tenant: TenantId) -> Result<Option<Policy>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT role AS "role: Role", requesters, default_duration_seconds, max_duration_seconds,
                  min_reason_length, max_active_per_user
           FROM emergency_policies WHERE tenant_id = $1 FOR SHARE"#,
        tenant.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Policy {
        role: row.role,
        // A name that is no role lets nobody ask.
        requesters: row.requesters.iter().filter_map(|name| name.parse().ok()).collect(),
        default_duration_seconds: row.default_duration_seconds.unsigned_abs(),
        max_duration_seconds: row.max_duration_seconds.unsigned_abs(),
        min_reason_length: row.min_reason_length.unsigned_abs(),
        max_active_per_user: row.max_active_per_user.unsigned_abs(),
    }))
}

/// What a user holds now; exact under the lock of the user.
#[instrument(skip_all, name = "grant.standing")]
pub(crate) async fn standing(tx: &mut Transaction, user: UserId) -> Result<Standing, Refusal> {
    let row = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM emergency_grants
                   WHERE user_id = $1 AND state = 'active' AND expires_at > clock_timestamp()
                  ) AS "active!",
                  (SELECT reason FROM emergency_grants
                   WHERE user_id = $1 ORDER BY requested_at DESC LIMIT 1) AS last_reason"#,
        user.0,
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(failed)?;
    let active = u32::try_from(row.active).unwrap_or(u32::MAX);
    Ok(Standing { active, last_reason: row.last_reason })
}

/// Whose grant this is, in whatever tenant.
#[instrument(skip_all, name = "grant.owner")]
pub(crate) async fn owner(tx: &mut Transaction, id: GrantId) -> Result<Option<UserId>, Refusal> {
    let owner = sqlx::query_scalar!(
        r#"SELECT user_id AS "user_id: UserId" FROM emergency_grants WHERE id = $1"#,
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(owner)
}

/// Inserts a grant that is active from now on, with the timer for its end. False: the id is taken.
#[instrument(skip_all, name = "grant.insert")]
pub(crate) async fn insert_active(
    tx: &mut Transaction,
    grant: &NewGrant<'_>,
) -> Result<bool, Refusal> {
    let inserted = sqlx::query!(
        "WITH inserted AS (
             INSERT INTO emergency_grants (
                 id, tenant_id, user_id, session_id, state, role, reason, ticket,
                 duration_seconds, request_digest, requested_at, activated_at, expires_at)
             SELECT $1, $2, $3, $4, 'active', $5, $6, $7, $8::integer, $9, now, now,
                    now + make_interval(secs => $8::integer)
             FROM (SELECT clock_timestamp() AS now) AS clock
             ON CONFLICT (id) DO NOTHING
             RETURNING id, expires_at)
         INSERT INTO timers (kind, subject_id, due_at, traceparent)
         SELECT 'grant-expiry', id, expires_at, $10 FROM inserted",
        grant.id.0,
        grant.tenant.0,
        grant.user.0,
        grant.session.0,
        grant.terms.role.as_str(),
        grant.reason,
        grant.terms.ticket,
        i32::try_from(grant.terms.duration_seconds).unwrap_or(i32::MAX),
        &grant.digest[..],
        trace::current_traceparent(),
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(inserted.rows_affected() == 1)
}

/// Active to revoked, and the timer goes. False: it is not active, or its time is over.
#[instrument(skip_all, name = "grant.end-early")]
pub(crate) async fn revoke(
    tx: &mut Transaction,
    id: GrantId,
    by: UserId,
    comment: Option<&str>,
) -> Result<bool, Refusal> {
    let ended = sqlx::query_scalar!(
        "WITH ended AS (
             UPDATE emergency_grants
             SET state = 'revoked', ended_at = least(clock_timestamp(), expires_at),
                 ended_by = $2, end_reason = $3
             WHERE id = $1 AND state = 'active' AND expires_at > clock_timestamp()
             RETURNING id),
         timer AS (
             DELETE FROM timers USING ended
             WHERE timers.kind = 'grant-expiry' AND timers.subject_id = ended.id)
         SELECT id FROM ended",
        id.0,
        by.0,
        comment,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(ended.is_some())
}

/// Locks the user of a grant and says in which state the grant is stored.
#[instrument(skip_all, name = "grant.lock")]
pub(crate) async fn lock_owner(
    tx: &mut Transaction,
    id: GrantId,
) -> Result<Option<State>, Refusal> {
    sqlx::query!(
        "SELECT id FROM users WHERE id = (SELECT user_id FROM emergency_grants WHERE id = $1)
         FOR NO KEY UPDATE",
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    let state = sqlx::query_scalar!(
        r#"SELECT state AS "state: State" FROM emergency_grants WHERE id = $1"#,
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(state)
}

/// Active to expired, and the timer goes. `None`: it is not active, or not due.
#[instrument(skip_all, name = "grant.end-by-time")]
pub(crate) async fn expire(tx: &mut Transaction, id: GrantId) -> Result<Option<Ended>, Refusal> {
    let ended = sqlx::query!(
        r#"WITH ended AS (
               UPDATE emergency_grants SET state = 'expired', ended_at = expires_at
               WHERE id = $1 AND state = 'active' AND expires_at <= clock_timestamp()
               RETURNING id, tenant_id, user_id, expires_at),
           timer AS (
               DELETE FROM timers USING ended
               WHERE timers.kind = 'grant-expiry' AND timers.subject_id = ended.id)
           SELECT tenant_id, user_id, expires_at AS "expires_at!" FROM ended"#,
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(ended.map(|row| Ended {
        tenant: TenantId(row.tenant_id),
        user: UserId(row.user_id),
        at: row.expires_at.into(),
    }))
}

/// Removes the timer of a grant that needs none any more.
#[instrument(skip_all, name = "timer.delete")]
pub(crate) async fn delete_timer(tx: &mut Transaction, id: GrantId) -> Result<(), Refusal> {
    sqlx::query!("DELETE FROM timers WHERE kind = 'grant-expiry' AND subject_id = $1", id.0)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Grants, newest first.
///
/// The time of the statement, which stands still within it, says what is active: so filter and
/// answer agree.
#[instrument(skip_all, name = "grant.select")]
pub(crate) async fn select(
    tx: &mut Transaction,
    selection: Selection,
) -> Result<Vec<Snapshot>, Refusal> {
    let rows = sqlx::query!(
        r#"SELECT g.id, g.state AS "state: State", g.role AS "role: Role", g.reason, g.ticket,
                  g.requested_at, g.activated_at, g.expires_at, g.ended_at, g.end_reason,
                  encode(g.request_digest, 'hex') AS "request_digest!",
                  u.id AS user_id, u.email, u.name,
                  e.id AS "ender_id?", e.email AS "ender_email?", e.name AS "ender_name?",
                  statement_timestamp() AS "now!"
           FROM emergency_grants g
           JOIN users u ON u.id = g.user_id
           LEFT JOIN users e ON e.id = g.ended_by
           WHERE g.tenant_id = $1
             AND ($2::uuid IS NULL OR g.user_id = $2
                  OR (g.state = 'active' AND g.expires_at > statement_timestamp()))
             AND ($3::uuid IS NULL OR g.id = $3)
             AND ($4::uuid IS NULL OR g.user_id = $4)
             AND ($5::text IS NULL
                  OR (g.state = $5
                      AND (g.state <> 'active' OR g.expires_at > statement_timestamp()))
                  OR ($5 = 'expired' AND g.state = 'active'
                      AND g.expires_at <= statement_timestamp()))
             AND ($6::uuid IS NULL OR g.id < $6)
           ORDER BY g.id DESC
           LIMIT $7"#,
        selection.tenant.0,
        selection.viewer.map(|user| user.0),
        selection.id.map(|id| id.0),
        selection.user.map(|user| user.0),
        selection.state.map(State::as_str),
        selection.older_than.map(|id| id.0),
        i64::from(selection.limit),
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?;
    let person = |id, email, name| Person { id: UserId(id), email, name };
    let snapshots = rows.into_iter().map(|row| Snapshot {
        grant: Grant {
            id: GrantId(row.id),
            state: row.state,
            user: person(row.user_id, row.email, row.name),
            role: row.role,
            reason: row.reason,
            ticket: row.ticket,
            requested_at: row.requested_at.into(),
            activated_at: row.activated_at.map(Timestamp::from),
            expires_at: row.expires_at.map(Timestamp::from),
            remaining_seconds: None,
            approvals: Vec::new(),
            approvals_needed: 0,
            ended_at: row.ended_at.map(Timestamp::from),
            ended_by: match (row.ender_id, row.ender_email, row.ender_name) {
                (Some(id), Some(email), Some(name)) => Some(person(id, email, name)),
                _ => None,
            },
            end_reason: row.end_reason,
            extended_from: None,
            request_digest: row.request_digest,
            review: None,
        },
        now: row.now.into(),
    });
    Ok(snapshots.collect())
}

/// One grant of a tenant, whoever asks.
pub(crate) async fn find(
    tx: &mut Transaction,
    tenant: TenantId,
    id: GrantId,
) -> Result<Option<Snapshot>, Refusal> {
    Ok(select(tx, Selection::one(tenant, id)).await?.pop())
}
