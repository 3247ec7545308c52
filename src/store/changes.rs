//! The changes of a run as rows: which versions of keys and owners, and which events, they come to.

use std::collections::{BTreeSet, HashMap};

use sqlx::SqliteConnection;

use super::attributions::{
    Attributed, AttributionRows, actor_ids, plan_attributions, write_attributions,
};
use super::chain::{Salts, Told, Witness, placed};
use super::record::Numbers;
use super::rows::{OwnerState, own_other};
use super::snapshot::ids_json;
use super::write::{json, write_absences, write_rows};
use crate::audit::{Content, PartDigest, Placed, Salt, Sealer, is_personal};
use crate::clock::Timestamp;
use crate::inventory::{
    Alteration, Appearance, Changes, Column, EventKind, FieldChange, Key, Notice,
};
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
    pub(super) owners: Vec<(i64, i64, OwnerState, Option<Salt>)>,
    pub(super) new_keys: Vec<(i64, &'a str, i64, Option<i64>)>,
    pub(super) moved_keys: Vec<(i64, i64, Option<i64>)>,
    pub(super) versions: Vec<VersionRow<'a>>,
    pub(super) events: Vec<EventRow<'a>>,
    pub(super) notices: Vec<NoticeRow<'a>>,
    pub(super) attributions: AttributionRows<'a>,
    pub(super) counts: EventCounts,
    pub(super) parts: Vec<PartDigest>,
}

/// What working out the rows goes by, and what it finds on the way.
struct Planning<'n> {
    numbers: &'n mut Numbers,
    stored: HashMap<String, Stored>,
    owners: HashMap<OwnerState, i64>,
    salts: Salts,
    /// The rows of the owners of altered keys, and their salts.
    owner_of: HashMap<String, (Option<i64>, Option<Salt>)>,
    witness: Witness,
}

impl Planning<'_> {
    fn stored(&self, key: &Key) -> Result<Stored, sqlx::Error> {
        self.stored.get(key.id.as_str()).copied().ok_or(sqlx::Error::RowNotFound)
    }
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
    pub(super) event_id: i64,
    #[serde(skip)]
    pub(super) key_id: &'a str,
    version: i64,
    pub(super) event: &'static str,
    pub(super) field: Option<&'a str>,
    old: Value<'a>,
    new: Value<'a>,
}

pub(super) struct NoticeRow<'a> {
    pub(super) notice_id: i64,
    pub(super) notice: &'a Notice,
    /// As it is stored.
    pub(super) changes: String,
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
    attributed: &'a Attributed,
    witness: Witness,
) -> Result<Rows<'a>, sqlx::Error> {
    let returning = changes.appeared.iter().filter_map(|appearance| match appearance {
        Appearance::Restored(key) => Some(&key.id),
        Appearance::Baseline(_) | Appearance::Added(_) => None,
    });
    let altered = changes.altered.iter().map(|alteration| &alteration.key.id);
    let removed = changes.removed.iter().map(|key| &key.id);
    let known = ids_json(returning.chain(altered).chain(removed));
    let owner_ids = owner_ids(changes);
    let people: BTreeSet<&str> = owner_ids.iter().copied().chain(actor_ids(attributed)).collect();
    let mut planning = Planning {
        stored: load_stored(connection, numbers.organization, known).await?,
        owners: load_owners(connection, numbers.organization, &owner_ids).await?,
        salts: Salts::load(connection, numbers.organization, &people).await?,
        owner_of: HashMap::new(),
        numbers,
        witness,
    };
    let mut rows = Rows::default();
    for appearance in &changes.appeared {
        rows.appear(&mut planning, appearance)?;
    }
    for alteration in &changes.altered {
        rows.alter(&mut planning, alteration)?;
    }
    for key in &changes.removed {
        rows.remove(&mut planning, key)?;
    }
    for notice in &changes.notices {
        rows.notice(&mut planning, notice);
    }
    let Planning { numbers, mut salts, witness, .. } = planning;
    rows.parts = witness.finish();
    rows.attributions =
        plan_attributions(connection, numbers, &rows.events, attributed, &mut salts).await?;
    rows.parts.extend(rows.attributions.part);
    Ok(rows)
}

/// Writes what [`plan_changes`] worked out. The row of the run must be there.
pub(super) async fn write_changes(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    changes: &Changes,
    rows: &Rows<'_>,
) -> Result<(), sqlx::Error> {
    write_rows(connection, numbers, rows).await?;
    write_attributions(connection, numbers, &rows.attributions).await?;
    write_absences(connection, numbers, changes).await
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

/// The ids of all owners that the changes are about; an empty one for those who have none.
fn owner_ids(changes: &Changes) -> BTreeSet<&str> {
    let appeared = changes.appeared.iter().map(|appearance| &appearance.key().owner_id);
    let altered = changes.altered.iter().filter(|alteration| alteration.more_than_use);
    let altered =
        altered.flat_map(|alteration| [&alteration.key.owner_id, &alteration.owner_before]);
    let removed = changes.removed.iter().map(|key| &key.owner_id);
    let ids = appeared.chain(altered).chain(removed);
    ids.map(|id| id.as_deref().unwrap_or_default()).collect()
}

/// The states of owners that the changed keys may refer to.
async fn load_owners(
    connection: &mut SqliteConnection,
    organization: i64,
    ids: &BTreeSet<&str>,
) -> Result<HashMap<OwnerState, i64>, sqlx::Error> {
    let rows: Vec<OwnerRow> = sqlx::query_as(
        "select w.owner, w.type, w.id, w.name, w.role, w.other from json_each(?2) j
         cross join owners w on w.organization = ?1 and ifnull(w.id, '') = j.value",
    )
    .bind(organization)
    .bind(json(ids))
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
        planning: &mut Planning<'_>,
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
            let row = planning.stored(key)?;
            let version = self.version(planning, row.key, key)?;
            self.moved_keys.push((row.key, version, last_used_at));
            version
        } else {
            let row = planning.numbers.key;
            planning.numbers.key += 1;
            let version = self.version(planning, row, key)?;
            self.new_keys.push((row, key.id.as_str(), version, last_used_at));
            version
        };
        let salt = planning.salts.of(key.owner_id.as_deref())?;
        let told = (Placed::default(), placed(Content::Key(key), salt));
        let values = (Value::Time(None), Value::Time(last_used_at));
        self.event(planning, version, key, (kind, None), told, values);
        Ok(())
    }

    fn alter(
        &mut self,
        planning: &mut Planning<'_>,
        alteration: &'a Alteration,
    ) -> Result<(), sqlx::Error> {
        let Alteration { key, owner_before, more_than_use, changes } = alteration;
        let row = planning.stored(key)?;
        let version =
            if *more_than_use { self.version(planning, row.key, key)? } else { row.version };
        self.moved_keys.push((row.key, version, key.last_used_at.map(Timestamp::unix)));
        for change in changes {
            let field = Some(change.field.as_str());
            let (mut salt_before, mut salt) = (None, None);
            if is_personal(&change.field) {
                salt_before = planning.salts.of(owner_before.as_deref())?;
                salt = planning.salts.of(key.owner_id.as_deref())?;
            }
            let content = |text: &'a Option<String>| match text {
                Some(text) => Content::Text(text),
                None => Content::Nothing,
            };
            let told =
                (placed(content(&change.old), salt_before), placed(content(&change.new), salt));
            let values =
                (shown(change, change.old.as_deref()), shown(change, change.new.as_deref()));
            self.event(planning, version, key, (change.kind(), field), told, values);
        }
        Ok(())
    }

    fn remove(&mut self, planning: &mut Planning<'_>, key: &'a Key) -> Result<(), sqlx::Error> {
        let row = planning.stored(key)?;
        let salt = planning.salts.of(key.owner_id.as_deref())?;
        let told = (placed(Content::Key(key), salt), Placed::default());
        let values = (Value::Time(row.last_used_at), Value::Time(None));
        self.event(planning, row.version, key, (EventKind::Removed, None), told, values);
        Ok(())
    }

    /// A notice, and whose each value is where it is a person's.
    fn notice(&mut self, planning: &mut Planning<'_>, notice: &'a Notice) {
        let notice_id = planning.numbers.notice_id;
        planning.numbers.notice_id += 1;
        let personal = is_personal(&notice.field);
        let owner = |key_id: &str| planning.owner_of.get(key_id).copied().unwrap_or_default();
        let values = notice.values.iter().map(|(key_id, value)| (key_id.as_str(), value));
        let told: Vec<(&str, Option<&str>, Sealer<'_>)> = values
            .clone()
            .map(|(key_id, value)| {
                let salt = if personal { owner(key_id).1 } else { None };
                (key_id, value.as_deref(), Sealer { salt, erased: None })
            })
            .collect();
        let changes = if personal {
            json(&values.map(|(id, value)| (id, value, owner(id).0)).collect::<Vec<_>>())
        } else {
            json(&values.collect::<Vec<_>>())
        };
        planning.witness.notice(notice_id, notice.kind.as_str(), &notice.field, &told);
        self.notices.push(NoticeRow { notice_id, notice, changes });
    }

    fn version(
        &mut self,
        planning: &mut Planning<'_>,
        row: i64,
        key: &'a Key,
    ) -> Result<i64, sqlx::Error> {
        let owner = match OwnerState::of(key) {
            None => None,
            Some(state) => Some(self.owner(planning, state)?),
        };
        let salt = planning.salts.of(key.owner_id.as_deref())?;
        planning.owner_of.insert(key.id.to_string(), (owner, salt));
        let version = planning.numbers.version;
        planning.numbers.version += 1;
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
        Ok(version)
    }

    /// The row of a state of an owner, which may be a new one.
    fn owner(
        &mut self,
        planning: &mut Planning<'_>,
        state: OwnerState,
    ) -> Result<i64, sqlx::Error> {
        if let Some(owner) = planning.owners.get(&state) {
            return Ok(*owner);
        }
        let owner = planning.numbers.owner;
        planning.numbers.owner += 1;
        let salt = planning.salts.of(state.id.as_deref())?;
        self.owners.push((owner, planning.numbers.organization, state.clone(), salt));
        planning.owners.insert(state, owner);
        Ok(owner)
    }

    fn event(
        &mut self,
        planning: &mut Planning<'_>,
        version: i64,
        key: &'a Key,
        (kind, field): (EventKind, Option<&'a str>),
        told: (Placed<'a>, Placed<'a>),
        (old, new): (Value<'a>, Value<'a>),
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
        let event_id = planning.numbers.event_id;
        planning.numbers.event_id += 1;
        planning.witness.event(&Told {
            event_id,
            scope: key.scope.as_str(),
            key_id: key.id.as_str(),
            key_name: key.name.as_deref(),
            event: kind.as_str(),
            field,
            old: told.0,
            new: told.1,
        });
        // That `used` is of `last_used_at` goes without saying.
        let field = field.filter(|_| kind == EventKind::Changed);
        let (event, key_id) = (kind.as_str(), key.id.as_str());
        self.events.push(EventRow { event_id, key_id, version, event, field, old, new });
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
