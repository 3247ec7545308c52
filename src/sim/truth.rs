//! What really was there, for whoever judges an inventory: the keys now, and the ones that existed
//! between two marks.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::keys::{Position, Record};
use super::organization::Organization;

/// A moment in the life of an organization. Requests and changes each have their own, in the order
/// in which they happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub(super) u64);

/// From when to when a key existed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// When it appeared; a generated key was there from the start.
    pub from: Mark,
    /// When it went; `None` while it exists.
    pub until: Option<Mark>,
}

/// A key that is gone, with all that is needed to bring it back.
#[derive(Debug, Clone)]
pub(super) struct Departed {
    pub(super) record: Record,
    pub(super) position: Position,
    pub(super) died: u64,
}

impl Organization {
    /// Marks this moment.
    pub fn mark(&mut self) -> Mark {
        self.tick += 1;
        Mark(self.tick)
    }

    /// Every key there is, in ascending order, as it would be served.
    pub fn keys(&self) -> impl Iterator<Item = Map<String, Value>> + '_ {
        self.table.records().map(Record::to_map)
    }

    /// The ids of [`Organization::keys`], in the same order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.table.records().filter_map(|record| record.id.as_deref())
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no keys at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One key as it would be served, if it exists.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<Map<String, Value>> {
        self.table.get(id).map(Record::to_map)
    }

    /// Whether the key exists.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.table.position(id).is_some()
    }

    /// The ids of the keys that existed at every moment between the two marks.
    #[must_use]
    pub fn lived_throughout(&self, from: Mark, until: Mark) -> BTreeSet<String> {
        self.lives()
            .filter(|(_, born, died)| *born <= from.0 && died.is_none_or(|died| died > until.0))
            .map(|(id, ..)| id.to_string())
            .collect()
    }

    /// The ids of the keys that existed at some moment between the two marks.
    #[must_use]
    pub fn lived_sometime(&self, from: Mark, until: Mark) -> BTreeSet<String> {
        self.lives()
            .filter(|(_, born, died)| *born <= until.0 && died.is_none_or(|died| died > from.0))
            .map(|(id, ..)| id.to_string())
            .collect()
    }

    /// When a key existed: more than once if it came back.
    #[must_use]
    pub fn lifetimes(&self, id: &str) -> Vec<Lifetime> {
        self.lives()
            .filter(|(other, ..)| &***other == id)
            .map(|(_, born, died)| Lifetime { from: Mark(born), until: died.map(Mark) })
            .collect()
    }

    /// The departed first, then the living.
    fn lives(&self) -> impl Iterator<Item = (&Arc<str>, u64, Option<u64>)> {
        let departed = self.departed.iter().map(|gone| (&gone.record, Some(gone.died)));
        let living = self.table.records().map(|record| (record, None));
        departed
            .chain(living)
            .filter_map(|(record, died)| Some((record.id.as_ref()?, record.born, died)))
    }
}
