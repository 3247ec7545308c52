//! What can go wrong with the database, by what somebody can do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no database at `{path}`")]
    Missing { path: PathBuf },
    #[error("`{path}` is there already")]
    Occupied { path: PathBuf },
    #[error("`{path}` is not UTF-8, and SQLite takes no other path")]
    NotText { path: PathBuf },
    #[error("the database `{path}` is gone")]
    Gone { path: PathBuf },
    #[error("the organization `{name}` was renamed: it is called `{now}` now")]
    FormerName { name: String, now: String },
    #[error("the database `{path}` is another file than the one that runs under way have open")]
    Replaced { path: PathBuf },
    #[error("`{path}` is no SQLite database")]
    NotADatabase { path: PathBuf },
    #[error("`{path}` is a SQLite database, but not one of keydrift's")]
    NotOurs { path: PathBuf },
    #[error(
        "the database `{path}` was written by a newer keydrift (schema {found}, this one knows {known})"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error(
        "the database `{path}` was written by an older keydrift (schema {found}, this one reads {known})"
    )]
    Older { path: PathBuf, found: i64, known: i64 },
    #[error("the database `{path}` cannot be written")]
    ReadOnly { path: PathBuf },
    #[error(
        "the database `{path}` cannot be read without the files beside it (`-wal`, `-shm`), which this user cannot make"
    )]
    NoLog { path: PathBuf },
    #[error("the database `{path}` cannot be opened")]
    CannotOpen { path: PathBuf, source: io::Error },
    #[error("the disk that holds the database `{path}` is full")]
    Full { path: PathBuf },
    #[error("the database `{path}` is locked by another program")]
    Busy { path: PathBuf },
    #[error("the database `{path}` is damaged")]
    Corrupt { path: PathBuf, source: sqlx::Error },
    #[error("{holder} is using the database `{path}`")]
    Held { path: PathBuf, holder: String },
    #[error("`{path}` would be the lock file, but is something else")]
    NotALock { path: PathBuf },
    #[error("the lock file `{path}` cannot be used")]
    LockFile { path: PathBuf, source: io::Error },
    #[error("`{table}.{column}` of row {row} is not what it must be")]
    Inconsistent { table: &'static str, column: &'static str, row: String },
    #[error("the history could not be replayed")]
    Replay { source: crate::inventory::ReplayError },
    #[error("nothing is known of the time before {first}")]
    BeforeHistory { first: Timestamp },
    #[error("what `{organization}` had before {since} is not kept: it was pruned")]
    NotKept { organization: String, since: Timestamp },
    #[error(
        "the history of `{organization}` does not hold, so that nothing of it is pruned: {what}"
    )]
    Broken { organization: String, what: String },
    #[error("what was erased may still be read from the files of the database `{path}`: {why}")]
    NotScrubbed { path: PathBuf, why: String },
    #[error("the database `{path}` could not be used")]
    Sqlite { path: PathBuf, source: sqlx::Error },
    #[error("the schema of the database `{path}` could not be brought up to date")]
    Migrate { path: PathBuf, source: sqlx::migrate::MigrateError },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { .. } => {
                "run `keydrift sync` first, or name the file with `--database`".to_owned()
            }
            Self::Occupied { .. } => {
                "name a file that is not there yet: a backup never takes the place of another".to_owned()
            }
            Self::NotText { .. } => "name another file".to_owned(),
            Self::Gone { .. } | Self::Replaced { .. } | Self::FormerName { .. } => {
                self.hint_on_names()?
            }
            Self::NotADatabase { .. } | Self::NotOurs { .. } => {
                "name another file with `--database` or the setting `database.path`; this one was left as it is"
                    .to_owned()
            }
            Self::Newer { .. } => "use the newer keydrift; the file was left as it is".to_owned(),
            Self::Older { .. } => {
                "`keydrift sync` brings the file up to date; reading commands never change it".to_owned()
            }
            Self::ReadOnly { path } => format!(
                "make `{}` and its directory writable for this user; SQLite writes files beside it",
                path.display()
            ),
            Self::NoLog { .. } => {
                "another program took them away; `keydrift sync` by its user, or the daemon, mends it"
                    .to_owned()
            }
            Self::CannotOpen { path, source } => hint_to_open(path, source),
            Self::Full { .. } => {
                "free some space; what is recorded stays, and the next run goes on from there".to_owned()
            }
            Self::Busy { .. } => {
                "close the program that keeps it locked, such as a `sqlite3` shell with a transaction open, and try again"
                    .to_owned()
            }
            Self::Corrupt { path, .. } => format!(
                "keep a copy of `{}` as it is, then restore a backup; `sqlite3 FILE 'pragma integrity_check'` says more",
                path.display()
            ),
            Self::Held { .. } => {
                "wait for it to end, or let this one wait longer with the setting `database.lock_timeout`"
                    .to_owned()
            }
            Self::NotALock { .. } => {
                "move it away, or give the database another name; it was left as it is".to_owned()
            }
            Self::LockFile { path, .. } => {
                format!("make the directory of `{}` writable for this user", path.display())
            }
            Self::Inconsistent { .. } | Self::Replay { .. } => {
                "the database was changed by something else than keydrift; restore a backup".to_owned()
            }
            Self::BeforeHistory { .. } | Self::NotKept { .. } | Self::Broken { .. }
            | Self::NotScrubbed { .. } => self.hint_on_the_past()?,
            Self::Sqlite { path, .. } if !is_text(path) => {
                "SQLite takes UTF-8 paths only: name another with `--database` or the setting `database.path`"
                    .to_owned()
            }
            Self::Sqlite { .. } | Self::Migrate { .. } => return None,
        })
    }

    fn hint_on_names(&self) -> Option<String> {
        Some(match self {
            Self::Gone { .. } => {
                "bring it back, or restart the daemon to begin a new one".to_owned()
            }
            Self::Replaced { .. } => {
                "it is used as soon as those runs have ended; what they record goes into the old file"
                    .to_owned()
            }
            Self::FormerName { name, now } => format!(
                "rename `[organizations.{name}]` to `[organizations.{now}]` in the configuration; another organization needs a name that none had before"
            ),
            _ => return None,
        })
    }

    fn hint_on_the_past(&self) -> Option<String> {
        Some(match self {
            Self::BeforeHistory { .. } => "ask for a later time".to_owned(),
            Self::NotKept { since, .. } => {
                format!("ask for {since} or later, or a backup from before it was pruned")
            }
            Self::Broken { .. } => "`keydrift verify` says more".to_owned(),
            Self::NotScrubbed { .. } => {
                "close what reads the database (`sqlite3`, Datasette, Grafana), and run the same command again"
                    .to_owned()
            }
            _ => return None,
        })
    }

    /// Hands an error through what only knows those of sqlx.
    pub(super) fn into_sqlx(self) -> sqlx::Error {
        sqlx::Error::Decode(Box::new(self))
    }

    /// Sorts out what `SQLite` said about the database at `path`.
    pub(super) fn from_sqlx(path: &Path, source: sqlx::Error) -> Self {
        let path = path.to_owned();
        let source = match source {
            sqlx::Error::Decode(ours) => match ours.downcast::<Self>() {
                Ok(ours) => return *ours,
                Err(theirs) => sqlx::Error::Decode(theirs),
            },
            other => other,
        };
        let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let code = code.and_then(|code| code.parse::<u32>().ok());
        // SQLITE_IOERR_SHMSIZE is how a full disk shows when the shared memory file can't grow.
        match code.map(|code| (code & 0xff, code)) {
            Some((5 | 6, _)) => Self::Busy { path },
            Some((8, _)) => Self::ReadOnly { path },
            Some((13, _) | (_, 4874)) => Self::Full { path },
            Some((11, _)) => Self::Corrupt { path, source },
            Some((14, _)) => {
                let reason = io::Error::other(source);
                Self::CannotOpen { path, source: reason }
            }
            Some((26, _)) => Self::NotADatabase { path },
            _ => Self::Sqlite { path, source },
        }
    }
}

/// Whether a path, from the root on, is UTF-8.
fn is_text(path: &Path) -> bool {
    std::path::absolute(path).is_ok_and(|path| path.to_str().is_some())
}

fn hint_to_open(path: &Path, source: &io::Error) -> String {
    if path.metadata().is_ok_and(|file| !file.is_file()) {
        "name a file with `--database` or the setting `database.path`".to_owned()
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        format!("make `{}` readable for this user, and its directory too", path.display())
    } else {
        format!("check that the directory of `{}` is there and yours to use", path.display())
    }
}
