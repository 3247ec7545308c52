//! Two snapshots of an organization's keys, and what is different between them.
//!
//! The keys of the new one are observed as they come in, so that only what differs is held in memory
//! beside the old one. What can be said only of the whole list (a field that stopped for all keys, a
//! new format of all redacted values) is decided at the end.

mod projects;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use super::changes::{Alteration, Appearance, Changes, Notice, NoticeKind};
use super::field::{Column, FieldCensus, FieldStates, Sent};
use super::key::{Key, KeyId, Scope};
use super::projects::{KnownProjects, SeenProjects};
use super::sighting::Sighting;
use super::telling::{Differing, Source, Telling, keep_field};
use projects::ProjectSide;

/// What is known of an organization from its last `ok` run.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The keys that are not gone.
    pub keys: HashMap<KeyId, Key>,
    /// The key of the credential that listed them.
    pub own_key: Option<KeyId>,
    /// How the admin list sends each field.
    pub fields: FieldStates,
    /// How the lists of projects do.
    pub project_fields: FieldStates,
    pub projects: KnownProjects,
    /// The number of the last `ok` run.
    pub last_run: Option<i64>,
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
    /// With whether they were there before their source was listed for the first time. `None`: taken back.
    appeared: Vec<Option<(Sighting, bool)>>,
    differing: Vec<Option<Differing>>,
    own: Vec<KeyId>,
    /// Keys that were sent without a redacted value, and whose last one is our credential's.
    own_before: Vec<KeyId>,
    projects: ProjectSide,
}

impl fmt::Debug for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comparison").field("listed", &self.listed.len()).finish_non_exhaustive()
    }
}

fn stopped(fields: &FieldStates) -> Vec<String> {
    let stopped = fields.iter().filter(|(_, sent)| **sent == Sent::Stopped);
    stopped.map(|(field, _)| field.clone()).collect()
}

impl<'a> Comparison<'a> {
    /// `is_own` tells from a redacted value whether it is that of the credential in use.
    pub fn new(snapshot: Snapshot, is_own: impl Fn(&str) -> bool + Send + Sync + 'a) -> Self {
        Self {
            stopped: stopped(&snapshot.fields),
            projects: ProjectSide::new(stopped(&snapshot.project_fields)),
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

    /// Takes in one key of the admin list. Each id may come once, and before any project's list.
    pub fn observe(&mut self, mut sighting: Sighting) {
        self.census.count(&sighting.shape);
        self.snapshot.overlook(&mut sighting.key);
        let Some((id, before)) = self.snapshot.keys.get_key_value(&sighting.key.id) else {
            if sighting.key.redacted_value.as_deref().is_some_and(&self.is_own) {
                self.own.push(sighting.key.id.clone());
            }
            let is_baseline = !self.snapshot.exists;
            self.appeared.push(Some((sighting, is_baseline)));
            return;
        };
        self.listed.insert(id.clone());
        if self.snapshot.projects.project_of(before).is_some() {
            // Its project's list has more to say of it.
            self.projects.mislabelled.insert(id.clone(), sighting);
            return;
        }
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
            self.differing.push(Some(Differing::of(sighting, Source::Admin)));
        }
    }

    /// How many keys the snapshot before has.
    #[must_use]
    pub fn snapshot_keys(&self) -> usize {
        self.snapshot.keys.len()
    }

    /// How many keys are in the lists that were read, each counted once.
    #[must_use]
    pub fn keys_seen(&self) -> u64 {
        (self.listed.len() + self.appeared.iter().flatten().count()) as u64
    }

    /// How many keys of the snapshot the lists that were read should hold, and how many of these they do.
    #[must_use]
    pub fn common_keys(&self) -> (usize, usize) {
        let unlisted = self.unlisted().count();
        (self.snapshot.keys.len() - unlisted, self.listed.len())
    }

    /// The keys of the snapshot that the lists which should hold them do not, in the order of their ids.
    #[must_use]
    pub fn missing(&self) -> Vec<KeyId> {
        let absent = self.absent();
        let missing = absent.filter(|(_, key)| self.is_expected(key)).map(|(id, _)| id);
        let missing: BTreeSet<&KeyId> = missing.collect();
        missing.into_iter().cloned().collect()
    }

    fn absent(&self) -> impl Iterator<Item = (&KeyId, &Key)> {
        self.snapshot.keys.iter().filter(|(id, _)| !self.listed.contains(*id))
    }

    /// The keys that nobody listed, as the list of their project was not to be had: they stay as they were.
    fn unlisted(&self) -> impl Iterator<Item = (&KeyId, &Key)> {
        self.absent().filter(|(_, key)| !self.is_expected(key))
    }

    /// The scope of a key of the snapshot.
    #[must_use]
    pub fn scope_of(&self, id: &KeyId) -> Option<Scope> {
        self.snapshot.keys.get(id).map(|key| key.scope)
    }

    /// Up to `most` keys of one scope that the admin list holds, our own first: it cannot go while it works.
    #[must_use]
    pub fn some_listed(&self, scope: Scope, most: usize) -> Vec<KeyId> {
        let new = self.appeared.iter().flatten().map(|(sighting, _)| sighting);
        let new = new.filter(|sighting| sighting.key.scope == scope);
        let new = new.map(|sighting| &sighting.key.id).filter(|id| !self.projects.alone_shows(id));
        let new: Vec<&KeyId> = new.take(most).collect();
        let known = self
            .listed
            .iter()
            .filter(|id| self.scope_of(id) == Some(scope) && !self.projects.alone_shows(id));
        let own = self.own.iter().chain(&self.own_before);
        let own = own.filter(|id| self.scope_of(id) == Some(scope) || new.contains(id));
        let mut some: Vec<KeyId> = Vec::new();
        for id in own.chain(known.take(most)).chain(new.iter().copied()) {
            if some.len() >= most {
                break;
            }
            if !some.contains(id) {
                some.push(id.clone());
            }
        }
        some
    }

    /// The ids that were listed and that the snapshot does not have.
    #[must_use]
    pub fn appeared(&self) -> Vec<KeyId> {
        self.appeared.iter().flatten().map(|(sighting, _)| sighting.key.id.clone()).collect()
    }

    /// Concludes what changed, and gives back the snapshot before: `gone` are the missing keys that are believed
    /// gone, `returning` the appeared ones that were in the inventory once.
    #[must_use]
    pub fn conclude(
        self,
        gone: &HashSet<KeyId>,
        returning: &HashSet<KeyId>,
    ) -> (Changes, Snapshot) {
        let absent: BTreeSet<&KeyId> = self.absent().map(|(id, _)| id).collect();
        let absent: Vec<KeyId> = absent.into_iter().cloned().collect();
        let fields = self.census.conclude(&self.snapshot.fields);
        let project_fields = self.projects.census.conclude(&self.snapshot.project_fields);
        let own_key = self.own_key(&fields);
        let counts = self.listed_of_sources();
        let Self { snapshot, appeared, differing, projects, .. } = self;
        let differing: Vec<Differing> = differing.into_iter().flatten().collect();
        let mut telling = Telling::new(&snapshot, [&fields, &project_fields], own_key.as_ref());
        telling.look_at_format(&differing, counts);
        let altered: Vec<Alteration> =
            differing.into_iter().filter_map(|differing| telling.alter(differing)).collect();
        let mut notices = telling.into_notices();
        notices.extend(own_key_notices(&snapshot, own_key.as_ref(), &altered, gone));
        let appear = |(Sighting { key, .. }, is_baseline): (Sighting, bool)| {
            if returning.contains(&key.id) {
                Appearance::Restored(key)
            } else if is_baseline {
                Appearance::Baseline(key)
            } else {
                Appearance::Added(key)
            }
        };
        let (removed, unconfirmed): (Vec<KeyId>, Vec<KeyId>) =
            absent.into_iter().partition(|id| gone.contains(id));
        notices.extend(unconfirmed_notice(&snapshot, &unconfirmed, gone));
        let removed = removed.iter().filter_map(|id| snapshot.keys.get(id).cloned()).collect();
        let changes = Changes {
            appeared: appeared.into_iter().flatten().map(appear).collect(),
            removed,
            altered,
            unconfirmed,
            own_key,
            notices,
            fields,
            project_fields,
            projects: snapshot.projects.after(&projects.seen, snapshot.last_run),
        };
        (changes, snapshot)
    }

    /// What changed, alone.
    #[cfg(test)]
    pub(crate) fn finish(self, gone: &HashSet<KeyId>, returning: &HashSet<KeyId>) -> Changes {
        self.conclude(gone, returning).0
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
