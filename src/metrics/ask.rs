//! Asking the daemon for the state of things, which it knows from the database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// As old may an answer be that is given once more: many who ask are no load for the daemon.
const FRESH: Duration = Duration::from_secs(2);
/// Who asks is told what was known before, if the daemon is as busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Ask {
    say: mpsc::Sender<oneshot::Sender<()>>,
    last: Arc<Mutex<Option<Instant>>>,
}

/// Whoever asks waits here, until they are told that it is done.
pub type Asked = mpsc::Receiver<oneshot::Sender<()>>;

impl Ask {
    #[must_use]
    pub fn new() -> (Self, Asked) {
        let (say, asked) = mpsc::channel(1);
        (Self { say, last: Arc::default() }, asked)
    }

    /// Has the state brought up to date, unless it was a moment ago or nobody can.
    pub(super) async fn once(&self) {
        if self.is_fresh() {
            return;
        }
        let (done, is_done) = oneshot::channel();
        if self.say.try_send(done).is_ok() {
            // An error says that it took too long, or that the daemon is ending.
            timeout(PATIENCE, is_done).await.ok();
        }
    }

    fn is_fresh(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = last.is_some_and(|last| last.elapsed() < FRESH);
        if !fresh {
            *last = Some(Instant::now());
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_asks_for_all_who_come_within_a_moment() {
        let (ask, mut asked) = Ask::new();
        let daemon = tokio::spawn(async move {
            let mut times = 0;
            while let Some(done) = asked.recv().await {
                times += 1;
                done.send(()).ok();
            }
            times
        });
        for _ in 0..100 {
            ask.clone().once().await;
        }
        drop(ask);
        assert_eq!(daemon.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_daemon_that_is_gone_keeps_nobody_waiting() {
        let (ask, asked) = Ask::new();
        drop(asked);
        timeout(PATIENCE, ask.once()).await.unwrap();
    }
}
