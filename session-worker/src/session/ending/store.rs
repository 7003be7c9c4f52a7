//! SQL of ending sessions.

use shared::{
    database::{
        caller::{lacks, touch_every_seconds},
        revocation::revision,
    },
    id::{TenantId, UserId},
    message::{revocation::Entry, session::IDLE_SLACK_SECONDS},
    refusal::Refusal,
    role::{Permission, Role, conferring, permitted},
};
use tracing::instrument;
use uuid::Uuid;

use super::{End, Outcome};
use crate::warm::Warm;

/// The change, its audit records, its revisions and the commit, in one statement and so in one
/// round trip. Those who call and those who are meant are locked, so that neither's sessions, grants
/// or rights change meanwhile; refused attempts of substance are recorded.
///
/// Postgres' statement time-out ends before the commit of a statement begins, so none cancels a wait
/// for a synchronous standby (W7).
#[instrument(skip_all, name = "session.end")]
pub(super) async fn end(pool: &Warm, asked: &[&End]) -> Result<Vec<Outcome>, sqlx::Error> {
    fn column<'a, T>(asked: &[&'a End], of: impl Fn(&'a End) -> T) -> Vec<T> {
        asked.iter().map(|end| of(end)).collect()
    }
    let mut connection = pool.take().await?;
    let needed = Permission::SessionRevokeAny;
    let rows = sqlx::query!(
        r#"SELECT outcome AS "outcome!", ended AS "ended!", tenant_id, user_id, revision, timeline
           FROM end_sessions($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"#,
        &column(asked, |end| end.caller.token.0.to_vec()),
        &column(asked, |end| end.user.map(|user| user.0)) as &[Option<Uuid>],
        &column(asked, |end| end.session().map(|session| session.0)) as &[Option<Uuid>],
        &column(asked, End::signs_out),
        &column(asked, |end| end.caller.origin.ip.map(|ip| ip.to_string())) as &[Option<String>],
        &column(asked, |end| end.trace_id.clone()) as &[Option<String>],
        &column(asked, |end| end.traceparent.clone()) as &[Option<String>],
        &column(asked, |end| end.subject().path().to_owned()),
        &column(asked, |end| end.action().to_owned()),
        &column(asked, |end| end.cause().as_str().to_owned()),
        &names(&permitted(needed)),
        &names(&conferring(needed)),
        IDLE_SLACK_SECONDS,
        touch_every_seconds(),
    )
    // To its end: a commit that fails is told after the rows.
    .fetch_all(&mut *connection)
    .await?;
    connection.keep();
    let outcomes = asked.iter().zip(rows).map(|(end, row)| {
        let ended = |row: (Option<Uuid>, Option<Uuid>, Option<i64>, Option<i64>)| {
            let (Some(tenant), Some(user), Some(number), Some(timeline)) = row else { return None };
            Some(Entry {
                revision: revision(timeline, number),
                tenant_id: TenantId(tenant),
                user_id: Some(UserId(user)),
                cause: end.cause().as_str().to_owned(),
                traceparent: end.traceparent.clone(),
            })
        };
        Ok(match row.outcome.as_str() {
            "ended" => Outcome::Ended {
                sessions: u32::try_from(row.ended).unwrap_or(0),
                entry: ended((row.tenant_id, row.user_id, row.revision, row.timeline))
                    .ok_or(sqlx::Error::RowNotFound)?,
            },
            "later" => Outcome::Later,
            "unauthenticated" => Outcome::Refused(Refusal::unauthenticated()),
            "enrollment-required" => Outcome::Refused(Refusal::enrollment_required()),
            "forbidden" => Outcome::Refused(lacks(needed)),
            _ => Outcome::Refused(Refusal::not_found()),
        })
    });
    outcomes.collect()
}

fn names(roles: &[Role]) -> Vec<String> {
    roles.iter().map(ToString::to_string).collect()
}
