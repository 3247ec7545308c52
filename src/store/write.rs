//! Rows into tables, many with each statement.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::changes::{EventRow, NewKey, Value, VersionRow};
use super::record::{Numbers, RunIds};
use super::rows::OwnerState;
use super::snapshot::ids_json;
use crate::audit::Salt;
use crate::inventory::{Changes, Notice};

/// Rows that are asked for, or changed, with one statement.
pub(super) const CHUNK: usize = 2_000;

/// Rows that are inserted with one statement: enough to make its cost vanish.
pub(super) const ROWS: usize = 200;

/// Rows of texts and numbers as one bound value.
pub(super) fn json(rows: &impl serde::Serialize) -> String {
    // Rows of texts and numbers can always be written.
    serde_json::to_string(rows).unwrap_or_default()
}

/// New states of owners and keys, and what is told of them: some of a run's.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) owners: Vec<(i64, OwnerState, Option<Salt>)>,
    pub(super) new_keys: Vec<NewKey>,
    pub(super) moved_keys: Vec<MovedKey>,
    pub(super) versions: Vec<VersionRow>,
    pub(super) events: Vec<EventRow>,
}

/// Rows on their way into a table.
pub(super) struct Insertion {
    statement: QueryBuilder<Sqlite>,
    /// Whether it is one of many with the same text.
    is_common: bool,
}

impl Insertion {
    async fn execute(mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let query = self.statement.build().persistent(self.is_common);
        query.execute(connection).await.map(|_| ())
    }
}

/// What inserts rows, [`ROWS`] at a time, so that mostly one statement serves them all. `insert` is all of it before
/// the word `values`.
pub(super) fn insertions<T>(
    insert: &str,
    rows: &[T],
    mut bind: impl FnMut(&mut sqlx::query_builder::Separated<'_, Sqlite, &'static str>, &T),
) -> Vec<Insertion> {
    let insertion = |rows: &[T]| {
        let mut statement = QueryBuilder::<Sqlite>::new(insert);
        statement.push_values(rows, |mut row, of| bind(&mut row, of));
        // A rest is of a size of its own.
        Insertion { statement, is_common: rows.len() == ROWS }
    };
    rows.chunks(ROWS).map(insertion).collect()
}

/// Inserts rows, in this order.
pub(super) async fn insert_all(
    connection: &mut SqliteConnection,
    insertions: Vec<Insertion>,
) -> Result<(), sqlx::Error> {
    for insertion in insertions {
        insertion.execute(&mut *connection).await?;
    }
    Ok(())
}

impl Batch {
    /// All of its new rows. Keys that are moved have to be written besides.
    pub(super) fn insertions(&self, ids: RunIds) -> Vec<Insertion> {
        let into = "insert into owners (owner, organization, type, id, name, role, other, salt) ";
        let owners = insertions(into, &self.owners, |row, (owner, state, salt)| {
            let OwnerState { kind, id, name, role, other } = state.clone();
            let salt = salt.map(|salt| salt.0.to_vec());
            row.push_bind(*owner).push_bind(ids.organization).push_bind(kind).push_bind(id);
            row.push_bind(name).push_bind(role).push_bind(other).push_bind(salt);
        });
        let into = "insert into keys (key, organization, key_id, version, last_used_at, first_seen_run, due_at) ";
        let keys = insertions(into, &self.new_keys, |row, key| {
            row.push_bind(key.key).push_bind(ids.organization).push_bind(key.key_id.clone());
            row.push_bind(key.version).push_bind(key.last_used_at).push_bind(ids.run_id);
            row.push_bind(key.due_at);
        });
        let into = "insert into key_versions (version, key, scope, name, redacted_value, project_id, project_name,
                 owner, created_at, expires_at, other) ";
        let versions = insertions(into, &self.versions, |row, version| {
            row.push_bind(version.version).push_bind(version.key).push_bind(version.scope);
            row.push_bind(version.name.clone()).push_bind(version.redacted_value.clone());
            row.push_bind(version.project_id.clone()).push_bind(version.project_name.clone());
            row.push_bind(version.owner).push_bind(version.created_at);
            row.push_bind(version.expires_at).push_bind(version.other.clone());
        });
        let into =
            "insert into audit (event_id, run_id, version, event, field, old_value, new_value) ";
        let events = insertions(into, &self.events, |row, event| {
            row.push_bind(event.event_id).push_bind(ids.run_id).push_bind(event.version);
            row.push_bind(event.event).push_bind(event.field.clone());
            bind_value(row, &event.old);
            bind_value(row, &event.new);
        });
        // What refers to a row comes after it.
        [owners, keys, versions, events].into_iter().flatten().collect()
    }
}

/// Writes a batch down. The row of the run must be there.
pub(super) async fn write_batch(
    connection: &mut SqliteConnection,
    ids: RunIds,
    batch: &Batch,
) -> Result<(), sqlx::Error> {
    insert_all(connection, batch.insertions(ids)).await?;
    move_keys(connection, &batch.moved_keys).await
}

fn bind_value(row: &mut sqlx::query_builder::Separated<'_, Sqlite, &'static str>, value: &Value) {
    match value {
        Value::Time(time) => row.push_bind(*time),
        Value::Text(text) => row.push_bind(text.clone()),
    };
}

/// Keys that have another version or another use: the row of the key, and these.
pub(super) type MovedKey = (i64, i64, Option<i64>);

pub(super) async fn move_keys(
    connection: &mut SqliteConnection,
    moved_keys: &[MovedKey],
) -> Result<(), sqlx::Error> {
    if moved_keys.is_empty() {
        return Ok(());
    }
    let sql = "update keys set version = j.version, last_used_at = j.last_used_at,
             last_seen_run = null, removed_run = null
         from (select value ->> 0 as key, value ->> 1 as version, value ->> 2 as last_used_at
               from json_each(?1)) j
         where keys.key = j.key";
    sqlx::query(sql).bind(json(&moved_keys)).execute(&mut *connection).await?;
    Ok(())
}

/// Keys that are gone, and keys that were not seen and yet are not believed gone.
pub(super) async fn write_absences(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    let last_seen = numbers.previous.map(|(run_id, _)| run_id);
    if !changes.removed.is_empty() {
        sqlx::query(
            "update keys set removed_run = ?3, last_seen_run = ifnull(last_seen_run, ?4)
             where organization = ?1 and key_id in (select value from json_each(?2))",
        )
        .bind(numbers.organization)
        .bind(ids_json(changes.removed.iter().map(|key| &key.id)))
        .bind(numbers.run_id)
        .bind(last_seen)
        .execute(&mut *connection)
        .await?;
    }
    let unconfirmed = ids_json(&changes.unconfirmed);
    // Seen again.
    sqlx::query(
        "update keys set last_seen_run = null
         where organization = ?1 and last_seen_run is not null and removed_run is null
         and key_id not in (select value from json_each(?2))",
    )
    .bind(numbers.organization)
    .bind(&unconfirmed)
    .execute(&mut *connection)
    .await?;
    if !changes.unconfirmed.is_empty() {
        sqlx::query(
            "update keys set last_seen_run = ?3
             where organization = ?1 and last_seen_run is null
             and key_id in (select value from json_each(?2))",
        )
        .bind(numbers.organization)
        .bind(&unconfirmed)
        .bind(last_seen)
        .execute(connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn write_notice(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    notice_id: i64,
    notice: &Notice,
    changes: String,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into notices (notice_id, run_id, kind, field, changes) values (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(notice_id)
    .bind(numbers.run_id)
    .bind(notice.kind.as_str())
    .bind(&notice.field)
    .bind(changes)
    .execute(connection)
    .await?;
    Ok(())
}
