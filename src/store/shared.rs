//! One writer for several runs at a time: each takes it for one short step, and never while it waits for the
//! network.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::Writer;
use super::error::Error;

/// The writer of this process. Clones are the same one.
#[derive(Debug, Clone)]
pub struct SharedWriter(Arc<Mutex<Writer>>);

impl From<Writer> for SharedWriter {
    fn from(writer: Writer) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }
}

impl SharedWriter {
    /// Waits for its turn: those who came first have it first.
    pub async fn lock(&self) -> MutexGuard<'_, Writer> {
        self.0.lock().await
    }

    /// The writer itself, once nobody else has it.
    #[must_use]
    pub fn into_inner(self) -> Option<Writer> {
        Arc::into_inner(self.0).map(Mutex::into_inner)
    }

    /// As [`Writer::close`]. Where somebody else has it still, it is theirs to close.
    pub async fn close(self) -> Result<(), Error> {
        match self.into_inner() {
            Some(writer) => writer.close().await,
            None => Ok(()),
        }
    }
}
