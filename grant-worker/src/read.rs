//! Showing grants: the tenant's active ones to everybody, all others to who may see them.

use shared::{
    database::caller::{self, Known},
    id::UserId,
    message::{
        MOST_ITEMS,
        grant::{GetGrant, Grants, ListGrants, OneGrant},
        page,
    },
    refusal::{Code, Refusal},
};
use tracing::instrument;

use crate::{
    rules::{access, lifecycle},
    state::State,
    store::{self, Selection},
};

/// Lists grants, newest first.
#[instrument(skip_all, name = "grant.list")]
pub(crate) async fn list(state: State, request: ListGrants) -> Result<Grants, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    if !(1..=MOST_ITEMS).contains(&request.limit) {
        let detail = format!("The limit is 1 to {MOST_ITEMS}.");
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    let selection = Selection {
        tenant: known.tenant_id,
        viewer: viewer(&known),
        id: None,
        user: request.user_id,
        state: request.state,
        older_than: request.cursor,
        // One more than asked for tells whether there are more.
        limit: request.limit + 1,
    };
    let found = store::select(&mut tx, selection).await?;
    store::commit(tx).await?;
    let grants =
        found.into_iter().map(|snapshot| lifecycle::as_of(snapshot.grant, snapshot.now)).collect();
    let (grants, more) = page(grants, request.limit);
    let next_cursor = grants.last().filter(|_| more).map(|grant| grant.id);
    Ok(Grants { grants, next_cursor })
}

/// Shows one grant.
#[instrument(skip_all, name = "grant.get", fields(grant.id = %request.grant_id))]
pub(crate) async fn get(state: State, request: GetGrant) -> Result<OneGrant, Refusal> {
    let mut tx = store::begin(&state.pool).await?;
    let known = caller::look_up(&mut tx, &request.caller).await?;
    let selection =
        Selection { viewer: viewer(&known), ..Selection::one(known.tenant_id, request.grant_id) };
    let found = store::select(&mut tx, selection).await?.pop();
    store::commit(tx).await?;
    let snapshot = found.ok_or_else(Refusal::not_found)?;
    Ok(OneGrant { grant: lifecycle::as_of(snapshot.grant, snapshot.now) })
}

fn viewer(known: &Known) -> Option<UserId> {
    (!access::sees_all(known)).then_some(known.user_id)
}
