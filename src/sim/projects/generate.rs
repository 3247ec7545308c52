//! What generated projects are made of.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::PROJECT_KEY_OBJECT;
use crate::sim::generate::{self, KEY_OBJECT};
use crate::sim::keys::{Record, parse_object};
use crate::sim::organization::Organization;

impl Organization {
    /// So many projects beside the keys that there are: one in five archived, with up to twelve
    /// keys each, of which some have owners without access and some a row in the admin listing too.
    #[must_use]
    pub fn with_projects(self, projects: usize) -> Self {
        self.with_projects_of(projects, 0..=12)
    }

    /// As [`Organization::with_projects`], with so many keys in each project.
    #[must_use]
    pub fn with_projects_of(mut self, projects: usize, keys: RangeInclusive<usize>) -> Self {
        let times = generate::creation_times(&mut self.rng, projects, self.now);
        for (place, created_at) in times.into_iter().enumerate() {
            let name =
                if place == 0 { "Default project".to_owned() } else { self.draw_project_name() };
            let project = self.insert_project(&name, created_at);
            if place > 0 && self.rng.u8(..5) == 0 {
                let archived_at = self.rng.i64(created_at..=self.now);
                self.mark_archived(&project, Some(archived_at));
            }
            let keys = self.rng.usize(keys.clone());
            self.populate_project(&project, created_at, keys);
        }
        self
    }

    fn draw_project_name(&mut self) -> String {
        generate::key_name(&mut self.rng).replace('-', " ")
    }

    fn populate_project(&mut self, project: &str, since: i64, keys: usize) {
        let mut times: Vec<i64> = (0..keys).map(|_| self.rng.i64(since..=self.now)).collect();
        times.sort_unstable();
        for created_at in times {
            let id = self.insert_project_key(project, created_at);
            if self.rng.u8(..8) == 0 {
                self.set_owner_access(&id, false);
            }
        }
    }

    /// Adds the project without a word in the audit log. Returns its id.
    pub(super) fn insert_project(&mut self, name: &str, created_at: i64) -> String {
        let id = format!("proj_{}", generate::alphanumeric(&mut self.rng, 24));
        let project = json!({
            "id": id,
            "object": "organization.project",
            "name": name,
            "created_at": created_at,
            "archived_at": null,
            "status": "active",
            "external_key_id": null,
            "residency": "GLOBAL",
        });
        let record = Record::from_map(&into_map(project), self.tick);
        self.projects.rows.table.insert(created_at, record);
        self.projects.homes.insert(Arc::from(id.as_str()), super::Home::default());
        id
    }

    /// Adds a key that is drawn at random to the project, without a word in the audit log. A key
    /// of a service account may get a row in the admin listing too. Returns its id.
    pub(super) fn insert_project_key(&mut self, project: &str, created_at: i64) -> String {
        let draft = self.draft(created_at);
        let at = self.rng.usize(..self.owners.len());
        let owner = Value::Object(parse_object(&self.owners[at]));
        let service_account = owner["type"] == "service_account";
        let prefix = if service_account { "sk-svcacct" } else { "sk-proj" };
        let tail = generate::alphanumeric(&mut self.rng, 4);
        let key = json!({
            "object": PROJECT_KEY_OBJECT,
            "id": draft.id,
            "name": draft.name.unwrap_or_default(),
            "redacted_value": format!("{prefix}-****{tail}"),
            "created_at": created_at,
            "last_used_at": draft.last_used_at,
            "owner_project_access": "active",
            "owner": project_owner(&owner),
        });
        let id: Arc<str> = Arc::from(draft.id.as_str());
        let (project_id, record) =
            (Arc::from(project), Record::from_map(&into_map(key), self.tick));
        self.projects.places.insert(Arc::clone(&id), Arc::clone(&project_id));
        let home = self.projects.homes.entry(project_id).or_default();
        home.keys.table.insert(created_at, record);
        if service_account && self.rng.u8(..3) == 0 {
            self.insert_mislabelled(&id);
        }
        draft.id
    }

    /// Gives the project's key a row in the admin listing, as the real one does.
    pub(super) fn insert_mislabelled(&mut self, id: &str) {
        let Some(key) = self.project_key(id) else {
            return;
        };
        let created_at = key["created_at"].as_i64().unwrap_or(self.now);
        let row = json!({
            "object": KEY_OBJECT,
            "id": id,
            "name": key["name"],
            "redacted_value": key["redacted_value"],
            "created_at": created_at,
            "last_used_at": key["last_used_at"],
            "expires_at": null,
            "owner": key.get("owner").map(flat_owner).map(mislabelled_owner),
        });
        self.admin.table.insert(created_at, Record::from_map(&into_map(row), self.tick));
    }
}

/// The owner as a project's list nests it, from the one of the admin listing.
pub(in crate::sim) fn project_owner(owner: &Value) -> Value {
    let mut inner = Map::new();
    for field in ["id", "name", "created_at", "role"] {
        inner.insert(field.to_owned(), owner.get(field).cloned().unwrap_or_default());
    }
    if owner["type"] == "service_account" {
        return json!({ "type": "service_account", "service_account": inner });
    }
    let name = owner["name"].as_str().unwrap_or_default();
    inner.insert("email".to_owned(), generate::email(name).into());
    json!({ "type": "user", "user": inner })
}

/// The members of an owner, nested or not.
pub(in crate::sim) fn flat_owner(owner: &Value) -> &Value {
    owner.get("user").or_else(|| owner.get("service_account")).unwrap_or(owner)
}

/// The owner in the row that a project's key has in the admin listing: whoever it is, the row says
/// that it is a service account.
pub(in crate::sim) fn mislabelled_owner(owner: &Value) -> Value {
    let mut row = into_map(owner.clone());
    row.remove("email");
    row.insert("type".to_owned(), "service_account".into());
    row.insert("object".to_owned(), "organization.service_account".into());
    row.insert("role".to_owned(), "member".into());
    Value::Object(row)
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
