//! The organization's projects, each with the list of its keys.
//!
//! A mislabelled key has two rows: its own in its project, and one in the admin listing, which
//! follows it.

mod generate;
mod mutations;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

pub(super) use generate::{flat_owner, mislabelled_owner, project_owner};

use super::keys::Record;
use super::organization::Organization;
use super::rows::Rows;

/// What a project key is called in its project's list.
pub(super) const PROJECT_KEY_OBJECT: &str = "organization.project.api_key";

/// What asking for a project and for its keys answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProjectAccess {
    /// As usual.
    #[default]
    Open,
    /// This status (401 and 403 are both seen), and the envelope whose `error` is a bare string.
    /// The list of projects shows the project.
    Forbidden {
        /// The HTTP status of the refusal.
        status: u16,
    },
    /// 404, and the list of projects does not show it. The project and its keys live on.
    Vanished,
}

/// The keys of one project. It stays when the project is deleted: for the truth.
#[derive(Clone, Default)]
pub(super) struct Home {
    pub(super) keys: Rows,
    pub(super) access: ProjectAccess,
}

/// Every project.
#[derive(Clone, Default)]
pub(super) struct Projects {
    pub(super) rows: Rows,
    homes: HashMap<Arc<str>, Home>,
    /// The project of each key, also of the ones that are gone.
    places: HashMap<Arc<str>, Arc<str>>,
}

impl Projects {
    pub(super) fn home(&self, project: &str) -> Option<&Home> {
        self.homes.get(project)
    }

    pub(super) fn project_of(&self, key: &str) -> Option<&Arc<str>> {
        self.places.get(key)
    }

    fn home_of(&self, key: &str) -> Option<&Home> {
        self.home(self.project_of(key)?)
    }

    fn home_of_mut(&mut self, key: &str) -> Option<&mut Home> {
        let project = self.places.get(key)?;
        self.homes.get_mut(project)
    }

    /// The key's row in its project, if it is there.
    pub(super) fn key(&self, id: &str) -> Option<&Record> {
        self.home_of(id)?.keys.table.get(id)
    }

    /// The projects that ever were, the deleted ones too, with their keys. In order of their ids.
    pub(super) fn homes(&self) -> Vec<(&str, &Home)> {
        let mut homes: Vec<_> = self.homes.iter().map(|(id, home)| (&**id, home)).collect();
        homes.sort_unstable_by_key(|(id, _)| *id);
        homes
    }
}

impl Organization {
    /// The ids of the projects that there are, archived and vanished ones too, in the order of
    /// their list.
    pub fn project_ids(&self) -> impl Iterator<Item = &str> {
        self.projects.rows.table.records().filter_map(|record| record.id.as_deref())
    }

    /// One project as it would be served, if it exists.
    #[must_use]
    pub fn project(&self, id: &str) -> Option<Map<String, Value>> {
        self.projects.rows.table.get(id).map(Record::to_map)
    }

    /// Every key of one project as it would be served, whatever access its owner has.
    #[must_use]
    pub fn project_keys(&self, project: &str) -> Vec<Map<String, Value>> {
        let keys = self.projects.home(project).into_iter();
        keys.flat_map(|home| home.keys.table.records()).map(Record::to_map).collect()
    }

    /// One key as its project's list would show it, if it exists.
    #[must_use]
    pub fn project_key(&self, id: &str) -> Option<Map<String, Value>> {
        self.projects.key(id).map(Record::to_map)
    }

    /// The project that a key belongs to or, if it is gone, belonged to.
    #[must_use]
    pub fn project_of(&self, key: &str) -> Option<&str> {
        self.projects.project_of(key).map(|project| &**project)
    }

    /// Whether the key of a project has a row in the admin listing too.
    #[must_use]
    pub fn is_mislabelled(&self, id: &str) -> bool {
        self.admin.contains(id) && self.projects.key(id).is_some()
    }

    /// What asking for the project and for its keys answers from now on. False if there is none.
    pub fn set_project_access(&mut self, project: &str, access: ProjectAccess) -> bool {
        let exists = self.projects.rows.contains(project);
        if let Some(home) = self.projects.homes.get_mut(project).filter(|_| exists) {
            self.tick += 1;
            home.access = access;
        }
        exists
    }
}
