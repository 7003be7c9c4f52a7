//! Requests that are answered together: one statement, or one commit, for all that wait.

use shared::refusal::Refusal;
use tokio::sync::{mpsc, oneshot};

/// Where requests wait for the next batch; cheap to clone.
pub(crate) struct Queue<T, R>(mpsc::Sender<Waiting<T, R>>);

/// A request, and where its answer goes.
pub(crate) struct Waiting<T, R> {
    pub(crate) request: T,
    answer: oneshot::Sender<Result<R, Refusal>>,
}

/// A queue for at most so many, and the end at which batches are taken.
pub(crate) fn queue<T, R>(most: usize) -> (Queue<T, R>, mpsc::Receiver<Waiting<T, R>>) {
    let (sender, receiver) = mpsc::channel(most);
    (Queue(sender), receiver)
}

impl<T, R> Queue<T, R> {
    /// Waits for the answer. A full queue refuses at once.
    pub(crate) async fn ask(&self, request: T) -> Result<R, Refusal> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { request, answer };
        self.0.try_send(waiting).map_err(|_| Refusal::unavailable())?;
        answered.await.unwrap_or_else(|_| Err(Refusal::unavailable()))
    }
}

impl<T, R> Clone for Queue<T, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T, R> Waiting<T, R> {
    /// Whether somebody still waits for the answer.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Answers. Whoever hung up does not mind.
    pub(crate) fn answer(self, answer: Result<R, Refusal>) {
        let _ = self.answer.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use shared::refusal::Code;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_what_is_dropped_is_answered() {
        let (queue, mut waiting) = queue::<u32, u32>(1);
        let first = tokio::spawn({
            let queue = queue.clone();
            async move { queue.ask(1).await }
        });
        let one = waiting.recv().await.expect("the first request");
        assert!(one.is_wanted());
        let (left, _) = oneshot::channel();
        assert!(queue.0.try_send(Waiting { request: 2, answer: left }).is_ok(), "there is a place");
        assert_eq!(queue.ask(3).await.map_err(|refusal| refusal.code), Err(Code::Unavailable));
        let gone = waiting.recv().await.expect("the second request");
        assert!(!gone.is_wanted(), "nobody waits for it");
        drop(one);
        let answered = first.await.expect("it ends");
        assert_eq!(answered.map_err(|refusal| refusal.code), Err(Code::Unavailable));
    }
}
