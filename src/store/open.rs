//! Opening the database: who may, what must hold, and bringing its schema up to date.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqliteConnection};

use super::error::Error;

/// `kdrt`: says that a SQLite file is one of keydrift's.
const APPLICATION_ID: i64 = 0x6b64_7274;
/// How long to wait for a foreign writer, such as a `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The size that the write-ahead log is cut back to.
const WAL_BYTES: &str = "16777216";

/// Every step of the schema, oldest first.
fn migrations() -> Vec<Migration> {
    let steps: [(i64, &str, &'static str); 1] = [(
        1,
        "inventory and history",
        include_str!("../../migrations/0001_inventory_and_history.sql"),
    )];
    let step = |(version, name, sql): (i64, &'static str, &'static str)| {
        let kind = MigrationType::Simple;
        Migration::new(
            version,
            Cow::Borrowed(name),
            kind,
            sql.into_sql_str(),
            false,
        )
    };
    steps.into_iter().map(step).collect()
}

/// The schema version that this program writes.
fn known_version() -> i64 {
    migrations()
        .iter()
        .map(|step| step.version)
        .max()
        .unwrap_or(0)
}

/// Opens the database for writing, creates it where there is none, and brings its schema up to date.
pub(super) async fn for_writing(path: &Path) -> Result<SqliteConnection, Error> {
    create(path)?;
    let failed = |source| Error::from_sqlx(path, source);
    // What is not ours must not even be switched to WAL, so that it is looked at first.
    let mut connection = options(path)
        .read_only(false)
        .connect()
        .await
        .map_err(failed)?;
    let found = identify(path, &mut connection).await?;
    if found > known_version() {
        return Err(Error::Newer {
            path: path.to_owned(),
            found,
            known: known_version(),
        });
    }
    sqlx::query("pragma application_id = 1801745012")
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    let options = options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES);
    let mut connection = options.connect().await.map_err(failed)?;
    if found < known_version() {
        migrate(path, &mut connection).await?;
    }
    Ok(connection)
}

/// Opens the database for reading. Nothing is created, changed or brought up to date.
pub(super) async fn for_reading(path: &Path) -> Result<SqliteConnection, Error> {
    match path.metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing {
                path: path.to_owned(),
            });
        }
        Err(source) => {
            return Err(Error::CannotOpen {
                path: path.to_owned(),
                source,
            });
        }
    }
    let failed = |source| Error::from_sqlx(path, source);
    let mut connection = options(path)
        .read_only(true)
        .connect()
        .await
        .map_err(failed)?;
    let (found, known) = (identify(path, &mut connection).await?, known_version());
    let path = path.to_owned();
    match found {
        found if found > known => Err(Error::Newer { path, found, known }),
        found if found < known => Err(Error::Older { path, found, known }),
        _ => Ok(connection),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // Expressions in the schema of a file that was tampered with get no powers.
        .pragma("trusted_schema", "off")
}

/// Makes sure that there is a file, readable for the group at most. SQLite gives its other files the
/// same mode.
fn create(path: &Path) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    match options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(path)
    {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::ReadOnly {
                    path: path.to_owned(),
                }
            }
            io::ErrorKind::StorageFull => Error::Full {
                path: path.to_owned(),
            },
            _ => Error::CannotOpen {
                path: path.to_owned(),
                source: error,
            },
        }),
    }
}

/// The schema version of the database; 0 if it is empty. An error if it is somebody else's.
async fn identify(path: &Path, connection: &mut SqliteConnection) -> Result<i64, Error> {
    let failed = |source| Error::from_sqlx(path, source);
    let (application_id, tables): (i64, i64) = sqlx::query_as(
        "select (select application_id from pragma_application_id),
                (select count(*) from sqlite_schema)",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    if tables == 0 && matches!(application_id, 0 | APPLICATION_ID) {
        return Ok(0);
    }
    if application_id != APPLICATION_ID {
        return Err(Error::NotOurs {
            path: path.to_owned(),
        });
    }
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
        source => Error::Migrate {
            path: path.to_owned(),
            source,
        },
    })
}
