//! chromedriver: one for this process, which ends with it.

use std::{fs, path::Path, time::Duration};

use anyhow::anyhow;
use local::process::{Launch, Orphaned, Process, Signal};
use tempfile::TempDir;
use tests::scratch;
use tokio::{sync::OnceCell, time};

/// A browser starts slowly on a machine that does much else.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Browsers outlive a chromedriver that is killed, but are of its process group: all of that ends when
/// the standard input does.
const GROUP: &str = r#"trap '' QUIT; chromedriver "$@" </dev/null & read -r _; kill -KILL 0"#;

struct Driver {
    url: String,
    _process: Process,
    _dir: TempDir,
}

static DRIVER: OnceCell<Driver> = OnceCell::const_new();

/// Where it listens.
pub(crate) async fn url() -> anyhow::Result<&'static str> {
    Ok(&DRIVER.get_or_try_init(start).await?.url)
}

async fn start() -> anyhow::Result<Driver> {
    let dir = scratch::dir("driver-")?;
    let log = dir.path().join("log");
    let process = Process::start(&Launch {
        program: "/bin/sh".into(),
        args: ["-c", GROUP, "sh", "--port=0", "--log-level=WARNING"].map(Into::into).into(),
        // Chromium leaves sockets and locks there.
        env: vec![("TMPDIR", dir.path().into()), ("HOME", dir.path().into())],
        log: log.clone(),
        dir: dir.path().to_owned(),
        user: None,
        leash: true,
        orphaned: Orphaned::Quit,
        stop: Signal::QUIT,
        grace: Duration::from_secs(5),
    })?;
    let started = async {
        loop {
            if let Some(port) = port(&log)? {
                return anyhow::Ok(port);
            }
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    let port = time::timeout(START_DEADLINE, started).await.map_err(|_| {
        let said = fs::read_to_string(&log).unwrap_or_default();
        anyhow!("chromedriver does not start: {said}")
    })??;
    Ok(Driver { url: format!("http://127.0.0.1:{port}"), _process: process, _dir: dir })
}

/// What it says once it listens.
fn port(log: &Path) -> anyhow::Result<Option<u16>> {
    let said = fs::read_to_string(log)?;
    let port = said.lines().find_map(|line| line.split("started successfully on port ").nth(1));
    Ok(port.map(|port| port.trim_end_matches('.').parse()).transpose()?)
}
