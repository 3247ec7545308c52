//! Signals and the service manager: the only place that knows either.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a step may take that tells the service manager to be patient, and how often it says so.
const PATIENCE: Duration = Duration::from_secs(30);
const REMINDER: Duration = Duration::from_secs(10);

/// What somebody asks of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Stop {
        by: &'static str,
    },
    /// Read the configuration anew.
    Reload,
    SyncNow,
}

/// The signals that the process gets. From here on they do nothing else any more.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
    sync_now: Signal,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
            sync_now: signal(SignalKind::user_defined1())?,
        })
    }

    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            Some(()) = self.terminate.recv() => Request::Stop { by: "SIGTERM" },
            Some(()) = self.interrupt.recv() => Request::Stop { by: "SIGINT" },
            Some(()) = self.reload.recv() => Request::Reload,
            Some(()) = self.sync_now.recv() => Request::SyncNow,
        }
    }

    /// Waits until somebody asks to stop; what else they ask is passed over.
    pub(super) async fn stop(&mut self) -> &'static str {
        loop {
            if let Request::Stop { by } = self.next().await {
                return by;
            }
        }
    }
}

/// The service manager that started the process, or nobody. Failing to tell it is no failure.
#[derive(Debug)]
pub(super) struct ServiceManager {
    watchdog: Option<Duration>,
    status: String,
}

impl ServiceManager {
    pub(super) fn of_process() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), status: String::new() }
    }

    /// The longest time that may pass between two signs of life, if it waits for any.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    pub(super) fn ready() {
        tell(&[NotifyState::Ready]);
    }

    /// To be followed by [`Self::ready`].
    pub(super) fn reloading() {
        // Newer versions want to know since when, so that they can tell this reload from another.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager was not told of the reload"),
        }
    }

    pub(super) fn stopping() {
        tell(&[NotifyState::Stopping]);
    }

    pub(super) fn alive(&self) {
        if self.watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// A sentence for people, said once.
    pub(super) fn status(&mut self, sentence: String) {
        if self.status != sentence {
            tell(&[NotifyState::Status(&sentence)]);
            self.status = sentence;
        }
    }

    /// Does work that may take longer than a start normally may, such as a migration.
    pub(super) async fn be_patient<T>(&self, work: impl Future<Output = T>) -> T {
        let micros = u32::try_from(PATIENCE.as_micros()).unwrap_or(u32::MAX);
        let remind = async {
            loop {
                tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
                tokio::time::sleep(REMINDER).await;
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            never = remind => never,
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    // Without a service manager this does nothing.
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
