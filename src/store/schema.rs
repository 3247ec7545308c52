//! Whether the tables, views and triggers of a database are the ones that its version has.

use std::collections::BTreeMap;

use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::Reader;
use super::error::Error;
use super::open::migrations;

/// How a schema departs from ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaDrift {
    /// Something that everything shown rests on is another, or a trigger was added.
    pub damage: Option<String>,
    /// Triggers that are missing: nothing is wrong with the history for that, but nothing guards it either.
    pub unguarded: Vec<String>,
}

/// By kind and name, the statement that made it.
type Schema = BTreeMap<(String, String), Option<String>>;

impl Reader {
    /// Holds the schema against the one that the migrations make. Views, tables and indexes that somebody
    /// added are no matter.
    pub async fn compare_schema(&mut self) -> Result<SchemaDrift, Error> {
        let path = self.path.clone();
        let failed = |source| Error::from_sqlx(&path, source);
        let found = load(&mut self.connection).await.map_err(failed)?;
        let expected = make().await.map_err(failed)?;
        let mut drift = SchemaDrift::default();
        // A table that is gone took its indexes with it, and is what there is to say.
        let (indexes, others): (Vec<_>, Vec<_>) =
            expected.iter().partition(|((kind, _), _)| kind == "index");
        for ((kind, name), sql) in others.into_iter().chain(indexes) {
            let now = found.get(&(kind.clone(), name.clone()));
            match now {
                Some(now) if now == sql => {}
                None if kind == "trigger" => drift.unguarded.push(name.clone()),
                Some(_) => {
                    drift
                        .damage
                        .get_or_insert(format!("the {kind} `{name}` is another than keydrift's"));
                }
                None => {
                    drift.damage.get_or_insert(format!("the {kind} `{name}` is missing"));
                }
            }
        }
        let added = found.keys().find(|key| key.0 == "trigger" && !expected.contains_key(key));
        if let Some((_, name)) = added {
            drift.damage.get_or_insert(format!("the trigger `{name}` is none of keydrift's"));
        }
        Ok(drift)
    }
}

async fn load(connection: &mut SqliteConnection) -> Result<Schema, sqlx::Error> {
    let rows: Vec<(String, String, Option<String>)> =
        sqlx::query_as("select type, name, sql from sqlite_schema").fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(kind, name, sql)| ((kind, name), sql)).collect())
}

async fn make() -> Result<Schema, sqlx::Error> {
    let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await?;
    let migrated = Migrator::with_migrations(migrations()).run(&mut connection).await;
    migrated.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
    let schema = load(&mut connection).await?;
    connection.close().await?;
    Ok(schema)
}
