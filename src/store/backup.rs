//! A copy of the database, whole and consistent, while it is in use.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};

use super::error::Error;
use super::{Reader, open};

/// How many steps of its machine `SQLite` does at most before it sees that it is to stop.
const STEPS: i32 = 1_000;
/// How long it may then take to tidy up. A disk that hangs must not hold up the end.
const TIDYING: Duration = Duration::from_secs(3);

/// A copy that was made and looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub bytes: u64,
    pub runs: u64,
    pub events: u64,
}

/// Removes what is not finished.
struct Partial(PathBuf);

impl Partial {
    fn journal(&self) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push("-journal");
        name.into()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Once it has its own name it is no longer there. Of its journal, SQLite takes care unless it is cut off.
        fs::remove_file(&self.0).ok();
        fs::remove_file(self.journal()).ok();
    }
}

/// Copies the database at `from` into the new file `to`, as one state of it, whatever is written meanwhile,
/// and checks the copy. Nothing is left of a copy that fails, or that `stop` comes before: that is `None`.
pub async fn back_up(
    from: &Path,
    to: &Path,
    stop: impl Future<Output = ()>,
) -> Result<Option<Backup>, Error> {
    let mut stop = pin!(stop);
    let cannot = |source: io::Error| Error::CannotOpen { path: to.to_owned(), source };
    if to.symlink_metadata().is_ok() {
        return Err(Error::Occupied { path: to.to_owned() });
    }
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = Partial(to.with_file_name(name));
    let path = open::plain(&partial.0);
    let path = path.to_str().ok_or_else(|| Error::NotText { path: to.to_owned() })?;
    let mut connection = open::for_reading(from).await?;
    // SQLite fills an empty file, and leaves it the mode that it has.
    let created = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&partial.0);
    created.map_err(cannot)?;

    let copied = copy(&mut connection, path, stop.as_mut()).await;
    if !copied.map_err(|source| explain(source, from, to))? {
        return Ok(None);
    }
    connection.close().await.map_err(|source| Error::from_sqlx(from, source))?;
    let backup = tokio::select! {
        biased;
        () = stop => return Ok(None),
        backup = look_through(&partial.0, from) => backup?,
    };
    let whole = File::open(&partial.0).and_then(|file| file.sync_all());
    whole.map_err(cannot)?;
    // Unlike a renaming, this never takes the place of another file.
    fs::hard_link(&partial.0, to).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Occupied { path: to.to_owned() },
        _ => cannot(source),
    })?;
    drop(partial);
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(directory.unwrap_or_else(|| Path::new(".")));
    directory.and_then(|directory| directory.sync_all()).map_err(cannot)?;
    Ok(Some(backup))
}

/// Fills the file. Tells whether it came to that before `stop`; if not, `SQLite` has let go of the file.
async fn copy(
    connection: &mut SqliteConnection,
    path: &str,
    stop: impl Future<Output = ()>,
) -> Result<bool, sqlx::Error> {
    let stopped = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stopped);
    let goes_on = move || !told.load(Ordering::Relaxed);
    connection.lock_handle().await?.set_progress_handler(STEPS, goes_on);
    let mut copying = pin!(sqlx::query("vacuum into ?1").bind(path).execute(connection));
    tokio::select! {
        biased;
        () = stop => {
            stopped.store(true, Ordering::Relaxed);
            // However it ends. It goes on in a thread, which would make its journal anew.
            drop(tokio::time::timeout(TIDYING, copying).await);
            Ok(false)
        }
        done = &mut copying => done.map(|_| true),
    }
}

/// What the copying ran into: the place for the copy, or else what is copied.
fn explain(source: sqlx::Error, from: &Path, to: &Path) -> Error {
    let path = to.to_owned();
    match Error::from_sqlx(from, source) {
        Error::Full { .. } => Error::Full { path },
        Error::ReadOnly { .. } => Error::ReadOnly { path },
        Error::CannotOpen { source, .. } => Error::CannotOpen { path, source },
        error => error,
    }
}

/// What is in the copy. What is wrong with it was wrong with the original: the copy goes.
async fn look_through(copy: &Path, from: &Path) -> Result<Backup, Error> {
    let mut reader = Reader::open(copy).await?;
    let failed = |source: sqlx::Error| Error::from_sqlx(from, source);
    let damaged = |source: sqlx::Error| Error::Corrupt { path: from.to_owned(), source };
    let verdict: String = sqlx::query_scalar("pragma integrity_check(1)")
        .fetch_one(&mut reader.connection)
        .await
        .map_err(failed)?;
    if verdict != "ok" {
        return Err(damaged(sqlx::Error::Protocol(verdict)));
    }
    if let Some(wrong) = reader.find_break().await? {
        return Err(damaged(sqlx::Error::Protocol(wrong)));
    }
    let (runs, events): (i64, i64) =
        sqlx::query_as("select (select count(*) from runs), (select count(*) from audit)")
            .fetch_one(&mut reader.connection)
            .await
            .map_err(failed)?;
    reader.close().await?;
    let bytes =
        copy.metadata().map_err(|source| Error::CannotOpen { path: copy.to_owned(), source })?;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(Backup { bytes: bytes.len(), runs: count(runs), events: count(events) })
}
