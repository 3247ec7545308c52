//! Why a daemon ends, other than by being told to.

use std::net::SocketAddr;

use tokio::task::JoinError;
use tokio_cron_scheduler::JobSchedulerError;

use crate::{checkpoint, store};

/// Why the daemon ended, other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not listen for signals")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Checkpoint(checkpoint::Error),
    #[error("cannot listen at {address} for those who ask for metrics")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the metrics could not be set up")]
    Metrics(#[from] prometheus::Error),
    #[error("the scheduler failed")]
    Scheduler(#[from] JobSchedulerError),
    #[error("a run died")]
    Died(#[source] JoinError),
    #[error("stopped at once by a second {by}, without waiting for what is under way")]
    StoppedAtOnce { by: &'static str },
    #[error("stopped, without waiting any longer for what is under way")]
    Overtime,
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::Listen { .. } => {
                Some("free the address, or set another `metrics.listen`".to_owned())
            }
            Self::Signals(_) | Self::Metrics(_) | Self::Scheduler(_) | Self::Died(_) => {
                Some("this is a mistake in keydrift; the service manager starts it anew".to_owned())
            }
            // It may have been at its very end.
            Self::StoppedAtOnce { .. } | Self::Overtime => Some(
                "it is recorded as a whole, or not at all, which the next start tells in the run history"
                    .to_owned(),
            ),
        }
    }
}
