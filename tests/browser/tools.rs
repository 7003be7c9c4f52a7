//! axe-core, which finds what keeps people with disabilities out. It comes from npm, once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha512};
use tokio::{process::Command, sync::OnceCell, time};

const VERSION: &str = "4.14.1";

/// SHA-512 of the package, as the registry has it.
const INTEGRITY: &str =
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==";

const DOWNLOAD_DEADLINE: Duration = Duration::from_mins(2);

/// A folder of what tests and builds leave behind.
pub(crate) fn target(folder: &str) -> io::Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(folder);
    fs::create_dir_all(&path)?;
    path.canonicalize()
}

/// The script.
pub(crate) async fn axe() -> anyhow::Result<&'static str> {
    static AXE: OnceCell<String> = OnceCell::const_new();
    Ok(AXE.get_or_try_init(load).await?)
}

async fn load() -> anyhow::Result<String> {
    let dir = target("tools")?;
    let package = dir.join(format!("axe-core-{VERSION}.tgz"));
    if !package.exists() {
        let name = format!("axe-core@{VERSION}");
        // Named only when it is whole.
        let part = tempfile::tempdir_in(&dir)?;
        let pack = ["pack", "--silent", &name, "--pack-destination"];
        run(Command::new("npm").args(pack).arg(part.path())).await?;
        fs::rename(part.path().join(package.file_name().context("a name")?), &package)?;
    }
    let found = BASE64_STANDARD.encode(Sha512::digest(fs::read(&package)?));
    ensure!(found == INTEGRITY, "{} is not what was published: {found}", package.display());
    let script = ["--to-stdout", "-xzf"];
    run(Command::new("tar").args(script).arg(&package).arg("package/axe.min.js")).await
}

/// Runs a program; what it printed.
async fn run(command: &mut Command) -> anyhow::Result<String> {
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = time::timeout(DOWNLOAD_DEADLINE, run)
        .await
        .with_context(|| format!("{command:?} takes too long"))?
        .with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
