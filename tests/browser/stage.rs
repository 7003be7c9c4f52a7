//! Where a test plays: a whole Breakglass and browsers, all gone after it.

use std::{panic::AssertUnwindSafe, thread, time::Duration};

use anyhow::{Context as _, anyhow};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tests::{Options, World};
use tokio::{sync::Semaphore, time};

use crate::browser::{Browser, Scripts};

/// Browsers are greedy, and a machine that is short of time makes tests fail.
static PLACES: Semaphore = Semaphore::const_new(2);

const DEADLINE: Duration = Duration::from_mins(4);

/// A running Breakglass, and the browsers that were started before it.
pub(crate) struct Stage {
    pub(crate) world: World,
    browsers: Mutex<Vec<Browser>>,
}

/// Plays a test.
pub(crate) async fn play(
    test: impl AsyncFnOnce(&Stage) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    play_with(Options::default(), test).await
}

/// Plays a test in a special world.
pub(crate) async fn play_with(
    options: Options,
    test: impl AsyncFnOnce(&Stage) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let _place = PLACES.acquire().await?;
    let world = World::start_with(options).await?;
    let stage = Stage { world, browsers: Mutex::default() };
    let played = AssertUnwindSafe(time::timeout(DEADLINE, test(&stage))).catch_unwind().await;
    let result = match played {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(anyhow!("it takes too long")),
        // The panic's own message is on standard error.
        Err(_) => Err(anyhow!("it panicked")),
    };
    let browsers = stage.browsers.into_inner();
    let result = end(&browsers, result).await;
    stage.world.end().await;
    result
}

/// Ends the browsers, whatever happened; keeps pictures if the test failed, and lets it fail if a
/// console is not empty.
async fn end(browsers: &[Browser], mut result: anyhow::Result<()>) -> anyhow::Result<()> {
    let test = thread::current().name().unwrap_or("test").replace("::", "-");
    for (number, browser) in browsers.iter().enumerate() {
        if result.is_ok() {
            result = browser.quiet().await.with_context(|| format!("in browser {number}"));
        }
        if result.is_err() {
            // What it looked like helps, but is not what failed.
            let picture = browser.picture(&format!("failed/{test}-{number}")).await;
            let shown = browser.page().text().await.unwrap_or_default();
            let _ = browser.read_console().await;
            eprintln!("browser {number}, {picture:?}, shows:\n{shown}");
            eprintln!("its console: {:#?}", browser.console.lock());
        }
        let closed = browser.close().await;
        result = result.and(closed);
    }
    result
}

impl Stage {
    /// A browser that nobody has used.
    pub(crate) async fn browser(&self) -> anyhow::Result<Browser> {
        self.browser_with(Scripts::Run, &[]).await
    }

    /// A browser with scripts off or more flags.
    pub(crate) async fn browser_with(
        &self,
        scripts: Scripts,
        flags: &[String],
    ) -> anyhow::Result<Browser> {
        let browser = Browser::start(scripts, flags).await?;
        self.browsers.lock().push(browser.clone());
        Ok(browser)
    }

    /// Opens a page at an edge, counted from 1.
    pub(crate) async fn open(
        &self,
        browser: &Browser,
        edge: usize,
        path: &str,
    ) -> anyhow::Result<()> {
        browser.go(&format!("{}{path}", self.world.edge(edge))).await
    }
}
