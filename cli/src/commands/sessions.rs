//! Where somebody is signed in.

use serde_json::json;

use crate::{
    api::{Answer, Api},
    args::{self, RevokeSessions, SessionsCommand},
    context::Context,
    failure::{Exit, Failure},
    grant::short,
    message::{Session, Sessions, WithReceipt},
    pick::Id,
    receipt,
    table::Table,
    terminal::{self, Style},
    when,
};

/// How many pages of users are looked through for an address; after that it takes the id.
const PAGES: usize = 50;

pub(super) fn sessions(context: &Context, what: args::Sessions) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let whose = match &what.user {
        Some(user) => format!("/v1/users/{}/sessions", user_id(&mut api, user)?),
        None => "/v1/sessions".to_owned(),
    };
    match what.command {
        None => list(context, &mut api, &whose),
        Some(SessionsCommand::Revoke(which)) => {
            revoke(context, &mut api, &whose, what.user.is_some(), &which)
        }
    }
}

fn list(context: &Context, api: &mut Api, whose: &str) -> Result<Exit, Failure> {
    let answer = api.get(whose)?;
    let sessions = answer.read::<Sessions>()?.sessions;
    let now = api.now();
    let mut table = Table::new(&["ID", "SIGNED IN", "LAST USED", "FROM", "DEVICE"]);
    for session in &sessions {
        let mut device = session.device.label.to_string();
        if session.current {
            device.push_str(" (this session)");
        }
        table.row([
            (short(&session.id), Style::Strong),
            (when::relative(session.created_at, now), Style::Plain),
            (when::relative(session.last_active_at, now), Style::Plain),
            (place(session), Style::Plain),
            (device, if session.current { Style::Good } else { Style::Plain }),
        ]);
    }
    let width = context.terminal.live.then(terminal::width).flatten();
    let words = match sessions.len() {
        0 => "Not signed in anywhere.".to_owned(),
        _ => table.render(context.terminal, width),
    };
    context.answer(&answer.body, &words)?;
    Ok(Exit::Done)
}

fn place(session: &Session) -> String {
    match (&session.location, &session.ip) {
        (Some(location), Some(ip)) => format!("{} ({ip})", location.label),
        (Some(location), None) => location.label.to_string(),
        (None, Some(ip)) => ip.to_string(),
        (None, None) => "unknown".to_owned(),
    }
}

fn revoke(
    context: &Context,
    api: &mut Api,
    whose: &str,
    of_another: bool,
    which: &RevokeSessions,
) -> Result<Exit, Failure> {
    let mut answer = match (&which.id, which.others, of_another) {
        (Some(id), ..) => {
            let id = session_id(api, whose, id)?;
            api.delete(&format!("{whose}/{id}"))?
        }
        (None, true, false) => api.post("/v1/sessions/revoke-others", &json!({}))?,
        (None, false, true) => api.post(&format!("{whose}/revoke-all"), &json!({}))?,
        (None, true, true) => {
            return Err(Failure::usage("All of another user's sessions: --all."));
        }
        (None, false, false) => {
            return Err(Failure::usage(
                "All of your own but this one: --others. This one: breakglass sign-out.",
            ));
        }
    };
    let (receipt, exit) = receipt::settle(context, api, &mut answer)?;
    context.answer(&answer.body, &outcome(context, &answer, which.id.is_some())?)?;
    debug_assert!(receipt.is_some(), "ending a session always has a receipt");
    Ok(exit)
}

fn outcome(context: &Context, answer: &Answer, one: bool) -> Result<String, Failure> {
    let ended: WithReceipt = answer.read()?;
    let what = match ended.revoked {
        _ if one => "The session has ended.".to_owned(),
        0 => "There were none.".to_owned(),
        1 => "1 session has ended.".to_owned(),
        n => format!("{n} sessions have ended."),
    };
    Ok(receipt::after(context.terminal, what, Some(&ended.receipt)))
}

fn session_id(api: &mut Api, whose: &str, id: &Id) -> Result<String, Failure> {
    if let Some(full) = id.full() {
        return Ok(full.to_owned());
    }
    let mut sessions = api.get(whose)?.read::<Sessions>()?.sessions;
    sessions.retain(|session| id.means(session.id.raw()));
    match sessions.as_slice() {
        [one] => Ok(one.id.raw().to_owned()),
        [] => {
            Err(Failure::other(format!("No session's id ends in {id}.\nSee: breakglass sessions")))
        }
        several => Err(Failure::other(format!(
            "{} sessions' ids end in {id}. Give more of it.",
            several.len()
        ))),
    }
}

/// The id of a user who is named by it or by an address; the latter takes `tenant.manage`.
fn user_id(api: &mut Api, user: &str) -> Result<String, Failure> {
    if user.len() == 36 && user.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Ok(user.to_owned());
    }
    let mut cursor = String::new();
    for _ in 0..PAGES {
        let answer = api.get(&format!("/v1/users?limit=200{cursor}"))?;
        let users = answer.body["users"].as_array().cloned().unwrap_or_default();
        let found = users.iter().find(|found| {
            found["email"].as_str().is_some_and(|email| email.eq_ignore_ascii_case(user))
        });
        if let Some(id) = found.and_then(|found| found["id"].as_str()) {
            return Ok(id.to_owned());
        }
        let next = answer.body["next_cursor"].as_str();
        match next.filter(|next| next.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')) {
            Some(next) if !users.is_empty() => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    Err(Failure::other("There is no such user that you can see."))
}
