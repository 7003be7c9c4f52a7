//! Child processes that end when this process ends, however it ends.
//!
//! On Linux the kernel does it: `setpriv --pdeathsig` asks for a signal at the death of the parent,
//! and a shell between checks that the parent was still there when it asked. The kernel counts the
//! *thread* that started the child as the parent, so one thread that never ends starts them all.
//! Elsewhere a watchdog (a shell that waits for the end of a pipe) sends the signal. Services
//! besides get a standard input that ends with this process.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, LazyLock, mpsc},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::{sync::watch, time::timeout};

use crate::environment;

pub use rustix::process::Signal;

/// An account to run a child as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

/// What a child gets when this process dies without stopping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphaned {
    /// SIGKILL.
    Kill,
    /// SIGQUIT, which makes a Postgres end its own children at once.
    Quit,
}

impl Orphaned {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Quit => "QUIT",
        }
    }

    const fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Quit => Signal::QUIT,
        }
    }
}

/// How to start and stop a child.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments. Readable by everybody on the machine: no secrets.
    pub args: Vec<OsString>,
    /// Its environment, besides what every child inherits.
    pub env: Vec<(&'static str, OsString)>,
    /// What its standard output and error are appended to.
    pub log: PathBuf,
    /// Its working directory.
    pub dir: PathBuf,
    /// Who it runs as, if not as this process.
    pub user: Option<User>,
    /// Whether it gets a standard input that ends when this process does.
    pub leash: bool,
    /// What it gets when this process dies.
    pub orphaned: Orphaned,
    /// What asks it to stop.
    pub stop: Signal,
    /// How long it may take to stop.
    pub grace: Duration,
}

/// The child did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such program.
    #[error("{0} is missing; has it been built or installed?")]
    Missing(PathBuf),
    /// The log cannot be written.
    #[error("cannot append to {path}")]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Only `setpriv` can start a child as somebody else.
    #[error(
        "running as root needs setpriv (package util-linux) to start Postgres as somebody else"
    )]
    NoSetpriv,
}

/// A running child. Dropping it sends what it would get as an orphan.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    orphaned: Orphaned,
    stop: Signal,
    grace: Duration,
    /// Whether the pid is still the child's: false once it may have been given to another process.
    running: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    _leash: Option<ChildStdin>,
}

impl Process {
    /// Starts a child.
    pub fn start(launch: &Launch) -> Result<Self, ProcessError> {
        if !environment::is_program(&launch.program) {
            return Err(ProcessError::Missing(launch.program.clone()));
        }
        if launch.user.is_some() && SETPRIV.is_none() {
            return Err(ProcessError::NoSetpriv);
        }
        let failed = |source| ProcessError::Spawn { program: launch.program.clone(), source };
        let mut child = spawn(command(launch)?).map_err(failed)?;
        let leash = child.stdin.take();
        let id = child.id();
        let watchdog = match *SETPRIV {
            Some(_) => None,
            None => Some(spawn(watchdog(id, launch.orphaned)).map_err(failed)?),
        };
        let running = Arc::new(Mutex::new(true));
        let (ended, exit) = watch::channel(None);
        let pid = Pid::from_child(&child);
        let reaper = Reaper { child, watchdog, running: running.clone(), ended };
        thread::Builder::new()
            .name(format!("reap-{id}"))
            .spawn(move || reaper.run())
            .map_err(failed)?;
        Ok(Self {
            pid,
            orphaned: launch.orphaned,
            stop: launch.stop,
            grace: launch.grace,
            running,
            exit,
            _leash: leash,
        })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal. Does nothing when the child has ended.
    pub fn signal(&self, signal: Signal) {
        let running = self.running.lock();
        if *running {
            // It can only fail because the child ended, which `exited` tells.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Waits for the end.
    pub async fn exited(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let status = exit.wait_for(Option::is_some).await;
        (*status.expect("the reaper ends by telling the status")).expect("it was waited for")
    }

    /// Asks it to stop, and kills it when it does not in time. Answers whether it stopped by itself.
    pub async fn terminate(&self) -> bool {
        self.signal(self.stop);
        // A stopped process gets its other signals when it goes on.
        self.signal(Signal::CONT);
        if timeout(self.grace, self.exited()).await.is_ok() {
            return true;
        }
        self.signal(Signal::KILL);
        self.exited().await;
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.orphaned.signal());
        // A stopped process gets its other signals when it goes on.
        self.signal(Signal::CONT);
    }
}

/// Waits for a child in a thread of its own, so that it does not depend on any runtime.
struct Reaper {
    child: Child,
    watchdog: Option<Child>,
    running: Arc<Mutex<bool>>,
    ended: watch::Sender<Option<ExitStatus>>,
}

impl Reaper {
    fn run(mut self) {
        let pid = WaitId::Pid(Pid::from_child(&self.child));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        // Left unreaped until nobody can signal it any more: until then its pid is not reused.
        let _ = rustix::io::retry_on_intr(|| waitid(pid.clone(), options));
        if let Some(watchdog) = &mut self.watchdog {
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
        let mut running = self.running.lock();
        *running = false;
        let status = self.child.wait().unwrap_or_default();
        drop(running);
        self.ended.send_replace(Some(status));
    }
}

/// `setpriv`, if it can ask for a signal at the parent's death.
static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let path = environment::find_program("setpriv")?;
    let mut probe = Command::new(&path);
    probe.args(["--pdeathsig", "KILL", "--", "true"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success()).then_some(path)
});

/// Goes on as the command, unless the parent died before its death could be asked for.
const IF_PARENT_LIVES: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// Waits until its standard input ends, then signals.
const WATCH: &str = r#"read -r _; kill -s "$0" "$1""#;

fn command(launch: &Launch) -> Result<Command, ProcessError> {
    // It is started from another directory.
    let program = std::path::absolute(&launch.program)
        .map_err(|source| ProcessError::Spawn { program: launch.program.clone(), source })?;
    let mut command = match &*SETPRIV {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            if let Some(User { uid, gid }) = launch.user {
                let (uid, gid) = (uid.to_string(), gid.to_string());
                command.args(["--reuid", &uid, "--regid", &gid, "--clear-groups"]);
            }
            command.args(["--pdeathsig", launch.orphaned.name(), "--", "sh", "-c"]);
            command.args([IF_PARENT_LIVES, &std::process::id().to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    };
    let log_failed = |source| ProcessError::Log { path: launch.log.clone(), source };
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&launch.log);
    let log = log.map_err(log_failed)?;
    command
        .args(&launch.args)
        .env_clear()
        .envs(environment::inherited())
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.dir)
        .stdin(if launch.leash { Stdio::piped() } else { Stdio::null() })
        .stdout(log.try_clone().map_err(log_failed)?)
        .stderr(log)
        // Ctrl-C is for the launcher alone, which stops its children in order.
        .process_group(0);
    Ok(command)
}

fn watchdog(pid: u32, orphaned: Orphaned) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", WATCH, orphaned.name(), &pid.to_string()]);
    command.env_clear().envs(environment::inherited()).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// The thread that starts every child, and is thereby their parent to the kernel.
static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, taken) = mpsc::channel::<Order>();
    let serve = move || {
        for (mut command, answer) in taken {
            // Nobody waits any more: the child is dropped, and its end of the leash with it.
            let _ = answer.send(command.spawn());
        }
    };
    thread::Builder::new().name("spawner".into()).spawn(serve).expect("a thread can be started");
    orders
});

fn spawn(command: Command) -> io::Result<Child> {
    let (answer, child) = mpsc::sync_channel(1);
    SPAWNER.send((command, answer)).expect("the spawner never ends");
    child.recv().expect("the spawner answers every order")
}
