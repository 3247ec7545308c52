//! Rows into tables, many with each statement.

use data_encoding::HEXLOWER;
use sqlx::SqliteConnection;

use super::changes::{NoticeRow, Rows};
use super::record::Numbers;
use super::snapshot::ids_json;
use crate::inventory::Changes;

/// Rows that go into one statement: enough to make its cost vanish, few enough to keep the text small.
pub(super) const CHUNK: usize = 2_000;

/// Rows of texts and numbers as one bound value, which `SQLite` takes apart faster than many bound ones.
pub(super) fn json(rows: &impl serde::Serialize) -> String {
    // Rows of texts and numbers can always be written.
    serde_json::to_string(rows).unwrap_or_default()
}

/// New states of owners and keys, and what is told of them.
pub(super) async fn write_rows(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    rows: &Rows<'_>,
) -> Result<(), sqlx::Error> {
    write_owners(connection, rows).await?;
    write_keys(connection, numbers, rows).await?;
    for chunk in rows.versions.chunks(CHUNK) {
        let sql = "insert into key_versions (version, key, scope, name, redacted_value, project_id,
                 project_name, owner, created_at, expires_at, other)
             select value ->> 'version', value ->> 'key', value ->> 'scope', value ->> 'name',
                 value ->> 'redacted_value', value ->> 'project_id', value ->> 'project_name',
                 value ->> 'owner', value ->> 'created_at', value ->> 'expires_at', value ->> 'other'
             from json_each(?1)";
        sqlx::query(sql).bind(json(&chunk)).execute(&mut *connection).await?;
    }
    for chunk in rows.events.chunks(CHUNK) {
        let sql =
            "insert into audit (event_id, run_id, version, event, field, old_value, new_value)
             select value ->> 'event_id', ?2, value ->> 'version', value ->> 'event',
                 value ->> 'field', value ->> 'old', value ->> 'new' from json_each(?1)";
        let insert = sqlx::query(sql).bind(json(&chunk)).bind(numbers.run_id);
        insert.execute(&mut *connection).await?;
    }
    write_notices(connection, numbers, rows).await
}

async fn write_owners(
    connection: &mut SqliteConnection,
    rows: &Rows<'_>,
) -> Result<(), sqlx::Error> {
    for chunk in rows.owners.chunks(CHUNK) {
        let owners: Vec<_> = chunk
            .iter()
            .map(|(row, organization, w, salt)| {
                let salt = salt.map(|salt| HEXLOWER.encode(&salt.0));
                (row, organization, &w.kind, &w.id, &w.name, &w.role, &w.other, salt)
            })
            .collect();
        let sql = "insert into owners (owner, organization, type, id, name, role, other, salt)
             select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                 value ->> 6, unhex(value ->> 7) from json_each(?1)";
        sqlx::query(sql).bind(json(&owners)).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn write_keys(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    rows: &Rows<'_>,
) -> Result<(), sqlx::Error> {
    for chunk in rows.new_keys.chunks(CHUNK) {
        let sql =
            "insert into keys (key, organization, key_id, version, last_used_at, first_seen_run)
             select value ->> 0, ?2, value ->> 1, value ->> 2, value ->> 3, ?3 from json_each(?1)";
        let insert = sqlx::query(sql).bind(json(&chunk)).bind(numbers.organization);
        insert.bind(numbers.run_id).execute(&mut *connection).await?;
    }
    for chunk in rows.moved_keys.chunks(CHUNK) {
        let sql = "update keys set version = j.version, last_used_at = j.last_used_at,
                 last_seen_run = null, removed_run = null
             from (select value ->> 0 as key, value ->> 1 as version, value ->> 2 as last_used_at
                   from json_each(?1)) j
             where keys.key = j.key";
        sqlx::query(sql).bind(json(&chunk)).execute(&mut *connection).await?;
    }
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

async fn write_notices(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    rows: &Rows<'_>,
) -> Result<(), sqlx::Error> {
    for NoticeRow { notice_id, notice, changes } in &rows.notices {
        sqlx::query(
            "insert into notices (notice_id, run_id, kind, field, changes)
             values (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(notice_id)
        .bind(numbers.run_id)
        .bind(notice.kind.as_str())
        .bind(&notice.field)
        .bind(changes)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
