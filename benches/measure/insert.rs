//! The floor of a first commit: the rows that a first sync wrote, into the same schema in a new file, with one prepared
//! statement a table, in one transaction that is as durable.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use tempfile::TempDir;

/// Which rows are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The keys, their versions and owners, the events, and the run.
    History,
    /// The findings and all the rest too.
    All,
}

/// In an order in which each row finds what it refers to.
const HISTORY: [&str; 6] = ["organizations", "runs", "owners", "keys", "key_versions", "audit"];

struct Table {
    name: String,
    rows: Vec<Vec<Value>>,
}

/// What a first sync wrote.
pub(crate) struct Rows {
    schema: Vec<String>,
    tables: Vec<Table>,
}

impl Rows {
    pub(crate) fn read(database: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let schema = strings(
            &connection,
            "select sql from sqlite_schema where sql is not null and name not like '%sqlx%'
             order by case type when 'table' then 0 when 'index' then 1 when 'view' then 2 else 3 end",
        )?;
        let others = strings(
            &connection,
            "select name from sqlite_schema
             where type = 'table' and name not like 'sqlite_%' and name not like '%sqlx%' order by rowid",
        )?;
        let others = others.into_iter().filter(|name| !HISTORY.contains(&name.as_str()));
        let names = HISTORY.iter().map(|name| (*name).to_owned()).chain(others);
        let mut tables = Vec::new();
        for name in names {
            let rows = read_table(&connection, &name)?;
            tables.push(Table { name, rows });
        }
        let written =
            tables.iter().find(|table| table.name == "keys").map_or(0, |keys| keys.rows.len());
        ensure!(written > 0, "`{}` holds no key", database.display());
        Ok(Self { schema, tables })
    }

    /// Makes the schema in a new file, triggers and indexes included.
    fn create(&self, file: &Path) -> anyhow::Result<Connection> {
        let connection = Connection::open(file)?;
        connection.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on;",
        )?;
        for sql in &self.schema {
            connection.execute_batch(sql)?;
        }
        Ok(connection)
    }

    /// Inserts them, and gives back the seconds that this took.
    pub(crate) fn insert(&self, which: Which) -> anyhow::Result<f64> {
        let directory = TempDir::new()?;
        let mut connection = self.create(&directory.path().join("floor.db"))?;
        let began = Instant::now();
        let transaction = connection.transaction()?;
        for table in self.tables.iter().filter(|table| which.takes(&table.name)) {
            let Some(first) = table.rows.first() else { continue };
            let places = vec!["?"; first.len()].join(", ");
            let sql = format!("insert into {} values ({places})", table.name);
            let mut insert = transaction.prepare(&sql)?;
            for row in &table.rows {
                insert.execute(params_from_iter(row)).with_context(|| table.name.clone())?;
            }
        }
        transaction.commit()?;
        Ok(began.elapsed().as_secs_f64())
    }
}

impl Which {
    fn takes(self, table: &str) -> bool {
        self == Self::All || HISTORY.contains(&table)
    }
}

fn strings(connection: &Connection, sql: &str) -> anyhow::Result<Vec<String>> {
    let mut select = connection.prepare(sql)?;
    let found = select.query_map([], |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn read_table(connection: &Connection, table: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let mut select = connection.prepare(&format!("select * from {table} order by 1"))?;
    let columns = select.column_count();
    let rows = select.query_map([], |row| (0..columns).map(|at| row.get(at)).collect())?;
    Ok(rows.collect::<Result<_, _>>()?)
}
