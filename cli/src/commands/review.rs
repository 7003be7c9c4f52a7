//! Saying whether a grant was used as it should be.

use serde_json::json;

use crate::{
    args::{self, Outcome},
    context::Context,
    failure::{Exit, Failure},
    grant,
    message::OneGrant,
    pick::{self, Wanted},
    terminal,
};

pub(super) fn review(context: &Context, what: args::Review) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let id = pick::full_id(&mut api, &what.id, Wanted::Any)?;
    if (what.outcome.is_none() || what.note.is_none()) && context.terminal.interactive {
        let seen = api.get(&format!("/v1/emergency/grants/{id}"))?.read::<OneGrant>()?.grant;
        terminal::note(&grant::details(&seen, context.terminal.for_notes(), api.now()));
    }
    let outcome = match what.outcome {
        Some(outcome) => outcome,
        None => {
            match context.ask("--outcome", "Justified, or misuse?", "")?.to_lowercase().as_str() {
                "justified" => Outcome::Justified,
                "misuse" => Outcome::Misuse,
                _ => return Err(Failure::usage("The outcome is “justified” or “misuse”.")),
            }
        }
    };
    let note = match what.note {
        Some(note) => note,
        None => context.ask("--note", "What you found", "")?,
    };
    let body = json!({"outcome": outcome.as_str(), "note": note});
    let answer = api.post(&format!("/v1/emergency/grants/{id}/review"), &body)?;
    let grant = answer.read::<OneGrant>()?.grant;
    let words = format!(
        "Reviewed as {}.\n\n{}",
        outcome.as_str(),
        grant::details(&grant, context.terminal, api.now())
    );
    context.answer(&answer.body, &words)?;
    Ok(Exit::Done)
}
