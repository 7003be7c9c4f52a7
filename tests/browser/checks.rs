//! What holds for every page.

use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    screen::{SCHEMES, SIZES},
    tools,
};

/// What a page may weigh on the wire, in bytes.
const MAX_WEIGHT: u64 = 150_000;

/// The document, its stylesheet and one script.
const MAX_FILES: usize = 3;

/// WCAG 2.2 at level AA is all of these.
const RULES: [&str; 6] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

const RUN_AXE: &str = "
    const [rules, done] = arguments;
    axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})
        .then(result => done(result.violations), error => done(String(error)));
";

/// What went over the wire for this page, asked in the page itself. The icon and what scripts ask for,
/// which no page waits for, are counted by weight alone; a live connection is not over yet, and so not
/// in the list.
const TRAFFIC: &str = "
    const icon = document.querySelector('link[rel=icon]')?.href;
    const own = ['fetch', 'xmlhttprequest', 'beacon', 'eventsource'];
    return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
        .map(e => ({url: e.name, bytes: e.encodedBodySize, file: e.name !== icon && !own.includes(e.initiatorType)}));
";

/// What is wider than there is room for: the page itself, or what is open over it.
const TOO_WIDE: &str = "
    const wide = [document.documentElement, ...document.querySelectorAll('dialog[open]')]
        .filter(e => e.scrollWidth > e.clientWidth);
    if (!wide.length) return [];
    const edge = document.documentElement.clientWidth;
    return [...document.body.querySelectorAll('*')]
        .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > edge + 0.5)
        .map(e => e.outerHTML.slice(0, 120)).concat(wide.map(e => e.nodeName)).slice(0, 6);
";

impl Browser {
    /// Fails with what keeps people with disabilities from using the page as it is now.
    pub(crate) async fn accessible(&self) -> anyhow::Result<()> {
        self.run(tools::axe().await?, vec![]).await?;
        let found = self.client().execute_async(RUN_AXE, vec![json!(RULES)]).await?;
        let violations = found.as_array().with_context(|| format!("axe fails: {found}"))?;
        let mut report = String::new();
        for violation in violations {
            let text = |key: &str| violation[key].as_str().unwrap_or("").to_owned();
            writeln!(report, "{}: {} ({})", text("id"), text("help"), text("impact"))?;
            for node in violation["nodes"].as_array().into_iter().flatten().take(5) {
                let summary = node["failureSummary"].as_str().unwrap_or("").replace('\n', " ");
                writeln!(report, "    {}\n        {summary}", node["html"].as_str().unwrap_or(""))?;
            }
        }
        ensure!(violations.is_empty(), "{} is not accessible:\n{report}", self.place().await?);
        Ok(())
    }

    /// Fails if the page scrolls sideways, with what sticks out.
    pub(crate) async fn fits(&self) -> anyhow::Result<()> {
        let wide = self.run(TOO_WIDE, vec![]).await?;
        let wide = wide.as_array().context("a list")?;
        ensure!(wide.is_empty(), "{} scrolls sideways: {wide:#?}", self.place().await?);
        Ok(())
    }

    /// Fails if the page that was just opened is heavy, or made of many files. Tells its weight.
    pub(crate) async fn light(&self) -> anyhow::Result<(u64, usize)> {
        let traffic = self.run(TRAFFIC, vec![]).await?;
        let traffic = traffic.as_array().context("a list")?;
        let weight = traffic.iter().filter_map(|entry| entry["bytes"].as_u64()).sum();
        let files: Vec<_> = traffic.iter().filter(|entry| entry["file"] == true).collect();
        let place = self.place().await?;
        ensure!(weight <= MAX_WEIGHT, "{place} weighs {weight} bytes: {traffic:#?}");
        ensure!(files.len() <= MAX_FILES, "{place} needs {} files: {files:#?}", files.len());
        Ok((weight, files.len()))
    }

    /// Fails if the console said that something is wrong. A refusal that a form was answered with is
    /// none: browsers log every answer of 400 and above.
    pub(crate) async fn quiet(&self) -> anyhow::Result<()> {
        self.read_console().await?;
        let console = self.console.lock();
        let wrong: Vec<_> = console.iter().filter(|entry| is_wrong(entry)).collect();
        if !wrong.is_empty() {
            bail!("the console says: {wrong:#?}");
        }
        Ok(())
    }

    /// All of it, at every size and in every colour scheme, with a picture of each.
    pub(crate) async fn good(&self, name: &str) -> anyhow::Result<()> {
        for (width, height) in SIZES {
            self.resize(width, height).await?;
            for scheme in SCHEMES {
                self.prefer(scheme).await?;
                self.picture(&format!("{name}-{width}-{scheme}")).await?;
                let there = || format!("{name}, {width} pixels wide, {scheme}");
                self.fits().await.with_context(there)?;
                self.accessible().await.with_context(there)?;
            }
        }
        self.prefer(SCHEMES[0]).await?;
        self.resize(SIZES[0].0, SIZES[0].1).await?;
        self.quiet().await
    }
}

/// Whether an entry of the console tells of something wrong.
fn is_wrong(entry: &Value) -> bool {
    let said = entry["message"].as_str().unwrap_or("");
    let refused = ["400", "401", "403", "409", "422", "429"]
        .iter()
        .any(|status| said.contains(&format!("the server responded with a status of {status} ")));
    entry["level"] == "SEVERE" && !(entry["source"] == "network" && refused)
}
