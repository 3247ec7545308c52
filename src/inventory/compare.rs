//! Two snapshots of an organization's keys, and what is different between them.
//!
//! The keys of the new one are observed as they come in, so that only what differs is held in memory
//! beside the old one. What can be said only of the whole list (a field that stopped for all keys, a
//! new format of all redacted values) is decided at the end.

mod projects;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;

use super::appeared::Appeared;
use super::changes::{Alteration, Changes, Notice, NoticeKind};
use super::field::{Column, FieldCensus, FieldStates, Sent};
use super::key::{Key, KeyId, Scope};
use super::outline::{Absent, Outline, Sifted};
use super::projects::{KnownProjects, SeenProjects};
use super::shelf::Medium;
use super::sighting::Sighting;
use super::telling::{Differing, Source, Telling, keep_field};
use crate::clock::Timestamp;
use projects::ProjectSide;

/// What is known of an organization from its last `ok` run.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The keys that are not gone; with an outline, those that it cannot tell of.
    pub keys: HashMap<KeyId, Key>,
    /// All of them in outline, or none.
    pub outline: Outline,
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
    /// Known keys that may be different, in the order in which they were observed.
    waiting: Vec<(Sighting, Source)>,
    /// Those of which the row of the admin list was passed over.
    reopened: Vec<KeyId>,
    /// Keys of the snapshot that the scan listed, but for those that were passed over as they were.
    listed: HashSet<KeyId>,
    /// With whether they were there before their source was listed for the first time.
    appeared: Appeared,
    /// The ids of those in the admin list, where the snapshot is in outline.
    new: HashSet<KeyId>,
    /// How many of them are of each scope.
    appeared_of: [usize; 2],
    /// Why one of them could not be set aside, or read again.
    failure: Option<io::Error>,
    differing: Vec<Option<Differing>>,
    own: Vec<KeyId>,
    /// The scopes of those of them that appeared.
    own_appeared: Vec<(KeyId, Scope)>,
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
    pub fn new(mut snapshot: Snapshot, is_own: impl Fn(&str) -> bool + Send + Sync + 'a) -> Self {
        snapshot.outline.sort();
        Self {
            stopped: stopped(&snapshot.fields),
            projects: ProjectSide::new(stopped(&snapshot.project_fields)),
            snapshot,
            is_own: Box::new(is_own),
            census: FieldCensus::default(),
            waiting: Vec::new(),
            reopened: Vec::new(),
            listed: HashSet::new(),
            appeared: Appeared::default(),
            new: HashSet::new(),
            appeared_of: [0; 2],
            failure: None,
            differing: Vec::new(),
            own: Vec::new(),
            own_appeared: Vec::new(),
            own_before: Vec::new(),
        }
    }

    /// Sets keys that appear aside there, rather than in memory.
    #[must_use]
    pub fn on(mut self, medium: Box<dyn Medium>) -> Self {
        self.appeared = Appeared::on(medium);
        self
    }

    /// Takes in one key of the admin list. Each id may come once, before any project's list.
    ///
    /// Where the snapshot is in outline, an id that comes again is passed over.
    pub fn observe(&mut self, mut sighting: Sighting) {
        if !self.snapshot.outline.is_empty() && !self.is_first(&sighting.key.id) {
            return;
        }
        self.census.count(&sighting.shape);
        self.snapshot.overlook(&mut sighting.key);
        if self.snapshot.keys.contains_key(&sighting.key.id) {
            return self.observe_known(sighting);
        }
        let is_own = sighting.key.redacted_value.as_deref().is_some_and(&self.is_own);
        match self.snapshot.outline.sift(&sighting, is_own) {
            Sifted::Same => {}
            Sifted::Unknown => {
                if is_own {
                    let key = &sighting.key;
                    self.own.push(key.id.clone());
                    self.own_appeared.push((key.id.clone(), key.scope));
                }
                let is_baseline = !self.snapshot.exists;
                self.appear(&sighting, is_baseline);
            }
            _ => self.waiting.push((sighting, Source::Admin)),
        }
    }

    fn is_first(&mut self, id: &KeyId) -> bool {
        if self.snapshot.outline.contains(id) {
            return !self.snapshot.outline.is_listed(id);
        }
        self.new.insert(id.clone())
    }

    /// Keys made up to then (`None`: ever) that the admin list should hold and has not shown, each once. Projects'
    /// keys, which other lists may show, are not among them.
    pub fn missing_until(&mut self, until: Option<Timestamp>) -> Vec<(Scope, KeyId)> {
        self.snapshot.outline.missing_until(until.map(Timestamp::unix))
    }

    /// Sets aside a key that appeared, and tells its place.
    fn appear(&mut self, sighting: &Sighting, is_baseline: bool) -> Option<usize> {
        self.appeared_of[sighting.key.scope as usize] += 1;
        let place = self.appeared.push(sighting, is_baseline);
        place.map_err(|error| self.failure.get_or_insert(error)).ok()
    }

    /// Whether all that was observed could be set aside.
    pub fn check(&mut self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// The keys that are needed to go on, once all lists came in: they may be different, or are missing.
    #[must_use]
    pub fn wanted(&self) -> Vec<KeyId> {
        let waiting = self.waiting.iter().map(|(sighting, _)| sighting.key.id.clone());
        let missing = self.absent().filter(|key| self.is_expected(key)).map(|key| key.id);
        let wanted: BTreeSet<KeyId> =
            waiting.chain(missing).chain(self.snapshot.own_key.clone()).collect();
        wanted.into_iter().collect()
    }

    /// Takes in the keys that are wanted, as the snapshot has them. What follows asks about all keys.
    pub fn resolve(&mut self, keys: HashMap<KeyId, Key>) {
        self.snapshot.keys.extend(keys);
        self.snapshot.outline.forget_waiting();
        self.listed.extend(std::mem::take(&mut self.reopened));
        // What the admin list shows comes before what the lists of projects do.
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (admin, projects): (Vec<_>, Vec<_>) =
            waiting.partition(|(_, source)| *source == Source::Admin);
        for (sighting, _) in admin {
            self.observe_known(sighting);
        }
        self.note_places_of_differing();
        for (sighting, _) in projects {
            // It is known: it is not found.
            self.observe_shown(sighting, false);
        }
    }

    /// A key of which the snapshot's own is at hand.
    fn observe_known(&mut self, mut sighting: Sighting) {
        let Some((id, before)) = self.snapshot.keys.get_key_value(&sighting.key.id) else {
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
        // With an outline, `keys` has some of them.
        if self.snapshot.outline.is_empty() {
            self.snapshot.keys.len()
        } else {
            self.snapshot.outline.len()
        }
    }

    /// How many keys are in the lists that were read, each counted once.
    #[must_use]
    pub fn keys_seen(&self) -> u64 {
        let known = self.snapshot.outline.seen() + self.listed.len();
        (known + self.appeared.len()) as u64
    }

    /// Whether any known key was listed.
    #[must_use]
    pub fn has_common(&self) -> bool {
        self.snapshot.outline.seen() + self.listed.len() > 0
    }

    /// How many keys of the snapshot the lists that were read should hold, and how many of these they do.
    #[must_use]
    pub fn common_keys(&self) -> (usize, usize) {
        let unlisted = self.unlisted().count();
        let listed = self.snapshot.outline.seen() + self.listed.len();
        (self.snapshot_keys() - unlisted, listed)
    }

    /// The keys of the snapshot that the lists which should hold them do not, in the order of their ids.
    #[must_use]
    pub fn missing(&self) -> Vec<KeyId> {
        let missing: BTreeSet<KeyId> =
            self.absent().filter(|key| self.is_expected(key)).map(|key| key.id).collect();
        missing.into_iter().collect()
    }

    fn absent(&self) -> Box<dyn Iterator<Item = Absent<'_>> + '_> {
        if !self.snapshot.outline.is_empty() {
            return Box::new(self.snapshot.outline.absent());
        }
        let absent = self.snapshot.keys.iter().filter(|(id, _)| !self.listed.contains(*id));
        Box::new(absent.map(|(id, key)| {
            let project = self.snapshot.projects.project_of(key);
            Absent { id: id.clone(), scope: key.scope, project }
        }))
    }

    /// The keys that nobody listed, as the list of their project was not to be had: they stay as they were.
    fn unlisted(&self) -> impl Iterator<Item = Absent<'_>> {
        self.absent().filter(|key| !self.is_expected(key))
    }

    /// The scope of a key of the snapshot.
    #[must_use]
    pub fn scope_of(&self, id: &KeyId) -> Option<Scope> {
        self.snapshot.keys.get(id).map(|key| key.scope)
    }

    /// Up to `most` keys of one scope that the admin list holds, our own first: it cannot go while it works.
    #[must_use]
    pub fn some_listed(&self, scope: Scope, most: usize) -> Vec<KeyId> {
        let new = self.some_appeared(scope, most);
        let known = self
            .listed
            .iter()
            .filter(|id| self.scope_of(id) == Some(scope) && !self.projects.alone_shows(id));
        let others: Vec<KeyId> = self.snapshot.outline.some_listed(scope).take(most).collect();
        let own = self.own.iter().chain(&self.own_before);
        let own = own.filter(|id| {
            self.scope_of(id) == Some(scope)
                || self.own_appeared.iter().any(|(own, of)| own == *id && *of == scope)
        });
        let mut some: Vec<KeyId> = Vec::new();
        for id in own.chain(&others).chain(known.take(most)).chain(&new) {
            if some.len() >= most {
                break;
            }
            if !some.contains(id) {
                some.push(id.clone());
            }
        }
        some
    }

    /// Some keys of one scope that the admin list holds and the snapshot does not.
    fn some_appeared(&self, scope: Scope, most: usize) -> Vec<KeyId> {
        if self.appeared_of[scope as usize] == 0 {
            return Vec::new();
        }
        // One that cannot be read is none to try.
        let ids = self.appeared.sightings().filter_map(|read| {
            let (_, (Sighting { key, .. }, _)) = read.ok()?;
            (key.scope == scope && !self.projects.alone_shows(&key.id)).then_some(key.id)
        });
        ids.take(most).collect()
    }

    /// Whether keys were listed that the snapshot does not have.
    #[must_use]
    pub fn has_appeared(&self) -> bool {
        !self.appeared.is_empty()
    }

    /// Their ids.
    pub fn appeared(&self) -> impl Iterator<Item = io::Result<KeyId>> {
        self.appeared.sightings().map(|read| read.map(|(_, (sighting, _))| sighting.key.id))
    }

    /// Concludes what changed, and gives back the snapshot before: `gone` are the missing keys that are believed
    /// gone, `returning` the appeared ones that were in the inventory once.
    #[must_use]
    pub fn conclude(
        mut self,
        gone: &HashSet<KeyId>,
        returning: &HashSet<KeyId>,
    ) -> (Changes, Snapshot) {
        let absent: BTreeSet<KeyId> = self.absent().map(|key| key.id).collect();
        let fields = self.census.conclude(&self.snapshot.fields);
        let project_fields = self.projects.census.conclude(&self.snapshot.project_fields);
        let own_key = self.own_key(&fields);
        let counts = self.listed_of_sources();
        let Self { snapshot, mut appeared, differing, projects, .. } = self;
        let differing: Vec<Differing> = differing.into_iter().flatten().collect();
        let mut telling = Telling::new(&snapshot, [&fields, &project_fields], own_key.as_ref());
        telling.look_at_format(&differing, counts);
        let altered: Vec<Alteration> =
            differing.into_iter().filter_map(|differing| telling.alter(differing)).collect();
        let mut notices = telling.into_notices();
        notices.extend(own_key_notices(&snapshot, own_key.as_ref(), &altered, gone));
        appeared.return_those(returning);
        let (removed, unconfirmed): (Vec<KeyId>, Vec<KeyId>) =
            absent.into_iter().partition(|id| gone.contains(id));
        notices.extend(unconfirmed_notice(&snapshot, &unconfirmed, gone));
        let removed = removed.iter().filter_map(|id| snapshot.keys.get(id).cloned()).collect();
        let changes = Changes {
            appeared,
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
