//! A wall clock of its own for each process, by libfaketime (Debian's package `faketime`).
//!
//! Services read their wall clock through libc, and so does Postgres: both are fooled. Steady
//! clocks are left alone: `CLOCK_MONOTONIC` by configuration, `CLOCK_BOOTTIME`, by which leases are
//! counted, because rustix reads it without libc.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::Context as _;
use local::process::Launch;

/// The wall clock of one process, which may be off. It shows the machine's time at first.
#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
}

impl WallClock {
    /// Changes how a process is started so that it goes by a clock that is set through `file`,
    /// which it must be able to read.
    pub fn fool(launch: &mut Launch, file: PathBuf, threads: Threads) -> anyhow::Result<Self> {
        let clock = Self { file };
        clock.set(0)?;
        let mut preload = OsString::from("LD_PRELOAD=");
        preload.push(library(threads)?);
        let mut read_from = OsString::from("FAKETIME_TIMESTAMP_FILE=");
        read_from.push(&clock.file);
        // Not through the child's environment: what starts it would be fooled as well.
        let mut args = vec![preload, read_from];
        args.extend(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"].map(OsString::from));
        args.push(std::mem::replace(&mut launch.program, "/usr/bin/env".into()).into());
        args.append(&mut launch.args);
        launch.args = args;
        Ok(clock)
    }

    /// Sets the clock this far before or behind the machine's, while the process runs.
    pub fn set(&self, seconds: i64) -> io::Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        fs::rename(new, &self.file)
    }
}

/// Which variant of the library fits.
#[derive(Debug, Clone, Copy)]
pub enum Threads {
    /// It takes a lock, which a signal handler of a process with one thread would wait for forever.
    One,
    /// Without one, threads would read a clock half set.
    Many,
}

/// The library, as the package's own program names it to the dynamic linker.
fn library(threads: Threads) -> anyhow::Result<PathBuf> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = LIBRARY.get_or_init(|| {
        let mut ask = Command::new("faketime");
        let answer = ask.args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output().ok()?;
        answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).trim().into())
    });
    let many = found.as_ref().context("faketime is missing; install it (package faketime)")?;
    Ok(match threads {
        Threads::Many => many.clone(),
        Threads::One => many.with_file_name("libfaketime.so.1"),
    })
}

/// Deletes what the library left in shared memory for processes that were killed.
pub fn sweep() {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| {
            name.strip_prefix("faketime_shm_").or(name.strip_prefix("sem.faketime_sem_"))
        });
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another run may sweep at the same time.
            let _ = fs::remove_file(entry.path());
        }
    }
}
