//! One browser: a fresh profile with one window.

use std::{fmt, time::Duration};

use anyhow::Context as _;
use fantoccini::{
    Client, ClientBuilder,
    actions::{InputSource as _, KeyAction, KeyActions},
    elements::{Element, ElementRef},
    key::Key,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::Mutex;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::scratch;
use tokio::time;
use url::ParseError;

use crate::driver;

/// Nothing on a page takes this long, unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How `WebDriver` names an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

const ARGUMENTS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    // They take room that phones have.
    "--hide-scrollbars",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-crash-reporter",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Whether pages may run scripts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scripts {
    Run,
    AreOff,
}

/// A browser; cheap to clone, and then the same one.
#[derive(Clone)]
pub(crate) struct Browser {
    client: Client,
    profile: std::sync::Arc<TempDir>,
    /// What its console said so far.
    pub(crate) console: std::sync::Arc<Mutex<Vec<Value>>>,
}

impl Browser {
    /// Starts one, with flags besides the usual ones.
    pub(crate) async fn start(scripts: Scripts, flags: &[String]) -> anyhow::Result<Self> {
        let profile = scratch::dir("profile-")?;
        let mut args: Vec<String> = ARGUMENTS.map(Into::into).into();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        args.extend_from_slice(flags);
        let mut chrome = json!({"args": args});
        if scripts == Scripts::AreOff {
            chrome["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
        }
        let capabilities = json!({
            "goog:chromeOptions": chrome,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"pageLoad": 20_000, "script": 20_000, "implicit": 0},
            "unhandledPromptBehavior": "ignore",
        });
        let capabilities: Capabilities = serde_json::from_value(capabilities)?;
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let connect = builder.capabilities(capabilities).connect(driver::url().await?);
        let client =
            time::timeout(PATIENCE, connect).await.context("the browser does not start")??;
        let browser =
            Self { client, profile: std::sync::Arc::new(profile), console: <_>::default() };
        browser.resize(1280, 900).await?;
        Ok(browser)
    }

    /// The session with the driver.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Goes to an address.
    pub(crate) async fn go(&self, url: &str) -> anyhow::Result<()> {
        self.client.goto(url).await.with_context(|| format!("cannot open {url}"))
    }

    /// The path and query of where it is.
    pub(crate) async fn place(&self) -> anyhow::Result<String> {
        let url = self.client.current_url().await?;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(format!("{}{query}", url.path()))
    }

    /// Runs a script in the page, by the driver's right: the page's policy has no say.
    pub(crate) async fn run(&self, script: &str, args: Vec<Value>) -> anyhow::Result<Value> {
        Ok(self.client.execute(script, args).await?)
    }

    /// The elements that a script returns.
    pub(crate) async fn elements(
        &self,
        script: &str,
        args: Vec<Value>,
    ) -> anyhow::Result<Vec<Element>> {
        let found = self.run(script, args).await?;
        let ids = found.as_array().context("a list of elements")?.iter();
        let ids = ids.filter_map(|element| element[ELEMENT].as_str());
        let element = |id: &str| {
            Element::from_element_id(self.client.clone(), ElementRef::from(id.to_owned()))
        };
        Ok(ids.map(element).collect())
    }

    /// Sends a command of the `DevTools` protocol.
    pub(crate) async fn devtools(&self, command: &str, params: Value) -> anyhow::Result<Value> {
        let body = json!({"cmd": command, "params": params});
        let answer = self.client.issue_cmd(Post("goog/cdp/execute".into(), body)).await;
        answer.with_context(|| format!("{command} failed"))
    }

    /// Presses keys, one after the other.
    pub(crate) async fn press(&self, keys: &[Key]) -> anyhow::Result<()> {
        for key in keys {
            let value = key.chars().next().context("a key")?;
            let actions = KeyActions::new("keyboard".into())
                .then(KeyAction::Down { value })
                .then(KeyAction::Up { value });
            self.client.perform_actions(actions).await?;
        }
        Ok(())
    }

    /// Types into whatever has the focus.
    pub(crate) async fn type_text(&self, text: &str) -> anyhow::Result<()> {
        let mut actions = KeyActions::new("keyboard".into());
        for value in text.chars() {
            actions = actions.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        }
        Ok(self.client.perform_actions(actions).await?)
    }

    /// What has the focus: its role and its name.
    pub(crate) async fn focus(&self) -> anyhow::Result<String> {
        let element = self.client.active_element().await?;
        let (role, name) = (self.role_of(&element).await?, self.name_of(&element).await?);
        Ok(format!("{role} {name}"))
    }

    /// The name by which assistive technology calls an element.
    pub(crate) async fn name_of(&self, element: &Element) -> anyhow::Result<String> {
        self.computed(element, "computedlabel").await
    }

    /// What assistive technology takes an element for.
    pub(crate) async fn role_of(&self, element: &Element) -> anyhow::Result<String> {
        self.computed(element, "computedrole").await
    }

    async fn computed(&self, element: &Element, what: &str) -> anyhow::Result<String> {
        let path = format!("element/{}/{what}", &*element.element_id());
        let answer = self.client.issue_cmd(Get(path)).await?;
        Ok(answer.as_str().unwrap_or("").to_owned())
    }

    /// Takes what the console said since the last time to what it said before.
    pub(crate) async fn read_console(&self) -> anyhow::Result<()> {
        let read = Post("se/log".into(), json!({"type": "browser"}));
        let said = self.client.issue_cmd(read).await?;
        self.console.lock().extend(said.as_array().cloned().unwrap_or_default());
        Ok(())
    }

    /// Ends it.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        let close = self.client.clone().close();
        time::timeout(PATIENCE, close).await.context("the browser does not end")??;
        Ok(())
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// A command that fantoccini does not know, by the rest of its path.
#[derive(Debug)]
struct Get(String);

#[derive(Debug)]
struct Post(String, Value);

fn endpoint(base: &Url, session: Option<&str>, rest: &str) -> Result<Url, ParseError> {
    base.join(&format!("session/{}/{rest}", session.unwrap_or_default()))
}

impl WebDriverCompatibleCommand for Get {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        endpoint(base, session, &self.0)
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::GET, None)
    }
}

impl WebDriverCompatibleCommand for Post {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        endpoint(base, session, &self.0)
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.1.to_string()))
    }
}
