//! Who the caller is.

use shared::{
    database::{caller, failed},
    message::account::{Account, Me, Mfa, Tenant, User},
    refusal::Refusal,
};
use tracing::instrument;

use crate::{session::store, state::State};

/// The caller, as the caller sees it.
#[instrument(skip_all, name = "account.me")]
pub(crate) async fn me(state: State, request: Me) -> Result<Account, Refusal> {
    let mut tx = state.pool.begin().await.map_err(failed)?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    let row = sqlx::query!(
        "SELECT u.email, u.name, t.slug, t.name AS tenant_name
         FROM users u JOIN tenants t ON t.id = u.tenant_id WHERE u.id = $1",
        known.user_id.0,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let session = store::current(&state.pool, known.session_id).await.map_err(failed)?;
    let session = session.ok_or_else(Refusal::unauthenticated)?;
    let permissions = known.permissions();
    let elevation = known.elevation.map(|elevation| elevation.grant_id);
    Ok(Account {
        user: User { id: known.user_id, email: row.email, name: row.name, role: known.role },
        tenant: Tenant { id: known.tenant_id, slug: row.slug, name: row.tenant_name },
        session,
        permissions,
        elevation,
        mfa: Mfa::default(),
    })
}
