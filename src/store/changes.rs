//! The changes of a run as rows: which versions of keys and owners, and which events, they come to.

use std::collections::{BTreeSet, HashMap};

use sqlx::SqliteConnection;

use super::record::Numbers;
use super::rows::{OwnerState, own_other};
use super::snapshot::ids_json;
use super::write::{json, write_absences, write_notices, write_rows};
use crate::clock::Timestamp;
use crate::inventory::{Alteration, Appearance, Changes, Column, EventKind, FieldChange, Key};
use crate::run::EventCounts;

/// A row of the table `keys` as it was before the run.
#[derive(Clone, Copy)]
struct Stored {
    key: i64,
    version: i64,
    last_used_at: Option<i64>,
}

/// Everything that a run adds and changes, as rows.
#[derive(Default)]
pub(super) struct Rows<'a> {
    pub(super) owners: Vec<(i64, i64, OwnerState)>,
    pub(super) new_keys: Vec<(i64, &'a str, i64, Option<i64>)>,
    pub(super) moved_keys: Vec<(i64, i64, Option<i64>)>,
    pub(super) versions: Vec<VersionRow<'a>>,
    pub(super) events: Vec<EventRow<'a>>,
    pub(super) counts: EventCounts,
}

#[derive(serde::Serialize)]
pub(super) struct VersionRow<'a> {
    version: i64,
    key: i64,
    scope: &'a str,
    name: Option<&'a str>,
    redacted_value: Option<&'a str>,
    project_id: Option<&'a str>,
    project_name: Option<&'a str>,
    owner: Option<i64>,
    created_at: Option<i64>,
    expires_at: Option<i64>,
    other: Option<String>,
}

#[derive(serde::Serialize)]
pub(super) struct EventRow<'a> {
    event_id: i64,
    version: i64,
    event: &'static str,
    field: Option<&'a str>,
    old: Value<'a>,
    new: Value<'a>,
}

/// What stands in the columns of any type.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum Value<'a> {
    Time(Option<i64>),
    Text(&'a str),
}

/// Works out everything that a run changes. Writes nothing.
pub(super) async fn plan_changes<'a>(
    connection: &mut SqliteConnection,
    numbers: &mut Numbers,
    changes: &'a Changes,
) -> Result<Rows<'a>, sqlx::Error> {
    let returning = changes.appeared.iter().filter_map(|appearance| match appearance {
        Appearance::Restored(key) => Some(&key.id),
        Appearance::Baseline(_) | Appearance::Added(_) => None,
    });
    let altered = changes.altered.iter().map(|alteration| &alteration.key.id);
    let known = ids_json(returning.chain(altered).chain(&changes.removed));
    let stored = load_stored(connection, numbers.organization, known).await?;
    let mut owners = load_owners(connection, numbers.organization, changes).await?;
    let mut rows = Rows::default();
    for appearance in &changes.appeared {
        rows.appear(numbers, &mut owners, &stored, appearance)?;
    }
    for alteration in &changes.altered {
        rows.alter(numbers, &mut owners, &stored, alteration)?;
    }
    for key_id in &changes.removed {
        let row = stored.get(key_id.as_str()).ok_or(sqlx::Error::RowNotFound)?;
        let old = Value::Time(row.last_used_at);
        rows.event(numbers, row.version, EventKind::Removed, None, old, Value::Time(None));
    }
    Ok(rows)
}

/// Writes what [`plan_changes`] worked out. The row of the run must be there.
pub(super) async fn write_changes(
    connection: &mut SqliteConnection,
    numbers: &mut Numbers,
    changes: &Changes,
    rows: &Rows<'_>,
) -> Result<(), sqlx::Error> {
    write_rows(connection, numbers, rows).await?;
    write_absences(connection, numbers, changes).await?;
    write_notices(connection, numbers, &changes.notices).await
}

/// The rows of keys that are there already. `cross join` is not reordered: left to itself, SQLite goes
/// through the list anew for every key.
async fn load_stored(
    connection: &mut SqliteConnection,
    organization: i64,
    ids: String,
) -> Result<HashMap<String, Stored>, sqlx::Error> {
    let rows: Vec<(String, i64, i64, Option<i64>)> = sqlx::query_as(
        "select k.key_id, k.key, k.version, k.last_used_at from json_each(?2) j
         cross join keys k on k.organization = ?1 and k.key_id = j.value",
    )
    .bind(organization)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let stored = rows
        .into_iter()
        .map(|(id, key, version, last_used_at)| (id, Stored { key, version, last_used_at }));
    Ok(stored.collect())
}

/// A row of the table `owners`.
type OwnerRow =
    (i64, Option<String>, Option<String>, Option<String>, Option<String>, Option<String>);

/// The states of owners that the changed keys may refer to.
async fn load_owners(
    connection: &mut SqliteConnection,
    organization: i64,
    changes: &Changes,
) -> Result<HashMap<OwnerState, i64>, sqlx::Error> {
    let altered = changes.altered.iter().filter(|alteration| alteration.more_than_use);
    let appeared = changes.appeared.iter().map(Appearance::key);
    let keys = appeared.chain(altered.map(|alteration| &alteration.key));
    let ids: BTreeSet<&str> = keys.map(|key| key.owner_id.as_deref().unwrap_or_default()).collect();
    let rows: Vec<OwnerRow> = sqlx::query_as(
        "select w.owner, w.type, w.id, w.name, w.role, w.other from json_each(?2) j
         cross join owners w on w.organization = ?1 and ifnull(w.id, '') = j.value",
    )
    .bind(organization)
    .bind(json(&ids))
    .fetch_all(connection)
    .await?;
    let shared = |text: Option<String>| text.map(std::sync::Arc::from);
    let state = |(owner, kind, id, name, role, other): OwnerRow| {
        let (kind, id, name, role) = (shared(kind), shared(id), shared(name), shared(role));
        (OwnerState { kind, id, name, role, other }, owner)
    };
    Ok(rows.into_iter().map(state).collect())
}

impl<'a> Rows<'a> {
    fn appear(
        &mut self,
        numbers: &mut Numbers,
        owners: &mut HashMap<OwnerState, i64>,
        stored: &HashMap<String, Stored>,
        appearance: &'a Appearance,
    ) -> Result<(), sqlx::Error> {
        let key = appearance.key();
        let last_used_at = key.last_used_at.map(Timestamp::unix);
        let kind = match appearance {
            Appearance::Baseline(_) => EventKind::Baseline,
            Appearance::Added(_) => EventKind::Added,
            Appearance::Restored(_) => EventKind::Restored,
        };
        let version = if kind == EventKind::Restored {
            let row = stored.get(key.id.as_str()).ok_or(sqlx::Error::RowNotFound)?;
            let version = self.version(numbers, owners, row.key, key);
            self.moved_keys.push((row.key, version, last_used_at));
            version
        } else {
            let row = numbers.key;
            numbers.key += 1;
            let version = self.version(numbers, owners, row, key);
            self.new_keys.push((row, key.id.as_str(), version, last_used_at));
            version
        };
        self.event(numbers, version, kind, None, Value::Time(None), Value::Time(last_used_at));
        Ok(())
    }

    fn alter(
        &mut self,
        numbers: &mut Numbers,
        owners: &mut HashMap<OwnerState, i64>,
        stored: &HashMap<String, Stored>,
        alteration: &'a Alteration,
    ) -> Result<(), sqlx::Error> {
        let Alteration { key, more_than_use, changes } = alteration;
        let row = stored.get(key.id.as_str()).ok_or(sqlx::Error::RowNotFound)?;
        let version =
            if *more_than_use { self.version(numbers, owners, row.key, key) } else { row.version };
        self.moved_keys.push((row.key, version, key.last_used_at.map(Timestamp::unix)));
        for change in changes {
            let field = Some(change.field.as_str()).filter(|_| change.kind() == EventKind::Changed);
            let (old, new) =
                (shown(change, change.old.as_deref()), shown(change, change.new.as_deref()));
            self.event(numbers, version, change.kind(), field, old, new);
        }
        Ok(())
    }

    fn version(
        &mut self,
        numbers: &mut Numbers,
        owners: &mut HashMap<OwnerState, i64>,
        row: i64,
        key: &'a Key,
    ) -> i64 {
        let owner = OwnerState::of(key).map(|state| {
            *owners.entry(state).or_insert_with_key(|state| {
                let owner = numbers.owner;
                numbers.owner += 1;
                self.owners.push((owner, numbers.organization, state.clone()));
                owner
            })
        });
        let version = numbers.version;
        numbers.version += 1;
        self.versions.push(VersionRow {
            version,
            key: row,
            scope: key.scope.as_str(),
            name: key.name.as_deref(),
            redacted_value: key.redacted_value.as_deref(),
            project_id: key.project_id.as_deref(),
            project_name: key.project_name.as_deref(),
            owner,
            created_at: key.created_at.map(Timestamp::unix),
            expires_at: key.expires_at.map(Timestamp::unix),
            other: own_other(key),
        });
        version
    }

    fn event(
        &mut self,
        numbers: &mut Numbers,
        version: i64,
        kind: EventKind,
        field: Option<&'a str>,
        old: Value<'a>,
        new: Value<'a>,
    ) {
        let count = match kind {
            EventKind::Baseline => &mut self.counts.baseline,
            EventKind::Added => &mut self.counts.added,
            EventKind::Removed => &mut self.counts.removed,
            EventKind::Restored => &mut self.counts.restored,
            EventKind::Used => &mut self.counts.used,
            EventKind::Changed => &mut self.counts.changed,
        };
        *count += 1;
        let event_id = numbers.event_id;
        numbers.event_id += 1;
        self.events.push(EventRow { event_id, version, event: kind.as_str(), field, old, new });
    }
}

/// A value of an event as it is stored: times of `used` events as numbers.
fn shown<'a>(change: &FieldChange, value: Option<&'a str>) -> Value<'a> {
    let Some(text) = value else {
        return Value::Time(None);
    };
    if change.field == Column::LastUsedAt.name()
        && let Ok(time) = text.parse::<Timestamp>()
    {
        return Value::Time(Some(time.unix()));
    }
    Value::Text(text)
}
