//! Who one is.

use super::Context;
use crate::{
    failure::{Exit, Failure},
    harmless::line,
    message::Me,
    terminal::{self, Style},
    when,
};

pub(super) fn whoami(context: &Context) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let answer = api.get("/v1/me")?;
    if context.global.json {
        terminal::print_json(&answer.body)?;
        return Ok(Exit::Done);
    }
    let me: Me = answer.read()?;
    let now = api.now();
    let terminal = context.terminal;
    let elevation = match &me.elevation {
        Some(grant) => {
            let left = grant.remaining_seconds.map(when::duration).unwrap_or_default();
            let until = grant.expires_at.map(|end| when::local(end, now)).unwrap_or_default();
            let role = terminal.paint(Style::Warning, &line(&grant.role));
            format!("{role} until {until}, {left} left: {}", line(&grant.reason))
        }
        None => "none".to_owned(),
    };
    let mfa = match (me.mfa.enabled, me.mfa.required, me.mfa.grace_ends_at) {
        (true, ..) => format!("on, {} backup codes left", me.mfa.backup_codes_left),
        (false, true, Some(end)) => format!("off, and required from {}", when::both(end, now)),
        (false, true, None) => "off, and required".to_owned(),
        (false, false, _) => "off".to_owned(),
    };
    let rows = [
        ("You", person(&me.user.name, &me.user.email)),
        ("Organisation", format!("{} ({})", line(&me.tenant.name), line(&me.tenant.slug))),
        ("Role", line(&me.user.role)),
        ("Elevation", elevation),
        ("May", me.permissions.iter().map(|p| line(p)).collect::<Vec<_>>().join(", ")),
        ("Two-factor", mfa),
        ("Session", format!("ends {}", when::both(me.session.expires_at, now))),
    ];
    let rows = rows.map(|(name, value)| format!("{name:<13} {value}"));
    terminal::print(&rows.join("\n"))?;
    Ok(Exit::Done)
}

/// `Ada Lovelace <ada@acme.example>`
pub(super) fn person(name: &str, email: &str) -> String {
    match name {
        "" => line(email),
        name => format!("{} <{}>", line(name), line(email)),
    }
}
