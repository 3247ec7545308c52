//! Everything that can happen to projects and their keys.

use serde_json::{Map, Value, json};

use super::flat_owner;
use crate::sim::organization::Organization;
use crate::sim::rows::Rows;

/// What a project's key and its row in the admin listing have in common.
const FOLLOWED: [&str; 4] = ["name", "redacted_value", "created_at", "last_used_at"];

impl Organization {
    /// Makes a project now. Returns its id.
    pub fn create_project(&mut self, name: &str) -> String {
        self.tick += 1;
        let id = self.insert_project(name, self.now);
        let data = json!({ "name": name, "title": name });
        self.write_project_entry("project.created", &id, &json!({ "id": id, "data": data }));
        id
    }

    /// Gives a project another name. False if there is none of that id.
    pub fn rename_project(&mut self, id: &str, name: &str) -> bool {
        let done =
            self.edit_project(id, |project| drop(project.insert("name".into(), name.into())));
        if done {
            let details = json!({ "id": id, "changes_requested": { "title": name } });
            self.write_project_entry("project.updated", id, &details);
        }
        done
    }

    /// Archives a project: its keys stay. False if there is none of that id, or it is archived.
    pub fn archive_project(&mut self, id: &str) -> bool {
        if self.is_archived(id) != Some(false) {
            return false;
        }
        self.tick += 1;
        self.mark_archived(id, Some(self.now));
        self.write_project_entry("project.archived", id, &json!({ "id": id }));
        true
    }

    /// Brings an archived project back. False if there is none of that id, or it is not archived.
    pub fn unarchive_project(&mut self, id: &str) -> bool {
        if self.is_archived(id) != Some(true) {
            return false;
        }
        self.tick += 1;
        self.mark_archived(id, None);
        self.write_project_entry("project.updated", id, &json!({ "id": id }));
        true
    }

    /// Deletes a project and with it every key in it. False if there is none of that id.
    pub fn delete_project(&mut self, id: &str) -> bool {
        self.tick += 1;
        if !self.projects.rows.contains(id) {
            return false;
        }
        self.write_project_entry("project.deleted", id, &json!({ "id": id }));
        self.projects.rows.remove(id, self.tick);
        let Some(home) = self.projects.homes.get_mut(id) else {
            return true;
        };
        for position in home.keys.table.positions() {
            let key = home.keys.table.at(position).and_then(|record| record.id.clone());
            home.keys.depart(position, self.tick);
            if let Some(key) = key {
                self.admin.remove(&key, self.tick);
            }
        }
        true
    }

    /// Whether a project is archived, if it exists.
    #[must_use]
    pub fn is_archived(&self, project: &str) -> Option<bool> {
        Some(self.project(project)?.get("status").is_some_and(|status| status == "archived"))
    }

    pub(super) fn mark_archived(&mut self, id: &str, at: Option<i64>) {
        let status = if at.is_some() { "archived" } else { "active" };
        self.projects.rows.edit(id, self.tick, |project| {
            project.insert("archived_at".to_owned(), at.into());
            project.insert("status".to_owned(), status.into());
        });
    }

    /// Changes a project in any way, without a word in the audit log. False if there is none of
    /// that id.
    pub fn edit_project(&mut self, id: &str, change: impl FnOnce(&mut Map<String, Value>)) -> bool {
        self.tick += 1;
        self.projects.rows.edit(id, self.tick, change)
    }

    /// Makes a key in a project now, with everything else about it drawn at random. Returns its
    /// id; `None` if there is no such project.
    pub fn add_project_key(&mut self, project: &str) -> Option<String> {
        if !self.projects.rows.contains(project) {
            return None;
        }
        self.tick += 1;
        let id = self.insert_project_key(project, self.now);
        self.write_created(&id);
        Some(id)
    }

    /// Changes a key of a project in any way, without a word in the audit log. What its row in the
    /// admin listing has in common with it, if there is one, follows. False if there is none of
    /// that id.
    pub fn edit_project_key(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> bool {
        self.tick += 1;
        self.change_project_key(id, change)
    }

    pub(in crate::sim) fn change_project_key(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> bool {
        let tick = self.tick;
        let done =
            self.projects.home_of_mut(id).is_some_and(|home| home.keys.edit(id, tick, change));
        if done && let Some(key) = self.project_key(id) {
            self.admin.edit(id, tick, |row| follow(&key, row));
        }
        done
    }

    /// Deletes the key from its project and, if it has a row there, from the admin listing.
    pub(in crate::sim) fn remove_project_key(&mut self, id: &str) -> bool {
        let tick = self.tick;
        self.projects.home_of_mut(id).is_some_and(|home| home.keys.remove(id, tick))
    }

    /// Brings a deleted key back to its project, if that still exists.
    pub(in crate::sim) fn restore_project_key(&mut self, id: &str, tick: u64) -> bool {
        let exists = self.projects.project_of(id).is_some_and(|at| self.projects.rows.contains(at));
        exists && self.projects.home_of_mut(id).is_some_and(|home| home.keys.restore(id, tick))
    }

    /// Whether the deleted key had a row in the admin listing when it went.
    pub(in crate::sim) fn went_from_both(&self, id: &str) -> bool {
        let went = |rows: &Rows| rows.gone(id).map(|gone| gone.died);
        let home = self.projects.project_of(id).and_then(|project| self.projects.home(project));
        home.is_some_and(|home| went(&home.keys) == went(&self.admin))
    }

    /// Lets the owner of this key, and with it every key of that owner in that project, lose the
    /// access to the project or have it again. False if there is no such key.
    pub fn set_owner_access(&mut self, key: &str, access: bool) -> bool {
        let Some(owner) = self.project_key(key).map(|key| owner_id(&key)) else {
            return false;
        };
        self.tick += 1;
        let says = if access { "active" } else { "inactive" };
        let keys = self.project_of(key).map(|project| self.project_keys(project));
        for other in keys.unwrap_or_default() {
            if owner_id(&other) == owner
                && let Some(id) = other["id"].as_str()
            {
                self.change_project_key(id, |key| {
                    key.insert("owner_project_access".to_owned(), says.into());
                });
            }
        }
        true
    }

    /// Gives a key of a project a row in the admin listing too. False if there is no such key, or
    /// it has one.
    pub fn mislabel(&mut self, id: &str) -> bool {
        if self.projects.key(id).is_none() || self.admin.contains(id) {
            return false;
        }
        self.tick += 1;
        self.insert_mislabelled(id);
        true
    }

    /// Takes that row away again; the key stays in its project. False if it has none.
    pub fn label_rightly(&mut self, id: &str) -> bool {
        let done = self.is_mislabelled(id);
        if done {
            self.tick += 1;
            self.admin.remove(id, self.tick);
        }
        done
    }

    /// A project drawn at random.
    pub(in crate::sim) fn draw_project(&self, rng: &mut fastrand::Rng) -> Option<String> {
        self.projects.rows.draw(rng).map(str::to_owned)
    }

    /// A key of a project, drawn at random: every project that has one is as likely.
    pub(in crate::sim) fn draw_project_key(&self, rng: &mut fastrand::Rng) -> Option<String> {
        let homes: Vec<_> = self
            .projects
            .homes()
            .into_iter()
            .filter(|(_, home)| home.keys.table.len() > 0)
            .collect();
        let (_, home) = rng.choice(homes)?;
        home.keys.draw(rng).map(str::to_owned)
    }

    /// A deleted key of a project that still exists, drawn at random.
    pub(in crate::sim) fn draw_departed_project_key(
        &self,
        rng: &mut fastrand::Rng,
    ) -> Option<String> {
        let homes: Vec<_> = self
            .projects
            .homes()
            .into_iter()
            .filter(|(id, home)| self.projects.rows.contains(id) && !home.keys.departed.is_empty())
            .collect();
        let (_, home) = rng.choice(homes)?;
        home.keys.draw_departed(rng).map(str::to_owned)
    }
}

fn follow(key: &Map<String, Value>, row: &mut Map<String, Value>) {
    for field in FOLLOWED {
        match key.get(field) {
            Some(value) => drop(row.insert(field.to_owned(), value.clone())),
            None => drop(row.remove(field)),
        }
    }
}

fn owner_id(key: &Map<String, Value>) -> Option<Value> {
    flat_owner(key.get("owner")?).get("id").cloned()
}
