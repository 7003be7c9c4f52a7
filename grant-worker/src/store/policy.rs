//! SQL of the policy.

use std::collections::BTreeSet;

use shared::{
    database::{Transaction, failed},
    id::TenantId,
    message::grant::{AppliesTo, Bypass, EmergencyPolicy},
    refusal::Refusal,
    role::Role,
};
use tracing::instrument;

/// The policy of a tenant, kept from changing until the end of the transaction.
#[instrument(skip_all, name = "policy.lock")]
pub(crate) async fn lock(
    tx: &mut Transaction,
    tenant: TenantId,
) -> Result<EmergencyPolicy, Refusal> {
    let row = sqlx::query!(
        r#"SELECT role AS "role: Role", applies_to AS "applies_to: AppliesTo", requesters,
                  max_duration_seconds, default_duration_seconds, approvals_needed, approvers,
                  require_fresh_mfa, min_reason_length, ticket_pattern, max_active_per_user,
                  cooldown_seconds, pending_timeout_seconds, review_within_hours, extensions_allowed,
                  bypass_allowed, bypass_max_duration_seconds
           FROM emergency_policies WHERE tenant_id = $1 FOR SHARE"#,
        tenant.0,
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(failed)?;
    // A name that is no role lets nobody do anything.
    let roles = |names: &[String]| names.iter().filter_map(|name| name.parse().ok()).collect();
    Ok(EmergencyPolicy {
        role: row.role,
        applies_to: row.applies_to,
        requesters: roles(&row.requesters),
        max_duration_seconds: row.max_duration_seconds.unsigned_abs(),
        default_duration_seconds: row.default_duration_seconds.unsigned_abs(),
        approvals_needed: row.approvals_needed.unsigned_abs(),
        approvers: roles(&row.approvers),
        require_fresh_mfa: row.require_fresh_mfa,
        min_reason_length: row.min_reason_length.unsigned_abs(),
        ticket_pattern: row.ticket_pattern,
        max_active_per_user: row.max_active_per_user.unsigned_abs(),
        cooldown_seconds: row.cooldown_seconds.unsigned_abs(),
        pending_timeout_seconds: row.pending_timeout_seconds.unsigned_abs(),
        review_within_hours: row.review_within_hours.unsigned_abs(),
        extensions_allowed: row.extensions_allowed.unsigned_abs(),
        bypass: Bypass {
            allowed: row.bypass_allowed,
            max_duration_seconds: row.bypass_max_duration_seconds.unsigned_abs(),
        },
    })
}

/// The policy of a tenant, kept for this transaction to change.
#[instrument(skip_all, name = "policy.lock-to-change")]
pub(crate) async fn lock_to_change(
    tx: &mut Transaction,
    tenant: TenantId,
) -> Result<EmergencyPolicy, Refusal> {
    sqlx::query!(
        "SELECT tenant_id FROM emergency_policies WHERE tenant_id = $1 FOR NO KEY UPDATE",
        tenant.0,
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(failed)?;
    lock(tx, tenant).await
}

/// Writes all of a policy that was checked.
#[instrument(skip_all, name = "policy.write")]
pub(crate) async fn write(
    tx: &mut Transaction,
    tenant: TenantId,
    policy: &EmergencyPolicy,
) -> Result<(), Refusal> {
    // Bounds were checked: none is near the greatest integer.
    let number = u32::cast_signed;
    let names = |roles: &BTreeSet<Role>| {
        roles.iter().map(|role| role.as_str().to_owned()).collect::<Vec<_>>()
    };
    sqlx::query!(
        "UPDATE emergency_policies
         SET role = $2, applies_to = $3, requesters = $4, max_duration_seconds = $5,
             default_duration_seconds = $6, approvals_needed = $7, approvers = $8,
             require_fresh_mfa = $9, min_reason_length = $10, ticket_pattern = $11,
             max_active_per_user = $12, cooldown_seconds = $13, pending_timeout_seconds = $14,
             review_within_hours = $15, extensions_allowed = $16, bypass_allowed = $17,
             bypass_max_duration_seconds = $18
         WHERE tenant_id = $1",
        tenant.0,
        policy.role.as_str(),
        policy.applies_to.as_str(),
        &names(&policy.requesters),
        number(policy.max_duration_seconds),
        number(policy.default_duration_seconds),
        number(policy.approvals_needed),
        &names(&policy.approvers),
        policy.require_fresh_mfa,
        number(policy.min_reason_length),
        policy.ticket_pattern,
        number(policy.max_active_per_user),
        number(policy.cooldown_seconds),
        number(policy.pending_timeout_seconds),
        number(policy.review_within_hours),
        number(policy.extensions_allowed),
        policy.bypass.allowed,
        number(policy.bypass.max_duration_seconds),
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    Ok(())
}
