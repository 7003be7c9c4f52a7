//! Looking at grants.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    api::Api,
    args,
    context::Context,
    failure::{Exit, Failure},
    grant,
    message::{Me, OneGrant},
    pick::{self, Listed, Wanted},
    terminal,
};

pub(super) fn list(context: &Context, which: &args::List) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let user = User::named(&mut api, which.user.as_deref())?;
    let limit = usize::from(which.limit);
    let mut listed = match (which.all, which.state) {
        (true, _) => pick::list(&mut api, None, user.id(), limit)?,
        (false, Some(state)) => pick::list(&mut api, Some(state.as_str()), user.id(), limit)?,
        // What waits for somebody comes first.
        (false, None) => {
            let mut live = pick::list(&mut api, Some("pending"), user.id(), limit)?;
            let active = pick::list(&mut api, Some("active"), user.id(), limit)?;
            live.grants.extend(active.grants);
            live.more |= active.more;
            live
        }
    };
    user.keep_own(&mut listed);
    let grants = listed.grants()?;
    let mut words = if grants.is_empty() {
        nothing(which)
    } else {
        let width = context.terminal.live.then(terminal::width).flatten();
        grant::table(&grants, context.terminal, api.now(), width)
    };
    if listed.more {
        let _ = writeln!(words, "There are more: --limit {}", (limit * 4).min(MOST));
    }
    context.answer(&json!({"grants": listed.grants, "next_cursor": null}), &words)?;
    Ok(Exit::Done)
}

fn nothing(which: &args::List) -> String {
    match (which.all, which.state) {
        (true, _) => "There are no grants.\n".to_owned(),
        (false, Some(state)) => format!("No grant is {}.\n", state.as_str()),
        (false, None) => {
            "Nothing is active or pending. Past grants: breakglass list --all\n".to_owned()
        }
    }
}

/// The greatest limit.
const MOST: usize = 10_000;

/// Whose grants.
enum User {
    Anybody,
    Id(String),
    Email(String),
}

impl User {
    fn named(api: &mut Api, name: Option<&str>) -> Result<Self, Failure> {
        Ok(match name {
            None => Self::Anybody,
            Some("me") => Self::Id(api.get("/v1/me")?.read::<Me>()?.user.id.raw().to_owned()),
            Some(email) if email.contains('@') => Self::Email(email.to_lowercase()),
            Some(id) if id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') => {
                Self::Id(id.to_owned())
            }
            Some(_) => return Err(Failure::usage("--user is “me”, an address, or an id.")),
        })
    }

    /// What the server is asked for.
    fn id(&self) -> &str {
        match self {
            Self::Id(id) => id,
            Self::Anybody | Self::Email(_) => "",
        }
    }

    /// The server knows users by id only, and not everybody may look one up.
    fn keep_own(&self, listed: &mut Listed) {
        if let Self::Email(email) = self {
            let is_theirs = |grant: &Value| {
                grant["user"]["email"].as_str().is_some_and(|of| of.to_lowercase() == *email)
            };
            listed.grants.retain(is_theirs);
        }
    }
}

pub(super) fn show(context: &Context, which: &args::Which) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let id = pick::full_id(&mut api, &which.id, Wanted::Any)?;
    let answer = api.get(&format!("/v1/emergency/grants/{id}"))?;
    let grant = answer.read::<OneGrant>()?.grant;
    context.answer(&answer.body, &grant::details(&grant, context.terminal, api.now()))?;
    Ok(Exit::Done)
}
