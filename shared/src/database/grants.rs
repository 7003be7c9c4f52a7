//! The end of grants: by grant-worker, which owns them, and by session-worker in the transaction in
//! which their user can do nothing any more.

use serde_json::json;
use tracing::instrument;
use uuid::Uuid;

use super::{
    Transaction,
    audit::{self, Actor, Record},
    caller::Known,
    outbox,
};
use crate::{
    clock::Timestamp,
    id::{GrantId, TenantId, UserId},
    message::{Origin, grant::State},
    trace,
};

/// What becomes of grants.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// The state that they are in; others stay as they are.
    pub leaving: State,
    /// The final state. Expired are those whose time is over, and no others.
    pub entering: State,
    /// Who ends them; absent: time.
    pub by: Option<UserId>,
    /// Why.
    pub why: Option<&'a str>,
    /// Whether their use is to be reviewed; that of one that is replaced comes later.
    pub reviewed: bool,
}

/// A grant that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Which one.
    pub id: GrantId,
    /// In which tenant.
    pub tenant: TenantId,
    /// Whose.
    pub user: UserId,
    /// When: by the clock at most.
    pub at: Timestamp,
}

/// Moves grants to a final state, under the locks of their users' rows; says which were moved.
#[instrument(skip_all, name = "grant.end")]
pub async fn end(
    tx: &mut Transaction,
    grants: &[GrantId],
    ending: Ending<'_>,
) -> Result<Vec<Ended>, sqlx::Error> {
    let ids: Vec<Uuid> = grants.iter().map(|grant| grant.0).collect();
    let rows = sqlx::query!(
        r#"SELECT id AS "id!", tenant_id AS "tenant_id!", user_id AS "user_id!", ended_at AS "ended_at!"
           FROM end_grants($1, $2, $3, $4, $5, $6)"#,
        &ids,
        ending.leaving.as_str(),
        ending.entering.as_str(),
        ending.by.map(|user| user.0),
        ending.why,
        ending.reviewed,
    )
    .fetch_all(&mut **tx)
    .await?;
    let ended = rows.into_iter().map(|row| Ended {
        id: GrantId(row.id),
        tenant: TenantId(row.tenant_id),
        user: UserId(row.user_id),
        at: row.ended_at.into(),
    });
    Ok(ended.collect())
}

/// Ends all that a user holds and waits for, with its records, for they can do nothing any more.
#[instrument(skip_all, name = "grant.end-all")]
pub async fn end_all(
    tx: &mut Transaction,
    user: UserId,
    by: &Known,
    origin: &Origin,
) -> Result<(), sqlx::Error> {
    let open = sqlx::query_scalar!(
        r#"SELECT id AS "id: GrantId" FROM emergency_grants
           WHERE user_id = $1 AND state IN ('pending', 'active')"#,
        user.0,
    )
    .fetch_all(&mut **tx)
    .await?;
    let why = "The user was disabled.";
    let endings = [
        (State::Active, State::Revoked, "grant.revoked"),
        (State::Pending, State::Cancelled, "grant.cancelled"),
    ];
    for (leaving, entering, action) in endings {
        let ending =
            Ending { leaving, entering, by: Some(by.user_id), why: Some(why), reviewed: true };
        for ended in end(tx, &open, ending).await? {
            let detail = json!({"user": user, "comment": why});
            let event = json!({"grant": ended.id, "user": user, "by": by.user_id, "comment": why});
            outbox::append_by(tx, by, action, event).await?;
            let record = Record {
                tenant: ended.tenant,
                actor: Actor::User(by.user_id),
                action,
                target: Some(format!("grant:{}", ended.id)),
                origin,
                detail,
                trace_id: trace::current_trace_id(),
            };
            audit::append(tx, record).await?;
        }
    }
    Ok(())
}
