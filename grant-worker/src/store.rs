//! All SQL of grant-worker.
//!
//! A transition is an UPDATE that names the state it leaves; whether it touched its row says
//! whether it happened.

mod change;
pub(crate) mod policy;

use std::time::Duration;

use shared::{
    clock::Timestamp,
    database::{Transaction, failed},
    id::{GrantId, TenantId, UserId},
    message::{
        grant::{AppliesTo, Approval, Grant, Outcome, Person, Review, ReviewState, State},
        session::Method,
    },
    refusal::Refusal,
    role::Role,
};
use sqlx::{PgPool, types::Json};
use tracing::instrument;

pub(crate) use self::change::*;
use crate::rules::policy::MOST_IN_AN_HOUR;

/// Most people that are told of one thing by name.
const MOST_PEOPLE: i64 = 1_000;

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

/// What a user holds, said before and owes.
pub(crate) struct Standing {
    pub(crate) role: Role,
    /// Active grants, by the clock.
    pub(crate) active: u32,
    /// Requests that wait, by the clock.
    pub(crate) pending: u32,
    pub(crate) last_reason: Option<String>,
    pub(crate) has_factor: bool,
    pub(crate) review_overdue: bool,
    /// Until the policy's cool-down is over, rounded up.
    pub(crate) cooling_seconds: u32,
    /// Requests of the last hour, as far as they matter.
    pub(crate) last_hour: u32,
}

/// What a grant that is to be replaced brings along.
pub(crate) struct Replaced {
    pub(crate) extensions: u32,
    /// Since the first activation, rounded up.
    pub(crate) spent_seconds: u32,
}

#[instrument(skip_all, name = "transaction.begin")]
pub(crate) async fn begin(pool: &PgPool) -> Result<Transaction, Refusal> {
    pool.begin().await.map_err(failed)
}

#[instrument(skip_all, name = "transaction.commit")]
pub(crate) async fn commit(tx: Transaction) -> Result<(), Refusal> {
    tx.commit().await.map_err(failed)
}

/// What a user holds now, exact under the lock of the user. The grant that is to be replaced does not
/// count.
#[instrument(skip_all, name = "grant.standing")]
pub(crate) async fn standing(
    tx: &mut Transaction,
    user: UserId,
    replaced: Option<GrantId>,
    cooldown_seconds: u32,
) -> Result<Standing, Refusal> {
    let row = sqlx::query!(
        r#"SELECT u.role AS "role: Role",
                  EXISTS (SELECT FROM totp_factors WHERE user_id = u.id) AS "has_factor!",
                  (SELECT count(*) FROM emergency_grants
                   WHERE user_id = u.id AND state = 'active' AND expires_at > clock_timestamp()
                     AND id IS DISTINCT FROM $2) AS "active!",
                  (SELECT count(*) FROM emergency_grants
                   WHERE user_id = u.id AND state = 'pending' AND pending_until > clock_timestamp()) AS "pending!",
                  (SELECT reason FROM emergency_grants
                   WHERE user_id = u.id ORDER BY id DESC LIMIT 1) AS last_reason,
                  (SELECT count(*) FROM (SELECT requested_at FROM emergency_grants
                                         WHERE user_id = u.id ORDER BY id DESC LIMIT $4) AS latest
                   WHERE requested_at > clock_timestamp() - interval '1 hour') AS "last_hour!",
                  EXISTS (SELECT FROM emergency_grants
                          WHERE user_id = u.id AND review_due_at IS NOT NULL AND review_outcome IS NULL
                            AND review_due_at <= clock_timestamp())
                  OR EXISTS (SELECT FROM emergency_grants
                             WHERE user_id = u.id AND state = 'active'
                               AND expires_at + make_interval(secs => review_within_seconds) <= clock_timestamp())
                  AS "review_overdue!",
                  (SELECT extract(epoch FROM max(least(coalesce(ended_at, expires_at), expires_at))
                                  + make_interval(secs => $3) - clock_timestamp())::float8
                   FROM (SELECT ended_at, expires_at FROM emergency_grants g
                         WHERE user_id = u.id AND activated_at IS NOT NULL
                           AND NOT EXISTS (SELECT FROM emergency_grants later
                                           WHERE later.extended_from = g.id AND later.activated_at IS NOT NULL)
                         ORDER BY id DESC LIMIT 200) AS last
                   WHERE least(coalesce(ended_at, expires_at), expires_at) <= clock_timestamp()) AS cooling
           FROM users u WHERE u.id = $1"#,
        user.0,
        replaced.map(|grant| grant.0),
        f64::from(cooldown_seconds),
        i64::from(MOST_IN_AN_HOUR),
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(failed)?;
    let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
    let cooling =
        Duration::try_from_secs_f64(row.cooling.unwrap_or(0.0).ceil()).unwrap_or_default();
    Ok(Standing {
        role: row.role,
        active: count(row.active),
        pending: count(row.pending),
        last_reason: row.last_reason,
        has_factor: row.has_factor,
        review_overdue: row.review_overdue,
        last_hour: count(row.last_hour),
        cooling_seconds: count(i64::try_from(cooling.as_secs()).unwrap_or(i64::MAX)),
    })
}

/// What an active grant brings along that is to be replaced.
#[instrument(skip_all, name = "grant.replaced")]
pub(crate) async fn replaced(tx: &mut Transaction, id: GrantId) -> Result<Replaced, Refusal> {
    let row = sqlx::query!(
        r#"SELECT extensions,
                  extract(epoch FROM clock_timestamp() - coalesce(first_activated_at, clock_timestamp()))::float8
                  AS "spent!"
           FROM emergency_grants WHERE id = $1"#,
        id.0,
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(failed)?;
    let spent = Duration::try_from_secs_f64(row.spent.ceil()).unwrap_or_default();
    Ok(Replaced {
        extensions: row.extensions.unsigned_abs(),
        spent_seconds: u32::try_from(spent.as_secs()).unwrap_or(u32::MAX),
    })
}

/// The request that is to replace a grant and still waits, by the clock or not.
pub(crate) async fn waiting_extension(
    tx: &mut Transaction,
    id: GrantId,
) -> Result<Option<GrantId>, Refusal> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: GrantId" FROM emergency_grants WHERE extended_from = $1 AND state = 'pending'"#,
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)
}

/// Those of a tenant with one of these roles who can sign in, but for one: to be told of something.
#[instrument(skip_all, name = "user.with-role")]
pub(crate) async fn people(
    tx: &mut Transaction,
    tenant: TenantId,
    roles: impl IntoIterator<Item = Role>,
    but: UserId,
) -> Result<Vec<UserId>, sqlx::Error> {
    let roles: Vec<_> = roles.into_iter().map(|role| role.as_str().to_owned()).collect();
    sqlx::query_scalar!(
        r#"SELECT id AS "id: UserId" FROM users
           WHERE tenant_id = $1 AND role = ANY($2) AND disabled_at IS NULL AND id <> $3
           ORDER BY id LIMIT $4"#,
        tenant.0,
        &roles,
        but.0,
        MOST_PEOPLE,
    )
    .fetch_all(&mut **tx)
    .await
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
                  g.duration_seconds, g.applies_to AS "applies_to: AppliesTo", g.bypassed,
                  g.factor AS "factor: Method", g.pending_until, g.extended_from,
                  CASE g.state WHEN 'pending' THEN greatest(g.approvals_needed, p.approvals_needed)
                       ELSE g.approvals_needed END AS "approvals_needed!",
                  g.requested_at, g.activated_at, g.expires_at, g.ended_at, g.end_reason,
                  encode(g.request_digest, 'hex') AS "request_digest!",
                  jsonb_build_object('id', u.id, 'email', u.email, 'name', u.name) AS "user!: Json<Person>",
                  CASE WHEN e.id IS NOT NULL
                       THEN jsonb_build_object('id', e.id, 'email', e.email, 'name', e.name) END
                  AS "ended_by: Json<Person>",
                  (SELECT jsonb_agg(jsonb_build_object(
                              'user', jsonb_build_object('id', d.user_id, 'email', v.email, 'name', v.name),
                              'decision', d.decision, 'comment', d.comment,
                              'at', to_char(d.decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
                          ORDER BY d.decided_at, d.user_id)
                   FROM emergency_decisions d JOIN users v ON v.id = d.user_id WHERE d.grant_id = g.id)
                  AS "approvals: Json<Vec<Approval>>",
                  coalesce(g.review_due_at,
                           CASE WHEN g.state = 'active' AND g.expires_at <= statement_timestamp()
                                THEN g.expires_at + make_interval(secs => g.review_within_seconds) END)
                  AS review_due_at,
                  g.review_outcome AS "review_outcome: Outcome", g.review_note, g.reviewed_at,
                  CASE WHEN r.id IS NOT NULL
                       THEN jsonb_build_object('id', r.id, 'email', r.email, 'name', r.name) END
                  AS "reviewer: Json<Person>",
                  statement_timestamp() AS "now!"
           FROM emergency_grants g
           JOIN users u ON u.id = g.user_id
           JOIN emergency_policies p ON p.tenant_id = g.tenant_id
           LEFT JOIN users e ON e.id = g.ended_by
           LEFT JOIN users r ON r.id = g.reviewed_by
           WHERE g.tenant_id = $1
             AND ($2::uuid IS NULL OR g.user_id = $2
                  OR (g.state = 'active' AND g.expires_at > statement_timestamp()))
             AND ($3::uuid IS NULL OR g.id = $3)
             AND ($4::uuid IS NULL OR g.user_id = $4)
             AND ($5::text IS NULL OR $5 = CASE
                  WHEN g.state = 'active' AND g.expires_at <= statement_timestamp() THEN 'expired'
                  WHEN g.state = 'pending' AND g.pending_until <= statement_timestamp() THEN 'expired'
                  ELSE g.state END)
             -- As the indexes of what is open want it.
             AND ($5::text IS DISTINCT FROM 'active' OR g.state = 'active')
             AND ($5::text IS DISTINCT FROM 'pending' OR g.state = 'pending')
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
    let snapshots = rows.into_iter().map(|row| Snapshot {
        grant: Grant {
            id: GrantId(row.id),
            state: row.state,
            user: row.user.0,
            role: row.role,
            reason: row.reason,
            ticket: row.ticket,
            duration_seconds: row.duration_seconds.unsigned_abs(),
            applies_to: row.applies_to,
            bypassed: row.bypassed,
            factor: row.factor,
            requested_at: row.requested_at.into(),
            pending_until: row.pending_until.map(Timestamp::from),
            activated_at: row.activated_at.map(Timestamp::from),
            expires_at: row.expires_at.map(Timestamp::from),
            remaining_seconds: None,
            approvals: row.approvals.map(|approvals| approvals.0).unwrap_or_default(),
            approvals_needed: row.approvals_needed.unsigned_abs(),
            ended_at: row.ended_at.map(Timestamp::from),
            ended_by: row.ended_by.map(|person| person.0),
            end_reason: row.end_reason,
            extended_from: row.extended_from.map(GrantId),
            request_digest: row.request_digest,
            review: row.review_due_at.map(|due_at| Review {
                due_at: due_at.into(),
                state: match row.review_outcome {
                    None => ReviewState::Due,
                    Some(Outcome::Justified) => ReviewState::Justified,
                    Some(Outcome::Misuse) => ReviewState::Misuse,
                },
                reviewer: row.reviewer.map(|person| person.0),
                note: row.review_note,
                at: row.reviewed_at.map(Timestamp::from),
            }),
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

/// One that is known to be there.
pub(crate) async fn reread(
    tx: &mut Transaction,
    tenant: TenantId,
    id: GrantId,
) -> Result<Snapshot, Refusal> {
    find(tx, tenant, id).await?.ok_or_else(|| failed(sqlx::Error::RowNotFound))
}
