//! SQL that changes grants. Their ends are in [`shared::database::grants`].

use std::time::Duration;

use shared::{
    clock::Timestamp,
    database::{Transaction, failed},
    id::{GrantId, SessionId, TenantId, UserId},
    message::{
        grant::{Decision, EmergencyPolicy, Outcome, State},
        session::Method,
    },
    refusal::Refusal,
    role::Role,
    trace,
};
use sqlx::types::Json;
use tracing::instrument;

use crate::rules::{approval::Vote, lifecycle::WARNINGS, policy::Terms};

/// A grant to be inserted.
pub(crate) struct NewGrant<'a> {
    pub(crate) id: GrantId,
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) reason: &'a str,
    pub(crate) terms: &'a Terms,
    pub(crate) digest: [u8; 32],
    pub(crate) policy: &'a EmergencyPolicy,
    /// By which factor it was confirmed.
    pub(crate) factor: Option<Method>,
    /// The grant that it replaces.
    pub(crate) extends: Option<GrantId>,
}

/// Inserts a request that waits, or where it takes no approvals a grant that is active from now on,
/// with its timers. False: the id is taken.
#[instrument(skip_all, name = "grant.insert")]
pub(crate) async fn insert(tx: &mut Transaction, grant: &NewGrant<'_>) -> Result<bool, Refusal> {
    let terms = grant.terms;
    let inserted = sqlx::query!(
        "INSERT INTO emergency_grants (
             id, tenant_id, user_id, session_id, state, role, reason, ticket, duration_seconds,
             request_digest, applies_to, approvals_needed, bypassed, factor, policy,
             review_within_seconds, extended_from, extensions, requested_at,
             pending_until, activated_at, expires_at, first_activated_at)
         SELECT $1, $2, $3, $4, CASE WHEN waits THEN 'pending' ELSE 'active' END, $5, $6, $7, $8::integer,
                $9, $10, $11::integer, $12, $13, $14, $15::integer, $16, coalesce(replaced.extensions + 1, 0), now,
                CASE WHEN waits THEN now + make_interval(secs => $17::integer) END,
                CASE WHEN NOT waits THEN now END,
                CASE WHEN NOT waits THEN now + make_interval(secs => $8::integer) END,
                CASE WHEN NOT waits THEN coalesce(replaced.first_activated_at, now) END
         FROM (SELECT clock_timestamp() AS now, $11::integer > 0 AS waits) AS clock
         LEFT JOIN emergency_grants replaced ON replaced.id = $16
         ON CONFLICT (id) DO NOTHING",
        grant.id.0,
        grant.tenant.0,
        grant.user.0,
        grant.session.0,
        terms.role.as_str(),
        grant.reason,
        terms.ticket,
        terms.duration_seconds.cast_signed(),
        &grant.digest[..],
        grant.policy.applies_to.as_str(),
        terms.approvals_needed.cast_signed(),
        terms.bypassed,
        grant.factor.map(Method::as_str),
        Json(grant.policy) as _,
        terms.review_within_seconds.cast_signed(),
        grant.extends.map(|grant| grant.0),
        grant.policy.pending_timeout_seconds.cast_signed(),
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    set_timers(tx, grant.id).await?;
    Ok(true)
}

/// Pending to active, as the policy now in force lets it, with its timers. False: it does not wait
/// any more.
#[instrument(skip_all, name = "grant.activate")]
pub(crate) async fn activate(
    tx: &mut Transaction,
    id: GrantId,
    policy: &EmergencyPolicy,
    approvals_needed: u32,
    duration_seconds: u32,
) -> Result<bool, Refusal> {
    let activated = sqlx::query!(
        "UPDATE emergency_grants g
         SET state = 'active', activated_at = now, expires_at = now + make_interval(secs => $2::integer),
             first_activated_at = coalesce(
                 (SELECT first_activated_at FROM emergency_grants WHERE id = g.extended_from), now),
             approvals_needed = $3, policy = $4, applies_to = $5, review_within_seconds = $6
         FROM (SELECT clock_timestamp() AS now) AS clock
         WHERE id = $1 AND state = 'pending' AND pending_until > now",
        id.0,
        duration_seconds.cast_signed(),
        approvals_needed.cast_signed(),
        Json(policy) as _,
        policy.applies_to.as_str(),
        (policy.review_within_hours * 3_600).cast_signed(),
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    if activated.rows_affected() == 0 {
        return Ok(false);
    }
    set_timers(tx, id).await?;
    Ok(true)
}

/// Sets the timers for the end of a grant or of its wait, and for the first warning.
async fn set_timers(tx: &mut Transaction, id: GrantId) -> Result<(), Refusal> {
    let [first, last] = WARNINGS.map(|warning| warning.as_secs_f64());
    sqlx::query!(
        "INSERT INTO timers (kind, subject_id, due_at, traceparent)
         SELECT kind, id, due_at, $2
         FROM emergency_grants g, LATERAL (SELECT expires_at - activated_at AS duration) AS length, LATERAL (VALUES
             ('grant-expiry', CASE state WHEN 'pending' THEN pending_until ELSE expires_at END),
             ('grant-warning', CASE
                 WHEN state <> 'active' THEN NULL
                 WHEN duration > make_interval(secs => $3) THEN expires_at - make_interval(secs => $3)
                 WHEN duration > make_interval(secs => $4) THEN expires_at - make_interval(secs => $4)
             END)) AS timer (kind, due_at)
         WHERE g.id = $1 AND due_at IS NOT NULL
         ON CONFLICT (kind, subject_id) DO UPDATE
         SET due_at = excluded.due_at, claimed_until = NULL, traceparent = excluded.traceparent",
        id.0,
        trace::current_traceparent(),
        first,
        last,
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// A grant that may have to end.
pub(crate) struct Open {
    pub(crate) id: GrantId,
    pub(crate) state: State,
}

/// Locks the users of grants, but those that something else has locked, and says which of their grants
/// are open.
#[instrument(skip_all, name = "grant.lock-open")]
pub(crate) async fn lock_open(tx: &mut Transaction, ids: &[GrantId]) -> Result<Vec<Open>, Refusal> {
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let users = sqlx::query_scalar!(
        "SELECT id FROM users
         WHERE id IN (SELECT user_id FROM emergency_grants WHERE id = ANY($1))
         ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
        &ids,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?;
    sqlx::query_as!(
        Open,
        r#"SELECT id AS "id: GrantId", state AS "state: State" FROM emergency_grants
           WHERE id = ANY($1) AND user_id = ANY($2) AND state IN ('pending', 'active')"#,
        &ids,
        &users,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)
}

/// Removes timers for the end of grants that have ended otherwise.
#[instrument(skip_all, name = "timer.delete-stale")]
pub(crate) async fn delete_stale_timers(
    tx: &mut Transaction,
    ids: &[GrantId],
) -> Result<(), Refusal> {
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    sqlx::query!(
        "DELETE FROM timers
         WHERE kind = 'grant-expiry' AND subject_id = ANY($1) AND due_at <= clock_timestamp()
           AND NOT EXISTS (SELECT FROM emergency_grants
                           WHERE id = subject_id AND state IN ('pending', 'active'))",
        &ids,
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}

/// A grant as its timer finds it.
pub(crate) struct Timed {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) state: State,
    /// Until its end, in seconds; negative: since.
    pub(crate) left: Option<f64>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) is_reviewed: bool,
    pub(crate) now: Timestamp,
}

/// Locks the user of a grant and says how the grant stands.
#[instrument(skip_all, name = "grant.lock")]
pub(crate) async fn lock_timed(
    tx: &mut Transaction,
    id: GrantId,
) -> Result<Option<Timed>, Refusal> {
    sqlx::query!(
        "SELECT id FROM users WHERE id = (SELECT user_id FROM emergency_grants WHERE id = $1)
         FOR NO KEY UPDATE",
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    let row = sqlx::query!(
        r#"SELECT tenant_id, user_id, state AS "state: State",
                  extract(epoch FROM expires_at - clock_timestamp())::float8 AS left, expires_at,
                  review_outcome IS NOT NULL AS "is_reviewed!", clock_timestamp() AS "now!"
           FROM emergency_grants WHERE id = $1"#,
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(row.map(|row| Timed {
        tenant: TenantId(row.tenant_id),
        user: UserId(row.user_id),
        state: row.state,
        left: row.left,
        expires_at: row.expires_at.map(Timestamp::from),
        is_reviewed: row.is_reviewed,
        now: row.now.into(),
    }))
}

/// Moves a timer that is due to so long before the end of its grant. False: it was not due.
#[instrument(skip_all, name = "timer.move")]
pub(crate) async fn move_timer(
    tx: &mut Transaction,
    kind: &str,
    id: GrantId,
    before_end: Duration,
) -> Result<bool, Refusal> {
    let moved = sqlx::query!(
        "UPDATE timers SET due_at = g.expires_at - make_interval(secs => $3), claimed_until = NULL
         FROM emergency_grants g
         WHERE g.id = $2 AND kind = $1 AND subject_id = $2 AND due_at <= clock_timestamp()",
        kind,
        id.0,
        before_end.as_secs_f64(),
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(moved.rows_affected() == 1)
}

/// Removes a timer that is due. False: there is none, or it was not due.
#[instrument(skip_all, name = "timer.delete")]
pub(crate) async fn delete_due_timer(
    tx: &mut Transaction,
    kind: &str,
    id: GrantId,
) -> Result<bool, Refusal> {
    let deleted = sqlx::query!(
        "DELETE FROM timers WHERE kind = $1 AND subject_id = $2 AND due_at <= clock_timestamp()",
        kind,
        id.0,
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(deleted.rows_affected() == 1)
}

/// Writes down what somebody decided. False: they decided the same before.
#[instrument(skip_all, name = "decision.write")]
pub(crate) async fn decide(
    tx: &mut Transaction,
    grant: GrantId,
    by: UserId,
    decision: Decision,
    comment: Option<&str>,
) -> Result<bool, Refusal> {
    let written = sqlx::query!(
        "INSERT INTO emergency_decisions AS d (grant_id, user_id, decision, comment) VALUES ($1, $2, $3, $4)
         ON CONFLICT (grant_id, user_id) DO UPDATE
         SET decision = excluded.decision, comment = excluded.comment, decided_at = clock_timestamp()
         WHERE d.decision <> excluded.decision",
        grant.0,
        by.0,
        decision.as_str(),
        comment,
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(written.rows_affected() == 1)
}

/// What was decided about a request, and how those who decided stand now.
#[instrument(skip_all, name = "decision.read")]
pub(crate) async fn votes(
    tx: &mut Transaction,
    tenant: TenantId,
    grant: GrantId,
) -> Result<Vec<Vote>, Refusal> {
    let rows = sqlx::query!(
        r#"SELECT u.id, d.decision AS "decision: Decision", u.role AS "role: Role",
                  u.disabled_at IS NOT NULL AS "disabled!"
           FROM emergency_decisions d JOIN users u ON u.id = d.user_id
           WHERE d.grant_id = $1 AND u.tenant_id = $2"#,
        grant.0,
        tenant.0,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?;
    let votes = rows.into_iter().map(|row| Vote {
        user: UserId(row.id),
        decision: row.decision,
        assigned: row.role,
        disabled: row.disabled,
    });
    Ok(votes.collect())
}

/// Writes a review down, and removes its timer. False: there is one, or nothing to review.
#[instrument(skip_all, name = "review.write")]
pub(crate) async fn review(
    tx: &mut Transaction,
    grant: GrantId,
    by: UserId,
    outcome: Outcome,
    note: &str,
) -> Result<bool, Refusal> {
    let written = sqlx::query_scalar!(
        "WITH reviewed AS (
             UPDATE emergency_grants
             SET review_outcome = $3, review_note = $4, reviewed_by = $2, reviewed_at = clock_timestamp()
             WHERE id = $1 AND review_due_at IS NOT NULL AND review_outcome IS NULL AND user_id <> $2
             RETURNING id),
         timer AS (
             DELETE FROM timers USING reviewed
             WHERE timers.kind = 'review-overdue' AND timers.subject_id = reviewed.id)
         SELECT id FROM reviewed",
        grant.0,
        by.0,
        outcome.as_str(),
        note,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(written.is_some())
}
