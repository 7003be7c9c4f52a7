//! Who one is.

use crate::{
    context::Context,
    failure::{Exit, Failure},
    grant::{self, fields, short},
    message::Me,
    terminal::Style,
    when,
};

pub(super) fn whoami(context: &Context) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let answer = api.get("/v1/me")?;
    let me: Me = answer.read()?;
    let now = api.now();
    let elevation = match &me.elevation {
        Some(grant) => {
            let role = context.terminal.paint(Style::Warning, &grant.role.to_string());
            let until = grant.expires_at.map(|end| when::local(end, now)).unwrap_or_default();
            let standing = grant.standing(now);
            format!(
                "{role} until {until}, {standing} ({})\n{}",
                short(&grant.id),
                grant::reason(grant)
            )
        }
        None => "none".to_owned(),
    };
    let mfa = match (me.mfa.enabled, me.mfa.required, me.mfa.grace_ends_at) {
        (true, ..) => format!("on, {} backup codes left", me.mfa.backup_codes_left),
        (false, true, Some(end)) => format!("off, and required from {}", when::both(end, now)),
        (false, true, None) => "off, and required".to_owned(),
        (false, false, _) => "off".to_owned(),
    };
    let words = fields(&[
        ("You", me.user.to_string()),
        ("Tenant", format!("{} ({})", me.tenant.name, me.tenant.slug)),
        ("Role", me.user.role.to_string()),
        ("Elevation", elevation),
        ("May", me.permissions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ("Two-factor", mfa),
        ("Session", format!("ends {}", when::both(me.session.expires_at, now))),
    ]);
    context.answer(&answer.body, &words)?;
    Ok(Exit::Done)
}
