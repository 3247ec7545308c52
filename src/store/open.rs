//! Opening the database: who may, what must hold, and bringing its schema up to date.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqliteConnection};

use super::error::Error;

/// `kdrt`: says that a `SQLite` file is one of keydrift's.
const APPLICATION_ID: u32 = 0x6b64_7274;
/// Where a database file has it, and how many bytes its header has.
const APPLICATION_ID_AT: usize = 68;
const HEADER_BYTES: usize = 100;
/// How long to wait for a foreign writer, such as a `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });
/// Rows that wait to be taken.
const ROWS_AT_ONCE: usize = 1_000;
/// The size that the write-ahead log is cut back to.
const WAL_BYTES: &str = "16777216";

/// Every step of the schema, oldest first.
pub(super) fn migrations() -> Vec<Migration> {
    let steps: [(i64, &str, &'static str); 11] = [
        (
            1,
            "inventory and history",
            include_str!("../../migrations/0001_inventory_and_history.sql"),
        ),
        (
            2,
            "what a daemon remembers",
            include_str!("../../migrations/0002_what_a_daemon_remembers.sql"),
        ),
        (3, "the chain", include_str!("../../migrations/0003_the_chain.sql")),
        (4, "retention", include_str!("../../migrations/0004_retention.sql")),
        (5, "more kinds", include_str!("../../migrations/0005_more_kinds.sql")),
        (6, "projects", include_str!("../../migrations/0006_projects.sql")),
        (7, "findings", include_str!("../../migrations/0007_findings.sql")),
        (8, "notes", include_str!("../../migrations/0008_notes.sql")),
        (9, "attributions", include_str!("../../migrations/0009_attributions.sql")),
        (10, "happenings", include_str!("../../migrations/0010_happenings.sql")),
        (11, "only what changed", include_str!("../../migrations/0011_only_what_changed.sql")),
    ];
    let step = |(version, name, sql): (i64, &'static str, &'static str)| {
        let kind = MigrationType::Simple;
        Migration::new(version, Cow::Borrowed(name), kind, sql.into_sql_str(), false)
    };
    steps.into_iter().map(step).collect()
}

/// The schema version that this program writes.
fn known_version() -> i64 {
    migrations().iter().map(|step| step.version).max().unwrap_or(0)
}

/// Refuses a file that is not ours, by its first bytes alone: `SQLite` takes a few bytes of text for an
/// empty database, cuts back the log of one that another program left, and leaves files beside it. An
/// empty file, or none, is ours to fill.
pub(super) fn inspect(path: &Path) -> Result<(), Error> {
    let cannot_open = |source| Error::CannotOpen { path: path.to_owned(), source };
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(cannot_open(source)),
        Ok(file) if file.is_dir() => return Err(cannot_open(io::ErrorKind::IsADirectory.into())),
        Ok(file) if !file.is_file() => {
            return Err(cannot_open(io::Error::other("it is not a regular file")));
        }
        Ok(file) if file.len() == 0 => return Ok(()),
        Ok(_) => {}
    }
    let mut header = [0; HEADER_BYTES];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Error::NotADatabase { path: path.to_owned() });
        }
        Err(source) => return Err(cannot_open(source)),
    }
    if !header.starts_with(b"SQLite format 3\0") {
        Err(Error::NotADatabase { path: path.to_owned() })
    } else if header[APPLICATION_ID_AT..APPLICATION_ID_AT + 4] != APPLICATION_ID.to_be_bytes() {
        Err(Error::NotOurs { path: path.to_owned() })
    } else {
        Ok(())
    }
}

/// Opens the database for writing, creates it where there is none, and brings its schema up to date.
/// A file that is already there was inspected before.
pub(super) async fn for_writing(path: &Path) -> Result<SqliteConnection, Error> {
    create(path)?;
    let failed = |source| Error::from_sqlx(path, source);
    let mut connection = options(path).connect().await.map_err(failed)?;
    let (found, known) = (schema_version(path, &mut connection).await?, known_version());
    if found > known {
        return Err(Error::Newer { path: path.to_owned(), found, known });
    }
    if found == 0 {
        // Before there is a log that could hold it instead of the file.
        let claim = sqlx::query("pragma application_id = 1801745012");
        claim.execute(&mut connection).await.map_err(failed)?;
    }
    connection.close().await.map_err(failed)?;
    let mut connection = connect(path).await?;
    if found < known {
        migrate(path, &mut connection).await?;
    }
    spare_files(path, &mut connection).await?;
    Ok(connection)
}

/// A connection for recording runs in a database that is there.
pub(super) async fn connect_for_runs(path: &Path) -> Result<SqliteConnection, Error> {
    let mut connection = connect(path).await?;
    spare_files(path, &mut connection).await?;
    Ok(connection)
}

/// What a statement would take back if it failed is kept, and would go to a file where it passes 64 KiB: some pages for
/// every key of a first listing. Not for what sorts or copies all there is.
async fn spare_files(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    let spared = sqlx::raw_sql("pragma temp_store = memory").execute(connection).await;
    spared.map(drop).map_err(|source| Error::from_sqlx(path, source))
}

/// A connection for writing to a database that is there.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, Error> {
    let options = options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES)
        // A large commit comes back to the same pages of its indexes: four times what is usual.
        .pragma("cache_size", "-8192");
    options.connect().await.map_err(|source| Error::from_sqlx(path, source))
}

/// Opens the database for reading. Nothing in it is created, changed or brought up to date.
///
/// Where nobody else has it open, `SQLite` makes an empty `-wal` and `-shm` beside it, and who may only read never
/// takes them away. To open the file as immutable would avoid that, and miss what a writer has in its log.
pub(super) async fn for_reading(path: &Path) -> Result<SqliteConnection, Error> {
    inspect(path)?;
    if !path.exists() {
        return Err(Error::Missing { path: path.to_owned() });
    }
    let open = async {
        let failed = |source| Error::from_sqlx(path, source);
        let mut connection = options(path).read_only(true).connect().await.map_err(failed)?;
        let found = schema_version(path, &mut connection).await?;
        Ok((connection, found))
    };
    let (connection, found) = open.await.map_err(|error| match error {
        // SQLite would write only to make the files of its log.
        Error::ReadOnly { path } => Error::NoLog { path },
        error => error,
    })?;
    let (path, known) = (path.to_owned(), known_version());
    match found.cmp(&known) {
        Ordering::Equal => Ok(connection),
        Ordering::Less => Err(Error::Older { path, found, known }),
        Ordering::Greater => Err(Error::Newer { path, found, known }),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(plain(path))
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // Rows come from a thread of their own: in batches they come several times as fast.
        .row_buffer_size(ROWS_AT_ONCE)
        // Expressions in the schema of a file that was tampered with get no powers.
        .pragma("trusted_schema", "off")
}

/// `SQLite` takes `:memory:` and what begins with `file:` for more than a name, but no absolute path.
pub(super) fn plain(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Makes sure that there is a file, readable for the group at most. `SQLite` gives its other files the
/// same mode.
fn create(path: &Path) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    match options.write(true).create(true).truncate(false).mode(0o640).open(path) {
        Ok(file) => {
            leave_to_owner(&file, path);
            Ok(())
        }
        Err(error) => Err(match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::ReadOnly { path: path.to_owned() }
            }
            io::ErrorKind::StorageFull => Error::Full { path: path.to_owned() },
            _ => Error::CannotOpen { path: path.to_owned(), source: error },
        }),
    }
}

/// Gives an empty file that root made to the owner of its directory: root's first sync by hand must not
/// shut out the service that the directory belongs to. `SQLite` does the same with its other files.
pub(crate) fn leave_to_owner(file: &File, path: &Path) {
    let given = (|| {
        let made = file.metadata()?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or_else(|| Path::new(".")).metadata()?;
        if made.uid() == 0 && made.len() == 0 && directory.uid() != 0 {
            std::os::unix::fs::fchown(file, Some(directory.uid()), Some(directory.gid()))?;
        }
        io::Result::Ok(())
    })();
    if let Err(error) = given {
        tracing::warn!(file = %path.display(), %error, "it could not be given to the owner of its directory");
    }
}

/// The schema version of the database; 0 if it is empty.
async fn schema_version(path: &Path, connection: &mut SqliteConnection) -> Result<i64, Error> {
    let failed = |source| Error::from_sqlx(path, source);
    let migrated: i64 = sqlx::query_scalar(
        "select count(*) from sqlite_schema where type = 'table' and name = '_sqlx_migrations'",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    if migrated == 0 {
        return Ok(0);
    }
    sqlx::query_scalar("select ifnull(max(version), 0) from _sqlx_migrations where success")
        .fetch_one(connection)
        .await
        .map_err(failed)
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    tracing::info!(database = %path.display(), "bringing the schema of the database up to date");
    let migrator = Migrator::with_migrations(migrations());
    migrator.run(connection).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(source)
        | sqlx::migrate::MigrateError::ExecuteMigration(source, _) => {
            Error::from_sqlx(path, source)
        }
        source => Error::Migrate { path: path.to_owned(), source },
    })
}
