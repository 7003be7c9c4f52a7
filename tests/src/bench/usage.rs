//! Processor time of processes, where the system tells it (Linux).

use std::{fs, path::Path, time::Duration};

/// What all threads of a process have used so far; zero where it cannot be told.
pub(super) fn of(pid: u32) -> Duration {
    let mut nanoseconds = 0;
    for thread in entries(Path::new(&format!("/proc/{pid}/task"))) {
        let spent = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"));
        // Its first number is the time on a processor.
        let first = spent.ok().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        nanoseconds += first.unwrap_or(0);
    }
    Duration::from_nanos(nanoseconds)
}

/// The same of a process and its children.
pub(super) fn of_family(parent: u32) -> Duration {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in brackets may hold anything; after it come the state and the parent.
        let after = stat.rsplit(')').next().unwrap_or_default();
        after.split(' ').nth(2).and_then(|text| text.parse().ok()) == Some(parent)
    };
    of(parent) + entries(Path::new("/proc")).into_iter().filter(is_child).map(of).sum::<Duration>()
}

fn entries(dir: &Path) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
