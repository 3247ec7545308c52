//! Raw SQL on the file, as a user with `sqlite3` would ask it: none of keydrift's own code.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, SqliteConnection, TypeInfo, ValueRef};

/// A value as SQLite gives it.
pub type Value = serde_json::Value;

/// Runs `statement` and gives the rows, each as an object by column name.
#[track_caller]
pub fn rows(database: &Path, statement: &str) -> Vec<serde_json::Map<String, Value>> {
    try_rows(database, statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
}

pub fn try_rows(
    database: &Path,
    statement: &str,
) -> Result<Vec<serde_json::Map<String, Value>>, sqlx::Error> {
    if let Some(found) = try_kept(database, statement) {
        return found;
    }
    block_on(async {
        let mut connection = connect(database).await?;
        let found = sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(found.iter().map(object).collect())
    })
}

async fn connect(database: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(database).create_if_missing(false);
    SqliteConnection::connect_with(&options).await
}

/// The one value that `statement` gives.
#[track_caller]
pub fn value(database: &Path, statement: &str) -> Value {
    let rows = rows(database, statement);
    assert_eq!(rows.len(), 1, "{statement}: {rows:?}");
    rows[0].values().next().cloned().unwrap_or_default()
}

#[track_caller]
pub fn integer(database: &Path, statement: &str) -> i64 {
    value(database, statement).as_i64().unwrap_or_else(|| panic!("{statement}: no integer"))
}

fn object(row: &SqliteRow) -> serde_json::Map<String, Value> {
    let get = |at: usize| {
        let raw = row.try_get_raw(at).expect("a column");
        match raw.type_info().name() {
            _ if raw.is_null() => Value::Null,
            "INTEGER" => row.get_unchecked::<i64, _>(at).into(),
            "REAL" => row.get_unchecked::<f64, _>(at).into(),
            "BLOB" => data_encoding::HEXLOWER.encode(row.get_unchecked::<&[u8], _>(at)).into(),
            _ => row.get_unchecked::<String, _>(at).into(),
        }
    };
    row.columns().iter().map(|column| (column.name().to_owned(), get(column.ordinal()))).collect()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// A connection of somebody else's that stays open, with whatever transaction is begun on it.
pub struct Session {
    runtime: tokio::runtime::Runtime,
    connection: SqliteConnection,
}

impl Session {
    #[track_caller]
    pub fn open(database: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let options = SqliteConnectOptions::new().filename(database).create_if_missing(false);
        let connection = runtime.block_on(SqliteConnection::connect_with(&options));
        Self { runtime, connection: connection.expect("the database opens") }
    }

    #[track_caller]
    pub fn run(&mut self, statement: &str) -> Vec<serde_json::Map<String, Value>> {
        let found = sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut self.connection);
        let found = self.runtime.block_on(found);
        found.unwrap_or_else(|error| panic!("{statement}: {error}")).iter().map(object).collect()
    }

    #[track_caller]
    pub fn close(self) {
        self.runtime.block_on(self.connection.close()).expect("the connection closes");
    }
}

thread_local! {
    /// The connection that [`keeping_open`] keeps.
    static KEPT: RefCell<Option<(PathBuf, SqliteConnection)>> = const { RefCell::new(None) };
}

/// Asks all that `ask` asks of `database` over one connection: opening costs more than most questions.
#[track_caller]
pub fn keeping_open<R>(database: &Path, ask: impl FnOnce() -> R) -> R {
    struct Close;
    impl Drop for Close {
        fn drop(&mut self) {
            if let Some((_, connection)) = KEPT.take() {
                drop(block_on(connection.close()));
            }
        }
    }
    let connection = block_on(connect(database)).unwrap_or_else(|error| panic!("{error}"));
    KEPT.set(Some((database.to_owned(), connection)));
    let _close = Close;
    ask()
}

fn try_kept(
    database: &Path,
    statement: &str,
) -> Option<Result<Vec<serde_json::Map<String, Value>>, sqlx::Error>> {
    KEPT.with_borrow_mut(|kept| {
        let (_, connection) = kept.as_mut().filter(|(path, _)| path == database)?;
        let found = block_on(sqlx::query(AssertSqlSafe(statement)).fetch_all(connection));
        Some(found.map(|rows| rows.iter().map(object).collect()))
    })
}
