//! Asking for emergency access, and for more of it.

use std::{thread, time::Duration};

use serde_json::json;

use super::{code, end};
use crate::{
    api::{Answer, Api},
    args,
    context::Context,
    failure::{Exit, Failure},
    grant::short,
    message::{Grant, OneGrant, Policy, Receipt},
    pick::{self, Wanted},
    receipt,
    terminal::{Progress, Style},
    when::{self, Deadline, Since},
};

/// How often a pending request is looked at.
const LOOK: Duration = Duration::from_secs(2);

pub(super) fn request(context: &Context, what: args::Request) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let reason = reason(context, what.reason, "Reason")?;
    let mut body = json!({ "reason": reason });
    let options = [
        ("duration_seconds", what.duration.map(|seconds| json!(seconds))),
        ("role", what.role.map(|role| json!(role))),
        ("ticket", what.ticket.map(|ticket| json!(ticket))),
        ("bypass_approval", what.bypass_approval.then_some(json!(true))),
    ];
    for (name, value) in options {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    let answer = code::post(context, &mut api, "/v1/emergency/grants", body, what.code.as_deref())?;
    finish(context, &mut api, answer, what.wait.wait)
}

pub(super) fn extend(context: &Context, what: args::Extend) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let id = match &what.id {
        Some(id) => pick::full_id(&mut api, id, Wanted::Active)?,
        None => end::only_own(&mut api, Wanted::Active, "extend")?.id.raw().to_owned(),
    };
    let reason = reason(context, what.reason, "Why does it take longer")?;
    let body = json!({"reason": reason, "duration_seconds": what.duration});
    let path = format!("/v1/emergency/grants/{id}/extend");
    let answer = code::post(context, &mut api, &path, body, what.code.as_deref())?;
    finish(context, &mut api, answer, what.wait.wait)
}

fn reason(context: &Context, given: Option<String>, question: &str) -> Result<String, Failure> {
    match given {
        Some(reason) => Ok(reason),
        None => context.ask("--reason", question, ""),
    }
}

/// Waits for every edge, or for approvals, and says what came of it.
fn finish(
    context: &Context,
    api: &mut Api,
    mut answer: Answer,
    wait: Option<u32>,
) -> Result<Exit, Failure> {
    let (receipt, mut exit) = receipt::settle(context, api, &mut answer)?;
    let mut grant = answer.read::<OneGrant>()?.grant;
    if let (true, Some(seconds)) = (grant.is_pending(), wait) {
        let patience = Duration::from_secs(u64::from(seconds));
        answer.body["grant"] = wait_for_decision(context, api, &grant, patience)?;
        grant = answer.read::<OneGrant>()?.grant;
    }
    if grant.is_pending() {
        exit = Exit::NotYet;
    } else if !grant.is_active() {
        exit = Exit::Refused;
    }
    let approvers = if grant.is_pending() { approvers(api) } else { String::new() };
    let words = outcome(context, api, &grant, receipt.as_ref(), &approvers);
    context.answer(&answer.body, &words)?;
    Ok(exit)
}

fn outcome(
    context: &Context,
    api: &Api,
    grant: &Grant,
    receipt: Option<&Receipt>,
    approvers: &str,
) -> String {
    let (terminal, now, id) = (context.terminal, api.now(), short(&grant.id));
    if grant.is_pending() {
        let waits = terminal.paint(Style::Warning, "waits for approval");
        let mut lines =
            vec![format!("Your request {id} {waits}: {} so far.", grant.approvals_in_words())];
        if grant.extended_from.is_some() {
            lines.push("Until then what you have stays as it is.".to_owned());
        }
        if let Some(end) = grant.pending_until {
            lines.push(format!("It waits until {}.", when::both(end, now)));
        }
        lines.push(format!("{approvers} approves it:  breakglass approve {id}"));
        lines.push(format!("You can withdraw it:  breakglass cancel {id}"));
        return lines.join("\n");
    }
    if !grant.is_active() {
        return ended(grant);
    }
    let until = grant.expires_at.map(|end| when::local(end, now)).unwrap_or_default();
    let left = grant.remaining_seconds.map(when::duration).unwrap_or_default();
    let role = terminal.paint(Style::Good, &format!("You are {}", grant.role));
    let words = receipt::after(terminal, format!("{role} until {until}, for {left}."), receipt);
    format!("{words}\nWhen you are done:  breakglass revoke")
}

/// What became of a request that did not lead to access.
fn ended(grant: &Grant) -> String {
    let denial = grant.approvals.iter().rev().find(|approval| approval.decision.is("deny"));
    if let Some(denial) = denial {
        let comment = denial.comment.as_ref().map(|said| format!(": {said}")).unwrap_or_default();
        return format!("Denied by {}{comment}", denial.user);
    }
    let by = grant.ended_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = grant.end_reason.as_ref().map(|said| format!(": {said}")).unwrap_or_default();
    let state = match grant.state.raw() {
        "expired" if grant.activated_at.is_none() => "Nobody decided in time".to_owned(),
        _ => format!("The request is {}", grant.state),
    };
    format!("{state}{by}{reason}")
}

/// Looks at a request until it is decided, or for as long as somebody wants to wait.
fn wait_for_decision(
    context: &Context,
    api: &mut Api,
    grant: &Grant,
    patience: Duration,
) -> Result<serde_json::Value, Failure> {
    let path = format!("/v1/emergency/grants/{}", grant.id.raw());
    let (begin, deadline) = (Since::now(), Deadline::after(patience));
    let mut progress = Progress::new(context.terminal);
    let mut standing = grant.approvals_in_words();
    loop {
        let waited = when::duration(begin.elapsed().as_secs());
        progress.say(&format!(
            "Waiting for approval of {}: {standing}, {waited} … (Ctrl-C stops waiting, not the request)",
            short(&grant.id)
        ));
        thread::sleep(LOOK);
        match api.get(&path) {
            Ok(mut answer) => {
                let seen = answer.read::<OneGrant>()?.grant;
                if !seen.is_pending() || deadline.is_over() {
                    return Ok(answer.body["grant"].take());
                }
                standing = seen.approvals_in_words();
            }
            // It may be back before the request is decided.
            Err(Failure::Unreachable(_)) if !deadline.is_over() => {
                "no answer at the moment".clone_into(&mut standing);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Who may approve, if that can be learnt.
fn approvers(api: &mut Api) -> String {
    let policy: Result<Policy, Failure> =
        api.get("/v1/emergency/policy").and_then(|answer| answer.read());
    match policy {
        Ok(policy) if !policy.approvers.is_empty() => {
            let roles: Vec<_> = policy.approvers.iter().map(ToString::to_string).collect();
            format!("Somebody else ({})", roles.join(" or "))
        }
        _ => "Somebody else, who may,".to_owned(),
    }
}
