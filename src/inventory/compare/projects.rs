//! The lists of projects, beside that of the admin keys.
//!
//! An id that both show is one key, of its project, whatever the admin list calls it. A key of which a project's
//! list told once is compared with what such a list tells, and with nothing else: where its project's list is not
//! to be had, or does not hold it while the admin list still does, it stays as it was.

use std::sync::Arc;

use super::{
    Absent, BTreeMap, Comparison, Differing, FieldCensus, HashMap, HashSet, KeyId, Scope,
    SeenProjects, Sifted, Sighting, Source, keep_field,
};
use crate::inventory::appeared::AppearedIndex;
use crate::inventory::project::Project;

/// So many listed keys of a project are remembered, to try look-ups on.
const CONTROLS: usize = 3;

/// What the lists of projects told.
#[derive(Default)]
pub(super) struct ProjectSide {
    stopped: Vec<String>,
    pub(super) census: FieldCensus,
    pub(super) seen: SeenProjects,
    /// Projects whose lists were read and would hold what there is.
    read: HashSet<Arc<str>>,
    /// Those of them whose lists are empty.
    emptied: HashSet<Arc<str>>,
    /// Whether keys of unknown projects stay as they were where the admin list does not hold them.
    keeps_unknown: bool,
    /// Rows of the admin list that are keys of projects, as far as the snapshot knows.
    pub(super) mislabelled: HashMap<KeyId, Sighting>,
    /// The keys that projects' lists showed.
    shown: HashSet<KeyId>,
    /// Those of them that the admin list showed as well.
    in_both: HashSet<KeyId>,
    controls: HashMap<Arc<str>, Vec<KeyId>>,
    /// Keys that differ, and those of projects that appeared, by where they stand.
    places: HashMap<KeyId, Place>,
    /// Where those of the admin list stand that appeared. Made when the first project's keys come in.
    of_admin: Option<AppearedIndex>,
    /// Keys that more than one project showed.
    pub(super) in_several: usize,
}

#[derive(Clone, Copy)]
enum Place {
    Appeared(usize),
    Differing(usize),
}

impl ProjectSide {
    pub(super) fn new(stopped: Vec<String>) -> Self {
        Self { stopped, ..Self::default() }
    }

    pub(super) fn shows(&self, id: &KeyId) -> bool {
        self.shown.contains(id)
    }

    /// Whether a project's list alone shows it.
    pub(super) fn alone_shows(&self, id: &KeyId) -> bool {
        self.shown.contains(id) && !self.in_both.contains(id)
    }
}

impl Comparison<'_> {
    /// Takes in the complete list of one project's keys, after the admin list.
    pub fn observe_project(&mut self, project: &Project, sightings: Vec<Sighting>) {
        let is_baseline =
            !self.snapshot.exists || self.snapshot.projects.finds_baseline(&project.id);
        let places = [0, sightings.len() / 2, sightings.len().saturating_sub(1)];
        let controls: Vec<KeyId> = places
            .into_iter()
            .filter_map(|place| sightings.get(place))
            .map(|sighting| sighting.key.id.clone())
            .collect();
        self.projects.controls.insert(Arc::clone(&project.id), controls);
        if self.projects.of_admin.is_none() && !sightings.is_empty() {
            let index = self.appeared.index();
            let index = index.map_err(|error| self.failure.get_or_insert(error));
            self.projects.of_admin = Some(index.unwrap_or_default());
            self.note_places_of_differing();
        }
        for sighting in sightings {
            self.observe_of_project(sighting, is_baseline);
        }
    }

    /// Takes in which projects there are, once all their lists came in that will.
    pub fn conclude_projects(&mut self, seen: SeenProjects) {
        if let SeenProjects::Listed(projects) = &seen {
            let holds_what_there_is = |project: &Project| {
                // An archived project whose list holds nothing may not be shown any more.
                !project.is_archived() || !self.listed_in(&project.id).is_empty()
            };
            let read = projects
                .iter()
                .filter(|(project, problem)| problem.is_none() && holds_what_there_is(project));
            self.projects.read = read.map(|(project, _)| Arc::clone(&project.id)).collect();
            let is_empty = |project: &&Arc<str>| self.listed_in(project).is_empty();
            self.projects.emptied = self.projects.read.iter().filter(is_empty).cloned().collect();
        }
        let were_listed = self.snapshot.projects.were_listed;
        self.projects.keeps_unknown = match &seen {
            SeenProjects::Listed(_) => !seen.are_told(were_listed),
            // The admin list alone tells of them: at least one like them must be in it, to vouch at its endpoint.
            _ => !seen.are_told(were_listed) || self.some_listed(Scope::Project, 1).is_empty(),
        };
        self.projects.seen = seen;
    }

    /// What the run has to say of projects.
    #[must_use]
    pub fn project_notices(&self) -> Vec<String> {
        let mut kept: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut of_no_project = 0;
        for key in self.unlisted() {
            match key.project {
                Some(project) => *kept.entry(Arc::clone(project)).or_default() += 1,
                None => of_no_project += 1,
            }
        }
        let mut notices = self.snapshot.projects.notices(&self.projects.seen, &kept);
        if of_no_project > 0 {
            let keys = crate::inventory::keys(of_no_project);
            notices.push(format!(
                "{keys} of unknown projects, no longer in the admin list, kept until all projects are listed"
            ));
        }
        if self.projects.in_several > 0 {
            let keys = crate::inventory::keys(self.projects.in_several);
            notices
                .push(format!("{keys} in the lists of several projects, counted to one of them"));
        }
        notices
    }

    fn observe_of_project(&mut self, mut sighting: Sighting, is_baseline: bool) {
        self.projects.census.count(&sighting.shape);
        self.snapshot.overlook(&mut sighting.key);
        match self.snapshot.outline.sift_of_project(&sighting) {
            Sifted::Unknown => self.observe_shown(sighting, is_baseline),
            Sifted::Same => {}
            Sifted::Repeated => self.projects.in_several += 1,
            Sifted::Open => self.waiting.push((sighting, Source::Project)),
            Sifted::Reopened => {
                self.reopened.push(sighting.key.id.clone());
                self.waiting.push((sighting, Source::Project));
            }
        }
    }

    /// A key that is new, or of which the snapshot's own is at hand.
    pub(super) fn observe_shown(&mut self, mut sighting: Sighting, is_baseline: bool) {
        let id = sighting.key.id.clone();
        if !self.projects.shown.insert(id.clone()) {
            self.projects.in_several += 1;
            if !self.prefers(&sighting) {
                return;
            }
            // What it takes the place of was of a project as well.
            self.take_back(&id);
        }
        let Some(before) = self.snapshot.keys.get(&id) else {
            if let Some(admin) = self.take_back(&id) {
                sighting.merge(&admin);
                self.projects.in_both.insert(id.clone());
            }
            if let Some(place) = self.appear(&sighting, is_baseline) {
                self.projects.places.insert(id, Place::Appeared(place));
            }
            return;
        };
        for field in &self.projects.stopped {
            keep_field(&mut sighting, before, field);
        }
        if self.snapshot.projects.project_of(before).is_some() {
            match self.projects.mislabelled.remove(&id) {
                Some(mut admin) => {
                    for field in &self.stopped {
                        keep_field(&mut admin, before, field);
                    }
                    sighting.merge(&admin);
                    self.projects.in_both.insert(id.clone());
                }
                // What only the admin list ever told of it is not news where that does not list it.
                None => {
                    sighting
                        .keep(before, |field| !self.snapshot.project_fields.contains_key(field));
                }
            }
            self.snapshot.overlook(&mut sighting.key);
            self.listed.insert(id);
            if sighting.key != *before {
                self.differ(Differing::of(sighting, Source::Project));
            }
            return;
        }
        self.learn(sighting);
    }

    /// A key that was known from the admin list alone.
    fn learn(&mut self, mut sighting: Sighting) {
        let id = sighting.key.id.clone();
        if !self.listed.insert(id.clone()) {
            self.projects.in_both.insert(id.clone());
        }
        let differing = self.take_back(&id);
        let Some(before) = self.snapshot.keys.get(&id) else { return };
        let admin = if let Some(admin) = differing {
            sighting.merge(&admin);
            admin.key
        } else {
            // As it was, or not listed there: all that is new is what the project tells.
            sighting.keep(before, |_| true);
            before.clone()
        };
        self.snapshot.overlook(&mut sighting.key);
        if sighting.key != *before {
            let differing = Differing { sighting, source: Source::Project, admin: Some(admin) };
            self.differ(differing);
        }
    }

    /// Whether this project's word counts for a key that another project's list showed as well: the one where it
    /// was before, or else the first by name. So it does not depend on which list comes in first.
    fn prefers(&self, sighting: &Sighting) -> bool {
        let key = &sighting.key;
        let before = self.snapshot.keys.get(&key.id);
        let before = before.and_then(|before| self.snapshot.projects.project_of(before));
        let other = match self.place_of(&key.id) {
            Some(Place::Appeared(at)) => {
                self.appeared.get(at).ok().and_then(|it| it.key.project_id)
            }
            Some(Place::Differing(at)) => {
                let other = self.differing[at].as_ref();
                other.and_then(|other| other.sighting.key.project_id.clone())
            }
            // As it was before.
            None => return false,
        };
        let other = other.as_ref();
        if before.is_some() && (key.project_id.as_ref() == before || other == before) {
            return key.project_id.as_ref() == before;
        }
        key.project_id.as_ref() < other
    }

    /// Whether the lists that were read should hold the key.
    pub(super) fn is_expected(&self, key: &Absent<'_>) -> bool {
        let Some(project) = key.project else {
            // It may be in a list that was not to be had.
            return key.scope == Scope::Admin || !self.projects.keeps_unknown;
        };
        // That all keys of a project are gone at once has to be seen twice: no key of it is left to vouch.
        self.projects.read.contains(project)
            && (!self.projects.emptied.contains(project)
                || self.snapshot.unconfirmed.contains(&key.id))
    }

    /// The project that a key of the snapshot is asked for at; `None` for the admin keys' endpoint.
    #[must_use]
    pub fn project_of(&self, id: &KeyId) -> Option<Arc<str>> {
        let key = self.snapshot.keys.get(id)?;
        self.snapshot.projects.project_of(key).cloned()
    }

    /// A few keys that the list of this project showed.
    #[must_use]
    pub fn listed_in(&self, project: &str) -> &[KeyId] {
        self.projects.controls.get(project).map_or(&[], |ids| &ids[..ids.len().min(CONTROLS)])
    }

    /// How many keys that were there before each source listed.
    pub(super) fn listed_of_sources(&self) -> [usize; 2] {
        let of_projects = |id: &&KeyId| {
            self.projects.shown.contains(*id) || self.projects.mislabelled.contains_key(*id)
        };
        let of_projects = self.listed.iter().filter(of_projects).count();
        let shown = self.listed.iter().filter(|id| self.projects.shows(id)).count();
        let [admin, project] = self.snapshot.outline.passed();
        [self.listed.len() - of_projects + admin, shown + project]
    }

    fn differ(&mut self, differing: Differing) {
        let (id, place) =
            (differing.sighting.key.id.clone(), Place::Differing(self.differing.len()));
        self.projects.places.insert(id, place);
        self.differing.push(Some(differing));
    }

    fn place_of(&self, id: &KeyId) -> Option<Place> {
        self.projects.places.get(id).copied()
    }

    /// What was noted of a key until now, if anything.
    fn take_back(&mut self, id: &KeyId) -> Option<Sighting> {
        let taken = match self.projects.places.remove(id) {
            Some(Place::Differing(at)) => {
                return self.differing[at].take().map(|differing| differing.sighting);
            }
            Some(Place::Appeared(at)) => self.appeared.take(at).map(Some),
            None => self.appeared.take_of(self.projects.of_admin.as_ref()?, id),
        };
        match taken {
            Ok(sighting) => {
                let sighting = sighting?;
                self.appeared_of[sighting.key.scope as usize] -= 1;
                Some(sighting)
            }
            Err(error) => {
                self.failure.get_or_insert(error);
                None
            }
        }
    }

    /// Where the keys stand that differ from what the snapshot has.
    pub(super) fn note_places_of_differing(&mut self) {
        let differing = self.differing.iter().enumerate().filter_map(|(at, place)| {
            let sighting = &place.as_ref()?.sighting;
            Some((sighting.key.id.clone(), Place::Differing(at)))
        });
        self.projects.places.extend(differing);
    }
}
