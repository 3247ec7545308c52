//! The database: every line of SQL, and nothing else knows that it is `SQLite`.
//!
//! [`Writer`] records runs: one process at a time, one transaction a run. Runs of several organizations go side by
//! side and have it in turns ([`SharedWriter`]). [`Reader`] answers questions,
//! never writes, and neither blocks the writer nor is blocked by it (WAL).

mod adopt;
mod as_of;
mod attributed;
mod attributions;
mod backup;
mod chain;
mod changes;
mod checkup;
mod court;
mod error;
mod evidence;
mod find;
mod findings;
mod forget;
mod guards;
mod health;
mod horizon;
mod keyframe;
mod links;
mod lock;
mod notes;
mod open;
mod pack;
mod past;
mod projects;
mod read;
mod record;
mod rename;
mod replay;
mod retention;
mod rows;
mod schema;
mod scratch;
mod scrub;
mod settle;
mod shared;
mod snapshot;
#[cfg(test)]
mod tests;
mod verify;
mod versions;
mod window;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};

pub use attributions::{Attributed, Silence, Unattributed};
pub use backup::{Backup, back_up};
pub use checkup::Remembered;
pub use error::Error;
pub use findings::{FindingCounts, FindingFilter, FindingRow};
pub use forget::Forgetting;
pub use health::{Health, HealthRun};
pub use horizon::Horizon;
pub use links::{AcceptedLink, ChainLink, Links};
pub use lock::{Owed, RunLock, RunNote, runs_in_hand};
pub use notes::{NoteRow, Noted, note_texts};
pub(crate) use open::leave_to_owner;
pub use pack::Period;
pub use past::{LastRun, Past};
pub use read::{EventFilter, EventRow, KeyFilter, KeyRow, Reader, RunRow};
pub use record::{CutShort, Judge, Outcome, Recorded, RunDraft, Withholding};
pub use rename::Renaming;
pub use replay::Adoption;
pub use retention::{Policy, Pruned};
pub use schema::SchemaDrift;
pub use shared::SharedWriter;
pub use snapshot::Accepted;
pub use window::Window;

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
        // First, so that nothing is left beside a file that is not ours, not even a lock.
        open::inspect(path)?;
        let lock = RunLock::acquire(path, wait, on_wait).await?;
        let connection = open::for_writing(path).await?;
        Ok(Self { connection, path: path.to_owned(), lock })
    }

    /// Cuts the write-ahead log back and closes the database.
    pub async fn close(mut self) -> Result<(), Error> {
        // A reader may keep part of the log alive: it is not waited for, a later run cuts the log back.
        let cut_back = "pragma busy_timeout = 0; pragma wal_checkpoint(truncate)";
        let cut_back = sqlx::raw_sql(cut_back).execute(&mut self.connection).await.map(drop);
        let closed = self.connection.close().await;
        cut_back.and(closed).map_err(|source| Error::from_sqlx(&self.path, source))
    }

    /// Closes the database for a longer time, and leaves WAL mode unless somebody else has it open.
    ///
    /// A WAL database without the files of its log can be read only by who may make them anew: not by a
    /// member of its group, who may not write in the directory. And whoever closes it last takes them away.
    pub async fn retire(mut self) -> Result<(), Error> {
        let leave = "pragma busy_timeout = 0; pragma journal_mode = delete";
        if let Err(error) = sqlx::raw_sql(leave).execute(&mut self.connection).await {
            tracing::debug!(%error, "somebody else has the database open: it stays in WAL mode");
        }
        self.close().await
    }

    fn failed(&self, source: sqlx::Error) -> Error {
        Error::from_sqlx(&self.path, source)
    }
}
