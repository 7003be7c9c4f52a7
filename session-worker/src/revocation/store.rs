//! SQL of edges and revocations. All of it on the primary.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shared::{
    clock::Timestamp,
    database::revocation::revision,
    id::{EdgeId, Incarnation, TenantId, UserId},
    lease::{
        Revision,
        worker::{EdgeRow, Overdue, Rows},
    },
    message::{
        edge::{EdgeStatus, Join, Leave, Renew, Renewal, Renewed},
        revocation::{Broadcast, Entry},
    },
};
use sqlx::{PgExecutor, PgPool};
use tracing::instrument;
use uuid::Uuid;

/// A place in the database's log, in bytes from its beginning.
pub(super) type Lsn = i64;

/// W1: a new row, never an old one again.
pub(super) async fn join(
    pool: &PgPool,
    join: &Join,
    incarnation: Incarnation,
    ttl: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO edges (edge_id, incarnation, region, applied, must_apply, joined_revision, lease_ttl, allow_cached)
         SELECT $1, $2, $3, revision, revision, revision, $4, $5 FROM revocation_head",
        join.edge.as_str(),
        incarnation.0,
        join.region,
        i32::try_from(ttl.as_millis()).unwrap_or(i32::MAX),
        i32::try_from(join.allow_cached_ms).unwrap_or(i32::MAX),
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

/// W2, for all of them in one statement; [`EdgeRow::renew`] says the same of one in Rust. Each life
/// must be named once. Another timeline's renewal is told `fenced`, for its `applied` says nothing
/// here (E7). The answers are in the order of the requests.
pub(super) async fn renew(pool: &PgPool, asked: &[Renew]) -> Result<Vec<Renewed>, sqlx::Error> {
    let edges: Vec<_> = asked.iter().map(|renew| renew.edge.to_string()).collect();
    let lives: Vec<_> = asked.iter().map(|renew| renew.incarnation.0).collect();
    let applied: Vec<_> = asked.iter().map(|renew| signed(renew.applied.number)).collect();
    let timelines: Vec<_> = asked.iter().map(|renew| i64::from(renew.applied.timeline)).collect();
    let cached: Vec<_> = asked.iter().map(|renew| signed(renew.cached_sessions)).collect();
    let rows = sqlx::query!(
        r#"WITH head AS (
               SELECT revision, current_timeline() AS timeline FROM revocation_head
           ), asked AS (
               SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[])
                   WITH ORDINALITY AS asked (edge_id, incarnation, applied, timeline, cached_sessions, place)
           ), old AS (
               SELECT e.edge_id, e.incarnation, greatest(e.applied, asked.applied) AS applied,
                      greatest(e.applied, asked.applied) >= e.must_apply AS extended,
                      asked.cached_sessions, asked.place
               FROM edges e JOIN asked USING (edge_id, incarnation), head
               WHERE NOT e.fenced AND NOT e.has_left AND head.timeline = asked.timeline
               ORDER BY e.incarnation
               FOR UPDATE OF e
           ), renewed AS (
               UPDATE edges e
               SET applied = old.applied,
                   lease_seq = e.lease_seq + CASE WHEN old.extended THEN 1 ELSE 0 END,
                   must_apply = CASE WHEN old.extended THEN head.revision ELSE e.must_apply END,
                   cached_sessions = old.cached_sessions
               FROM old, head
               WHERE e.edge_id = old.edge_id AND e.incarnation = old.incarnation
               RETURNING old.place, old.extended, e.lease_ttl
           )
           SELECT head.revision, head.timeline AS "timeline!", clock_timestamp() AS "now!",
                  renewed.extended AS "extended?", renewed.lease_ttl AS "lease_ttl?"
           FROM head CROSS JOIN asked LEFT JOIN renewed USING (place) ORDER BY asked.place"#,
        &edges,
        &lives,
        &applied,
        &timelines,
        &cached,
    )
    .fetch_all(pool)
    .await?;
    let renewed = asked.iter().zip(rows).map(|(renew, row)| Renewed {
        incarnation: renew.incarnation,
        renewal: match row.extended {
            Some(true) => Renewal::Extended,
            Some(false) => Renewal::Behind,
            None => Renewal::Fenced,
        },
        head: revision(row.timeline, row.revision),
        ttl_ms: row.lease_ttl.map_or(0, |ttl| u64::from(ttl.cast_unsigned())),
        server_time: row.now.into(),
    });
    Ok(renewed.collect())
}

/// E9.
pub(super) async fn leave(pool: &PgPool, leave: &Leave) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE edges SET has_left = true, ended_at = clock_timestamp()
         WHERE edge_id = $1 AND incarnation = $2 AND NOT fenced AND NOT has_left",
        leave.edge.as_str(),
        leave.incarnation.0,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// W4: fences a lease where nobody has renewed it, in the timeline in which it was seen to run out
/// (E7). The row's lock orders this against a renewal.
pub(super) async fn fence(
    pool: &PgPool,
    timeline: u32,
    overdue: Overdue,
) -> Result<bool, sqlx::Error> {
    let fenced = sqlx::query!(
        "UPDATE edges SET fenced = true, ended_at = clock_timestamp(),
                fenced_revision = (SELECT revision FROM revocation_head)
         WHERE incarnation = $1 AND lease_seq = $2 AND NOT fenced AND NOT has_left
           AND current_timeline() = $3",
        overdue.incarnation.0,
        overdue.lease_seq,
        i64::from(timeline),
    )
    .execute(pool)
    .await?;
    Ok(fenced.rows_affected() == 1)
}

/// A row of `edges`, or none, with what is known without any edge.
struct Row {
    timeline: i64,
    lsn: Option<Lsn>,
    edge_id: Option<String>,
    incarnation: Option<Uuid>,
    applied: Option<i64>,
    must_apply: Option<i64>,
    lease_seq: Option<i64>,
    lease_ttl: Option<i32>,
    allow_cached: Option<i32>,
    fenced: Option<bool>,
    has_left: Option<bool>,
}

impl Row {
    fn into_edge(self) -> Option<Result<EdgeRow, sqlx::Error>> {
        let millis = |number: i32| Duration::from_millis(u64::from(number.cast_unsigned()));
        // A name that this version would not take is an error: an edge that is left out would be
        // taken for one that enforces.
        let edge = EdgeId::try_from(self.edge_id?);
        let edge = edge.map_err(|error| sqlx::Error::Decode(error.into()));
        Some(edge.and_then(|edge| {
            Ok(EdgeRow {
                edge,
                incarnation: Incarnation(self.incarnation.ok_or(sqlx::Error::RowNotFound)?),
                applied: self.applied.unwrap_or(0).cast_unsigned(),
                must_apply: self.must_apply.unwrap_or(0).cast_unsigned(),
                lease_seq: self.lease_seq.unwrap_or(0),
                ttl: millis(self.lease_ttl.unwrap_or(0)),
                allow_cached: millis(self.allow_cached.unwrap_or(0)),
                fenced: self.fenced.unwrap_or(false),
                left: self.has_left.unwrap_or(false),
            })
        }))
    }
}

/// Rows of edges; and, if a synchronous standby is configured, up to where that has to have the log
/// for everything that was committed before they were read (W7).
pub(super) struct Read {
    pub(super) edges: Rows,
    pub(super) lsn: Option<Lsn>,
}

fn read(rows: Vec<Row>) -> Result<Read, sqlx::Error> {
    // There is one row at least, of the log.
    let (timeline, lsn) = rows.first().map_or((0, None), |row| (row.timeline, row.lsn));
    let timeline = u32::try_from(timeline).unwrap_or(0);
    let rows = rows.into_iter().filter_map(Row::into_edge).collect::<Result<_, _>>()?;
    Ok(Read { edges: Rows { timeline, rows }, lsn })
}

/// All edges that are neither fenced nor left, and some lives however they stand.
#[instrument(skip_all, name = "edge.select-live")]
pub(super) async fn live_and(
    database: impl PgExecutor<'_>,
    lives: &BTreeSet<Incarnation>,
) -> Result<Read, sqlx::Error> {
    let lives: Vec<_> = lives.iter().map(|incarnation| incarnation.0).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"WITH log AS MATERIALIZED (
               SELECT current_timeline() AS timeline,
                      CASE WHEN current_setting('synchronous_standby_names') <> ''
                           THEN (pg_current_wal_flush_lsn() - '0/0')::bigint END AS lsn)
           SELECT log.timeline AS "timeline!", log.lsn, e.edge_id AS "edge_id?", e.incarnation AS "incarnation?", e.applied AS "applied?",
                  e.must_apply AS "must_apply?", e.lease_seq AS "lease_seq?",
                  e.lease_ttl AS "lease_ttl?", e.allow_cached AS "allow_cached?",
                  e.fenced AS "fenced?", e.has_left AS "has_left?"
           FROM log LEFT JOIN edges e
             ON (NOT e.fenced AND NOT e.has_left) OR e.incarnation = ANY($1)"#,
        &lives,
    )
    .fetch_all(database)
    .await?;
    read(rows)
}

/// All edges that are neither fenced nor left.
pub(super) async fn live(database: impl PgExecutor<'_>) -> Result<Read, sqlx::Error> {
    live_and(database, &BTreeSet::new()).await
}

/// The edges that a receipt of this revision counts: those that had joined before, and have not
/// left, nor been fenced before it.
#[instrument(skip_all, name = "edge.select-counted")]
pub(super) async fn counted(pool: &PgPool, number: u64) -> Result<Read, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"WITH log AS MATERIALIZED (
               SELECT current_timeline() AS timeline,
                      CASE WHEN current_setting('synchronous_standby_names') <> ''
                           THEN (pg_current_wal_flush_lsn() - '0/0')::bigint END AS lsn)
           SELECT log.timeline AS "timeline!", log.lsn, e.edge_id AS "edge_id?", e.incarnation AS "incarnation?", e.applied AS "applied?",
                  e.must_apply AS "must_apply?", e.lease_seq AS "lease_seq?",
                  e.lease_ttl AS "lease_ttl?", e.allow_cached AS "allow_cached?",
                  e.fenced AS "fenced?", e.has_left AS "has_left?"
           FROM log LEFT JOIN edges e
             ON e.joined_revision < $1 AND NOT e.has_left
                AND (NOT e.fenced OR e.fenced_revision >= $1)"#,
        signed(number),
    )
    .fetch_all(pool)
    .await?;
    read(rows)
}

/// How long ago a revision of a tenant was committed, if it is known.
pub(super) async fn committed(
    pool: &PgPool,
    tenant: TenantId,
    number: u64,
) -> Result<Option<Duration>, sqlx::Error> {
    let age = sqlx::query_scalar!(
        r#"SELECT (extract(epoch FROM clock_timestamp() - committed_at) * 1000000)::bigint AS "age!"
           FROM revocations WHERE revision = $1 AND tenant_id = $2"#,
        signed(number),
        tenant.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(age.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
}

/// The latest life of each edge that has not left, by name.
#[instrument(skip_all, name = "edge.select-latest")]
pub(super) async fn latest(
    pool: &PgPool,
    limit: u32,
) -> Result<Vec<(Incarnation, EdgeStatus)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT latest.*, head.revision AS head
           FROM revocation_head head, (
               SELECT DISTINCT ON (edge_id) edge_id, incarnation, region, applied, lease_ttl, allow_cached,
                      fenced, has_left, cached_sessions
               FROM edges ORDER BY edge_id, joined_at DESC, incarnation DESC) latest
           WHERE NOT has_left ORDER BY edge_id LIMIT $1"#,
        i64::from(limit),
    )
    .fetch_all(pool)
    .await?;
    let status = rows.into_iter().map(|row| {
        let id = EdgeId::try_from(row.edge_id);
        let reach = u64::from((row.lease_ttl + row.allow_cached).cast_unsigned());
        let status = EdgeStatus {
            id: id.map_err(|error| sqlx::Error::Decode(error.into()))?,
            region: row.region,
            applied: row.applied.cast_unsigned(),
            head: row.head.cast_unsigned(),
            lease_remaining_ms: if row.fenced { 0 } else { reach },
            fenced: row.fenced,
            cached_sessions: row.cached_sessions.cast_unsigned(),
        };
        Ok((Incarnation(row.incarnation), status))
    });
    status.collect()
}

/// Up to where a synchronous standby has to have the log for everything that was committed until
/// now, if one is configured.
pub(super) async fn standby_needs(pool: &PgPool) -> Result<Option<Lsn>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT CASE WHEN current_setting('synchronous_standby_names') <> ''
                       THEN (pg_current_wal_flush_lsn() - '0/0')::bigint END AS lsn"#
    )
    .fetch_one(pool)
    .await
}

/// Up to where a synchronous standby has the log on its disk; none is configured if there is none.
#[instrument(skip_all, name = "standby.select")]
pub(super) async fn standby(pool: &PgPool) -> Result<Option<Lsn>, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT (standby_flushed_lsn() - '0/0')::bigint AS lsn"#)
        .fetch_one(pool)
        .await
}

/// W3: these edges must apply a revision before they may renew, unless they still have an earlier
/// one to catch up with. Never one that the database, having failed over, does not know.
#[instrument(skip_all, name = "edge.must-apply")]
pub(super) async fn must_apply(
    pool: &PgPool,
    press: &BTreeMap<Incarnation, Revision>,
) -> Result<(), sqlx::Error> {
    let lives: Vec<_> = press.keys().map(|incarnation| incarnation.0).collect();
    let numbers: Vec<_> = press.values().map(|revision| signed(revision.number)).collect();
    let timelines: Vec<_> = press.values().map(|revision| i64::from(revision.timeline)).collect();
    sqlx::query!(
        "WITH pressed AS (
             SELECT e.incarnation, asked.number
             FROM edges e
             JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS asked (incarnation, number, timeline)
               ON asked.incarnation = e.incarnation
             JOIN revocation_head ON asked.number <= revision
             WHERE NOT e.fenced AND NOT e.has_left AND e.must_apply <= e.applied
               AND e.must_apply < asked.number AND asked.timeline = current_timeline()
             ORDER BY e.incarnation
             FOR UPDATE OF e)
         UPDATE edges e SET must_apply = pressed.number
         FROM pressed WHERE e.incarnation = pressed.incarnation",
        &lives,
        &numbers,
        &timelines,
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
