//! A copy of the database, whole and consistent, while it is in use.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::Connection;

use super::error::Error;
use super::{Reader, open};

/// A copy that was made and looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub bytes: u64,
    pub runs: u64,
    pub events: u64,
}

/// Removes what is not finished.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Once it has its own name it is no longer there.
        fs::remove_file(&self.0).ok();
    }
}

/// Copies the database at `from` into the new file `to`, as one state of it, whatever is written meanwhile,
/// and checks the copy. Nothing is left of a copy that fails.
pub async fn back_up(from: &Path, to: &Path) -> Result<Backup, Error> {
    let cannot = |source: io::Error| Error::CannotOpen { path: to.to_owned(), source };
    if to.symlink_metadata().is_ok() {
        return Err(Error::Occupied { path: to.to_owned() });
    }
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = Partial(to.with_file_name(name));
    // SQLite fills an empty file, and leaves it the mode that it has.
    let created = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&partial.0);
    created.map_err(cannot)?;

    let mut connection = open::for_reading(from).await?;
    let path = open::plain(&partial.0);
    let copied = sqlx::query("vacuum into ?1")
        .bind(path.to_string_lossy().into_owned())
        .execute(&mut connection)
        .await
        .map_err(|source| Error::from_sqlx(to, source));
    connection.close().await.map_err(|source| Error::from_sqlx(from, source))?;
    copied?;

    let backup = look_through(&partial.0).await?;
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
    Ok(backup)
}

async fn look_through(copy: &Path) -> Result<Backup, Error> {
    let mut reader = Reader::open(copy).await?;
    let damaged = |source: sqlx::Error| Error::Corrupt { path: copy.to_owned(), source };
    let verdict: String = sqlx::query_scalar("pragma integrity_check(1)")
        .fetch_one(&mut reader.connection)
        .await
        .map_err(|source| reader.failed(source))?;
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
            .map_err(|source| reader.failed(source))?;
    reader.close().await?;
    let bytes =
        copy.metadata().map_err(|source| Error::CannotOpen { path: copy.to_owned(), source })?;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(Backup { bytes: bytes.len(), runs: count(runs), events: count(events) })
}
