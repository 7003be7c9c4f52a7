//! SQL of edges and revocations. All of it on the primary.

use std::time::Duration;

use shared::{
    clock::Timestamp,
    database::revocation::revision,
    id::{EdgeId, Incarnation, TenantId, UserId},
    lease::{
        Revision,
        worker::{EdgeRow, Overdue},
    },
    message::{
        edge::{Join, Leave, Renew, Renewal, Renewed},
        revocation::{Broadcast, Entry},
    },
};
use sqlx::PgPool;
use tracing::instrument;
use uuid::Uuid;

/// W1: a new row, never an old one again.
pub(super) async fn join(
    pool: &PgPool,
    join: &Join,
    incarnation: Incarnation,
    ttl: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO edges (edge_id, incarnation, region, applied, must_apply, lease_ttl)
         SELECT $1, $2, $3, revision, revision, $4 FROM revocation_head",
        join.edge.as_str(),
        incarnation.0,
        join.region,
        i32::try_from(ttl.as_millis()).unwrap_or(i32::MAX),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The head, and the database's clock when it was read.
pub(super) async fn head(pool: &PgPool) -> Result<(Revision, Timestamp), sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT revision, current_timeline() AS "timeline!", clock_timestamp() AS "now!"
           FROM revocation_head"#
    )
    .fetch_one(pool)
    .await?;
    Ok((revision(row.timeline, row.revision), row.now.into()))
}

/// W2, in one statement; [`EdgeRow::renew`] says the same in Rust. Another timeline's renewal is
/// told `fenced`, for its `applied` says nothing here (E7).
pub(super) async fn renew(pool: &PgPool, renew: &Renew) -> Result<Renewed, sqlx::Error> {
    let row = sqlx::query!(
        r#"WITH head AS (
               SELECT revision, current_timeline() AS timeline FROM revocation_head
           ), old AS (
               SELECT e.edge_id, e.incarnation, greatest(e.applied, $3) AS applied,
                      greatest(e.applied, $3) >= e.must_apply AS extended
               FROM edges e, head
               WHERE e.edge_id = $1 AND e.incarnation = $2 AND NOT e.fenced AND NOT e.has_left
                 AND head.timeline = $4
               FOR UPDATE OF e
           ), renewed AS (
               UPDATE edges e
               SET applied = old.applied,
                   lease_seq = e.lease_seq + CASE WHEN old.extended THEN 1 ELSE 0 END,
                   must_apply = CASE WHEN old.extended THEN head.revision ELSE e.must_apply END
               FROM old, head
               WHERE e.edge_id = old.edge_id AND e.incarnation = old.incarnation
               RETURNING old.extended, e.lease_ttl
           )
           SELECT head.revision, head.timeline AS "timeline!", clock_timestamp() AS "now!",
                  renewed.extended AS "extended?", renewed.lease_ttl AS "lease_ttl?"
           FROM head LEFT JOIN renewed ON true"#,
        renew.edge.as_str(),
        renew.incarnation.0,
        signed(renew.applied.number),
        i64::from(renew.applied.timeline),
    )
    .fetch_one(pool)
    .await?;
    Ok(Renewed {
        incarnation: renew.incarnation,
        renewal: match row.extended {
            Some(true) => Renewal::Extended,
            Some(false) => Renewal::Behind,
            None => Renewal::Fenced,
        },
        head: revision(row.timeline, row.revision),
        ttl_ms: row.lease_ttl.map_or(0, |ttl| u64::from(ttl.cast_unsigned())),
        server_time: row.now.into(),
    })
}

/// E9.
pub(super) async fn leave(pool: &PgPool, leave: &Leave) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE edges SET has_left = true WHERE edge_id = $1 AND incarnation = $2 AND NOT fenced",
        leave.edge.as_str(),
        leave.incarnation.0,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// W4: fences a lease where nobody has renewed it. The row's lock orders this against a renewal.
pub(super) async fn fence(pool: &PgPool, overdue: Overdue) -> Result<bool, sqlx::Error> {
    let fenced = sqlx::query!(
        "UPDATE edges SET fenced = true
         WHERE incarnation = $1 AND lease_seq = $2 AND NOT fenced AND NOT has_left",
        overdue.incarnation.0,
        overdue.lease_seq,
    )
    .execute(pool)
    .await?;
    Ok(fenced.rows_affected() == 1)
}

struct Row {
    edge_id: String,
    incarnation: Uuid,
    applied: i64,
    must_apply: i64,
    lease_seq: i64,
    lease_ttl: i32,
    fenced: bool,
    has_left: bool,
}

impl Row {
    /// A name that this version would not take is an error: an edge that is left out would be taken
    /// for one that enforces.
    fn into_edge(self) -> Result<EdgeRow, sqlx::Error> {
        Ok(EdgeRow {
            edge: EdgeId::try_from(self.edge_id)
                .map_err(|error| sqlx::Error::Decode(error.into()))?,
            incarnation: Incarnation(self.incarnation),
            applied: self.applied.cast_unsigned(),
            must_apply: self.must_apply.cast_unsigned(),
            lease_seq: self.lease_seq,
            ttl: Duration::from_millis(u64::from(self.lease_ttl.cast_unsigned())),
            fenced: self.fenced,
            left: self.has_left,
        })
    }
}

/// All edges that are neither fenced nor left.
#[instrument(skip_all, name = "edge.select-live")]
pub(super) async fn live(pool: &PgPool) -> Result<Vec<EdgeRow>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT edge_id, incarnation, applied, must_apply, lease_seq, lease_ttl, fenced, has_left
         FROM edges WHERE NOT fenced AND NOT has_left"
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Row::into_edge).collect()
}

/// The rows of some lives, as they are now.
#[instrument(skip_all, name = "edge.select")]
pub(super) async fn of(pool: &PgPool, lives: &[Incarnation]) -> Result<Vec<EdgeRow>, sqlx::Error> {
    let lives: Vec<_> = lives.iter().map(|incarnation| incarnation.0).collect();
    let rows = sqlx::query_as!(
        Row,
        "SELECT edge_id, incarnation, applied, must_apply, lease_seq, lease_ttl, fenced, has_left
         FROM edges WHERE incarnation = ANY($1)",
        &lives,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Row::into_edge).collect()
}

/// W3: these edges must apply a revision before they may renew, unless they still have an earlier
/// one to catch up with.
#[instrument(skip_all, name = "edge.must-apply")]
pub(super) async fn must_apply(
    pool: &PgPool,
    lives: &[Incarnation],
    revision: Revision,
) -> Result<(), sqlx::Error> {
    let mut lives: Vec<_> = lives.iter().map(|incarnation| incarnation.0).collect();
    lives.sort_unstable();
    sqlx::query!(
        "UPDATE edges SET must_apply = $2
         WHERE incarnation = ANY($1) AND NOT fenced AND NOT has_left
           AND must_apply <= applied AND must_apply < $2",
        &lives,
        signed(revision.number),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// E4: what came after a revision. The head is read before the entries, so that none is missing
/// below it.
#[instrument(skip_all, name = "revocation.select-since")]
pub(super) async fn since(pool: &PgPool, after: u64, limit: u32) -> Result<Broadcast, sqlx::Error> {
    let (head, _) = head(pool).await?;
    let rows = sqlx::query!(
        "SELECT revision, tenant_id, user_id, cause, traceparent FROM revocations
         WHERE revision > $1 AND revision <= $2 ORDER BY revision LIMIT $3",
        signed(after),
        signed(head.number),
        i64::from(limit),
    )
    .fetch_all(pool)
    .await?;
    let entries = rows.into_iter().map(|row| Entry {
        revision: Revision { timeline: head.timeline, number: row.revision.cast_unsigned() },
        tenant_id: TenantId(row.tenant_id),
        user_id: row.user_id.map(UserId),
        cause: row.cause,
        traceparent: row.traceparent,
    });
    Ok(Broadcast { head, entries: entries.collect() })
}

/// Numbers of revisions are far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
