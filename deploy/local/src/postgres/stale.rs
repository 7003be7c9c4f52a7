//! What a Postgres that did not stop by itself leaves behind.
//!
//! Postgres itself copes with a pid file whose process is gone. It refuses to start where the pid has
//! gone to another process of the same user (pids repeat after a reboot, and in containers nearly
//! always), where the earlier server still lives, and where one of its children is too busy to have
//! noticed that the server died.

use std::{fs, io, path::Path};

use rustix::process::{Pid, Signal, kill_process};

/// Ends earlier processes of a cluster and deletes a pid file that speaks of something else.
///
/// Ending takes them a moment, in which a server does not start and has to be tried again. Does
/// nothing where there is no `/proc`: there Postgres decides alone.
///
/// Must only be called by who alone may start this cluster, while its server is not running.
pub(super) fn clear(data: &Path) {
    let earlier = processes(data);
    for pid in earlier.iter().copied().filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::QUIT);
    }
    let path = data.join("postmaster.pid");
    if is_misleading(&path, &earlier) {
        let _ = fs::remove_file(&path);
    }
}

/// The processes of Postgres that work in a data directory, as all of a cluster do.
fn processes(data: &Path) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_postgres = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|dir| dir == data)
            && fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name == "postgres\n")
    };
    pids.filter(is_postgres).collect()
}

/// Whether a pid file names no process, or one that is none of the cluster's.
fn is_misleading(path: &Path, cluster: &[i32]) -> bool {
    let content = match fs::read_to_string(path) {
        Ok(content) => content,
        Err(error) => return error.kind() == io::ErrorKind::InvalidData,
    };
    let pid = content.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
    pid.is_none_or(|pid| !cluster.contains(&pid) && Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misleads(content: &str, cluster: &[i32]) -> bool {
        let random = u64::from_le_bytes(shared::random::bytes());
        let path = std::env::temp_dir().join(format!("breakglass-stale-{random}"));
        fs::write(&path, content).expect("the temporary directory can be written");
        let misleading = is_misleading(&path, cluster);
        fs::remove_file(path).expect("it was just written");
        misleading
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pid_file_misleads_when_its_pid_is_something_else() {
        let own = std::process::id().cast_signed();
        assert!(misleads(&format!("{own}\n/data\n"), &[]));
        assert!(!misleads(&format!("{own}\n/data\n"), &[own]));
        assert!(misleads("", &[]));
        assert!(!misleads("2147483646\n/data\n", &[]), "Postgres knows that it is gone");
    }
}
