//! The processes of a stack, for who disturbs them.

use std::sync::Arc;

use super::Stack;
use crate::process::{Process, Signal};

impl Stack {
    /// The process of a child: `gateway-1`, `session-worker`, `nats`, `postgres`…
    #[must_use]
    pub fn process(&self, name: &str) -> Option<Arc<Process>> {
        self.supervisor.process(name)
    }

    /// The process id of a child, if it is running.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.process(name).map(|process| process.pid())
    }

    /// The names of all children.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.supervisor.names()
    }

    /// Kills a child with SIGKILL and waits for its end. It is started again by itself.
    pub async fn kill(&self, name: &str) {
        if let Some(process) = self.process(name) {
            process.signal(Signal::KILL);
            process.exited().await;
        }
    }

    /// Sends a signal to a child.
    pub fn signal(&self, name: &str, signal: Signal) {
        if let Some(process) = self.process(name) {
            process.signal(signal);
        }
    }

    /// Stops a child the kind way. It stays down until it is started.
    pub async fn stop_service(&self, name: &str) {
        self.supervisor.stop(name).await;
    }

    /// Starts a child that was stopped. It has a process then, but may not be ready yet.
    pub async fn start_service(&self, name: &str) {
        self.supervisor.start(name).await;
    }
}
