//! Where tests keep the files of what they run: one directory, which goes with this process.
//!
//! What ends well cleans up by itself. A test that panics, or a run that is killed, does not: so a
//! shell waits for the end of this process, whatever its kind, and deletes the directory then.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

/// Waits for the end of its standard input. Servers may still write while they end, and browsers make
/// their directories anew: then again.
const SWEEP: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    rm -rf -- "$0"
    sleep 0.2
    [ -e "$0" ] || exit
done
"#;

struct Scratch {
    path: PathBuf,
    // The end of its standard input is the end of this process.
    _sweeper: Child,
}

/// A directory for a world, a server or a file; gone when dropped, or at the end of this process.
pub fn dir(prefix: &str) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(prefix).tempdir_in(root()?)
}

fn root() -> io::Result<&'static Path> {
    static SCRATCH: OnceLock<io::Result<Scratch>> = OnceLock::new();
    match SCRATCH.get_or_init(Scratch::make) {
        Ok(scratch) => Ok(&scratch.path),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

impl Scratch {
    fn make() -> io::Result<Self> {
        let path = tempfile::Builder::new().prefix("breakglass-").tempdir()?.keep();
        let sweeper = Command::new("sh")
            .args(["-c", SWEEP])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is not meant for it.
            .process_group(0)
            .spawn()?;
        Ok(Self { path, _sweeper: sweeper })
    }
}
