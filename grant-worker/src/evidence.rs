//! The whole story of a grant, and what was done under it.

use shared::{
    database::{Transaction, caller, failed},
    id::{GrantId, SessionId, TenantId, UserId},
    message::{
        audit::{AuditEntry, Detail},
        grant::{
            Action, ActionsRecorded, Counted, EmergencyPolicy, Evidence, GetEvidence, RecordActions,
        },
        page,
    },
    refusal::{Code, Refusal},
    role::Permission,
};
use sqlx::types::Json;
use time::OffsetDateTime;
use tracing::instrument;

use crate::{
    rules::{access, lifecycle},
    state::State,
    store,
};

/// Most entries of the record, and most rows of actions, that are listed.
const MOST: u32 = 500;
/// Most of what is counted in one message.
const MOST_COUNTED: usize = 1_000;

/// Puts everything together that is known of a grant.
#[instrument(skip_all, name = "grant.evidence", fields(grant.id = %request.grant_id))]
pub(crate) async fn get(state: State, request: GetEvidence) -> Result<Evidence, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    let found = store::find(&mut tx, known.tenant_id, request.grant_id).await?;
    let snapshot = found.ok_or_else(Refusal::not_found)?;
    let grant = lifecycle::as_of(snapshot.grant, snapshot.now);
    if grant.user.id != known.user_id && !access::sees_all(&known) {
        return Err(access::hidden(grant.state));
    }
    let origin = read_origin(&mut tx, grant.id).await.map_err(failed)?;
    let (mut record, record_total) =
        record(&mut tx, known.tenant_id, grant.id, grant.user.id).await.map_err(failed)?;
    if !known.may(Permission::AuditRead) {
        let own = known.user_id.to_string();
        record.iter_mut().filter(|entry| entry.actor != own).for_each(|entry| entry.ip = None);
    }
    let (actions, actions_total) = actions(&mut tx, grant.id).await.map_err(failed)?;
    store::commit(tx).await?;
    Ok(Evidence {
        policy: origin.policy,
        session_id: origin.session,
        extended_by: origin.extended_by,
        // As many as fit into an answer together.
        record: page(record, MOST).0,
        record_total,
        actions: page(actions, MOST).0,
        actions_total,
        generated_at: snapshot.now,
        grant,
    })
}

struct Origin {
    policy: Option<EmergencyPolicy>,
    session: SessionId,
    extended_by: Option<GrantId>,
}

async fn read_origin(tx: &mut Transaction, grant: GrantId) -> Result<Origin, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT nullif(policy, '{}') AS "policy: Json<EmergencyPolicy>", session_id,
                  (SELECT later.id FROM emergency_grants later
                   WHERE later.extended_from = g.id AND later.activated_at IS NOT NULL) AS extended_by
           FROM emergency_grants g WHERE id = $1"#,
        grant.0,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Origin {
        policy: row.policy.map(|policy| policy.0),
        session: SessionId(row.session_id),
        extended_by: row.extended_by.map(GrantId),
    })
}

/// Entries about a grant, and those of its user from its activation to its end.
async fn record(
    tx: &mut Transaction,
    tenant: TenantId,
    grant: GrantId,
    user: UserId,
) -> Result<(Vec<AuditEntry>, u64), sqlx::Error> {
    let target = format!("grant:{grant}");
    let rows = sqlx::query!(
        r#"WITH about AS (
               SELECT seq, action FROM audit
               WHERE tenant_id = $1 AND target = $2 AND target LIKE 'grant:%'
           ), bounds AS (
               SELECT min(seq) FILTER (WHERE action IN ('grant.activated', 'grant.bypassed')) AS first,
                      coalesce(min(seq) FILTER (WHERE action IN ('grant.revoked', 'grant.expired', 'grant.extended')),
                               9223372036854775807) AS last
               FROM about
           ), numbers AS (
               SELECT seq FROM about
               UNION
               SELECT a.seq FROM audit a JOIN bounds ON a.seq BETWEEN bounds.first AND bounds.last
               JOIN emergency_grants g ON g.id = $3
               WHERE a.tenant_id = $1 AND a.actor = $4 AND a.at <= coalesce(g.ended_at, g.expires_at)
           )
           SELECT a.seq, a.at, a.actor, a.action, a.target, a.ip, a.detail::text AS "detail!", a.trace_id,
                  encode(a.hash, 'hex') AS "hash!", count(*) OVER () AS "total!"
           FROM audit a JOIN numbers ON numbers.seq = a.seq
           WHERE a.tenant_id = $1
           ORDER BY a.seq LIMIT $5"#,
        tenant.0,
        target,
        grant.0,
        user.to_string(),
        i64::from(MOST),
    )
    .fetch_all(&mut **tx)
    .await?;
    let total = rows.first().map_or(0, |row| row.total.cast_unsigned());
    let entries = rows.into_iter().map(|row| {
        Ok(AuditEntry {
            seq: row.seq.cast_unsigned(),
            at: row.at.into(),
            actor: row.actor,
            action: row.action,
            target: row.target,
            ip: row.ip,
            detail: Detail::from_text(row.detail)
                .map_err(|error| sqlx::Error::Decode(error.into()))?,
            trace_id: row.trace_id,
            hash: row.hash.parse().ok(),
        })
    });
    Ok((entries.collect::<Result<_, sqlx::Error>>()?, total))
}

async fn actions(tx: &mut Transaction, grant: GrantId) -> Result<(Vec<Counted>, u64), sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT minute, session_id, method, host, path, allowed, sum(count)::bigint AS "count!",
                  count(*) OVER () AS "total!"
           FROM grant_actions WHERE grant_id = $1
           GROUP BY minute, session_id, method, host, path, allowed
           ORDER BY minute, method, host, path, allowed, session_id LIMIT $2"#,
        grant.0,
        i64::from(MOST),
    )
    .fetch_all(&mut **tx)
    .await?;
    let total = rows.first().map_or(0, |row| row.total.cast_unsigned());
    let actions = rows.into_iter().map(|row| Counted {
        grant_id: grant,
        session_id: SessionId(row.session_id),
        minute: row.minute.into(),
        action: Action { method: row.method, host: row.host, path: row.path, allowed: row.allowed },
        count: row.count.cast_unsigned(),
    });
    Ok((actions.collect(), total))
}

/// Writes down what an edge counted, of grants and sessions that belong together.
#[instrument(skip_all, name = "grant.record-actions")]
pub(crate) async fn record_actions(
    state: State,
    request: RecordActions,
) -> Result<ActionsRecorded, Refusal> {
    let counted = &request.counted;
    if counted.len() > MOST_COUNTED {
        let detail = format!("At most {MOST_COUNTED} rows are told at once.");
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    fn column<T>(counted: &[Counted], of: impl Fn(&Counted) -> T) -> Vec<T> {
        counted.iter().map(of).collect()
    }
    sqlx::query!(
        "INSERT INTO grant_actions AS a (grant_id, minute, recorder, session_id, method, host, path, allowed, count)
         SELECT DISTINCT ON (grant_id, minute, told.session_id, method, host, path, allowed)
                grant_id, minute, $1, told.session_id, method, host, path, allowed, count
         FROM unnest($2::uuid[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                     $8::boolean[], $9::bigint[])
             AS told (grant_id, minute, session_id, method, host, path, allowed, count)
         JOIN emergency_grants g ON g.id = told.grant_id
         JOIN sessions s ON s.id = told.session_id AND s.user_id = g.user_id
         WHERE count > 0
         ORDER BY grant_id, minute, told.session_id, method, host, path, allowed, count DESC
         ON CONFLICT (grant_id, minute, recorder, session_id, method, host, path, allowed)
         DO UPDATE SET count = excluded.count WHERE a.count < excluded.count",
        request.recorder.0,
        &column(counted, |row| row.grant_id.0),
        &column(counted, |row| OffsetDateTime::from(row.minute.minute())),
        &column(counted, |row| row.session_id.0),
        &column(counted, |row| row.action.method.clone()),
        &column(counted, |row| row.action.host.clone()),
        &column(counted, |row| row.action.path.clone()),
        &column(counted, |row| row.action.allowed),
        &column(counted, |row| row.count.cast_signed()),
    )
    .execute(&state.pool)
    .await
    .map_err(failed)?;
    Ok(ActionsRecorded {})
}
