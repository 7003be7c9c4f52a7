//! Keeps children running: one that dies is started again, one that was stopped stays down.

use std::{
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    data::PidFile,
    process::{Launch, Process},
};

/// The pause before a child is started again the first time. It doubles with each death.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A child that has run for this long starts over with the first pause.
const SETTLED: Duration = Duration::from_secs(5);

/// Told one line about each event that people care about.
pub type Report = fn(&str);

/// A child to keep running.
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) launch: Launch,
    /// Done before every start.
    pub(crate) prepare: Option<Prepare>,
}

/// What is done before a child is started.
pub(crate) type Prepare = Box<dyn Fn() + Send + Sync>;

/// All children of a stack.
pub(crate) struct Supervisor {
    kept: Vec<Arc<Kept>>,
    // Dropping it ends the tasks, and with them the children.
    tasks: JoinSet<()>,
    pids: Arc<PidFile>,
    report: Report,
}

struct Kept {
    unit: Unit,
    wanted: watch::Sender<bool>,
    state: watch::Sender<State>,
    deaths: AtomicU32,
    pids: Arc<PidFile>,
    report: Report,
}

#[derive(Clone)]
enum State {
    /// Not running and not to be started.
    Down,
    /// To be started at once or after a pause.
    Starting,
    Running(Arc<Process>),
}

impl Supervisor {
    pub(crate) fn new(pids: PidFile, report: Report) -> Self {
        Self { kept: Vec::new(), tasks: JoinSet::new(), pids: Arc::new(pids), report }
    }

    /// Starts a child and keeps it running.
    pub(crate) fn keep(&mut self, unit: Unit) {
        let kept = Arc::new(Kept {
            unit,
            wanted: watch::Sender::new(true),
            state: watch::Sender::new(State::Starting),
            deaths: AtomicU32::new(0),
            pids: self.pids.clone(),
            report: self.report,
        });
        self.kept.push(kept.clone());
        self.tasks.spawn(async move { kept.run().await });
    }

    /// Stops a child, by force when it takes too long. It stays down until `start`.
    pub(crate) async fn stop(&self, name: &str) {
        if let Some(kept) = self.find(name) {
            kept.wanted.send_replace(false);
            let mut state = kept.state.subscribe();
            let _ = state.wait_for(|state| matches!(state, State::Down)).await;
        }
    }

    /// Stops several children at the same time.
    pub(crate) async fn stop_all(&self, names: &[String]) {
        for name in names {
            if let Some(kept) = self.find(name) {
                kept.wanted.send_replace(false);
            }
        }
        for name in names {
            self.stop(name).await;
        }
    }

    /// Starts a child that was stopped, and waits until it has a process.
    pub(crate) async fn start(&self, name: &str) {
        if let Some(kept) = self.find(name) {
            kept.wanted.send_replace(true);
            let mut state = kept.state.subscribe();
            let _ = state.wait_for(|state| matches!(state, State::Running(_))).await;
        }
    }

    /// The process of a child, if it is running.
    pub(crate) fn process(&self, name: &str) -> Option<Arc<Process>> {
        match &*self.find(name)?.state.borrow() {
            State::Running(process) => Some(process.clone()),
            State::Down | State::Starting => None,
        }
    }

    /// How often a child has died.
    pub(crate) fn deaths(&self, name: &str) -> u32 {
        self.find(name).map_or(0, |kept| kept.deaths.load(Ordering::Relaxed))
    }

    /// The names of all children, in the order they were added.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(|kept| kept.unit.name.as_str())
    }

    fn find(&self, name: &str) -> Option<&Arc<Kept>> {
        self.kept.iter().find(|kept| kept.unit.name == name)
    }
}

impl Kept {
    async fn run(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            if !*self.wanted.borrow() {
                self.state.send_replace(State::Down);
                self.until(true).await;
                pause = FIRST_PAUSE;
            }
            self.state.send_replace(State::Starting);
            self.live(&mut pause).await;
            if *self.wanted.borrow() {
                // Stopping it cuts the pause short.
                let _ = timeout(pause, self.until(false)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// One life of the child, from its start to its end.
    async fn live(&self, pause: &mut Duration) {
        if let Some(prepare) = &self.unit.prepare {
            prepare();
        }
        let process = match Process::start(&self.unit.launch) {
            Ok(process) => Arc::new(process),
            Err(error) => {
                self.deaths.fetch_add(1, Ordering::Relaxed);
                (self.report)(&format!("{} does not start: {error}", self.unit.name));
                return;
            }
        };
        let again = self.deaths.load(Ordering::Relaxed) > 0;
        self.note_pid(Some(process.pid()));
        self.state.send_replace(State::Running(process.clone()));
        if again {
            (self.report)(&format!("{} is running again, pid {}", self.unit.name, process.pid()));
        }
        let mut settled = false;
        loop {
            tokio::select! {
                status = process.exited() => {
                    self.deaths.fetch_add(1, Ordering::Relaxed);
                    (self.report)(&format!("{} died ({})", self.unit.name, describe(status)));
                    break;
                }
                () = self.until(false) => {
                    if !process.terminate().await {
                        let name = &self.unit.name;
                        (self.report)(&format!("{name} did not stop in time and was killed"));
                    }
                    break;
                }
                () = sleep(SETTLED), if !settled => {
                    settled = true;
                    *pause = FIRST_PAUSE;
                }
            }
        }
        self.state.send_replace(State::Starting);
        self.note_pid(None);
    }

    /// Waits until the child is wanted, or is not.
    async fn until(&self, wanted: bool) {
        // The sender is a field of `self`, so it is not gone.
        let _ = self.wanted.subscribe().wait_for(|now| *now == wanted).await;
    }

    fn note_pid(&self, pid: Option<u32>) {
        if let Err(error) = self.pids.set(&self.unit.name, pid) {
            (self.report)(&format!("cannot write pids.json: {error}"));
        }
    }
}

/// `exit status 1`, `signal 9`.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
