//! What flows do to the processes of a world, besides what [`local::stack::Stack`] offers.

use std::{fs, sync::Arc};

use anyhow::Context as _;
use local::process::{Launch, Orphaned, Process, Signal};
use rustix::process::{Pid, kill_process};
use secrecy::ExposeSecret as _;

use crate::World;

/// A process that stands still, with all its children. Goes on when dropped.
#[derive(Debug)]
#[must_use = "it goes on at once when this is dropped"]
pub struct Paused(Vec<Pid>);

impl Drop for Paused {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that ended meanwhile needs nothing.
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

impl World {
    /// Stops a process and its children in their tracks (SIGSTOP): connections stay open, nothing
    /// answers.
    pub fn pause(&self, name: &str) -> anyhow::Result<Paused> {
        let pid = self.stack.pid(name).with_context(|| format!("{name} is running"))?;
        let parent = pid.cast_signed();
        let mut paused = Paused(Vec::new());
        // The parent first, so that no new child escapes.
        let pids = std::iter::once(parent).chain(std::iter::from_fn({
            let mut children = None;
            move || children.get_or_insert_with(|| children_of(parent)).pop()
        }));
        for pid in pids.filter_map(Pid::from_raw) {
            if kill_process(pid, Signal::STOP).is_ok() {
                paused.0.push(pid);
            }
        }
        Ok(paused)
    }

    /// Kills a process so that it cannot say goodbye, and keeps it down until
    /// [`local::stack::Stack::start_service`].
    pub async fn kill_for_good(&self, name: &str) {
        self.stack.signal(name, Signal::KILL);
        self.stack.stop_service(name).await;
    }

    /// Kills a process, waits until another has taken its place, and until all of the stack say
    /// that they are ready.
    pub async fn kill_and_await(&self, name: &str) -> anyhow::Result<()> {
        let before = self.stack.pid(name).with_context(|| format!("{name} is running"))?;
        self.stack.kill(name).await;
        crate::eventually(&format!("{name} is running again"), || async {
            self.stack.pid(name).is_some_and(|pid| pid != before)
        })
        .await?;
        self.all_ready().await
    }

    /// Waits until all processes say that they are ready.
    pub async fn all_ready(&self) -> anyhow::Result<()> {
        let names: Vec<_> = self.stack.names().map(str::to_owned).collect();
        for name in names {
            self.stack.wait_ready(&name).await?;
        }
        Ok(())
    }

    /// One more replica of a worker. Nobody starts it again; it is killed when dropped.
    pub fn another(&self, worker: &str) -> anyhow::Result<Arc<Process>> {
        let url = self.stack.database_url().context("the stack has a database")?;
        let flags = [
            ("--nats-url", self.stack.nats_url().into()),
            ("--nats-nkey-file", self.stack.nkey_path(worker).into_os_string()),
            ("--subject-prefix", self.prefix().into()),
        ];
        let keys = self.stack.data().join("keys/webhook-keys").into_os_string();
        let webhooks = (worker == "grant-worker").then_some(("--webhook-keys", keys));
        let process = Process::start(&Launch {
            program: crate::world::programs()?.join(worker),
            args: flags
                .into_iter()
                .chain(webhooks)
                .flat_map(|(name, value)| [name.into(), value])
                .collect(),
            env: vec![("BREAKGLASS_DATABASE_URL", url.expose_secret().into())],
            log: self.stack.data().join(format!("log/{worker}-more.log")),
            dir: "/".into(),
            user: None,
            leash: true,
            orphaned: Orphaned::Kill,
            stop: Signal::TERM,
            grace: std::time::Duration::from_secs(10),
        })?;
        Ok(Arc::new(process))
    }
}

fn children_of(parent: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The fourth field of `stat`; the second is the name in parentheses, which may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}
