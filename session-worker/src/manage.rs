//! What admins do to their tenant: who may, and in which order the locks are taken.

use shared::{
    database::{
        Transaction,
        audit::{self, Attempt},
        caller::{self, Known},
        failed,
    },
    id::UserId,
    message::{Caller, mfa::MfaPolicy},
    refusal::Refusal,
    role::Permission,
    subject::Subject,
};
use tracing::instrument;

use crate::{mfa::policy, session::store, state::State};

/// Refuses whoever may not manage the tenant, with the record of it, and then a user who is not of
/// the tenant.
#[instrument(skip_all, name = "manage.admit")]
pub(crate) async fn admit(
    state: &State,
    caller: &Caller,
    request: Subject,
    target: Option<UserId>,
) -> Result<Known, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, caller).await?;
    if let Err(refusal) = known.require(Permission::TenantManage) {
        let target = target.map(|user| format!("user:{user}"));
        let attempt = Attempt { by: &known, origin: &caller.origin, request, target };
        return Err(audit::refuse(tx, attempt, refusal).await);
    }
    if let Some(user) = target
        && !store::user_exists(&mut tx, user, known.tenant_id).await.map_err(failed)?
    {
        return Err(Refusal::not_found());
    }
    tx.commit().await.map_err(failed)?;
    Ok(known)
}

/// A transaction of somebody who manages the tenant.
pub(crate) struct Managing {
    pub(crate) tx: Transaction,
    pub(crate) known: Known,
    /// The policy in force; nobody else changes it, nor anybody's role, until the end.
    pub(crate) policy: MfaPolicy,
}

/// Whose rows a change concerns, besides the caller's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Concerned {
    /// A user who does not exist yet.
    Nobody,
    /// This user's.
    User(UserId),
    /// Everybody's of the tenant.
    Everybody,
}

/// Begins a transaction that may change who is in scope of the policy: the policy's lock comes
/// first, then those of the users by id, so that no two such changes meet.
#[instrument(skip_all, name = "manage.begin")]
pub(crate) async fn begin(
    state: &State,
    caller: &Caller,
    request: Subject,
    concerned: Concerned,
) -> Result<Managing, Refusal> {
    let target = match concerned {
        Concerned::User(user) => Some(user),
        Concerned::Nobody | Concerned::Everybody => None,
    };
    let admitted = admit(state, caller, request, target).await?;
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let policy = policy::lock(&mut tx, admitted.tenant_id).await.map_err(failed)?;
    if matches!(concerned, Concerned::Everybody) {
        sqlx::query!(
            "SELECT id FROM users WHERE tenant_id = $1 ORDER BY id FOR NO KEY UPDATE",
            admitted.tenant_id.0,
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
    }
    let known = caller::lock(&mut tx, caller, target).await?;
    known.require(Permission::TenantManage)?;
    Ok(Managing { tx, known, policy })
}
