//! The database as it is open for several runs at a time, and what is known of its checkpoint file.

use tokio::sync::Mutex;

use super::{Checkpoints, Error, hold};
use crate::config::Settings;
use crate::store::{self, SharedWriter, Writer};

/// One writer and one view of the checkpoint file, which runs of several organizations have in turns.
#[derive(Debug)]
pub struct Shared {
    writer: SharedWriter,
    /// Whoever takes both takes this first.
    checkpoints: Mutex<Checkpoints>,
}

impl From<(Writer, Checkpoints)> for Shared {
    fn from((writer, checkpoints): (Writer, Checkpoints)) -> Self {
        Self { writer: writer.into(), checkpoints: Mutex::new(checkpoints) }
    }
}

impl Shared {
    #[must_use]
    pub fn writer(&self) -> &SharedWriter {
        &self.writer
    }

    /// Holds the database against the checkpoint file once more, for a run that finds it open.
    pub async fn hold_again(&self, settings: &Settings) -> Result<(), Error> {
        let mut checkpoints = self.checkpoints.lock().await;
        let held = hold(settings, &mut *self.writer.lock().await).await?;
        held.tell();
        *checkpoints = held;
        Ok(())
    }

    /// As [`Checkpoints::keep`]. Tells whether there are links without a checkpoint.
    pub async fn keep(&self) -> bool {
        let mut checkpoints = self.checkpoints.lock().await;
        checkpoints.keep(&mut *self.writer.lock().await).await;
        checkpoints.is_behind
    }

    /// The writer, once nobody else has it.
    #[must_use]
    pub fn into_writer(self) -> Option<Writer> {
        self.writer.into_inner()
    }

    /// As [`Writer::close`].
    pub async fn close(self) -> Result<(), store::Error> {
        self.writer.close().await
    }
}
