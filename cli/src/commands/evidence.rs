//! The whole story of a grant.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::{
    args,
    context::Context,
    failure::{Exit, Failure},
    grant::{self, short},
    message::{Action, Entry, Evidence, Grant, Text},
    pick::{self, Wanted},
    table::Table,
    terminal::{self, Style, Terminal},
    when,
};

pub(super) fn evidence(context: &Context, which: &args::Which) -> Result<Exit, Failure> {
    let mut api = context.api()?;
    let id = pick::full_id(&mut api, &which.id, Wanted::Any)?;
    let answer = api.get(&format!("/v1/emergency/grants/{id}/evidence"))?;
    if context.global.json {
        terminal::print_json(&answer.body)?;
        return Ok(Exit::Done);
    }
    let width = context.terminal.live.then(terminal::width).flatten();
    terminal::print(&words(&answer.read()?, context.terminal, api.now(), width))?;
    Ok(Exit::Done)
}

fn words(evidence: &Evidence, terminal: Terminal, now: Timestamp, width: Option<usize>) -> String {
    let Evidence { grant, record, actions, .. } = evidence;
    let mut text = grant::details(grant, terminal, now);
    if let Some(by) = &evidence.extended_by {
        let _ = writeln!(text, "\nIt went on as grant {}.", short(by));
    }
    text.push_str("\nOn record, while it was active and about it:\n\n");
    text.push_str(&on_record(grant, record, now).render(terminal, width));
    text.push_str(&rest(evidence.record_total, record.len()));
    if actions.is_empty() {
        text.push_str("\nNothing was done by it behind reverse proxies.\n");
    } else {
        text.push_str("\nDone by it behind reverse proxies, in each minute:\n\n");
        text.push_str(&done(actions, now).render(terminal, width));
        text.push_str(&rest(evidence.actions_total, actions.len()));
    }
    text
}

fn on_record(grant: &Grant, record: &[Entry], now: Timestamp) -> Table {
    let mut table = Table::new(&["AT", "WHO", "WHAT", "TO"]);
    for entry in record {
        table.row([
            (when::local(entry.at, now), Style::Plain),
            (name(grant, &entry.actor), Style::Plain),
            (entry.action.to_string(), Style::Strong),
            (entry.target.as_ref().map(ToString::to_string).unwrap_or_default(), Style::Faint),
        ]);
    }
    table
}

fn done(actions: &[Action], now: Timestamp) -> Table {
    let mut table = Table::new(&["MINUTE", "TIMES", "DECIDED", "METHOD", "WHERE"]);
    for action in actions {
        let (decided, style) =
            if action.allowed { ("allowed", Style::Plain) } else { ("refused", Style::Bad) };
        let place = if action.method.is_empty() {
            "too many different ones to tell".to_owned()
        } else {
            format!("{}{}", action.host, action.path)
        };
        table.row([
            (when::local(action.minute, now), Style::Plain),
            (action.count.to_string(), Style::Plain),
            (decided.to_owned(), style),
            (action.method.to_string(), Style::Plain),
            (place, Style::Plain),
        ]);
    }
    table
}

/// The address of whoever the grant itself names; others by their id or service.
fn name(grant: &Grant, actor: &Text) -> String {
    let people = std::iter::once(&grant.user)
        .chain(grant.approvals.iter().map(|approval| &approval.user))
        .chain(&grant.ended_by)
        .chain(grant.review.iter().filter_map(|review| review.reviewer.as_ref()));
    let mut known = people.filter(|person| person.id == *actor);
    known.next().map_or_else(|| actor.to_string(), |person| person.email.to_string())
}

fn rest(total: usize, shown: usize) -> String {
    match total.saturating_sub(shown) {
        0 => String::new(),
        more => format!("and {more} more\n"),
    }
}
