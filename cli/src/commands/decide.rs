//! Deciding about others' requests.

use serde_json::{Value, json};

use crate::{
    api::Api,
    args,
    context::Context,
    failure::{Exit, Failure},
    grant,
    message::{Grant, Me, OneGrant},
    pick::{self, Wanted},
    receipt, terminal,
    terminal::Style,
    when,
};

pub(super) fn approve(context: &Context, which: &args::Decision) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let request = request(&mut api, which, "approve")?;
    terminal::note(&grant::details(&request, context.terminal.for_notes(), api.now()));
    let time = match request.duration_seconds {
        0 => String::new(),
        seconds => format!(" for {}", when::duration(seconds)),
    };
    let question = format!("Approve that {} is {}{time}?", request.user, request.role);
    context.confirm(&question, which.yes)?;
    let mut answer = api.post(&path(&request, "approve"), &decision(&request, which))?;
    let (receipt, exit) = receipt::settle(context, &mut api, &mut answer)?;
    let grant = answer.read::<OneGrant>()?.grant;
    let done = context.terminal.paint(Style::Good, "Approved");
    let words = match grant.expires_at {
        Some(end) if grant.is_active() => {
            format!(
                "{done}: {} is {} until {}.",
                grant.user,
                grant.role,
                when::both(end, api.now())
            )
        }
        _ => format!("{done}: {} so far.", grant.approvals_in_words()),
    };
    context.answer(&answer.body, &receipt::after(context.terminal, words, receipt.as_ref()))?;
    Ok(exit)
}

pub(super) fn deny(context: &Context, which: &args::Decision) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let request = request(&mut api, which, "deny")?;
    terminal::note(&grant::details(&request, context.terminal.for_notes(), api.now()));
    context.confirm("Deny it?", which.yes)?;
    let answer = api.post(&path(&request, "deny"), &decision(&request, which))?;
    let grant = answer.read::<OneGrant>()?.grant;
    let words = format!("Denied: the request {} of {}.", grant::short(&grant.id), grant.user);
    context.answer(&answer.body, &words)?;
    Ok(Exit::Done)
}

/// The request to decide about: that of the id, or the only one of somebody else's.
fn request(api: &mut Api, which: &args::Decision, command: &str) -> Result<Grant, Failure> {
    let request = if let Some(id) = &which.id {
        let id = pick::full_id(api, id, Wanted::Pending)?;
        api.get(&format!("/v1/emergency/grants/{id}"))?.read::<OneGrant>()?.grant
    } else {
        let me: Me = api.get("/v1/me")?.read()?;
        let mut pending = pick::list(api, Some("pending"), "", pick::NEWEST)?.grants()?;
        pending.retain(|grant| grant.user.id != me.user.id);
        pick::only(pending, "Nobody's request is pending that you can see.", "requests", command)?
    };
    if !request.is_pending() {
        return Err(Failure::other(format!(
            "It is decided already: this request is {}.",
            request.state
        )));
    }
    Ok(request)
}

/// With the digest of what was shown, so that nothing else is decided about.
fn decision(request: &Grant, which: &args::Decision) -> Value {
    let mut body = json!({ "request_digest": request.request_digest.raw() });
    if let Some(comment) = &which.comment {
        body["comment"] = json!(comment);
    }
    body
}

fn path(request: &Grant, verb: &str) -> String {
    format!("/v1/emergency/grants/{}/{verb}", request.id.raw())
}
