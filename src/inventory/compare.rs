//! Two snapshots of an organization's keys, and what is different between them.
//!
//! The keys of the new one are observed as they come in, so that only what differs is held in memory
//! beside the old one. What can be said only of the whole list (a field that stopped for all keys, a
//! new format of all redacted values) is decided at the end.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use super::changes::{Alteration, Appearance, Changes, Notice, NoticeKind};
use super::field::{Column, FieldCensus, FieldStates, Sent};
use super::key::{Key, KeyId, Scope};
use super::sighting::Sighting;
use super::telling::{Telling, keep_field};

/// What is known of an organization from its last `ok` run.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The keys that are not gone.
    pub keys: HashMap<KeyId, Key>,
    /// The key of the credential that listed them.
    pub own_key: Option<KeyId>,
    pub fields: FieldStates,
    /// Keys that the run did not see, and that are not believed gone.
    pub unconfirmed: BTreeSet<KeyId>,
    /// Whether there was an `ok` run at all: without one, all keys are found, not new.
    pub exists: bool,
    /// The ids of owners who were forgotten: what is personal of them is not seen.
    pub forgotten: BTreeSet<String>,
}

impl Snapshot {
    /// Overlooks what is personal of an owner who was forgotten.
    pub(super) fn overlook(&self, key: &mut Key) {
        let owner_id = key.owner_id.as_deref();
        if owner_id.is_some_and(|owner_id| self.forgotten.contains(owner_id)) {
            key.erase_personal();
        }
    }
}

/// Compares the keys of a scan, as they come in, with the snapshot before.
pub struct Comparison<'a> {
    snapshot: Snapshot,
    is_own: Box<dyn Fn(&str) -> bool + Send + Sync + 'a>,
    stopped: Vec<String>,
    census: FieldCensus,
    /// Keys of the snapshot that the scan listed.
    listed: HashSet<KeyId>,
    appeared: Vec<Sighting>,
    differing: Vec<Sighting>,
    own: Vec<KeyId>,
    /// Keys that were sent without a redacted value, and whose last one is our credential's.
    own_before: Vec<KeyId>,
}

impl fmt::Debug for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comparison").field("listed", &self.listed.len()).finish_non_exhaustive()
    }
}

impl<'a> Comparison<'a> {
    /// `is_own` tells from a redacted value whether it is that of the credential in use.
    pub fn new(snapshot: Snapshot, is_own: impl Fn(&str) -> bool + Send + Sync + 'a) -> Self {
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
            own_before: Vec::new(),
        }
    }

    /// Takes in one key of the scan. Each id may come once.
    pub fn observe(&mut self, mut sighting: Sighting) {
        self.census.count(&sighting.shape);
        self.snapshot.overlook(&mut sighting.key);
        let Some((id, before)) = self.snapshot.keys.get_key_value(&sighting.key.id) else {
            if sighting.key.redacted_value.as_deref().is_some_and(&self.is_own) {
                self.own.push(sighting.key.id.clone());
            }
            self.appeared.push(sighting);
            return;
        };
        self.listed.insert(id.clone());
        for field in &self.stopped {
            keep_field(&mut sighting, before, field);
        }
        self.snapshot.overlook(&mut sighting.key);
        if sighting.shape.lacks(Column::RedactedValue.name()) {
            if before.redacted_value.as_deref().is_some_and(&self.is_own) {
                self.own_before.push(id.clone());
            }
        } else if sighting.key.redacted_value.as_deref().is_some_and(&self.is_own) {
            self.own.push(id.clone());
        }
        // A scope is found once; only another redacted value is a reason to think again.
        let key = &mut sighting.key;
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

    /// The scope of a key of the snapshot.
    #[must_use]
    pub fn scope_of(&self, id: &KeyId) -> Option<Scope> {
        self.snapshot.keys.get(id).map(|key| key.scope)
    }

    /// Up to `most` keys of one scope that the scan listed, our own first: it cannot go while it works.
    #[must_use]
    pub fn some_listed(&self, scope: Scope, most: usize) -> Vec<KeyId> {
        let new = self.appeared.iter().filter(|sighting| sighting.key.scope == scope);
        let new: Vec<&KeyId> = new.map(|sighting| &sighting.key.id).take(most).collect();
        let known = self.listed.iter().filter(|id| self.scope_of(id) == Some(scope)).take(most);
        let own = self.own.iter().chain(&self.own_before);
        let own = own.filter(|id| self.scope_of(id) == Some(scope) || new.contains(id));
        let mut some: Vec<KeyId> = Vec::new();
        for id in own.chain(known).chain(new.iter().copied()) {
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
        self.conclude(gone, returning).0
    }

    /// The same, and gives back the snapshot before.
    #[must_use]
    pub fn conclude(
        self,
        gone: &HashSet<KeyId>,
        returning: &HashSet<KeyId>,
    ) -> (Changes, Snapshot) {
        let missing = self.missing();
        let fields = self.census.conclude(&self.snapshot.fields);
        let own_key = self.own_key(&fields);
        let Self { snapshot, appeared, differing, listed, .. } = self;
        let mut telling = Telling::new(&snapshot, &fields, own_key.as_ref());
        telling.look_at_format(&differing, listed.len());
        let altered: Vec<Alteration> =
            differing.into_iter().filter_map(|sighting| telling.alter(sighting)).collect();
        let mut notices = telling.into_notices();
        notices.extend(own_key_notices(&snapshot, own_key.as_ref(), &altered, gone));
        let appear = |Sighting { key, .. }: Sighting| {
            if !snapshot.exists {
                Appearance::Baseline(key)
            } else if returning.contains(&key.id) {
                Appearance::Restored(key)
            } else {
                Appearance::Added(key)
            }
        };
        let (removed, unconfirmed): (Vec<KeyId>, Vec<KeyId>) =
            missing.into_iter().partition(|id| gone.contains(id));
        notices.extend(unconfirmed_notice(&snapshot, &unconfirmed, gone));
        let removed = removed.iter().filter_map(|id| snapshot.keys.get(id).cloned()).collect();
        let appeared = appeared.into_iter().map(appear).collect();
        let changes = Changes { appeared, removed, altered, unconfirmed, own_key, notices, fields };
        (changes, snapshot)
    }

    /// The key of our credential. If its redacted value fits several, the one it was before.
    fn own_key(&self, fields: &FieldStates) -> Option<KeyId> {
        let stopped = fields.get(Column::RedactedValue.name()) == Some(&Sent::Stopped);
        let own: Vec<&KeyId> =
            self.own.iter().chain(self.own_before.iter().filter(|_| stopped)).collect();
        match own.as_slice() {
            [only] => Some((*only).clone()),
            several => several
                .iter()
                .find(|id| Some(**id) == self.snapshot.own_key.as_ref())
                .map(|id| (*id).clone()),
        }
    }
}

/// Which keys are unconfirmed that were not, and which no longer are.
fn unconfirmed_notice(
    snapshot: &Snapshot,
    unconfirmed: &[KeyId],
    gone: &HashSet<KeyId>,
) -> Option<Notice> {
    let newly = unconfirmed.iter().filter(|id| !snapshot.unconfirmed.contains(*id));
    let newly = newly.map(|id| (id.clone(), Some("1".to_owned())));
    let no_longer = |id: &&KeyId| !gone.contains(*id) && unconfirmed.binary_search(id).is_err();
    let seen = snapshot.unconfirmed.iter().filter(no_longer).map(|id| (id.clone(), None));
    let values: Vec<(KeyId, Option<String>)> = newly.chain(seen).collect();
    let field = "last_seen_at".to_owned();
    (!values.is_empty()).then_some(Notice { kind: NoticeKind::Unconfirmed, field, values })
}

/// That another key is our own now, and what we did to the one before.
fn own_key_notices(
    snapshot: &Snapshot,
    now: Option<&KeyId>,
    altered: &[Alteration],
    gone: &HashSet<KeyId>,
) -> Vec<Notice> {
    let before = snapshot.own_key.as_ref().filter(|key_id| !gone.contains(*key_id));
    if before == now {
        return Vec::new();
    }
    let ended = before.map(|id| (id.clone(), None));
    let began = now.map(|id| (id.clone(), Some("1".to_owned())));
    let mut notices = vec![Notice {
        kind: NoticeKind::OwnKey,
        field: "own_key".to_owned(),
        values: ended.into_iter().chain(began).collect(),
    }];
    let altered =
        |id: &KeyId| altered.iter().map(|alteration| &alteration.key).find(|key| key.id == *id);
    if let Some(key) = before.and_then(|id| altered(id).or_else(|| snapshot.keys.get(id))) {
        notices.push(Notice {
            kind: NoticeKind::OwnUse,
            field: Column::LastUsedAt.name().to_owned(),
            values: vec![(key.id.clone(), key.shown(Column::LastUsedAt))],
        });
    }
    notices
}
