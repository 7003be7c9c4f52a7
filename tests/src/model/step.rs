//! What can happen, one step at a time.

use std::fmt;

use super::system::Message;

/// What can happen. Edges, workers and changes are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Time passes for a worker.
    WorkerClock(usize),
    /// Time passes for an edge.
    EdgeClock(usize),
    /// The next change is committed and broadcast.
    Commit,
    /// A worker reads the edges that a change has to reach.
    ReadEdges(usize),
    /// A worker reads rows and acks again.
    Receipt(usize),
    /// Those that miss a change must apply it before they renew.
    Press(usize),
    /// An edge does what is due.
    Poll(usize),
    /// A worker, or the database, takes the next step of what an edge asked for. The flag says that
    /// the same will happen once more.
    Handle(usize, Message, bool),
    /// A message arrives at an edge. The flag says that the same will arrive once more.
    Arrive(usize, Message, bool),
    /// A transaction is rolled back.
    RollBack(usize, Message),
    /// A beacon arrives, with one of the heads that there have been.
    Beacon(usize, usize),
    /// An edge's join gets no answer.
    JoinFails(usize),
    /// An edge's process ends and starts anew.
    Restart(usize),
    /// An edge leaves.
    Leave(usize),
    /// A worker reads its clock, in the wrong order.
    ReadClock(usize),
    /// A worker reads all rows.
    ReadRows(usize),
    /// A worker fences a lease of an edge.
    Fence(usize, usize, usize),
    /// A worker's process ends and starts anew.
    WorkerRestart(usize),
    /// The database fails over; the flag says that the last change, or renewal, is lost if nothing
    /// was committed after it.
    FailOver(bool),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkerClock(j) => write!(f, "time passes for worker {j}"),
            Self::EdgeClock(i) => write!(f, "time passes for edge {i}"),
            Self::Commit => write!(f, "the next change is committed"),
            Self::ReadEdges(k) => write!(f, "the edges that change {k} has to reach are read"),
            Self::Receipt(k) => write!(f, "rows and acks are read again for change {k}"),
            Self::Press(k) => write!(f, "edges that miss change {k} must apply it"),
            Self::Poll(i) => write!(f, "edge {i} does what is due"),
            Self::Handle(i, m, again) => {
                write!(f, "a worker takes {m} of edge {i}{}", once_more(*again))
            }
            Self::Arrive(i, m, again) => write!(f, "edge {i} receives {m}{}", once_more(*again)),
            Self::RollBack(i, m) => write!(f, "{m} of edge {i} is rolled back"),
            Self::Beacon(i, h) => write!(f, "edge {i} hears a beacon with head no. {h}"),
            Self::JoinFails(i) => write!(f, "edge {i} gets no answer to its join"),
            Self::Restart(i) => write!(f, "edge {i} starts anew"),
            Self::Leave(i) => write!(f, "edge {i} leaves"),
            Self::ReadClock(j) => write!(f, "worker {j} reads its clock"),
            Self::ReadRows(j) => write!(f, "worker {j} reads the rows"),
            Self::Fence(j, i, life) => write!(f, "worker {j} fences life {life} of edge {i}"),
            Self::WorkerRestart(j) => write!(f, "worker {j} starts anew"),
            Self::FailOver(false) => write!(f, "the database fails over"),
            Self::FailOver(true) => write!(f, "the database fails over and loses its last commit"),
        }
    }
}

fn once_more(again: bool) -> &'static str {
    if again { ", which will come once more" } else { "" }
}
