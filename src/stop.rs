//! Being told to stop while something is under way.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether to stop, and who says so. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<&'static str>>);

/// Says that it is time to stop.
#[derive(Debug)]
pub struct Say(watch::Sender<Option<&'static str>>);

impl Say {
    pub fn stop(&self, by: &'static str) {
        self.0.send_replace(Some(by));
    }
}

impl Stop {
    /// Nobody ever says so.
    #[must_use]
    pub fn never() -> Self {
        Self(watch::channel(None).1)
    }

    /// One who can say so, and what they say it to.
    #[must_use]
    pub fn new() -> (Say, Self) {
        let (say, stop) = watch::channel(None);
        (Say(say), Self(stop))
    }

    /// SIGTERM or SIGINT says so. From here on these signals do nothing else any more.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (say, stop) = Self::new();
        tokio::spawn(async move {
            let by = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            say.stop(by);
        });
        Ok(stop)
    }

    /// Who says so, if anybody does by now.
    #[must_use]
    pub fn requested_by(&self) -> Option<&'static str> {
        *self.0.borrow()
    }

    /// Waits until somebody says so.
    pub async fn requested(&self) -> &'static str {
        let mut receiver = self.0.clone();
        let said = receiver.wait_for(Option::is_some).await.ok().and_then(|by| *by);
        match said {
            Some(by) => by,
            // Nobody is left who could.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asked_is_remembered_after_they_are_gone() {
        let (say, stop) = Stop::new();
        assert_eq!(stop.requested_by(), None);
        say.stop("SIGTERM");
        drop(say);
        assert_eq!(stop.requested().await, "SIGTERM");
        assert_eq!(stop.clone().requested_by(), Some("SIGTERM"));
    }

    #[tokio::test]
    async fn never_is_never() {
        let stop = Stop::never();
        assert_eq!(stop.requested_by(), None);
        tokio::select! {
            biased;
            by = stop.requested() => panic!("{by}"),
            () = std::future::ready(()) => {}
        }
    }
}
