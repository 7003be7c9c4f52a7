//! Receipts: who enforces a change, in words, and waiting for the rest.

use std::{fmt::Write as _, thread, time::Duration};

use serde_json::Value;

use crate::{
    api::{Answer, Api},
    context::Context,
    failure::{Exit, Failure},
    message::Receipt,
    terminal::{Progress, Style, Terminal},
    when::{self, Deadline},
};

/// An edge that is cut off is fenced after its lease and a margin: some seconds. After this long something
/// else is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the receipt is asked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// `3 of 3 edges enforce this · 4 ms`
pub(crate) fn words(receipt: &Receipt) -> String {
    let edges = &receipt.edges;
    let noun = if edges.total == 1 { "edge" } else { "edges" };
    let verb = if edges.acknowledged == 1 { "enforces" } else { "enforce" };
    let mut words = format!("{} of {} {noun} {verb} this", edges.acknowledged, edges.total);
    match edges.fenced {
        0 => {}
        1 => words.push_str(", 1 is cut off and decides nothing"),
        n => drop(write!(words, ", {n} are cut off and decide nothing")),
    }
    if receipt.enforced {
        let _ = write!(words, " · {}", took(receipt.took_ms));
    } else if !edges.waiting.is_empty() {
        let names: Vec<_> = edges.waiting.iter().map(ToString::to_string).collect();
        let _ = write!(words, ", not yet {}", names.join(", "));
    }
    words
}

fn took(ms: u64) -> String {
    match ms {
        0 => "under 1 ms".to_owned(),
        1..1000 => format!("{ms} ms"),
        _ => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}

/// The same, so that it is seen whether all is well.
pub(crate) fn line(terminal: Terminal, receipt: &Receipt) -> String {
    let style = if receipt.enforced { Style::Good } else { Style::Warning };
    terminal.paint(style, &words(receipt))
}

/// Waits until every edge enforces what an answer's receipt is about, and puts the last receipt into the
/// answer. Without a receipt there is nothing to wait for.
pub(crate) fn settle(
    context: &Context,
    api: &mut Api,
    answer: &mut Answer,
) -> Result<(Option<Receipt>, Exit), Failure> {
    let Some(value) = answer.body.get("receipt").filter(|receipt| !receipt.is_null()) else {
        return Ok((None, Exit::Done));
    };
    let mut receipt: Receipt = Answer { body: value.clone() }.read()?;
    let deadline = Deadline::after(PATIENCE);
    let mut progress = Progress::new(context.terminal);
    while !receipt.enforced && !deadline.is_over() {
        progress.say(&format!("{} …", words(&receipt)));
        thread::sleep(AGAIN);
        // Whoever cannot be asked now may be in a moment.
        if let Ok(asked) = api.get(&format!("/v1/receipts/{}", receipt.revision)) {
            let fresh = asked.body.get("receipt").cloned().unwrap_or(Value::Null);
            receipt = Answer { body: fresh.clone() }.read()?;
            answer.body["receipt"] = fresh;
        }
    }
    let exit = if receipt.enforced { Exit::Done } else { Exit::NotYet };
    Ok((Some(receipt), exit))
}

/// Some words, and who enforces what they say.
pub(crate) fn after(terminal: Terminal, words: String, receipt: Option<&Receipt>) -> String {
    match receipt {
        None => words,
        Some(receipt) if receipt.enforced => format!("{words}\n{}", line(terminal, receipt)),
        Some(receipt) => format!(
            "{words}\n{}\n\
             It is on record, but after {} not every edge has said that it enforces it.\n\
             Ask again:  breakglass receipt {}",
            line(terminal, receipt),
            when::duration(PATIENCE.as_secs()),
            receipt.revision
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(enforced: bool, edges: &Value, took_ms: u64) -> String {
        let receipt = json!({"revision": 7, "enforced": enforced, "edges": edges, "took_ms": took_ms, "new": 1});
        words(&serde_json::from_value(receipt).expect("a receipt"))
    }

    #[test]
    fn a_receipt_says_who_enforces() {
        let edges = json!({"total": 3, "acknowledged": 3, "fenced": 0, "waiting": []});
        assert_eq!(said(true, &edges, 4), "3 of 3 edges enforce this · 4 ms");
        assert_eq!(said(true, &edges, 0), "3 of 3 edges enforce this · under 1 ms");
        assert_eq!(
            said(true, &json!({"total": 1, "acknowledged": 1}), 1250),
            "1 of 1 edge enforces this · 1.2 s"
        );
        assert_eq!(
            said(true, &json!({"total": 3, "acknowledged": 2, "fenced": 1, "waiting": []}), 3456),
            "2 of 3 edges enforce this, 1 is cut off and decides nothing · 3.4 s"
        );
        assert_eq!(
            said(
                false,
                &json!({"total": 3, "acknowledged": 1, "waiting": ["eu-1", "us\u{1b}"]}),
                9
            ),
            "1 of 3 edges enforces this, not yet eu-1, us\\u{1b}"
        );
    }
}
