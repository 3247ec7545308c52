//! The inventory at the horizon, beyond which the history is thrown away: kept as rows that refer to versions
//! of keys, as events do.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use futures_util::TryStreamExt;
use sqlx::{FromRow, Row, SqliteConnection};

use super::error::Error;
use super::evidence::{parse_salt, seals, unreadable};
use super::read::KeyRow;
use super::rows::{KeyReader, StoredKey};
use super::verify::into_record;
use super::write::json;
use crate::audit::{ActRecord, Erased, InventoryRecord, KeyframeRecord, Pruning};
use crate::clock::Timestamp;
use crate::inventory::{Column, Key, KeyId, known_changes};

/// The newest word on what is pruned, by organization.
pub(super) fn newest_prunings(acts: &[ActRecord]) -> BTreeMap<String, Pruning> {
    let mut newest: BTreeMap<String, (i64, Pruning)> = BTreeMap::new();
    for act in acts {
        if let Some(pruning) = Pruning::of(act)
            && newest.get(&act.organization).is_none_or(|(act_id, _)| *act_id < act.act_id)
        {
            newest.insert(act.organization.clone(), (act.act_id, pruning));
        }
    }
    newest.into_iter().map(|(organization, (_, pruning))| (organization, pruning)).collect()
}

/// The keyframe of an organization, as of a run.
pub(super) async fn load_keyframe(
    connection: &mut SqliteConnection,
    organization: &str,
    run_id: i64,
    erased: &Erased,
) -> Result<Vec<KeyframeRecord>, sqlx::Error> {
    let salts: Vec<(String, Option<String>)> =
        sqlx::query_as("select key_id, salt from keyframe_salts where organization = ?1")
            .bind(organization)
            .fetch_all(&mut *connection)
            .await?;
    let mut salts: HashMap<String, Option<String>> = salts.into_iter().collect();
    let erased = erased.get(&("keyframe".to_owned(), run_id));
    let mut erased_of: HashMap<&str, Vec<_>> = HashMap::new();
    for value in erased.into_iter().flatten() {
        let of = erased_of.entry(value.key_id.as_deref().unwrap_or_default());
        of.or_default().push(value.clone());
    }
    let mut records = Vec::new();
    let mut rows = sqlx::query(
        "select organization, scope, key_id, name, redacted_value, project_id, project_name,
                owner_type, owner_id, owner_name, owner_role, created_at, last_used_at, expires_at,
                other, own_key, first_seen_at, ifnull(last_seen_at, '') as last_seen_at, removed_at,
                null as owner_project_access, null as project_archived, null as project_archived_at,
                unconfirmed
         from keyframe_keys where organization = ?1",
    )
    .bind(organization)
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let unconfirmed = match row.try_get("unconfirmed")? {
            0_i64 => false,
            1 => true,
            _ => return Err(unreadable("a key of a keyframe")),
        };
        let row = KeyRow::from_row(&row)?;
        let erased = seals(erased_of.get(row.key_id.as_str()), |_| true);
        let salt = parse_salt(salts.remove(&row.key_id).flatten().as_deref());
        let record = into_record(row).ok_or_else(|| unreadable("a key of a keyframe"))?;
        records.push(KeyframeRecord { record, unconfirmed, salt, erased });
    }
    Ok(records)
}

/// Makes the keyframe of an organization what a replay of its history led to. Its triggers must be lifted.
pub(super) async fn write_keyframe(
    connection: &mut SqliteConnection,
    path: &Path,
    (organization, run_id): (i64, i64),
    inventory: &[(InventoryRecord, bool)],
) -> Result<(), Error> {
    let versions = find_versions(connection, path, (organization, run_id), inventory).await?;
    let mut rows = Vec::new();
    for (record, unconfirmed) in inventory {
        let InventoryRecord { key, own_key, first_seen_at, last_seen_at, removed_at } = record;
        let bad = |column| Error::Inconsistent {
            table: "key_versions",
            column,
            row: format!("of key `{}`", key.id),
        };
        let Some(Found { row, version, fits_column, .. }) = versions.get(&key.id).copied() else {
            return Err(bad("key"));
        };
        let unix = |text: &str| text.parse::<Timestamp>().map(Timestamp::unix);
        let time = |text: &Option<String>| text.as_deref().map(unix).transpose();
        rows.push((
            row,
            version,
            key.last_used_at.filter(|_| fits_column).map(Timestamp::unix),
            i64::from(*own_key),
            unix(first_seen_at).map_err(|_| bad("first_seen_at"))?,
            time(last_seen_at).map_err(|_| bad("last_seen_at"))?,
            time(removed_at).map_err(|_| bad("removed_at"))?,
            i64::from(*unconfirmed),
        ));
    }
    let written = write_rows(connection, &rows).await;
    written.map_err(|source| Error::from_sqlx(path, source))
}

async fn write_rows(
    connection: &mut SqliteConnection,
    rows: &[impl serde::Serialize],
) -> Result<(), sqlx::Error> {
    const CHUNK: usize = 2_000;
    for chunk in rows.chunks(CHUNK) {
        let chunk = json(&chunk);
        sqlx::query(
            "update keyframes set version = j.value ->> 1, last_used_at = j.value ->> 2,
                 own_key = j.value ->> 3, first_seen_at = j.value ->> 4, last_seen_at = j.value ->> 5,
                 removed_at = j.value ->> 6, unconfirmed = j.value ->> 7
             from json_each(?1) j
             where keyframes.key = j.value ->> 0
               and (version, last_used_at, own_key, first_seen_at, last_seen_at, removed_at, unconfirmed)
                   is not (j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4, j.value ->> 5,
                           j.value ->> 6, j.value ->> 7)",
        )
        .bind(&chunk)
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "insert into keyframes (key, version, last_used_at, own_key, first_seen_at, last_seen_at,
                 removed_at, unconfirmed)
             select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                 value ->> 6, value ->> 7 from json_each(?1)
             where not exists (select 1 from keyframes where key = value ->> 0)",
        )
        .bind(&chunk)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The version of a key that shows it as it was.
#[derive(Clone, Copy)]
struct Found {
    /// The row of the key.
    row: i64,
    version: i64,
    /// Whether the time of the last use stands in its column, not among the other values.
    fits_column: bool,
    exact: bool,
}

/// Of each key the newest version that shows it as it was then, before what the first later event made of it.
async fn find_versions(
    connection: &mut SqliteConnection,
    path: &Path,
    (organization, run_id): (i64, i64),
    inventory: &[(InventoryRecord, bool)],
) -> Result<HashMap<KeyId, Found>, Error> {
    let failed = |source| Error::from_sqlx(path, source);
    let wanted: HashMap<&KeyId, &InventoryRecord> =
        inventory.iter().map(|(record, _)| (&record.key.id, record)).collect();
    let mut rows = sqlx::query(
        "select k.key, v.version, k.key_id, v.scope, v.name, v.redacted_value, v.project_id,
                v.project_name, w.type as owner_type, w.id as owner_id, w.name as owner_name,
                w.role as owner_role, v.created_at, null as last_used_at, v.expires_at, v.other,
                w.other as owner_other
         from key_versions v
         join keys k on k.key = v.key
         left join owners w on w.owner = v.owner
         where k.organization = ?1
           and v.version <= (select last_version from runs where run_id = ?2)
         order by v.version",
    )
    .bind(organization)
    .bind(run_id)
    .fetch(connection);
    let mut reader = KeyReader::default();
    let mut found = HashMap::new();
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let numbers = (row.try_get("key"), row.try_get("version"));
        let (row_id, version): (i64, i64) =
            (numbers.0.map_err(failed)?, numbers.1.map_err(failed)?);
        let shown = reader.read(StoredKey::from_row(&row).map_err(failed)?)?;
        let Some(record) = wanted.get(&shown.id) else { continue };
        let fits_column = !shown.other.contains_key(Column::LastUsedAt.api_path());
        let Some(exact) = shows(&shown, fits_column, record) else { continue };
        if exact || found.get(&shown.id).is_none_or(|before: &Found| !before.exact) {
            found.insert(shown.id, Found { row: row_id, version, fits_column, exact });
        }
    }
    Ok(found)
}

/// Whether a version, which has no time of its last use but one that does not fit, shows a key: `Some(true)`, or
/// `Some(false)` but for our own use of it, of which the history says nothing.
fn shows(version: &Key, fits_column: bool, record: &InventoryRecord) -> Option<bool> {
    let mut expected = record.key.clone();
    if fits_column {
        expected.last_used_at = None;
    }
    if known_changes(&expected, version).is_empty() {
        return Some(true);
    }
    expected.copy_field(version, Column::LastUsedAt);
    (record.own_key && known_changes(&expected, version).is_empty()).then_some(false)
}
