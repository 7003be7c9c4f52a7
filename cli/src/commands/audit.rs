//! The audit record: verifying an export of it, without asking anybody.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
};

use chain::{Report, Verifier};
use serde_json::json;

use crate::{
    args::{Audit, AuditCommand, Verify},
    context::Context,
    failure::{Exit, Failure},
    harmless,
    terminal::Style,
    when,
};

pub(super) fn audit(context: &Context, what: &Audit) -> Result<Exit, Failure> {
    match &what.command {
        AuditCommand::Verify(what) => verify(context, what),
    }
}

fn verify(context: &Context, what: &Verify) -> Result<Exit, Failure> {
    let report = read(what).map_err(|error| {
        Failure::other(format!("{} cannot be read: {error}", what.export.display()))
    })?;
    let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    let json = json!({
        "intact": report.is_intact(),
        "tenant": report.tenant,
        "entries": report.entries,
        "heads": report.heads,
        "covered": report.covered,
        "covered_at": report.covered_at,
        "uncovered": report.uncovered,
        "ends_with_export": report.ends_with_export,
        "problems": problems,
        "more_problems": report.more_problems,
    });
    context.answer(&json, &words(context, &report))?;
    Ok(if report.is_intact() { Exit::Done } else { Exit::Refused })
}

fn read(what: &Verify) -> io::Result<Report> {
    let mut file = BufReader::new(File::open(&what.export)?);
    let mut verifier = Verifier::new(&what.public_key, &what.head);
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        verifier.line(line.strip_suffix(b"\n").unwrap_or(&line));
        line.clear();
    }
    Ok(verifier.finish())
}

fn words(context: &Context, report: &Report) -> String {
    let terminal = context.terminal;
    let verdict = if report.is_intact() {
        terminal.paint(Style::Good, "The record is intact.")
    } else {
        terminal.paint(Style::Bad, "The record is not intact.")
    };
    let mut lines = vec![verdict];
    if let Some(tenant) = report.tenant {
        lines.push(format!("It is that of tenant {tenant}; entries: {}.", report.entries));
    }
    if let Some(at) = &report.covered_at {
        let Report { covered, uncovered, heads, .. } = report;
        lines.push(format!(
            "Signed up to entry {covered}, the last time at {at}; heads: {heads}. Not signed yet: {uncovered}."
        ));
    }
    if let Some(longest) = report.longest_unsigned {
        let waited = when::duration(longest.lasted.as_secs());
        lines.push(format!(
            "Longest wait for a head: {waited}, entries {} to {}.",
            longest.from, longest.to
        ));
    }
    if !report.ends_with_export {
        lines.push("The last entry is not that of an export: the end may be missing.".to_owned());
    }
    lines.extend(report.problems.iter().map(|problem| {
        let problem = harmless::line(&problem.to_string());
        terminal.paint(Style::Bad, &format!("Wrong: {problem}."))
    }));
    if report.more_problems > 0 {
        lines.push(format!("And {} more.", report.more_problems));
    }
    lines.join("\n")
}
