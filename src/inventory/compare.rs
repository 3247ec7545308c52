//! Two snapshots of an organization's keys, and what is different between them.
//!
//! The keys of the new one are observed as they come in, so that only what differs is held in memory
//! beside the old one. What can be said only of the whole list (a field that stopped for all keys, a
//! new format of all redacted values) is decided at the end.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use super::field::{Column, FieldCensus, FieldStates, Sent, render_value};
use super::key::{Key, KeyId};
use super::replay::FieldChange;
use super::sighting::Sighting;

/// What is known of an organization from its last `ok` run.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The keys that are not gone.
    pub keys: HashMap<KeyId, Key>,
    /// The key of the credential that listed them.
    pub own_key: Option<KeyId>,
    pub fields: FieldStates,
    /// Whether there was an `ok` run at all: without one, all keys are found, not new.
    pub exists: bool,
}

/// How a key came into the inventory.
#[derive(Debug, Clone, PartialEq)]
pub enum Appearance {
    Baseline(Key),
    Added(Key),
    Restored(Key),
}

impl Appearance {
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Baseline(key) | Self::Added(key) | Self::Restored(key) => key,
        }
    }
}

/// A key that is not as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Alteration {
    /// The key as it is now.
    pub key: Key,
    /// Whether anything but `last_used_at` is different, told or not.
    pub more_than_use: bool,
    /// The events. None if all that changed is told by a notice, or is our own use of our own key.
    pub changes: Vec<FieldChange>,
}

/// What changed in the inventory without being drift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub kind: NoticeKind,
    pub field: String,
    /// The value that each key now has in `field`, where it is another than before.
    pub values: Vec<(KeyId, Option<String>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeKind {
    /// The API sends the field for every key now, and did not before.
    FieldStarted,
    /// The API sends the field for no key any more. The last values are kept.
    FieldStopped,
    /// The redacted values of all keys changed at once.
    RedactedFormat,
    /// Another key is the one that we ourselves use (`1` in `values`), or none is.
    OwnKey,
}

impl NoticeKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FieldStarted => "field_started",
            Self::FieldStopped => "field_stopped",
            Self::RedactedFormat => "redacted_format",
            Self::OwnKey => "own_key",
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match self.kind {
            NoticeKind::FieldStarted => write!(f, "the API now sends `{field}`"),
            NoticeKind::FieldStopped => {
                write!(f, "the API no longer sends `{field}`; the last values are kept")
            }
            NoticeKind::RedactedFormat => {
                write!(f, "the `{field}` of all {} keys changed at once", self.values.len())
            }
            NoticeKind::OwnKey => match self.values.iter().find(|(_, value)| value.is_some()) {
                Some((key_id, _)) => write!(f, "our own key is `{key_id}`"),
                None => f.write_str("our own key is not in the list"),
            },
        }
    }
}

/// Everything that one run changes.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// In the order of the listing.
    pub appeared: Vec<Appearance>,
    /// In the order of the ids.
    pub removed: Vec<KeyId>,
    /// In the order of the listing.
    pub altered: Vec<Alteration>,
    /// Keys that were neither listed nor believed gone: they stay as they were.
    pub unconfirmed: Vec<KeyId>,
    pub own_key: Option<KeyId>,
    pub notices: Vec<Notice>,
    pub fields: FieldStates,
}

/// Compares the keys of a scan, as they come in, with the snapshot before.
pub struct Comparison<'a> {
    snapshot: Snapshot,
    is_own: Box<dyn Fn(&str) -> bool + Send + 'a>,
    stopped: Vec<String>,
    census: FieldCensus,
    /// Keys of the snapshot that the scan listed.
    listed: HashSet<KeyId>,
    appeared: Vec<Sighting>,
    differing: Vec<Sighting>,
    own: Vec<KeyId>,
}

impl fmt::Debug for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comparison").field("listed", &self.listed.len()).finish_non_exhaustive()
    }
}

impl<'a> Comparison<'a> {
    /// `is_own` tells from a redacted value whether it is that of the credential in use.
    pub fn new(snapshot: Snapshot, is_own: impl Fn(&str) -> bool + Send + 'a) -> Self {
        let stopped = snapshot.fields.iter().filter(|(_, sent)| **sent == Sent::Stopped);
        Self {
            stopped: stopped.map(|(field, _)| field.clone()).collect(),
            snapshot,
            is_own: Box::new(is_own),
            census: FieldCensus::default(),
            listed: HashSet::new(),
            appeared: Vec::new(),
            differing: Vec::new(),
            own: Vec::new(),
        }
    }

    /// Takes in one key of the scan. Each id may come once.
    pub fn observe(&mut self, mut sighting: Sighting) {
        self.census.count(&sighting.shape);
        if sighting.key.redacted_value.as_deref().is_some_and(&self.is_own) {
            self.own.push(sighting.key.id.clone());
        }
        let Some((id, before)) = self.snapshot.keys.get_key_value(&sighting.key.id) else {
            self.appeared.push(sighting);
            return;
        };
        self.listed.insert(id.clone());
        let key = &mut sighting.key;
        for field in self.stopped.iter().filter(|field| !sighting.shape.leaves.contains(*field)) {
            keep_field(key, before, field);
        }
        // A scope is found once; only another redacted value is a reason to think again.
        if sighting.prefix_scope.is_none()
            || key.shown(Column::RedactedValue) == before.shown(Column::RedactedValue)
        {
            key.scope = before.scope;
        }
        if *key != *before {
            self.differing.push(sighting);
        }
    }

    /// How many keys the snapshot before has.
    #[must_use]
    pub fn snapshot_keys(&self) -> usize {
        self.snapshot.keys.len()
    }

    /// How many keys of the snapshot the scan listed.
    #[must_use]
    pub fn common_keys(&self) -> usize {
        self.listed.len()
    }

    /// The keys of the snapshot that the scan did not list, in the order of their ids.
    #[must_use]
    pub fn missing(&self) -> Vec<KeyId> {
        let missing = self.snapshot.keys.keys().filter(|id| !self.listed.contains(*id));
        let missing: BTreeSet<&KeyId> = missing.collect();
        missing.into_iter().cloned().collect()
    }

    /// Up to `most` keys that the scan listed, our own first: it cannot go while it works.
    #[must_use]
    pub fn some_listed(&self, most: usize) -> Vec<KeyId> {
        let appeared = self.appeared.iter().map(|sighting| &sighting.key.id);
        let mut some: Vec<KeyId> = Vec::new();
        for id in self.own.iter().chain(&self.listed).chain(appeared) {
            if some.len() >= most {
                break;
            }
            if !some.contains(id) {
                some.push(id.clone());
            }
        }
        some
    }

    /// The ids that the scan listed and the snapshot does not have.
    #[must_use]
    pub fn appeared(&self) -> Vec<KeyId> {
        self.appeared.iter().map(|sighting| sighting.key.id.clone()).collect()
    }

    /// Concludes what changed: `gone` are the missing keys that are believed gone, `returning` the
    /// appeared ones that were in the inventory once.
    #[must_use]
    pub fn finish(self, gone: &HashSet<KeyId>, returning: &HashSet<KeyId>) -> Changes {
        let missing = self.missing();
        let own_key = self.own_key();
        let fields = self.census.conclude(&self.snapshot.fields);
        let mut silent = Silent::new(&self, &fields, own_key.clone());
        let mut altered = Vec::new();
        for sighting in self.differing {
            // `observe` put only keys of the snapshot here.
            if let Some(before) = self.snapshot.keys.get(&sighting.key.id) {
                altered.extend(silent.alter(before, sighting.key));
            }
        }
        let mut notices = silent.into_notices();
        let own_before = self.snapshot.own_key.filter(|key_id| !gone.contains(key_id));
        notices.extend(own_key_notice(own_before.as_ref(), own_key.as_ref()));
        let first = !self.snapshot.exists;
        let appear = |Sighting { key, .. }: Sighting| match (first, returning.contains(&key.id)) {
            (true, _) => Appearance::Baseline(key),
            (false, true) => Appearance::Restored(key),
            (false, false) => Appearance::Added(key),
        };
        let (removed, unconfirmed) = missing.into_iter().partition(|id| gone.contains(id));
        Changes {
            appeared: self.appeared.into_iter().map(appear).collect(),
            removed,
            altered,
            unconfirmed,
            own_key,
            notices,
            fields,
        }
    }

    /// The key of our credential. If its redacted value fits several, the one it was before.
    fn own_key(&self) -> Option<KeyId> {
        match self.own.as_slice() {
            [only] => Some(only.clone()),
            several => {
                several.iter().find(|id| Some(*id) == self.snapshot.own_key.as_ref()).cloned()
            }
        }
    }

    /// Whether the redacted value of every key that was there before is another now. One key's is
    /// alarming, every key's is a change of format; of a single key it cannot be told apart.
    fn redacted_format_changed(&self) -> bool {
        let differs = |sighting: &&Sighting| {
            let before = self.snapshot.keys.get(&sighting.key.id);
            before.is_some_and(|before| {
                before.shown(Column::RedactedValue) != sighting.key.shown(Column::RedactedValue)
            })
        };
        self.common_keys() >= 2
            && self.differing.iter().filter(differs).count() == self.common_keys()
    }
}

/// Sorts the changes of each key into events and what only a notice tells.
struct Silent {
    started: Vec<Notice>,
    stopped: Vec<Notice>,
    redacted_format: Option<Notice>,
    own_key: Option<KeyId>,
}

impl Silent {
    fn new(comparison: &Comparison<'_>, fields: &FieldStates, own_key: Option<KeyId>) -> Self {
        let before = &comparison.snapshot.fields;
        let newly = |state: Sent| {
            let now = fields.iter().filter(move |(_, now)| **now == state);
            now.map(|(field, _)| field).filter(move |field| match before.get(*field) {
                None => state == Sent::Always && comparison.census.is_new_for_all(field, before),
                Some(Sent::Stopped) => state == Sent::Always,
                Some(Sent::Always) => state == Sent::Stopped,
                Some(Sent::Sometimes) => false,
            })
        };
        let notice =
            |kind, field: &str| Notice { kind, field: field.to_owned(), values: Vec::new() };
        let known = comparison.snapshot.exists;
        let started = newly(Sent::Always).filter(|_| known);
        let redacted_value = Column::RedactedValue.name();
        let stopped: Vec<Notice> =
            newly(Sent::Stopped).map(|field| notice(NoticeKind::FieldStopped, field)).collect();
        let redacted_format = comparison.redacted_format_changed()
            && stopped.iter().all(|notice| notice.field != redacted_value);
        Self {
            started: started.map(|field| notice(NoticeKind::FieldStarted, field)).collect(),
            stopped,
            redacted_format: redacted_format
                .then(|| notice(NoticeKind::RedactedFormat, redacted_value)),
            own_key,
        }
    }

    /// `None` if, after all, nothing about the key changed.
    fn alter(&mut self, before: &Key, mut key: Key) -> Option<Alteration> {
        for notice in &self.stopped {
            keep_field(&mut key, before, &notice.field);
        }
        if self.redacted_format.is_some() {
            key.scope = before.scope;
        }
        let all = field_changes(before, &key);
        if all.is_empty() {
            return None;
        }
        let mut changes = Vec::new();
        for change in all {
            if self.own_key.as_ref() == Some(&key.id) && change.field == Column::LastUsedAt.name() {
                continue;
            }
            match self.notice_for(&change) {
                Some(notice) => notice.values.push((key.id.clone(), change.new)),
                None => changes.push(change),
            }
        }
        let more_than_use = all_but_use(before) != all_but_use(&key);
        Some(Alteration { key, more_than_use, changes })
    }

    fn notice_for(&mut self, change: &FieldChange) -> Option<&mut Notice> {
        let started = self.started.iter_mut().find(|notice| notice.field == change.field);
        let started = started.filter(|_| change.old.is_none());
        let format = self.redacted_format.as_mut();
        started.or(format.filter(|notice| notice.field == change.field))
    }

    fn into_notices(self) -> Vec<Notice> {
        self.started.into_iter().chain(self.stopped).chain(self.redacted_format).collect()
    }
}

fn own_key_notice(before: Option<&KeyId>, now: Option<&KeyId>) -> Option<Notice> {
    let ended = before.filter(|_| before != now).map(|id| (id.clone(), None));
    let began = now.filter(|_| before != now).map(|id| (id.clone(), Some("1".to_owned())));
    let values: Vec<_> = ended.into_iter().chain(began).collect();
    (!values.is_empty()).then(|| Notice {
        kind: NoticeKind::OwnKey,
        field: "own_key".to_owned(),
        values,
    })
}

fn all_but_use(key: &Key) -> Key {
    Key { last_used_at: None, ..key.clone() }
}

/// Puts the value that `field` has in `before` into `key`.
fn keep_field(key: &mut Key, before: &Key, field: &str) {
    match Column::from_name(field) {
        Some(column) => key.copy_field(before, column),
        None => key.set_other(field, before.other.get(field).cloned()),
    }
}

/// Each field in which two states of one key differ: the columns in the order of the views, the scope,
/// then the other values by path.
#[must_use]
pub fn field_changes(before: &Key, after: &Key) -> Vec<FieldChange> {
    let change = |field: &str, old: Option<String>, new: Option<String>| {
        (old != new).then(|| FieldChange { field: field.to_owned(), old, new })
    };
    let scope = |key: &Key| Some(key.scope.as_str().to_owned());
    let columns = Column::ALL
        .into_iter()
        .filter_map(|column| change(column.name(), before.shown(column), after.shown(column)));
    let mut changes: Vec<FieldChange> =
        columns.chain(change("scope", scope(before), scope(after))).collect();
    if before.other != after.other {
        let paths: BTreeSet<&String> = before.other.keys().chain(after.other.keys()).collect();
        let without_column = paths.into_iter().filter(|path| Column::from_api_path(path).is_none());
        changes.extend(without_column.filter_map(|path| {
            change(
                path,
                before.other.get(path).map(render_value),
                after.other.get(path).map(render_value),
            )
        }));
    }
    changes
}
