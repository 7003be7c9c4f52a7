//! Ending grants and requests early.

use std::fmt::Write as _;

use serde_json::json;

use crate::{
    api::Api,
    args,
    context::Context,
    failure::{Exit, Failure},
    grant::short,
    message::{Grant, Me, OneGrant},
    pick::{self, Wanted},
    receipt,
    terminal::Style,
};

pub(super) fn revoke(context: &Context, which: &args::Ending) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let (id, only) = match &which.id {
        Some(id) => (pick::full_id(&mut api, id, Wanted::Active)?, false),
        None => (only_own(&mut api, Wanted::Active, "revoke")?.id.raw().to_owned(), true),
    };
    let body = match &which.comment {
        Some(comment) => json!({ "comment": comment }),
        None => json!({}),
    };
    let mut answer = api.post(&format!("/v1/emergency/grants/{id}/revoke"), &body)?;
    let (receipt, exit) = receipt::settle(context, &mut api, &mut answer)?;
    let grant = answer.read::<OneGrant>()?.grant;
    let done = context.terminal.paint(Style::Good, "Revoked");
    let (id, role) = (short(&grant.id), &grant.role);
    let words = if only {
        format!("{done} {id}, your only active grant: you are no longer {role} by it.")
    } else {
        format!("{done} {id}: {} is no longer {role} by it.", grant.user)
    };
    context.answer(&answer.body, &receipt::after(context.terminal, words, receipt.as_ref()))?;
    Ok(exit)
}

pub(super) fn cancel(context: &Context, which: &args::Cancelled) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let id = match &which.id {
        Some(id) => pick::full_id(&mut api, id, Wanted::Pending)?,
        None => only_own(&mut api, Wanted::Pending, "cancel")?.id.raw().to_owned(),
    };
    let answer = api.post(&format!("/v1/emergency/grants/{id}/cancel"), &json!({}))?;
    let grant = answer.read::<OneGrant>()?.grant;
    context.answer(&answer.body, &format!("Withdrawn: request {}.", short(&grant.id)))?;
    Ok(Exit::Done)
}

/// One's own only grant that a command can do something with.
pub(super) fn only_own(api: &mut Api, wanted: Wanted, command: &str) -> Result<Grant, Failure> {
    let me: Me = api.get("/v1/me")?.read()?;
    let own = |api: &mut Api, state| {
        pick::list(api, Some(state), me.user.id.raw(), pick::NEWEST)?.grants()
    };
    let active = wanted == Wanted::Active;
    let (state, other) = if active { ("active", "pending") } else { ("pending", "active") };
    let found = own(api, state)?;
    let mut none = if active {
        "You have no active grant.".to_owned()
    } else {
        "You have no pending request.".to_owned()
    };
    if found.is_empty()
        && let Some(grant) = own(api, other)?.first()
    {
        let (what, cure) =
            if active { ("a pending request", "cancel") } else { ("an active grant", "revoke") };
        let _ = write!(none, " But you have {what}: breakglass {cure} {}", short(&grant.id));
    }
    let several = if active { "active grants of yours" } else { "pending requests of yours" };
    pick::only(found, &none, several, command)
}
