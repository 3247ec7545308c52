//! Everything that can happen to an organization's keys.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::access::{Access, Credential};
use super::generate;
use super::keys::{Record, parse_object};
use super::organization::Organization;
use super::projects::{flat_owner, mislabelled_owner, project_owner};

impl Organization {
    /// Adds a key made now, with everything about it drawn at random. Returns its id.
    pub fn add(&mut self) -> String {
        self.tick += 1;
        let mut draft = self.draft(self.now());
        draft.last_used_at = None;
        self.insert_draft(&draft);
        self.write_created(&draft.id);
        draft.id
    }

    /// Adds an item as it stands. Its place comes from its `created_at`; without an integer there
    /// it stands last for now. A second item of the same id takes the id over.
    pub fn add_raw(&mut self, item: &Map<String, Value>) {
        self.tick += 1;
        let created_at = item.get("created_at").and_then(Value::as_i64).unwrap_or(self.now());
        self.admin.table.insert(created_at, Record::from_map(item, self.tick));
    }

    /// Makes a new admin key together with a credential that opens the organization. Returns the
    /// secret.
    pub fn issue_credential(&mut self, name: &str) -> String {
        let secret = format!("sk-admin-{}", generate::alphanumeric(&mut self.rng, 48));
        self.tick += 1;
        let mut draft = self.draft(self.now());
        draft.name = Some(name.to_owned());
        draft.redacted_value = generate::redacted(&secret);
        draft.last_used_at = None;
        draft.expires_at = None;
        draft.project_key = false;
        self.insert_draft(&draft);
        self.write_created(&draft.id);
        self.credentials.push(Credential {
            secret: secret.clone(),
            access: Access::Admin,
            key_id: Some(Arc::from(draft.id)),
            refused: Vec::new(),
        });
        secret
    }

    /// Deletes a key, of a project or not. False if there is none of that id.
    pub fn remove(&mut self, id: &str) -> bool {
        if !self.exists(id) {
            return false;
        }
        self.tick += 1;
        self.admin.remove(id, self.tick);
        self.remove_project_key(id);
        self.write_deleted(id);
        true
    }

    /// Brings a deleted key back, just as it was and where it was. False if the id never went, or
    /// is in use, or its project is gone.
    pub fn restore(&mut self, id: &str) -> bool {
        if self.exists(id) {
            return false;
        }
        let next = self.tick + 1;
        let of_project = self.project_of(id).is_some();
        if of_project && !self.restore_project_key(id, next) {
            return false;
        }
        // A key that is mislabelled now need not have been when it went, and the other way round.
        let listed = !of_project || self.went_from_both(id);
        let done = (listed && self.admin.restore(id, next)) || of_project;
        if done {
            self.tick = next;
        }
        done
    }

    /// Uses a key now: its `last_used_at` moves. False if there is none of that id.
    pub fn touch(&mut self, id: &str) -> bool {
        let now = self.now();
        if self.admin.table.get(id).is_some_and(|record| record.last_used_at() == Some(now)) {
            return true;
        }
        self.set_field(id, "last_used_at", now)
    }

    /// Gives a key another name.
    pub fn rename(&mut self, id: &str, name: &str) -> bool {
        let done = self.set_field(id, "name", name);
        if done {
            self.write_updated(id);
        }
        done
    }

    /// Lets a key of the admin listing expire at another time, or never.
    pub fn set_expiry(&mut self, id: &str, expires_at: Option<i64>) -> bool {
        let done = self.set_field(id, "expires_at", expires_at);
        if done {
            self.write_updated(id);
        }
        done
    }

    /// Gives a key to another of the organization's owners, drawn at random.
    pub fn change_owner(&mut self, id: &str) -> bool {
        let of_project = self.projects.key(id).is_some();
        let Some(key) = self.project_key(id).or_else(|| self.key(id)) else {
            return false;
        };
        let owner = key.get("owner").map(flat_owner);
        let current = owner.and_then(|owner| owner.get("id")).cloned();
        let start = self.rng.usize(..self.owners.len());
        let others = self.owners.iter().cycle().skip(start).take(self.owners.len());
        let next = others
            .map(|owner| Value::Object(parse_object(owner)))
            .find(|owner| owner.get("id") != current.as_ref())
            .unwrap_or_default();
        if of_project {
            self.set_field(id, "owner", project_owner(&next));
            self.edit_listed(id, |row| set_at(row, "owner", mislabelled_owner(&next)));
        } else {
            self.set_field(id, "owner", next);
        }
        self.write_updated(id);
        true
    }

    /// Sets one field of one key, by its path (`name`, `owner.role`), making what is missing on
    /// the way. False if there is none of that id.
    pub fn set_field(&mut self, id: &str, path: &str, value: impl Into<Value>) -> bool {
        self.edit(id, |key| set_at(key, path, value.into()))
    }

    /// Leaves one field of one key out. False if there is none of that id.
    pub fn remove_field(&mut self, id: &str, path: &str) -> bool {
        self.edit(id, |key| remove_at(key, path))
    }

    /// Sets the field of every key of the admin listing.
    pub fn set_field_everywhere(&mut self, path: &str, value: &Value) {
        self.edit_everywhere(|key| set_at(key, path, value.clone()));
    }

    /// Leaves the field of every key of the admin listing out.
    pub fn remove_field_everywhere(&mut self, path: &str) {
        self.edit_everywhere(|key| remove_at(key, path));
    }

    /// Changes a key in any way, without a word in the audit log. Another `created_at` moves it in
    /// the listing; another `id` is one key gone and another one there. False if there is none of
    /// that id.
    ///
    /// A key of a project is changed there, and its row in the admin listing follows.
    pub fn edit(&mut self, id: &str, change: impl FnOnce(&mut Map<String, Value>)) -> bool {
        if self.projects.key(id).is_some() {
            return self.edit_project_key(id, change);
        }
        if !self.contains(id) {
            return false;
        }
        self.tick += 1;
        self.admin.edit(id, self.tick, change)
    }

    /// Changes just the row of the admin listing, whatever key it stands for.
    pub fn edit_listed(&mut self, id: &str, change: impl FnOnce(&mut Map<String, Value>)) -> bool {
        self.tick += 1;
        self.admin.edit(id, self.tick, change)
    }

    fn edit_everywhere(&mut self, change: impl Fn(&mut Map<String, Value>)) {
        self.tick += 1;
        for position in self.admin.table.positions() {
            self.admin.edit_at(position, self.tick, &change);
        }
    }
}

fn set_at(map: &mut Map<String, Value>, path: &str, value: Value) {
    let Some((head, rest)) = path.split_once('.') else {
        map.insert(path.to_owned(), value);
        return;
    };
    let inner = map.entry(head).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        set_at(inner, rest, value);
    }
}

fn remove_at(map: &mut Map<String, Value>, path: &str) {
    match path.split_once('.') {
        None => drop(map.remove(path)),
        Some((head, rest)) => {
            if let Some(Value::Object(inner)) = map.get_mut(head) {
                remove_at(inner, rest);
            }
        }
    }
}
