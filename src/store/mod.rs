//! The database: every line of SQL, and nothing else knows that it is SQLite.
//!
//! [`Writer`] records runs: one process at a time, one transaction a run. [`Reader`] answers questions,
//! never writes, and neither blocks the writer nor is blocked by it (WAL).

mod changes;
mod error;
mod lock;
mod open;
mod read;
mod record;
mod rows;
mod snapshot;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};

pub use error::Error;
pub use lock::{Owed, RunLock, RunNote};
pub use read::{EventFilter, EventRow, KeyFilter, KeyRow, Reader, RunRow};
pub use record::{Outcome, Recorded, RunDraft, Withholding};
pub use snapshot::Accepted;

/// The one process that may change the database, as long as it lives.
#[derive(Debug)]
pub struct Writer {
    connection: SqliteConnection,
    path: PathBuf,
    lock: RunLock,
}

impl Writer {
    /// Takes the run lock and opens the database, which is created or brought up to date if need be.
    ///
    /// Waits up to `wait` for another process's lock, and tells `on_wait` once whose it is.
    pub async fn open(
        path: &Path,
        wait: Duration,
        on_wait: impl FnMut(&str),
    ) -> Result<Self, Error> {
        let lock = RunLock::acquire(path, wait, on_wait).await?;
        let connection = open::for_writing(path).await?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            lock,
        })
    }

    /// Cuts the write-ahead log back and closes the database.
    pub async fn close(mut self) -> Result<(), Error> {
        self.lock.write_note(None)?;
        // A reader may keep part of the log alive; then a later run cuts it back.
        let checkpoint = sqlx::query("pragma wal_checkpoint(truncate)");
        let checkpointed = checkpoint.execute(&mut self.connection).await;
        let closed = self.connection.close().await;
        checkpointed
            .and(closed)
            .map(|()| ())
            .map_err(|source| Error::from_sqlx(&self.path, source))
    }

    fn failed(&self, source: sqlx::Error) -> Error {
        Error::from_sqlx(&self.path, source)
    }
}
