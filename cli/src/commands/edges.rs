//! How the edges stand, and who enforces a change.

use crate::{
    args,
    context::Context,
    failure::{Exit, Failure},
    message::{Edge, Edges, WithReceipt},
    receipt,
    table::Table,
    terminal::{self, Style},
};

pub(super) fn edges(context: &Context) -> Result<Exit, Failure> {
    let answer = context.api()?.get("/v1/edges")?;
    let edges: Edges = answer.read()?;
    let mut table = Table::new(&["EDGE", "REGION", "SESSIONS", "LEASE", "STATE"]);
    for edge in &edges.edges {
        let lease = match edge.lease_remaining_ms {
            0 => "over".to_owned(),
            ms => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        };
        table.row([
            (edge.id.to_string(), Style::Strong),
            (edge.region.to_string(), Style::Plain),
            (edge.cached_sessions.to_string(), Style::Plain),
            (lease, Style::Plain),
            standing(edge),
        ]);
    }
    let width = context.terminal.live.then(terminal::width).flatten();
    context.answer(&answer.body, &table.render(context.terminal, width))?;
    Ok(Exit::Done)
}

fn standing(edge: &Edge) -> (String, Style) {
    match edge.head.saturating_sub(edge.applied) {
        _ if edge.fenced => ("cut off, decides nothing".to_owned(), Style::Bad),
        0 => ("enforces all".to_owned(), Style::Good),
        1 => ("1 change behind".to_owned(), Style::Warning),
        n => (format!("{n} changes behind"), Style::Warning),
    }
}

pub(super) fn receipt(context: &Context, which: &args::Receipt) -> Result<Exit, Failure> {
    let answer = context.api()?.get(&format!("/v1/receipts/{}", which.revision))?;
    let receipt = answer.read::<WithReceipt>()?.receipt;
    context.answer(&answer.body, &receipt::line(context.terminal, &receipt))?;
    Ok(if receipt.enforced { Exit::Done } else { Exit::NotYet })
}
