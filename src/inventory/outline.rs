//! The last snapshot in outline: of each key its id, and a digest of the rest.
//!
//! Most keys are as they were, and a digest is enough to see it: so the snapshot of a large organization takes some
//! sixty bytes a key rather than the keys themselves. A key of which the digest cannot tell, for whatever reason,
//! waits until the key itself is at hand; nothing is ever concluded from two digests being different.
//!
//! The digests are keyed with a number of this process, so that nobody can make two keys that share one.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use super::field::{Column, FieldStates, Sent, Shape, is_below, path_of};
use super::key::{Key, KeyId, Scope};
use super::projects::KnownProjects;
use super::sighting::Sighting;
use super::telling::Source;
use crate::numbered::Numbered;

/// The keys of a snapshot, and what the lists have shown of them so far.
#[derive(Default)]
pub struct Outline {
    state: RandomState,
    /// What each source no longer sends, and is not compared.
    stopped: [Stopped; 2],
    /// What the lists of projects send.
    project_fields: BTreeSet<String>,
    ids: Numbered,
    contents: Vec<u64>,
    /// Unix seconds; 0 where nothing fits.
    created: Vec<u32>,
    /// The place in `project_ids`, from 1 on; 0 for keys of which no project's list told.
    projects: Vec<u32>,
    project_ids: Vec<Arc<str>>,
    place_of_project: HashMap<Arc<str>, u32>,
    /// Equal for keys with one name and owner; 0 where these are unknown.
    namesakes: Vec<u64>,
    /// Keys of the admin list from the oldest to the newest, once they were sorted.
    by_age: Vec<u32>,
    /// How many of these were asked about as missing.
    asked: usize,
    marks: Vec<u8>,
    passed: [usize; 2],
    waiting: usize,
}

/// It belongs to a project.
const OF_PROJECT: u8 = 1;
/// It is our own, or may be.
const OWN: u8 = 1 << 1;
/// It has values that the lists of projects do not send.
const HAS_MORE: u8 = 1 << 2;
/// The admin list showed it.
const LISTED: u8 = 1 << 3;
/// A project's list did.
const SHOWN: u8 = 1 << 4;
/// It has to be looked at more closely.
const WAITS: u8 = 1 << 5;

/// What a sighting comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sifted {
    /// The snapshot does not have it.
    Unknown,
    /// It is as it was.
    Same,
    /// It may not be.
    Open,
    /// The same, and its row of the admin list was passed over before.
    Reopened,
    /// Another project's list showed it as it was.
    Repeated,
}

/// A key that no list has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Absent<'a> {
    pub(super) id: KeyId,
    pub(super) scope: Scope,
    /// The project whose list told of it.
    pub(super) project: Option<&'a Arc<str>>,
}

/// Fields that a source has stopped to send.
#[derive(Debug, Default)]
struct Stopped {
    fields: Vec<String>,
    columns: Vec<Column>,
    /// Whether a sighting of this shape lacks all of them. Sightings mostly share a few shapes.
    lacking: Option<(Arc<Shape>, bool)>,
}

impl Stopped {
    fn new(fields: &FieldStates) -> Self {
        let stopped = fields.iter().filter(|(_, sent)| **sent == Sent::Stopped);
        let fields: Vec<String> = stopped.map(|(field, _)| field.clone()).collect();
        let mut stopped = Self { fields, ..Self::default() };
        let concerned = |column: &Column| stopped.concerns(column.api_path());
        stopped.columns = Column::ALL.into_iter().filter(concerned).collect();
        stopped
    }

    fn concerns(&self, path: &str) -> bool {
        let mut stopped = self.fields.iter().map(|field| path_of(field));
        stopped.any(|stopped| path == stopped || is_below(path, stopped))
    }

    /// Whether nothing of what is left out of the digests was sent.
    fn is_lacked(&mut self, shape: &Arc<Shape>) -> bool {
        if self.fields.is_empty() {
            return true;
        }
        match &self.lacking {
            Some((known, lacks)) if Arc::ptr_eq(known, shape) => *lacks,
            _ => {
                let lacks = self.fields.iter().all(|field| shape.lacks(field));
                self.lacking = Some((Arc::clone(shape), lacks));
                lacks
            }
        }
    }
}

/// Gathers what is to be hashed, as many small pieces take far longer than all of them at once.
struct Gathered(Vec<u8>);

impl Hasher for Gathered {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        // Only what was gathered is of use.
        0
    }
}

/// Of keys of these ages, from the oldest on, the places of some that are at most so many from each other, where that
/// can be. The order in which a server lists keys of one second is not known, so that none of these is among them.
#[must_use]
pub fn boundaries(ages: impl Iterator<Item: Ord> + Clone, every: usize) -> Vec<usize> {
    let mut boundaries = Vec::new();
    // How many keys are behind the last boundary, and the latest place since then where the next one may be.
    let (mut last, mut latest) = (0, None);
    let neighbours = ages.clone().zip(ages.clone().skip(1)).zip(ages.skip(2));
    // Behind the last key there is nothing to ask for.
    for (place, ((before, age), after)) in (1..).zip(neighbours) {
        if before < age && age < after {
            latest = Some(place);
        }
        if place + 1 >= last + every
            && let Some(place) = latest.take()
        {
            last = place + 1;
            boundaries.push(place);
        }
    }
    boundaries
}

impl fmt::Debug for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outline").field("keys", &self.len()).finish_non_exhaustive()
    }
}

impl Outline {
    /// An empty one, for about `keys`. The fields as the admin list and the lists of projects send them.
    #[must_use]
    pub fn new(keys: usize, fields: &FieldStates, project_fields: &FieldStates) -> Self {
        Self {
            stopped: [Stopped::new(fields), Stopped::new(project_fields)],
            project_fields: project_fields.keys().cloned().collect(),
            ids: Numbered::with_capacity(keys),
            contents: Vec::with_capacity(keys),
            created: Vec::with_capacity(keys),
            projects: Vec::with_capacity(keys),
            namesakes: Vec::with_capacity(keys),
            marks: Vec::with_capacity(keys),
            ..Self::default()
        }
    }

    /// Takes in a key of the snapshot. `is_own`: whether it may be our own. Of two with one id, the first counts.
    pub fn add(&mut self, key: &Key, projects: &KnownProjects, is_own: bool) {
        let project = projects.project_of(key);
        let place = project.map_or(0, |project| self.place_of(project));
        if self.find(key.id.as_str()).is_some() || self.ids.add(key.id.as_str()).is_none() {
            return;
        }
        let source = if project.is_some() { Source::Project } else { Source::Admin };
        self.contents.push(self.content(key, source));
        let created = key.created_at.and_then(|at| u32::try_from(at.unix()).ok());
        self.created.push(created.unwrap_or(0));
        self.projects.push(place);
        self.namesakes.push(self.namesake(key).unwrap_or(0));
        let has_more = project.is_some() && self.has_more(key);
        let marks =
            [(OF_PROJECT, key.scope == Scope::Project), (OWN, is_own), (HAS_MORE, has_more)];
        let marks = marks.into_iter().filter(|(_, is_so)| *is_so);
        self.marks.push(marks.fold(0, |all, (mark, _)| all | mark));
    }

    fn place_of(&mut self, project: &Arc<str>) -> u32 {
        if let Some(place) = self.place_of_project.get(project) {
            return *place;
        }
        self.project_ids.push(Arc::clone(project));
        let place = u32::try_from(self.project_ids.len()).unwrap_or(0);
        self.place_of_project.insert(Arc::clone(project), place);
        place
    }

    /// Whether the key has values that only the admin list ever told.
    fn has_more(&self, key: &Key) -> bool {
        let sent = |field: &str| self.project_fields.contains(field);
        let holds = |column: &Column| {
            key.text(*column).is_some()
                || key.time(*column).is_some()
                || key.other.contains_key(column.api_path())
        };
        let mut columns = Column::ALL.into_iter().filter(holds);
        let mut others = key.other.keys().filter(|path| Column::from_api_path(path).is_none());
        columns.any(|column| !sent(column.name())) || others.any(|path| !sent(path))
    }

    /// What there is to compare of a key, but for its id and scope.
    fn content(&self, key: &Key, source: Source) -> u64 {
        let stopped = &self.stopped[source as usize];
        let mut gathered = Gathered(Vec::with_capacity(512));
        for column in Column::ALL {
            if !stopped.columns.contains(&column) {
                key.text(column).hash(&mut gathered);
                key.time(column).hash(&mut gathered);
            }
        }
        for (path, value) in key.other.iter() {
            if stopped.fields.is_empty() || !stopped.concerns(path) {
                path.hash(&mut gathered);
                value.hash(&mut gathered);
            }
        }
        let mut hasher = self.state.build_hasher();
        hasher.write(&gathered.0);
        hasher.finish()
    }

    /// A number that a key shares with its namesakes, and with nobody else.
    #[must_use]
    pub fn namesake(&self, key: &Key) -> Option<u64> {
        Some(self.state.hash_one(key.namesake()?).max(1))
    }

    /// The places of all keys that have such a number, and the numbers.
    pub fn namesakes(&self) -> impl Iterator<Item = (u32, u64)> {
        (0..).zip(self.namesakes.iter().copied()).filter(|(_, number)| *number > 0)
    }

    /// The same of one key.
    #[must_use]
    pub fn namesake_number(&self, id: &KeyId) -> Option<u64> {
        let number = self.namesakes[self.find(id.as_str())?];
        (number > 0).then_some(number)
    }

    #[must_use]
    pub fn contains(&self, id: &KeyId) -> bool {
        self.find(id.as_str()).is_some()
    }

    /// The ids of all keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        (0..self.len()).filter_map(|at| self.id(at))
    }

    /// How many of the keys are admin keys.
    #[must_use]
    pub fn admin_keys(&self) -> usize {
        self.marks.iter().filter(|marks| **marks & OF_PROJECT == 0).count()
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.ids.find(id)
    }

    /// The id of the key at a place.
    #[must_use]
    pub fn id(&self, at: usize) -> Option<KeyId> {
        KeyId::new(self.ids.text(at))
    }

    /// How many keys the snapshot has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many keys were passed over as they were, by the list that showed them.
    pub(super) const fn passed(&self) -> [usize; 2] {
        self.passed
    }

    /// How many of the keys the lists have shown.
    pub(super) const fn seen(&self) -> usize {
        let [admin, project] = self.passed;
        admin + project + self.waiting
    }

    /// Takes in a row of the admin list.
    pub(super) fn sift(&mut self, sighting: &Sighting, is_own: bool) -> Sifted {
        let Some(at) = self.find(sighting.key.id.as_str()) else { return Sifted::Unknown };
        let is_own = is_own || self.marks[at] & OWN != 0;
        // Of a project's key, its project's list has more to say.
        let is_same = self.projects[at] == 0
            && !is_own
            && self.stopped[Source::Admin as usize].is_lacked(&sighting.shape)
            && self.contents[at] == self.content(&sighting.key, Source::Admin);
        self.marks[at] |= LISTED;
        self.settle(at, is_same, Source::Admin)
    }

    /// Takes in a row of a project's list, after the admin list.
    pub(super) fn sift_of_project(&mut self, sighting: &Sighting) -> Sifted {
        let Some(at) = self.find(sighting.key.id.as_str()) else { return Sifted::Unknown };
        let marks = self.marks[at];
        self.marks[at] |= SHOWN;
        if marks & WAITS != 0 {
            return Sifted::Open;
        }
        if marks & LISTED != 0 {
            self.passed[Source::Admin as usize] -= 1;
            self.settle(at, false, Source::Project);
            return Sifted::Reopened;
        }
        if marks & SHOWN != 0 {
            return Sifted::Repeated;
        }
        let is_same = self.projects[at] != 0
            && marks & HAS_MORE == 0
            && self.stopped[Source::Project as usize].is_lacked(&sighting.shape)
            && self.contents[at] == self.content(&sighting.key, Source::Project);
        self.settle(at, is_same, Source::Project)
    }

    fn settle(&mut self, at: usize, is_same: bool, source: Source) -> Sifted {
        if is_same {
            self.passed[source as usize] += 1;
            Sifted::Same
        } else {
            self.marks[at] |= WAITS;
            self.waiting += 1;
            Sifted::Open
        }
    }

    /// Nothing waits any more.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting = 0;
    }

    /// Whether the admin list showed the key before.
    pub(super) fn is_listed(&self, id: &KeyId) -> bool {
        self.find(id.as_str()).is_some_and(|at| self.marks[at] & LISTED != 0)
    }

    /// Puts the keys of the admin list in the order of their ages. One of unknown age is not among them.
    pub(super) fn sort(&mut self) {
        let mut by_age: Vec<u32> = (0..).take(self.len()).collect();
        by_age.retain(|at| self.projects[*at as usize] == 0 && self.created[*at as usize] > 0);
        by_age.sort_by_key(|at| self.created[*at as usize]);
        self.by_age = by_age;
    }

    /// The keys made up to then (`None`: ever) that the admin list should hold and did not show, each once.
    pub(super) fn missing_until(&mut self, until: Option<i64>) -> Vec<(Scope, KeyId)> {
        let mut missing = Vec::new();
        while let Some(at) = self.by_age.get(self.asked).map(|at| *at as usize) {
            if until.is_some_and(|until| i64::from(self.created[at]) > until) {
                break;
            }
            self.asked += 1;
            if self.marks[at] & LISTED == 0 {
                missing.extend(self.id(at).map(|id| (self.scope(at), id)));
            }
        }
        missing
    }

    /// The keys that no list has shown.
    pub(super) fn absent(&self) -> impl Iterator<Item = Absent<'_>> {
        let unseen = (0..self.len()).filter(|at| self.marks[*at] & (LISTED | SHOWN) == 0);
        unseen.filter_map(|at| {
            let project = (self.projects[at] as usize).checked_sub(1);
            let project = project.map(|place| &self.project_ids[place]);
            Some(Absent { id: self.id(at)?, scope: self.scope(at), project })
        })
    }

    fn scope(&self, at: usize) -> Scope {
        if self.marks[at] & OF_PROJECT == 0 { Scope::Admin } else { Scope::Project }
    }

    /// Keys of one scope that the admin list showed.
    pub(super) fn some_listed(&self, scope: Scope) -> impl Iterator<Item = KeyId> {
        let listed = (0..self.len())
            .filter(move |at| self.marks[*at] & LISTED != 0 && self.scope(*at) == scope);
        listed.filter_map(|at| self.id(at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::boundaries;

    proptest! {
        #[test]
        fn boundaries_are_alone_in_their_second_and_no_further_apart_than_need_be(
            mut ages in prop::collection::vec(1..60_i64, 0..80),
            every in 1..12_usize,
        ) {
            ages.sort_unstable();
            let found = boundaries(ages.iter().copied(), every);
            let alone = |place: usize| {
                place > 0
                    && place + 1 < ages.len()
                    && ages[place - 1] < ages[place]
                    && ages[place] < ages[place + 1]
            };
            prop_assert!(found.iter().all(|place| alone(*place)));
            let mut from = 0;
            for until in found.into_iter().chain(ages.len().checked_sub(1)) {
                // Where they are further apart, nothing between them will do. The list ends with its last key.
                let within = from..(from + every).min(ages.len());
                prop_assert!(until < from + every || !within.clone().any(alone), "{from} {until}");
                from = until + 1;
            }
        }
    }
}
