//! What the operator does beside the API: set up a tenant, help where nobody can sign in, and
//! change keys. In the record as `operator`.

pub mod command;
mod keys;

use secrecy::SecretString;
use serde_json::json;
use shared::{
    clock::{Clock as _, SystemClock},
    database::{
        Transaction,
        audit::{self, Actor, Record},
        outbox,
        revocation::{self, Change},
    },
    id::{TenantId, UserId},
    message::{Origin, revocation::Cause},
    role::Role,
    token::PasswordToken,
    trace,
};
use sqlx::PgPool;

use crate::{
    keys::{KeysError, OpenError, audit::AuditKeyError},
    mfa::factor,
    password::{self, Unhashable},
    session::store,
    throttle::{self, Account},
    user,
};

/// A user to be created with a tenant.
#[derive(Debug)]
pub struct NewUser {
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// Their first password; without one, they need [`reset_password`].
    pub password: Option<SecretString>,
}

/// It was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The database refused or is out of reach.
    #[error("the database did not take it")]
    Database(#[from] sqlx::Error),
    /// There is a tenant of this name.
    #[error("there is a tenant {0} already")]
    TenantExists(String),
    /// The name is none for a tenant.
    #[error("a tenant's short name has 1 to 63 of a-z, 0-9 and -, and does not begin with -")]
    Slug,
    /// The address is none.
    #[error("{0} is not an address")]
    Email(String),
    /// There is no such user.
    #[error("there is no user {email} in a tenant {tenant}")]
    NoUser {
        /// The tenant's short name.
        tenant: String,
        /// The address.
        email: String,
    },
    /// The key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The key file of the audit record cannot be used.
    #[error(transparent)]
    AuditKey(#[from] AuditKeyError),
    /// Secrets cannot be opened with the keys that there are.
    #[error(
        "{count} secrets cannot be opened, that of user {user} first; without the key their users need reset-mfa"
    )]
    Unopened {
        /// How many.
        count: usize,
        /// Whose is the first.
        user: UserId,
        /// Why not.
        source: OpenError,
    },
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
    if !is_slug(slug) {
        return Err(OperatorError::Slug);
    }
    if let Some(user) = users.iter().find(|user| user::email(&user.email).is_err()) {
        return Err(OperatorError::Email(user.email.clone()));
    }
    let now = SystemClock.wall();
    let tenant = TenantId::new(now);
    let mut tx = pool.begin().await?;
    let created = sqlx::query!(
        "INSERT INTO tenants (id, slug, name) VALUES ($1, $2, $3) ON CONFLICT (slug) DO NOTHING",
        tenant.0,
        slug,
        name,
    )
    .execute(&mut *tx)
    .await?;
    if created.rows_affected() == 0 {
        return Err(OperatorError::TenantExists(slug.to_owned()));
    }
    sqlx::query!("INSERT INTO emergency_policies (tenant_id) VALUES ($1)", tenant.0)
        .execute(&mut *tx)
        .await?;
    sqlx::query!("INSERT INTO mfa_policies (tenant_id) VALUES ($1)", tenant.0)
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
            user.password.as_ref().map(password::hash).transpose()?,
        )
        .execute(&mut *tx)
        .await?;
        let detail = json!({"role": user.role});
        append(&mut tx, tenant, "user.created", format!("user:{id}"), detail).await?;
    }
    tx.commit().await?;
    Ok(tenant)
}

/// Whether a text may be a tenant's short name.
pub(crate) fn is_slug(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-')
}

/// A token with which a user sets a password, for when no admin can sign in, and how many minutes it
/// counts.
pub async fn reset_password(
    pool: &PgPool,
    slug: &str,
    email: &str,
) -> Result<(PasswordToken, u32), OperatorError> {
    let token = PasswordToken::generate();
    let mut tx = pool.begin().await?;
    let (tenant, id) = find(&mut tx, slug, email).await?;
    let is_first = sqlx::query_scalar!(
        r#"SELECT password_hash IS NULL AS "is_first!" FROM users WHERE id = $1"#,
        id.0,
    )
    .fetch_one(&mut *tx)
    .await?;
    let seconds = if is_first { user::FIRST_PASSWORD_SECONDS } else { user::RESET_SECONDS };
    user::issue_token(&mut tx, id, &token.hash(), f64::from(seconds)).await?;
    let target = format!("user:{id}");
    append(&mut tx, tenant, "user.password-reset-issued", target, json!({})).await?;
    tx.commit().await?;
    Ok((token, seconds / 60))
}

/// Forgets failed attempts, for a user whom somebody keeps out by guessing wrong. Says how many.
pub async fn unlock(pool: &PgPool, slug: &str, email: &str) -> Result<i32, OperatorError> {
    let mut tx = pool.begin().await?;
    let (tenant, id) = find(&mut tx, slug, email).await?;
    let failures = throttle::forget(&mut tx, Account::new(slug, email)).await?;
    let detail = json!({"failures": failures});
    append(&mut tx, tenant, "user.unlocked", format!("user:{id}"), detail).await?;
    tx.commit().await?;
    Ok(failures)
}

/// Takes a user's second factor away, for when no admin can sign in. All their sessions end: the
/// revision is in the database, and session-worker passes it on to every edge.
pub async fn reset_mfa(pool: &PgPool, slug: &str, email: &str) -> Result<bool, OperatorError> {
    let mut tx = pool.begin().await?;
    let (tenant, id) = find(&mut tx, slug, email).await?;
    let removed = factor::remove(&mut tx, id).await?;
    let ended = store::end_all(&mut tx, id, None, None).await?;
    let now = SystemClock.wall();
    outbox::append(&mut tx, now, tenant, "mfa.reset", json!({"user": id, "by": "operator"}))
        .await?;
    let detail = json!({"had_factor": removed, "sessions_ended": ended.len()});
    append(&mut tx, tenant, "mfa.reset", format!("user:{id}"), detail).await?;
    let change = Change {
        tenant,
        user: Some(id),
        sessions: ended,
        cause: Cause::FactorReset,
        traceparent: None,
    };
    revocation::commit(tx, change).await?;
    Ok(removed)
}

/// A user, locked.
async fn find(
    tx: &mut Transaction,
    slug: &str,
    email: &str,
) -> Result<(TenantId, UserId), OperatorError> {
    let row = sqlx::query!(
        "SELECT u.id, u.tenant_id FROM users u JOIN tenants t ON t.id = u.tenant_id
         WHERE t.slug = $1 AND u.email = $2 FOR NO KEY UPDATE OF u",
        slug,
        normalise(email),
    )
    .fetch_optional(&mut **tx)
    .await?;
    let no_user = || OperatorError::NoUser { tenant: slug.to_owned(), email: email.to_owned() };
    let row = row.ok_or_else(no_user)?;
    Ok((TenantId(row.tenant_id), UserId(row.id)))
}

async fn append(
    tx: &mut Transaction,
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
