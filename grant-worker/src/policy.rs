//! The policy of a tenant: showing and changing it.

use serde_json::json;
use shared::{
    database::{
        audit::{self, Actor, Attempt, Record},
        caller, failed, outbox,
    },
    message::grant::{EmergencyPolicy, EmergencyPolicySet, GetEmergencyPolicy, SetEmergencyPolicy},
    refusal::Refusal,
    role::Permission,
    subject::Subject,
    trace,
};
use tracing::instrument;

use crate::{rules::policy::check, state::State, store};

/// Shows it, to everybody: who asks should know what is wanted of them.
#[instrument(skip_all, name = "policy.get")]
pub(crate) async fn get(
    state: State,
    request: GetEmergencyPolicy,
) -> Result<EmergencyPolicy, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    let policy = store::policy::lock(&mut tx, known.tenant_id).await?;
    store::commit(tx).await?;
    Ok(policy)
}

/// Changes it, for what is asked for or approved from now on.
#[instrument(skip_all, name = "policy.set")]
pub(crate) async fn set(
    state: State,
    request: SetEmergencyPolicy,
) -> Result<EmergencyPolicySet, Refusal> {
    let SetEmergencyPolicy { caller, policy } = request;
    let mut tx = store::begin(&state.pool).await?;
    let known = caller::lock(&mut tx, &caller, None).await?;
    if let Err(refusal) = known.require(Permission::TenantManage) {
        let attempt = Attempt {
            by: &known,
            origin: &caller.origin,
            request: Subject::GrantPolicySet,
            target: None,
        };
        return Err(audit::refuse(tx, attempt, refusal).await);
    }
    check(&policy)?;
    let before = store::policy::lock_to_change(&mut tx, known.tenant_id).await?;
    if before == policy {
        store::commit(tx).await?;
        return Ok(EmergencyPolicySet { policy });
    }
    store::policy::write(&mut tx, known.tenant_id, &policy).await?;
    let action = "emergency-policy.changed";
    let detail = json!({"before": before, "after": policy});
    outbox::append_by(&mut tx, &known, action, json!({"by": known.user_id, "policy": policy}))
        .await
        .map_err(failed)?;
    let record = Record {
        tenant: known.tenant_id,
        actor: Actor::User(known.user_id),
        action,
        target: None,
        origin: &caller.origin,
        detail,
        trace_id: trace::current_trace_id(),
    };
    audit::append(&mut tx, record).await.map_err(failed)?;
    store::commit(tx).await?;
    Ok(EmergencyPolicySet { policy })
}
