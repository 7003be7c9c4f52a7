//! Finds things as people do: by what they are and what they are called, where they are.

use anyhow::{Context as _, bail};
use fantoccini::elements::Element;
use serde_json::{Value, json};
use tokio::time;

use crate::browser::{Browser, PATIENCE};

/// What a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Button,
    Link,
    /// A button, or a link that does what a button would.
    Action,
    Field,
    Heading,
    Region,
    Dialog,
    Status,
}

impl Kind {
    /// What may be one in HTML.
    const fn selector(self) -> &'static str {
        match self {
            Self::Button => "button, summary, input[type=submit], [role=button]",
            Self::Link => "a[href]",
            Self::Action => "a[href], button, summary",
            Self::Field => "input:not([type=hidden], [type=submit]), select, textarea",
            Self::Heading => "h1, h2, h3, h4, h5, h6",
            Self::Region => "section, [role=region]",
            Self::Dialog => "dialog, [role=dialog], [role=alertdialog]",
            Self::Status => "output, [role=status]",
        }
    }

    /// Whether assistive technology takes it for one, too.
    fn has(self, role: &str) -> bool {
        match self {
            Self::Button => role == "button" || role == "DisclosureTriangle",
            Self::Link => role == "link",
            Self::Action => Self::Button.has(role) || Self::Link.has(role),
            Self::Heading => role == "heading",
            Self::Region => role == "region",
            Self::Dialog => role == "dialog" || role == "alertdialog",
            Self::Status => role == "status",
            Self::Field => true,
        }
    }
}

/// Follows a path, each step within the one before: visible elements of a selector that contain a
/// text, or whose heading begins with one. Of a thing and what holds it, it is the thing.
const FOLLOW: &str = "
    const visible = e => e.checkVisibility({visibilityProperty: true});
    const heading = e => e.querySelector('h1, h2, h3')?.innerText ?? '';
    let places = [document.body];
    for (const step of arguments[0]) {
        places = [...new Set(places.flatMap(place => [...place.querySelectorAll(step.selector)]))]
            .filter(e => visible(e) && e.innerText.includes(step.text ?? ''))
            .filter(e => heading(e).startsWith(step.heading ?? ''));
        places = places.filter(e => !places.some(other => other !== e && e.contains(other)));
    }
";

/// What a selector finds at the end of the path.
const VISIBLE: &str = "
    const found = places.flatMap(place => [...place.querySelectorAll(arguments[1])]);
    return [...new Set(found)].filter(visible);
";

/// What can be read at the end of the path.
const TEXT: &str = "return places.map(place => place.innerText).join('\\n');";

/// What a field that is marked as wrong is described by.
const PROBLEM: &str = "
    const field = arguments[0];
    if (field.getAttribute('aria-invalid') !== 'true') return null;
    const ids = (field.getAttribute('aria-describedby') ?? '').split(' ');
    const shown = ids.map(id => document.getElementById(id)).filter(e => e?.checkVisibility());
    return shown.map(e => e.innerText).join(' ').trim() || null;
";

/// A part of what a browser shows: all of it, or less.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    browser: Browser,
    path: Vec<Value>,
}

impl Browser {
    /// The whole page.
    pub(crate) fn page(&self) -> Part {
        Part { browser: self.clone(), path: Vec::new() }
    }

    /// Waits until a question is answered with yes; says what it waited for if it never is.
    pub(crate) async fn until(
        &self,
        what: &str,
        asked: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        self.wait(what, async || Ok(asked().await?.then_some(()))).await
    }

    /// Waits until there is something. Errors are waited out as well: a page may be changing.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        sought: impl AsyncFn() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let mut last = None;
        let found = async {
            loop {
                match sought().await {
                    Ok(Some(found)) => return found,
                    Ok(None) => last = None,
                    Err(error) => last = Some(error),
                }
                time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        if let Ok(found) = time::timeout(PATIENCE, found).await {
            return Ok(found);
        }
        let place = self.place().await.unwrap_or_default();
        let why = last.map(|error| format!(" ({error:#})")).unwrap_or_default();
        bail!("{what}: not at {place}{why}")
    }

    /// Waits until it is at a path, with its query.
    pub(crate) async fn arrives(&self, path: &str) -> anyhow::Result<()> {
        self.until(&format!("the page {path}"), async || Ok(self.place().await? == path)).await
    }
}

impl Part {
    /// What is within elements of a selector.
    pub(crate) fn within(&self, selector: &str) -> Self {
        self.step(json!({"selector": selector}))
    }

    fn step(&self, step: Value) -> Self {
        let path = self.path.iter().cloned().chain([step]).collect();
        Self { browser: self.browser.clone(), path }
    }

    /// The section whose heading begins with a text.
    pub(crate) fn section(&self, heading: &str) -> Self {
        self.step(json!({"selector": "section", "heading": heading}))
    }

    /// The entry of a list or table that contains a text.
    pub(crate) fn row(&self, text: &str) -> Self {
        self.step(json!({"selector": "li, tr, article", "text": text}))
    }

    /// The dialog that is open.
    pub(crate) fn dialog(&self) -> Self {
        self.within("dialog[open]")
    }

    /// Waits for the one thing of this kind and name. A name that ends with `…` is the beginning of
    /// one.
    pub(crate) async fn find(&self, kind: Kind, name: &str) -> anyhow::Result<Element> {
        let what = format!("a {kind:?} named {name:?}");
        let found = self.browser.wait(&what, async || {
            let mut found = self.all(kind, name).await?;
            if found.len() > 1 {
                bail!("there are {}", found.len());
            }
            Ok(found.pop())
        });
        match found.await {
            Ok(element) => Ok(element),
            Err(error) => {
                let names = self.names(kind).await.unwrap_or_default();
                Err(error).with_context(|| format!("there are these {kind:?}s: {names:?}"))
            }
        }
    }

    /// All things of this kind and name that are there now.
    pub(crate) async fn all(&self, kind: Kind, name: &str) -> anyhow::Result<Vec<Element>> {
        let mut all = Vec::new();
        for element in self.visible(kind.selector()).await? {
            let is = self.browser.name_of(&element).await?;
            let named = match name.strip_suffix('…') {
                Some(beginning) => is.starts_with(beginning),
                None => is == name,
            };
            if named && kind.has(&self.browser.role_of(&element).await?) {
                all.push(element);
            }
        }
        Ok(all)
    }

    /// What things of a kind are called.
    pub(crate) async fn names(&self, kind: Kind) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for element in self.visible(kind.selector()).await? {
            names.push(self.browser.name_of(&element).await?);
        }
        Ok(names)
    }

    /// Elements of a selector that can be seen.
    pub(crate) async fn visible(&self, selector: &str) -> anyhow::Result<Vec<Element>> {
        let script = format!("{FOLLOW}{VISIBLE}");
        self.browser.elements(&script, vec![json!(self.path), json!(selector)]).await
    }

    /// Clicks on a thing once it is there.
    pub(crate) async fn click(&self, kind: Kind, name: &str) -> anyhow::Result<()> {
        let what = format!("a click on the {kind:?} named {name:?}");
        // What a page replaces while it is being clicked on is looked for anew.
        let clicked =
            self.browser.wait(&what, async || match self.all(kind, name).await?.as_slice() {
                [] => Ok(None),
                [one] => {
                    one.click().await?;
                    Ok(Some(()))
                }
                more => bail!("there are {}", more.len()),
            });
        match clicked.await {
            Ok(()) => Ok(()),
            Err(error) => {
                let names = self.names(kind).await.unwrap_or_default();
                Err(error).with_context(|| format!("there are these {kind:?}s: {names:?}"))
            }
        }
    }

    /// Puts a text into the field of a name, in place of what is there.
    pub(crate) async fn fill(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let what = format!("a text in the field named {name:?}");
        // What a page replaces meanwhile is looked for anew.
        let filled = self.browser.wait(&what, async || {
            let fields = self.all(Kind::Field, name).await?;
            let [field] = fields.as_slice() else { bail!("there are {}", fields.len()) };
            if field.tag_name().await? == "select" {
                field.select_by_label(text).await?;
            } else {
                field.clear().await?;
                field.send_keys(text).await?;
            }
            Ok(Some(()))
        });
        match filled.await {
            Ok(()) => Ok(()),
            Err(error) => {
                let names = self.names(Kind::Field).await.unwrap_or_default();
                Err(error).with_context(|| format!("there are these fields: {names:?}"))
            }
        }
    }

    /// What can be read.
    pub(crate) async fn text(&self) -> anyhow::Result<String> {
        let text = self.browser.run(&format!("{FOLLOW}{TEXT}"), vec![json!(self.path)]).await?;
        Ok(text.as_str().unwrap_or("").to_owned())
    }

    /// Waits until a text can be read.
    pub(crate) async fn shows(&self, text: &str) -> anyhow::Result<()> {
        let shown = async || Ok(self.text().await?.contains(text));
        match self.browser.until(&format!("the text {text:?}"), shown).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let text = self.text().await.unwrap_or_default();
                Err(error).with_context(|| format!("there is: {text}"))
            }
        }
    }

    /// Waits until a text can no longer be read.
    pub(crate) async fn hides(&self, text: &str) -> anyhow::Result<()> {
        let hidden = async || Ok(!self.text().await?.contains(text));
        self.browser.until(&format!("an end of the text {text:?}"), hidden).await
    }

    /// Waits until something is said to be wrong with a field: it is marked, and described by what.
    pub(crate) async fn problem(&self, field: &str) -> anyhow::Result<String> {
        let what = format!("a problem beside {field:?}");
        let said = self.browser.wait(&what, async || {
            let Some(field) = self.all(Kind::Field, field).await?.pop() else { return Ok(None) };
            let said = self.browser.run(PROBLEM, vec![serde_json::to_value(&field)?]).await?;
            Ok(said.as_str().map(ToOwned::to_owned))
        });
        match said.await {
            Ok(said) => Ok(said),
            Err(error) => {
                let text = self.text().await.unwrap_or_default();
                Err(error).with_context(|| format!("there is: {text}"))
            }
        }
    }
}
