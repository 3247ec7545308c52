//! The changes of a run as rows: which versions of keys and owners, and which events, they come to.
//!
//! They are worked out and written in batches, so that a first listing of any size takes little memory.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sqlx::SqliteConnection;

use super::attributions::{
    Attributed, AttributionRows, actor_ids, plan_attributions, write_attributions,
};
use super::chain::{Salts, Told, Witness, placed};
use super::court::Court;
use super::findings::write_happenings;
use super::record::{Numbers, RunIds};
use super::rows::{OwnerState, own_other};
use super::snapshot::ids_json;
use super::write::{
    Batch, Insertion, MovedKey, ROWS, insert_all, json, move_keys, write_absences, write_batch,
    write_notice,
};
use crate::audit::{Content, PartDigest, Placed, Salt, Sealer, is_personal};
use crate::clock::Timestamp;
use crate::findings::{Difference, Judgement};
use crate::inventory::{
    Alteration, Appearance, Changes, Column, EventKind, FieldChange, Key, KeyId, Notice,
};
use crate::run::EventCounts;

/// Rows are written when there are so many of a kind: as many as one statement takes.
const BATCH: usize = ROWS;

/// So many keys are worked out before somebody else has a turn.
const AT_ONCE: usize = 10;

/// A row of the table `keys` as it was before the run.
#[derive(Clone, Copy)]
struct Stored {
    key: i64,
    version: i64,
    last_used_at: Option<i64>,
}

/// What stands in the columns of any type.
pub(super) enum Value {
    Time(Option<i64>),
    Text(String),
}

pub(super) struct NewKey {
    pub(super) key: i64,
    pub(super) key_id: Arc<str>,
    pub(super) version: i64,
    pub(super) last_used_at: Option<i64>,
    pub(super) due_at: Option<i64>,
}

pub(super) struct VersionRow {
    pub(super) version: i64,
    pub(super) key: i64,
    pub(super) scope: &'static str,
    pub(super) name: Option<Arc<str>>,
    pub(super) redacted_value: Option<Arc<str>>,
    pub(super) project_id: Option<Arc<str>>,
    pub(super) project_name: Option<Arc<str>>,
    pub(super) owner: Option<i64>,
    pub(super) created_at: Option<i64>,
    pub(super) expires_at: Option<i64>,
    pub(super) other: Option<String>,
}

pub(super) struct EventRow {
    pub(super) event_id: i64,
    pub(super) version: i64,
    pub(super) event: &'static str,
    pub(super) field: Option<String>,
    pub(super) old: Value,
    pub(super) new: Value,
}

/// An event that an entry of the audit log may be attached to.
pub(super) struct Attachable {
    pub(super) event_id: i64,
    pub(super) key_id: String,
    pub(super) event: &'static str,
    pub(super) field: Option<String>,
}

/// How many events the changes come to.
pub(super) fn count_events(changes: &Changes) -> Result<EventCounts, sqlx::Error> {
    let appeared = changes.appeared.counts()?;
    let told = changes.altered.iter().flat_map(|alteration| &alteration.changes);
    let used = told.clone().filter(|change| change.kind() == EventKind::Used).count() as u64;
    Ok(EventCounts {
        baseline: appeared.baseline,
        added: appeared.added,
        restored: appeared.restored,
        removed: changes.removed.len() as u64,
        used,
        changed: told.count() as u64 - used,
    })
}

/// How many versions of keys they come to.
pub(super) fn count_versions(changes: &Changes) -> i64 {
    let altered = changes.altered.iter().filter(|alteration| alteration.more_than_use);
    i64::try_from(changes.appeared.len() + altered.count()).unwrap_or(i64::MAX)
}

/// Writes down the changes of a run, of which the row must be there, and gives back the digests of its parts.
pub(super) async fn write_changes(
    connection: &mut SqliteConnection,
    numbers: &mut Numbers,
    changes: &Changes,
    attributed: &Attributed,
    witness: Witness,
    court: &mut Option<Court<'_>>,
) -> Result<Vec<PartDigest>, sqlx::Error> {
    let altered = changes.altered.iter().map(|alteration| &alteration.key.id);
    let removed = changes.removed.iter().map(|key| &key.id);
    let stored =
        load_stored(connection, numbers.organization, ids_json(altered.chain(removed))).await?;
    let owner_ids = owner_ids(changes);
    let people: BTreeSet<&str> = owner_ids.iter().copied().chain(actor_ids(attributed)).collect();
    let mut planner = Planner {
        stored,
        owners: HashMap::new(),
        known_owners: HashSet::new(),
        salts: Salts::load(connection, numbers.organization, &people).await?,
        owner_of: HashMap::new(),
        attachable: (!attributed.attributions.is_empty()).then(Vec::new),
        numbers,
        witness,
    };
    planner.learn_owners(connection, &owner_ids).await?;
    planner.write_appeared(connection, changes, court).await?;
    planner.write_others(connection, changes).await?;
    for notice in &changes.notices {
        planner.write_notice(connection, notice).await?;
    }
    let Planner { numbers, mut salts, witness, attachable, .. } = planner;
    let mut parts = witness.finish();
    let attachable = attachable.unwrap_or_default();
    let attributions: AttributionRows<'_> =
        plan_attributions(connection, numbers, &attachable, attributed, &mut salts).await?;
    parts.extend(attributions.part);
    write_attributions(connection, numbers, &attributions).await?;
    write_absences(connection, numbers, changes).await?;
    Ok(parts)
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

/// The ids of the owners of keys that were there before; an empty one for those who have none.
fn owner_ids(changes: &Changes) -> BTreeSet<&str> {
    let altered = changes.altered.iter().filter(|alteration| alteration.more_than_use);
    let altered =
        altered.flat_map(|alteration| [&alteration.key.owner_id, &alteration.owner_before]);
    let removed = changes.removed.iter().map(|key| &key.owner_id);
    altered.chain(removed).map(|id| id.as_deref().unwrap_or_default()).collect()
}

/// The states of these owners that are there already.
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
    let shared = |text: Option<String>| text.map(Arc::from);
    let state = |(owner, kind, id, name, role, other): OwnerRow| {
        let (kind, id, name, role) = (shared(kind), shared(id), shared(name), shared(role));
        (OwnerState { kind, id, name, role, other }, owner)
    };
    Ok(rows.into_iter().map(state).collect())
}

/// Keys that appeared, ready to be written.
#[derive(Default)]
struct Prepared {
    /// All but what follows.
    insertions: Vec<Insertion>,
    moved_keys: Vec<MovedKey>,
    happened: Difference,
}

impl Prepared {
    async fn write(
        self,
        connection: &mut SqliteConnection,
        ids: RunIds,
    ) -> Result<(), sqlx::Error> {
        insert_all(connection, self.insertions).await?;
        move_keys(connection, &self.moved_keys).await?;
        write_happenings(connection, ids, &self.happened).await
    }
}

/// Works out the rows of changes, one change after the other.
struct Planner<'n> {
    numbers: &'n mut Numbers,
    stored: HashMap<String, Stored>,
    owners: HashMap<OwnerState, i64>,
    /// The ids of owners all of whose states are in `owners`, as far as they are needed.
    known_owners: HashSet<String>,
    salts: Salts,
    /// The rows of the owners of altered keys, and their salts.
    owner_of: HashMap<String, (Option<i64>, Option<Salt>)>,
    /// Where something is to be attached to them: all events that an audit log may explain.
    attachable: Option<Vec<Attachable>>,
    witness: Witness,
}

impl Planner<'_> {
    fn stored(&self, key: &Key) -> Result<Stored, sqlx::Error> {
        self.stored.get(key.id.as_str()).copied().ok_or(sqlx::Error::RowNotFound)
    }

    /// Looks up owners that were not asked for before.
    async fn learn_owners(
        &mut self,
        connection: &mut SqliteConnection,
        ids: &BTreeSet<&str>,
    ) -> Result<(), sqlx::Error> {
        let new: BTreeSet<&str> =
            ids.iter().copied().filter(|id| !self.known_owners.contains(*id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let organization = self.numbers.organization;
        self.owners.extend(load_owners(connection, organization, &new).await?);
        self.salts.learn(connection, organization, &new).await?;
        self.known_owners.extend(new.into_iter().map(str::to_owned));
        Ok(())
    }

    async fn write_appeared(
        &mut self,
        connection: &mut SqliteConnection,
        changes: &Changes,
        court: &mut Option<Court<'_>>,
    ) -> Result<(), sqlx::Error> {
        let ids = self.numbers.ids();
        let mut appeared = changes.appeared.iter();
        let mut ready = Prepared::default();
        loop {
            let some: Vec<Appearance> = appeared.by_ref().take(BATCH).collect::<Result<_, _>>()?;
            let is_last = some.is_empty();
            let owners = some.iter().map(|it| it.key().owner_id.as_deref());
            let owner_ids = owners.map(Option::unwrap_or_default).collect();
            self.learn_owners(connection, &owner_ids).await?;
            self.learn_returning(connection, &some).await?;
            // The next ones are worked out while the database takes these.
            let (written, prepared) =
                tokio::join!(ready.write(connection, ids), self.prepare(some, court.as_mut()));
            written?;
            ready = prepared?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn prepare(
        &mut self,
        some: Vec<Appearance>,
        mut court: Option<&mut Court<'_>>,
    ) -> Result<Prepared, sqlx::Error> {
        let ids = self.numbers.ids();
        let some = some.into_iter().map(|it| Ok((self.row(&it)?, it)));
        let some: Vec<(i64, Appearance)> = some.collect::<Result<_, sqlx::Error>>()?;
        let judged = court.as_mut().map(|court| court.judge_appeared(&some));
        let Judgement { mut difference, due } = judged.unwrap_or_default();
        let mut batch = Batch::default();
        for (at, (row, appearance)) in some.iter().enumerate() {
            if at.is_multiple_of(AT_ONCE) {
                // The other side may have something to do by now.
                tokio::task::yield_now().await;
            }
            let due_at = due.get(at).copied().flatten();
            self.appear(&mut batch, *row, appearance, due_at.map(Timestamp::unix))?;
        }
        let mut insertions = batch.insertions(ids);
        tokio::task::yield_now().await;
        if let Some(court) = court {
            let rows: HashMap<&KeyId, i64> =
                some.iter().map(|(row, it)| (&it.key().id, *row)).collect();
            let opened = std::mem::take(&mut difference.opened);
            let row_of = |id: &KeyId| rows.get(id).copied();
            insertions.extend(court.book.take_by_id(ids, &opened, row_of)?);
        }
        Ok(Prepared { insertions, moved_keys: batch.moved_keys, happened: difference })
    }

    /// Looks up the rows of keys that were in the inventory once.
    async fn learn_returning(
        &mut self,
        connection: &mut SqliteConnection,
        some: &[Appearance],
    ) -> Result<(), sqlx::Error> {
        let returning = some.iter().filter(|it| it.kind() == EventKind::Restored);
        let returning: Vec<_> = returning.map(|it| &it.key().id).collect();
        if returning.is_empty() {
            return Ok(());
        }
        let ids = ids_json(returning);
        self.stored.extend(load_stored(connection, self.numbers.organization, ids).await?);
        Ok(())
    }

    async fn write_others(
        &mut self,
        connection: &mut SqliteConnection,
        changes: &Changes,
    ) -> Result<(), sqlx::Error> {
        for some in changes.altered.chunks(BATCH) {
            let mut batch = Batch::default();
            for alteration in some {
                self.alter(&mut batch, alteration)?;
            }
            write_batch(connection, self.numbers.ids(), &batch).await?;
        }
        for some in changes.removed.chunks(BATCH) {
            let mut batch = Batch::default();
            for key in some {
                self.remove(&mut batch, key)?;
            }
            write_batch(connection, self.numbers.ids(), &batch).await?;
        }
        Ok(())
    }

    /// The row of a key that appears: the one that it had, or a new one.
    fn row(&mut self, appearance: &Appearance) -> Result<i64, sqlx::Error> {
        if appearance.kind() == EventKind::Restored {
            return Ok(self.stored(appearance.key())?.key);
        }
        let row = self.numbers.key;
        self.numbers.key += 1;
        Ok(row)
    }

    fn appear(
        &mut self,
        batch: &mut Batch,
        row: i64,
        appearance: &Appearance,
        due_at: Option<i64>,
    ) -> Result<(), sqlx::Error> {
        let (key, kind) = (appearance.key(), appearance.kind());
        let last_used_at = key.last_used_at.map(Timestamp::unix);
        let (version, _) = self.version(batch, row, key)?;
        if kind == EventKind::Restored {
            batch.moved_keys.push((row, version, last_used_at));
        } else {
            let key_id = key.id.clone().into();
            batch.new_keys.push(NewKey { key: row, key_id, version, last_used_at, due_at });
        }
        let salt = self.salts.of(key.owner_id.as_deref())?;
        let told = (Placed::default(), placed(Content::Key(key), salt));
        let values = (Value::Time(None), Value::Time(last_used_at));
        self.event(batch, version, key, (kind, None), told, values);
        Ok(())
    }

    fn alter(&mut self, batch: &mut Batch, alteration: &Alteration) -> Result<(), sqlx::Error> {
        let Alteration { key, owner_before, more_than_use, changes } = alteration;
        let row = self.stored(key)?;
        let version = if *more_than_use {
            let (version, owner) = self.version(batch, row.key, key)?;
            let salt = self.salts.of(key.owner_id.as_deref())?;
            self.owner_of.insert(key.id.to_string(), (owner, salt));
            version
        } else {
            row.version
        };
        batch.moved_keys.push((row.key, version, key.last_used_at.map(Timestamp::unix)));
        for change in changes {
            let field = Some(change.field.as_str());
            let (mut salt_before, mut salt) = (None, None);
            if is_personal(&change.field) {
                salt_before = self.salts.of(owner_before.as_deref())?;
                salt = self.salts.of(key.owner_id.as_deref())?;
            }
            let told = (
                placed(content(change.old.as_ref()), salt_before),
                placed(content(change.new.as_ref()), salt),
            );
            let values =
                (shown(change, change.old.as_deref()), shown(change, change.new.as_deref()));
            self.event(batch, version, key, (change.kind(), field), told, values);
        }
        Ok(())
    }

    fn remove(&mut self, batch: &mut Batch, key: &Key) -> Result<(), sqlx::Error> {
        let row = self.stored(key)?;
        let salt = self.salts.of(key.owner_id.as_deref())?;
        let told = (placed(Content::Key(key), salt), Placed::default());
        let values = (Value::Time(row.last_used_at), Value::Time(None));
        self.event(batch, row.version, key, (EventKind::Removed, None), told, values);
        Ok(())
    }

    /// A notice, and whose each value is where it is a person's.
    async fn write_notice(
        &mut self,
        connection: &mut SqliteConnection,
        notice: &Notice,
    ) -> Result<(), sqlx::Error> {
        let notice_id = self.numbers.notice_id;
        self.numbers.notice_id += 1;
        let personal = is_personal(&notice.field);
        let owner = |key_id: &str| self.owner_of.get(key_id).copied().unwrap_or_default();
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
        self.witness.notice(notice_id, notice.kind.as_str(), &notice.field, &told);
        write_notice(connection, self.numbers, notice_id, notice, changes).await
    }

    /// A new version of a key, and the row of its owner.
    fn version(
        &mut self,
        batch: &mut Batch,
        row: i64,
        key: &Key,
    ) -> Result<(i64, Option<i64>), sqlx::Error> {
        let owner = match OwnerState::of(key) {
            None => None,
            Some(state) => Some(self.owner(batch, state)?),
        };
        let version = self.numbers.version;
        self.numbers.version += 1;
        batch.versions.push(VersionRow {
            version,
            key: row,
            scope: key.scope.as_str(),
            name: key.name.clone(),
            redacted_value: key.redacted_value.clone(),
            project_id: key.project_id.clone(),
            project_name: key.project_name.clone(),
            owner,
            created_at: key.created_at.map(Timestamp::unix),
            expires_at: key.expires_at.map(Timestamp::unix),
            other: own_other(key),
        });
        Ok((version, owner))
    }

    /// The row of a state of an owner, which may be a new one.
    fn owner(&mut self, batch: &mut Batch, state: OwnerState) -> Result<i64, sqlx::Error> {
        if let Some(owner) = self.owners.get(&state) {
            return Ok(*owner);
        }
        let owner = self.numbers.owner;
        self.numbers.owner += 1;
        let salt = self.salts.of(state.id.as_deref())?;
        batch.owners.push((owner, state.clone(), salt));
        self.owners.insert(state, owner);
        Ok(owner)
    }

    fn event(
        &mut self,
        batch: &mut Batch,
        version: i64,
        key: &Key,
        (kind, field): (EventKind, Option<&str>),
        told: (Placed<'_>, Placed<'_>),
        (old, new): (Value, Value),
    ) {
        let event_id = self.numbers.event_id;
        self.numbers.event_id += 1;
        let event = kind.as_str();
        self.witness.event(&Told {
            event_id,
            scope: key.scope.as_str(),
            key_id: key.id.as_str(),
            key_name: key.name.as_deref(),
            event,
            field,
            old: told.0,
            new: told.1,
        });
        if let Some(attachable) = &mut self.attachable
            && kind != EventKind::Baseline
        {
            let (key_id, field) = (key.id.to_string(), field.map(str::to_owned));
            attachable.push(Attachable { event_id, key_id, event, field });
        }
        // That `used` is of `last_used_at` goes without saying.
        let field = field.filter(|_| kind == EventKind::Changed).map(str::to_owned);
        batch.events.push(EventRow { event_id, version, event, field, old, new });
    }
}

const fn content(text: Option<&String>) -> Content<'_> {
    match text {
        Some(text) => Content::Text(text.as_str()),
        None => Content::Nothing,
    }
}

/// A value of an event as it is stored: times of `used` events as numbers.
fn shown(change: &FieldChange, value: Option<&str>) -> Value {
    let Some(text) = value else {
        return Value::Time(None);
    };
    if change.field == Column::LastUsedAt.name()
        && let Ok(time) = text.parse::<Timestamp>()
    {
        return Value::Time(Some(time.unix()));
    }
    Value::Text(text.to_owned())
}
