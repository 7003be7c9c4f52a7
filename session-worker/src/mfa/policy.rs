//! Of whom a tenant requires a second factor, and until when they may do without.
//!
//! Who is in scope is computed from the policy and the assigned role wherever it matters (the view
//! `mfa_standing`). The deadline is stored with the user: the moment when a factor was first
//! required and the shortest grace period since. Nothing moves it later.

use serde_json::json;
use shared::{
    clock::Timestamp,
    database::{
        Transaction,
        audit::{self, Actor, Attempt, Record},
        caller, failed, outbox,
        revocation::Change,
    },
    id::{TenantId, UserId},
    message::{
        Origin,
        mfa::{
            Deadline, DeadlinePassed, GetPolicy, GetPolicyReach, MfaPolicy, PolicyReach, PolicySet,
            RoleReach, SetPolicy,
        },
        revocation::Cause,
    },
    refusal::{Code, Refusal},
    role::{Permission, Role},
    subject::Subject,
    trace,
};
use tracing::instrument;

use crate::{
    manage::{self, Concerned, Managing},
    state::State,
};

/// Longest grace period.
const MOST_GRACE_DAYS: u32 = 90;

struct Row {
    require_2fa: bool,
    roles: Vec<Role>,
    grace_period_days: i32,
}

impl From<Row> for MfaPolicy {
    fn from(row: Row) -> Self {
        Self {
            require_2fa: row.require_2fa,
            required_roles: row.roles.into_iter().collect(),
            grace_period_days: row.grace_period_days.cast_unsigned(),
        }
    }
}

/// The policy of a tenant, locked until the end of the transaction.
#[instrument(skip_all, name = "mfa-policy.lock")]
pub(crate) async fn lock(tx: &mut Transaction, tenant: TenantId) -> Result<MfaPolicy, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT require_2fa, required_roles AS "roles: Vec<Role>", grace_period_days
           FROM mfa_policies WHERE tenant_id = $1 FOR UPDATE"#,
        tenant.0,
    );
    row.fetch_one(&mut **tx).await.map(MfaPolicy::from)
}

/// The policy in force. Everybody may know it.
#[instrument(skip_all, name = "mfa-policy.get")]
pub(crate) async fn get(state: State, request: GetPolicy) -> Result<MfaPolicy, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    let row = sqlx::query_as!(
        Row,
        r#"SELECT require_2fa, required_roles AS "roles: Vec<Role>", grace_period_days
           FROM mfa_policies WHERE tenant_id = $1"#,
        known.tenant_id.0,
    );
    let policy = row.fetch_one(&mut *tx).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(policy.into())
}

/// Whom the policy concerns, by role.
#[instrument(skip_all, name = "mfa-policy.reach")]
pub(crate) async fn reach(state: State, request: GetPolicyReach) -> Result<PolicyReach, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    if let Err(refusal) = known.require(Permission::TenantManage) {
        let (by, origin) = (&known, &request.caller.origin);
        let attempt = Attempt { by, origin, request: Subject::MfaPolicyReach, target: None };
        return Err(audit::refuse(tx, attempt, refusal).await);
    }
    let rows = sqlx::query!(
        r#"SELECT u.role AS "role: Role", bool_or(m.required) AS "required!", count(*) AS "users!",
                  count(*) FILTER (WHERE NOT m.enabled) AS "without!",
                  min(m.enrollment_only_from) AS first_due_at, max(m.enrollment_only_from) AS last_due_at
           FROM users u JOIN mfa_standing m ON m.user_id = u.id
           WHERE u.tenant_id = $1 AND u.disabled_at IS NULL GROUP BY u.role"#,
        known.tenant_id.0,
    );
    let rows = rows.fetch_all(&mut *tx).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let mut roles: Vec<_> = rows
        .into_iter()
        .map(|row| RoleReach {
            role: row.role,
            required: row.required,
            users: count(row.users),
            without: count(row.without),
            first_due_at: row.first_due_at.map(Timestamp::from),
            last_due_at: row.last_due_at.map(Timestamp::from),
        })
        .collect();
    roles.sort_by_key(|reach| reach.role);
    Ok(PolicyReach { roles })
}

/// Changes the policy, for everybody on every edge.
#[instrument(skip_all, name = "mfa-policy.set")]
pub(crate) async fn set(state: State, request: SetPolicy) -> Result<PolicySet, Refusal> {
    let SetPolicy { caller, policy } = request;
    let begun = manage::begin(&state, &caller, Subject::MfaPolicySet, Concerned::Everybody);
    let Managing { mut tx, known, policy: before } = begun.await?;
    if policy.grace_period_days > MOST_GRACE_DAYS {
        return Err(Refusal::new(Code::BadRequest, "grace_period_days is 0 to 90."));
    }
    let roles: Vec<_> = policy.required_roles.iter().map(|role| role.as_str().to_owned()).collect();
    sqlx::query!(
        "UPDATE mfa_policies SET require_2fa = $2, required_roles = $3, grace_period_days = $4
         WHERE tenant_id = $1",
        known.tenant_id.0,
        policy.require_2fa,
        &roles,
        policy.grace_period_days.cast_signed(),
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    note_scope(&mut tx, known.tenant_id, None).await.map_err(failed)?;
    let detail = json!({"before": before, "after": policy});
    outbox::append_by(&mut tx, &known, "mfa-policy.changed", detail.clone())
        .await
        .map_err(failed)?;
    let record = Record {
        tenant: known.tenant_id,
        actor: Actor::User(known.user_id),
        action: "mfa-policy.changed",
        target: Some(format!("tenant:{}", known.tenant_id)),
        origin: &caller.origin,
        detail,
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await.map_err(failed)?;
    let change = Change {
        tenant: known.tenant_id,
        user: None,
        sessions: Vec::new(),
        cause: Cause::MfaPolicyChanged,
        traceparent: trace::current_traceparent(),
    };
    let enforcing = state.commit(tx, change).await?;
    Ok(PolicySet { policy, receipt: enforcing.receipt().await })
}

/// Notes for everybody in scope, or for one user, since when a factor is required of them and until
/// when they may do without; sets the timers of deadlines that are new. After any change of
/// policy or role, in its transaction, under the lock of the policy.
#[instrument(skip_all, name = "mfa-policy.note-scope")]
pub(crate) async fn note_scope(
    tx: &mut Transaction,
    tenant: TenantId,
    user: Option<UserId>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH concerned AS (
             SELECT u.id, u.mfa_due_at AS before, coalesce(u.mfa_required_since, clock_timestamp()) AS since,
                    make_interval(days => p.grace_period_days) AS grace
             FROM users u JOIN mfa_policies p ON p.tenant_id = u.tenant_id
             WHERE u.tenant_id = $1 AND u.id = coalesce($2, u.id) AND mfa_requires(p, u.role)
               -- Of most users of a large tenant nothing changes.
               AND (u.mfa_due_at IS NULL
                    OR u.mfa_due_at > u.mfa_required_since + make_interval(days => p.grace_period_days))
         ), noted AS (
             UPDATE users u
             SET mfa_required_since = since, mfa_due_at = least(before, since + grace)
             FROM concerned WHERE u.id = concerned.id
             RETURNING u.id, before, u.mfa_due_at AS due
         )
         INSERT INTO timers (kind, subject_id, due_at, traceparent)
         SELECT 'mfa-deadline', id, due, $3 FROM noted
         ON CONFLICT (kind, subject_id) DO UPDATE
         SET due_at = excluded.due_at, claimed_until = NULL, traceparent = excluded.traceparent",
        tenant.0,
        user.map(|user| user.0),
        trace::current_traceparent(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The time is over: makes it official, with the record of it, and has every edge look again. Edges
/// act by the clock, with or without this. The same message again changes nothing.
#[instrument(skip_all, name = "mfa.deadline", fields(user.id = %request.user_id))]
pub(crate) async fn deadline(state: State, request: Deadline) -> Result<DeadlinePassed, Refusal> {
    let user = request.user_id;
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let row = sqlx::query!(
        r#"SELECT tenant_id, clock_timestamp() AS "now!" FROM users WHERE id = $1 FOR NO KEY UPDATE"#,
        user.0,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    // Whoever takes the timer away does what it was for.
    let due = sqlx::query!(
        "DELETE FROM timers WHERE kind = 'mfa-deadline' AND subject_id = $1 AND due_at <= clock_timestamp()",
        user.0,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let enforced = sqlx::query_scalar!(
        r#"SELECT coalesce(m.enrollment_only_from <= clock_timestamp(), false) AND u.disabled_at IS NULL AS "enforced!"
           FROM users u JOIN mfa_standing m ON m.user_id = u.id WHERE u.id = $1"#,
        user.0,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    let (Some(row), 1, Some(true)) = (row, due.rows_affected(), enforced) else {
        tx.commit().await.map_err(failed)?;
        return Ok(DeadlinePassed { enforced: false });
    };
    let tenant = TenantId(row.tenant_id);
    let payload = json!({"user": user});
    outbox::append(&mut tx, row.now.into(), tenant, "mfa.grace-ended", payload)
        .await
        .map_err(failed)?;
    let record = Record {
        tenant,
        actor: Actor::Service("expiry-worker"),
        action: "mfa.grace-ended",
        target: Some(format!("user:{user}")),
        origin: &Origin::default(),
        detail: json!({}),
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await.map_err(failed)?;
    let change = Change {
        tenant,
        user: Some(user),
        sessions: Vec::new(),
        cause: Cause::MfaDue,
        traceparent: trace::current_traceparent(),
    };
    // Nobody waits for the receipt: edges have acted by the clock.
    state.commit(tx, change).await?;
    Ok(DeadlinePassed { enforced: true })
}
