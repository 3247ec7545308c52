//! The inventory that a history leads to, with what the views say of each key beside its fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::record::InventoryRecord;
use crate::inventory::{
    Column, EventKind, FieldChange, Inventory, Key, KeyId, PastEvent, field_changes, is_erased,
    is_personal, known_changes,
};

/// An inventory on the way through a history, keys that are gone included.
#[derive(Debug, Default)]
pub(super) struct Replay {
    present: Inventory,
    gone: BTreeMap<KeyId, Key>,
    seen: BTreeMap<KeyId, Seen>,
    own_key: Option<KeyId>,
    /// When the last `ok` run ended.
    last_ok: Option<String>,
    /// The ids of owners who were forgotten.
    forgotten: BTreeSet<String>,
    /// Nothing of the history is in a chain yet: then no notice tells of unconfirmed keys, and no act does.
    pub(super) tells_no_absence: bool,
}

/// When a key was seen.
#[derive(Debug, Clone, Default)]
struct Seen {
    first: String,
    /// When the last run that saw it ended, where that is not the last one. `Some(None)`: not known, from
    /// before there was a chain.
    #[expect(clippy::option_option, reason = "not known is not the same as not late")]
    last: Option<Option<String>>,
    removed: Option<String>,
}

impl Replay {
    /// Nobody can say any more what an erased value was: where two people have the same name, it may be
    /// erased in what one event says, and not in the next.
    fn may_differ(field: &str, before: Option<&str>, said: Option<&str>) -> bool {
        is_personal(field) && (is_erased(before) || is_erased(said))
    }

    /// Owners who were forgotten, now or later.
    pub(super) fn forget(&mut self, owner_ids: BTreeSet<String>) {
        self.forgotten = owner_ids;
    }

    fn is_forgotten(&self, key: &Key) -> bool {
        key.owner_id.as_deref().is_some_and(|owner_id| self.forgotten.contains(owner_id))
    }

    /// Goes on from an inventory as of the end of an `ok` run, each key with whether it was unconfirmed.
    pub(super) fn resume(
        records: impl IntoIterator<Item = (InventoryRecord, bool)>,
        last_ok: Option<String>,
        forgotten: BTreeSet<String>,
    ) -> Self {
        let mut replay = Self { last_ok, forgotten, ..Self::default() };
        for (record, unconfirmed) in records {
            let InventoryRecord { key, own_key, first_seen_at, last_seen_at, removed_at } = record;
            let id = key.id.clone();
            let is_late = removed_at.is_some() || unconfirmed || last_seen_at.is_none();
            let last = is_late.then_some(last_seen_at);
            let seen = Seen { first: first_seen_at, last, removed: removed_at };
            if own_key {
                replay.own_key = Some(id.clone());
            }
            if seen.removed.is_some() {
                replay.gone.insert(id.clone(), key);
            } else {
                replay.present.keys.insert(id.clone(), key);
            }
            replay.seen.insert(id, seen);
        }
        replay
    }

    /// All keys that it ever had, sorted, as [`Self::resume`] takes them.
    pub(super) fn records(&self) -> Vec<(InventoryRecord, bool)> {
        let keys = self.present.keys.iter().chain(&self.gone).collect::<BTreeMap<_, _>>();
        let record = |(id, key): (&KeyId, &Key)| {
            let seen = self.seen.get(id).cloned().unwrap_or_default();
            let unconfirmed = self.is_unconfirmed(id);
            let mut key = key.clone();
            if self.is_forgotten(&key) {
                key.erase_personal();
            }
            let record = InventoryRecord {
                key,
                own_key: self.is_own(id),
                first_seen_at: seen.first,
                last_seen_at: seen.last.unwrap_or_else(|| self.last_ok.clone()),
                removed_at: seen.removed,
            };
            (record, unconfirmed)
        };
        keys.into_iter().map(record).collect()
    }

    pub(super) fn event(&mut self, event: &PastEvent, finished_at: &str) -> Result<(), String> {
        let id = &event.key_id;
        match event.kind {
            EventKind::Used | EventKind::Changed => {
                let field = event.field.as_deref().unwrap_or_default();
                let before = self.present.keys.get(id).and_then(|key| key.shown_field(field));
                if before != event.old_value
                    && !(self.is_own(id) && field == "last_used_at")
                    && !Self::may_differ(field, before.as_deref(), event.old_value.as_deref())
                {
                    let said = event.old_value.as_deref().unwrap_or("nothing");
                    let was = before.as_deref().unwrap_or("nothing");
                    return Err(format!("`{field}` was {was}, and it says {said}"));
                }
            }
            EventKind::Removed => self.removed(event, finished_at)?,
            EventKind::Baseline | EventKind::Added => {
                if self.seen.contains_key(id) {
                    return Err(format!("key `{id}` was seen before"));
                }
                let seen = Seen { first: finished_at.to_owned(), ..Seen::default() };
                self.seen.insert(id.clone(), seen);
            }
            EventKind::Restored => {
                if self.gone.remove(id).is_none() {
                    return Err(format!("key `{id}` was not gone"));
                }
                let seen = self.seen.entry(id.clone()).or_default();
                (seen.last, seen.removed) = (None, None);
            }
        }
        self.present.apply(event).map_err(|error| error.to_string())
    }

    fn removed(&mut self, event: &PastEvent, finished_at: &str) -> Result<(), String> {
        let id = &event.key_id;
        let Some(key) = self.present.keys.get(id) else { return Ok(()) };
        let said = event.old_value.as_deref().unwrap_or_default();
        let said = Key::from_json(event.scope, said).map_err(|error| error.to_string())?;
        let mut gone = key.clone();
        if self.is_own(id) {
            gone.copy_field(&said, Column::LastUsedAt);
            self.own_key = None;
        }
        // Not as values are stored but as they are shown: an erased one may stand in either place.
        let differ = field_changes(&gone, &said).into_iter().any(|change| {
            !Self::may_differ(&change.field, change.old.as_deref(), change.new.as_deref())
        });
        if said.id != gone.id || differ {
            return Err(format!("key `{id}` was not as it says"));
        }
        // It says more than the replay knows where another person's value was erased.
        self.gone.insert(id.clone(), said);
        let last_ok = self.last_ok.clone();
        let seen = self.seen.entry(id.clone()).or_default();
        seen.last.get_or_insert(last_ok);
        seen.removed = Some(finished_at.to_owned());
        Ok(())
    }

    pub(super) fn notice(
        &mut self,
        kind: &str,
        field: &str,
        values: &[(&str, Option<&str>)],
    ) -> Result<(), String> {
        for (key_id, value) in values {
            let id = KeyId::new(key_id).ok_or_else(|| "a key without an id".to_owned())?;
            if !self.present.keys.contains_key(&id) {
                return Err(format!("key `{id}` was not there"));
            }
            match kind {
                "own_key" if value.is_some() => self.own_key = Some(id),
                "own_key" if self.is_own(&id) => self.own_key = None,
                "own_key" => {}
                "unconfirmed" => {
                    let last_ok = self.last_ok.clone();
                    let seen = self.seen.entry(id).or_default();
                    seen.last = value.map(|_| last_ok);
                }
                _ => {
                    let adopted = self.present.adopt(&id, field, *value);
                    adopted.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn end_run(&mut self, finished_at: &str, is_ok: bool) {
        if is_ok {
            self.last_ok = Some(finished_at.to_owned());
        }
    }

    /// Where the chain begins with a history from before it: which keys were unconfirmed then, and when they
    /// were last seen.
    pub(super) fn adopt(&mut self, unconfirmed: &Value) {
        for seen in self.seen.values_mut() {
            seen.last = seen.removed.is_some().then_some(None);
        }
        for (key_id, last) in unconfirmed.as_object().into_iter().flatten() {
            if let Some(seen) = KeyId::new(key_id).and_then(|id| self.seen.get_mut(&id)) {
                seen.last = Some(last.as_str().map(str::to_owned));
            }
        }
    }

    pub(super) fn last_ok(&self) -> Option<&str> {
        self.last_ok.as_deref()
    }

    /// All keys that it ever had.
    pub(super) fn known(&self) -> impl Iterator<Item = &KeyId> {
        self.present.keys.keys().chain(self.gone.keys())
    }

    /// Whether a key was missing, and not believed gone.
    pub(super) fn is_unconfirmed(&self, id: &KeyId) -> bool {
        let seen = self.seen.get(id);
        seen.is_some_and(|seen| seen.removed.is_none() && matches!(seen.last, Some(Some(_))))
    }

    fn is_own(&self, id: &KeyId) -> bool {
        self.own_key.as_ref() == Some(id)
    }

    /// Whether a key is found as the history tells of it, its last use apart where nothing tells of that.
    fn is_as_told(&self, told: &Key, found: &Key, no_use: bool) -> Result<(), String> {
        let mut expected = told.clone();
        if no_use {
            expected.copy_field(found, Column::LastUsedAt);
        }
        let forgotten = self.is_forgotten(found);
        let counts = |change: &FieldChange| {
            !(forgotten && is_personal(&change.field) && is_erased(change.new.as_deref()))
        };
        if let Some(change) = known_changes(&expected, found).into_iter().find(counts) {
            return Err(differs(&change.field, change.old.as_deref(), change.new.as_deref()));
        }
        // Two values for one column, of which one is never shown.
        let hidden = |column: &Column| {
            let erased = forgotten || is_erased(expected.owner_name.as_deref());
            let path = column.api_path();
            !(erased && is_personal(column.name()))
                && expected.other.get(path) != found.other.get(path)
        };
        match Column::ALL.iter().find(|column| hidden(column)) {
            Some(column) => {
                Err(format!("`{}` in `other` is not what it should be", column.api_path()))
            }
            None => Ok(()),
        }
    }

    /// Whether a key is kept as it is now, without its last use.
    pub(super) fn holds_version(&self, version: &Key) -> Result<(), String> {
        let key = self.present.keys.get(&version.id).ok_or("it was not there")?;
        self.is_as_told(key, version, true)
    }

    /// A key as it is now.
    pub(super) fn present(&self, id: &KeyId) -> Option<&Key> {
        self.present.keys.get(id)
    }

    /// Whether a row of the inventory is what the history leads to.
    pub(super) fn holds(&self, record: &InventoryRecord) -> Result<(), String> {
        let id = &record.key.id;
        let own = self.is_own(id);
        let key = match record.removed_at {
            None => self.present.keys.get(id),
            Some(_) => self.gone.get(id),
        };
        let Some(key) = key else {
            let there = if record.removed_at.is_none() { "there" } else { "gone" };
            return Err(format!("it should not be {there}"));
        };
        self.is_as_told(key, &record.key, own)?;
        if own != record.own_key {
            let said = |own: bool| Some(if own { "1" } else { "0" });
            return Err(differs("own_key", said(own), said(record.own_key)));
        }
        let seen = self.seen.get(id).cloned().unwrap_or_default();
        if seen.first != record.first_seen_at {
            return Err(differs("first_seen_at", Some(&seen.first), Some(&record.first_seen_at)));
        }
        if seen.removed != record.removed_at {
            return Err(differs(
                "removed_at",
                seen.removed.as_deref(),
                record.removed_at.as_deref(),
            ));
        }
        let last = match &seen.last {
            None => self.last_ok.as_deref(),
            Some(None) => return Ok(()),
            Some(last) => last.as_deref(),
        };
        if !self.tells_no_absence && last != record.last_seen_at.as_deref() {
            return Err(differs("last_seen_at", last, record.last_seen_at.as_deref()));
        }
        Ok(())
    }
}

fn differs(field: &str, expected: Option<&str>, found: Option<&str>) -> String {
    let text = |value: Option<&str>| value.unwrap_or("nothing").to_owned();
    format!("`{field}` should be {} and is {}", text(expected), text(found))
}
