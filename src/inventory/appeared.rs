//! The keys that a run sees and the snapshot before does not have: as many as the organization has, the first time.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;

use super::changes::Appearance;
#[cfg(test)]
use super::key::Key;
use super::key::KeyId;
use super::shelf::{Medium, Shelf};
use super::sighting::Sighting;

/// Keys that appeared, in the order of the listing. They lie on a shelf: each is read anew by who wants to see it.
#[derive(Debug, Default)]
pub struct Appeared {
    /// The flag tells whether a key was there before its source was listed for the first time.
    shelf: Shelf,
    /// Places of those that were taken back.
    taken: HashSet<usize>,
    /// Those that were in the inventory once.
    returning: HashSet<KeyId>,
    baseline: usize,
}

/// Where keys stand, by a part of a digest of their ids: eight bytes for each, as there may be a million.
#[derive(Debug, Default)]
pub(super) struct AppearedIndex {
    state: RandomState,
    /// Sorted.
    places: Vec<(u32, u32)>,
}

impl AppearedIndex {
    fn hash(&self, id: &KeyId) -> u32 {
        // One half of it is enough to find few.
        let [a, b, c, d, ..] = self.state.hash_one(id).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The places where the key may stand.
    fn find(&self, id: &KeyId) -> impl Iterator<Item = usize> {
        let hash = self.hash(id);
        let start = self.places.partition_point(|(other, _)| *other < hash);
        let found = self.places[start..].iter().take_while(move |(other, _)| *other == hash);
        found.map(|(_, place)| *place as usize)
    }
}

/// How many keys appeared, by how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppearedCounts {
    pub baseline: u64,
    pub added: u64,
    pub restored: u64,
}

impl Appeared {
    pub(super) fn on(medium: Box<dyn Medium>) -> Self {
        Self { shelf: Shelf::new(medium), ..Self::default() }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.shelf.len() - self.taken.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all of them were there before.
    #[must_use]
    pub fn is_baseline(&self) -> bool {
        self.returning.is_empty() && self.baseline == self.len()
    }

    /// Puts a key down, and tells its place.
    pub(super) fn push(&mut self, sighting: &Sighting, is_baseline: bool) -> io::Result<usize> {
        let place = self.shelf.len();
        self.shelf.push(sighting, is_baseline)?;
        self.baseline += usize::from(is_baseline);
        Ok(place)
    }

    pub(super) fn get(&self, place: usize) -> io::Result<Sighting> {
        self.shelf.get(place).map(|(sighting, _)| sighting)
    }

    /// The same, which did not appear after all.
    pub(super) fn take(&mut self, place: usize) -> io::Result<Sighting> {
        let (sighting, is_baseline) = self.shelf.get(place)?;
        self.leave_out(place, is_baseline);
        Ok(sighting)
    }

    fn leave_out(&mut self, place: usize, is_baseline: bool) {
        if self.taken.insert(place) {
            self.baseline -= usize::from(is_baseline);
        }
    }

    /// Where each of them stands.
    pub(super) fn index(&self) -> io::Result<AppearedIndex> {
        let mut index = AppearedIndex::default();
        index.places.reserve_exact(self.shelf.len());
        for read in self.sightings() {
            let (place, (sighting, _)) = read?;
            // No organization has that many.
            let place = u32::try_from(place).map_err(io::Error::other)?;
            index.places.push((index.hash(&sighting.key.id), place));
        }
        index.places.sort_unstable();
        Ok(index)
    }

    /// Takes back the key with this id, if it is one of those in the index and was not taken before.
    pub(super) fn take_of(
        &mut self,
        index: &AppearedIndex,
        id: &KeyId,
    ) -> io::Result<Option<Sighting>> {
        for place in index.find(id) {
            if self.taken.contains(&place) {
                continue;
            }
            let (sighting, is_baseline) = self.shelf.get(place)?;
            if sighting.key.id == *id {
                self.leave_out(place, is_baseline);
                return Ok(Some(sighting));
            }
        }
        Ok(None)
    }

    /// Those that are there, with their places.
    pub(super) fn sightings(&self) -> impl Iterator<Item = io::Result<(usize, (Sighting, bool))>> {
        let all = self.shelf.iter().enumerate();
        let all = all.filter(|(place, _)| self.taken.is_empty() || !self.taken.contains(place));
        all.map(|(place, read)| read.map(|sighting| (place, sighting)))
    }

    pub(super) fn return_those(&mut self, returning: &HashSet<KeyId>) {
        self.returning.extend(returning.iter().cloned());
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = io::Result<Appearance>> {
        self.sightings().map(|read| {
            let (_, (Sighting { key, .. }, is_baseline)) = read?;
            Ok(if !self.returning.is_empty() && self.returning.contains(&key.id) {
                Appearance::Restored(key)
            } else if is_baseline {
                Appearance::Baseline(key)
            } else {
                Appearance::Added(key)
            })
        })
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> io::Result<AppearedCounts> {
        let (len, baseline) = (self.len() as u64, self.baseline as u64);
        if self.returning.is_empty() {
            return Ok(AppearedCounts { baseline, added: len - baseline, restored: 0 });
        }
        let mut counts = AppearedCounts::default();
        for appearance in self.iter() {
            match appearance? {
                Appearance::Baseline(_) => counts.baseline += 1,
                Appearance::Added(_) => counts.added += 1,
                Appearance::Restored(_) => counts.restored += 1,
            }
        }
        Ok(counts)
    }

    /// All of them at once, where they are few.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<Appearance> {
        self.iter().collect::<io::Result<_>>().unwrap()
    }

    /// Puts down a key of which no more is known.
    #[cfg(test)]
    pub(crate) fn add(&mut self, appearance: &Appearance) {
        let is_baseline = matches!(appearance, Appearance::Baseline(_));
        if let Appearance::Restored(key) = appearance {
            self.returning.insert(key.id.clone());
        }
        let sighting = bare(appearance.key().clone());
        self.push(&sighting, is_baseline).unwrap();
    }
}

#[cfg(test)]
fn bare(key: Key) -> Sighting {
    Sighting { key, shape: std::sync::Arc::default(), prefix_scope: None }
}

#[cfg(test)]
impl PartialEq for Appeared {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}
