//! What really was there, for whoever judges an inventory: the keys now, and the ones that existed
//! between two marks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::keys::Record;
use super::organization::Organization;
use super::rows::Rows;

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

/// One key, as it really was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTruth {
    /// Its id.
    pub id: String,
    /// The project that it belongs to; `None` for an admin key, and for a project's key of which
    /// nothing is known but its row in the admin listing.
    pub project: Option<String>,
    /// When the admin listing had it.
    pub in_admin_listing: Vec<Lifetime>,
    /// When its project's list had it, whatever access its owner had.
    pub in_project: Vec<Lifetime>,
}

impl KeyTruth {
    fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            project: None,
            in_admin_listing: Vec::new(),
            in_project: Vec::new(),
        }
    }

    /// When the key existed: more than once if it came back.
    #[must_use]
    pub fn lifetimes(&self) -> &[Lifetime] {
        if self.project.is_some() { &self.in_project } else { &self.in_admin_listing }
    }

    /// Whether the key exists.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.lifetimes().iter().any(|lifetime| lifetime.until.is_none())
    }
}

impl Organization {
    /// Marks this moment.
    pub fn mark(&mut self) -> Mark {
        self.tick += 1;
        Mark(self.tick)
    }

    /// Every row of the admin listing, in ascending order, as it would be served.
    pub fn keys(&self) -> impl Iterator<Item = Map<String, Value>> + '_ {
        self.admin.table.records().map(Record::to_map)
    }

    /// The ids of [`Organization::keys`], in the same order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.admin.table.records().filter_map(|record| record.id.as_deref())
    }

    /// How many rows the admin listing has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.admin.table.len()
    }

    /// Whether the admin listing has no rows at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One key as the admin listing would show it, if it does.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<Map<String, Value>> {
        self.admin.table.get(id).map(Record::to_map)
    }

    /// Whether the admin listing has the key.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.admin.contains(id)
    }

    /// Whether the key exists, in the admin listing or in a project.
    #[must_use]
    pub fn exists(&self, id: &str) -> bool {
        self.contains(id) || self.projects.key(id).is_some()
    }

    /// The ids of the keys that existed at every moment between the two marks, in the admin
    /// listing or in a project.
    #[must_use]
    pub fn lived_throughout(&self, from: Mark, until: Mark) -> BTreeSet<String> {
        self.lives()
            .filter(|(_, born, died)| *born <= from.0 && died.is_none_or(|died| died > until.0))
            .map(|(id, ..)| id.to_string())
            .collect()
    }

    /// The ids of the keys that existed at some moment between the two marks, in the admin listing
    /// or in a project.
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
        let rows = match self.projects.project_of(id) {
            Some(project) => self.projects.home(project).map(|home| &home.keys),
            None => Some(&self.admin),
        };
        let lives = rows.into_iter().flat_map(Rows::lives);
        lives.filter(|(other, ..)| &***other == id).map(lifetime).collect()
    }

    /// Everything about every key that ever was, in the order of the ids.
    #[must_use]
    pub fn truth(&self) -> Vec<KeyTruth> {
        let mut keys: BTreeMap<&str, KeyTruth> = BTreeMap::new();
        for (project, home) in self.projects.homes() {
            for life in home.keys.lives() {
                let key = keys.entry(life.0).or_insert_with(|| KeyTruth::new(life.0));
                key.project = Some(project.to_owned());
                key.in_project.push(lifetime(life));
            }
        }
        for life in self.admin.lives() {
            let key = keys.entry(life.0).or_insert_with(|| KeyTruth::new(life.0));
            key.in_admin_listing.push(lifetime(life));
        }
        keys.into_values().collect()
    }

    /// Row by row: a key with rows in two lists comes twice.
    fn lives(&self) -> impl Iterator<Item = Life<'_>> {
        let of_projects = self.projects.homes().into_iter().flat_map(|(_, home)| home.keys.lives());
        self.admin.lives().chain(of_projects)
    }
}

/// A row's id, and from when to when it was there.
type Life<'a> = (&'a Arc<str>, u64, Option<u64>);

fn lifetime((_, born, died): Life<'_>) -> Lifetime {
    Lifetime { from: Mark(born), until: died.map(Mark) }
}
