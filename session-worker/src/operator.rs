//! What the operator does beside the API: set up a tenant.

use secrecy::SecretString;
use serde_json::json;
use shared::{
    clock::{Clock as _, SystemClock},
    database::audit::{self, Actor, Record},
    id::{TenantId, UserId},
    message::Origin,
    role::Role,
    trace,
};
use sqlx::PgPool;

use crate::password::{self, Unhashable};

/// A user to be created with a tenant.
#[derive(Debug)]
pub struct NewUser {
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// Their first password.
    pub password: SecretString,
}

/// The tenant was not created.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The database refused or is out of reach.
    #[error("the database did not take the new tenant")]
    Database(#[from] sqlx::Error),
    /// A password cannot be hashed.
    #[error(transparent)]
    Password(#[from] Unhashable),
}

/// Whether there is any tenant yet.
pub async fn tenant_exists(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM tenants) AS "exists!""#).fetch_one(pool).await
}

/// Creates a tenant with its users and the default emergency policy, in one transaction.
pub async fn create_tenant(
    pool: &PgPool,
    slug: &str,
    name: &str,
    users: &[NewUser],
) -> Result<TenantId, OperatorError> {
    let now = SystemClock.wall();
    let tenant = TenantId::new(now);
    let mut tx = pool.begin().await?;
    sqlx::query!("INSERT INTO tenants (id, slug, name) VALUES ($1, $2, $3)", tenant.0, slug, name)
        .execute(&mut *tx)
        .await?;
    sqlx::query!("INSERT INTO emergency_policies (tenant_id) VALUES ($1)", tenant.0)
        .execute(&mut *tx)
        .await?;
    append(&mut tx, tenant, "tenant.created", format!("tenant:{tenant}"), json!({"slug": slug}))
        .await?;
    for user in users {
        let id = UserId::new(now);
        let email = normalise(&user.email);
        sqlx::query!(
            "INSERT INTO users (id, tenant_id, email, name, role, password_hash)
             VALUES ($1, $2, $3, $4, $5, $6)",
            id.0,
            tenant.0,
            email,
            user.name,
            user.role.as_str(),
            password::hash(&user.password)?,
        )
        .execute(&mut *tx)
        .await?;
        let detail = json!({"role": user.role});
        append(&mut tx, tenant, "user.created", format!("user:{id}"), detail).await?;
    }
    tx.commit().await?;
    Ok(tenant)
}

async fn append(
    tx: &mut shared::database::Transaction,
    tenant: TenantId,
    action: &str,
    target: String,
    detail: serde_json::Value,
) -> Result<(), sqlx::Error> {
    let record = Record {
        tenant,
        actor: Actor::Service("operator"),
        action,
        target: Some(target),
        origin: &Origin::default(),
        detail,
        trace_id: trace::current_trace_id(),
    };
    audit::append(tx, record).await
}

/// One spelling for every way to type an address.
pub(crate) fn normalise(email: &str) -> String {
    email.trim().to_lowercase()
}
