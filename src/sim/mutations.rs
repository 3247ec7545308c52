//! Everything that can happen to an organization's keys.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::access::{Access, Credential};
use super::generate;
use super::keys::{Position, Record, parse_object};
use super::organization::Organization;
use super::truth::Departed;

/// The kinds of a random change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationKind {
    /// A new key.
    Add,
    /// A key is deleted.
    Remove,
    /// A key that was deleted is back.
    Restore,
    /// A key is used now.
    Touch,
    /// A key has another name.
    Rename,
    /// A key belongs to another owner.
    ChangeOwner,
    /// A key expires at another time, or never.
    ChangeExpiry,
}

impl MutationKind {
    /// All of them, the frequent ones more than once: what random changes are drawn from.
    pub const USUAL: &'static [Self] = &[
        Self::Add,
        Self::Add,
        Self::Remove,
        Self::Remove,
        Self::Restore,
        Self::Touch,
        Self::Touch,
        Self::Touch,
        Self::Rename,
        Self::ChangeOwner,
        Self::ChangeExpiry,
    ];
    /// The ones that change which keys there are.
    pub const MEMBERSHIP: &'static [Self] = &[Self::Add, Self::Remove, Self::Restore];
}

/// A random change that was made: its kind, and to which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// What happened.
    pub kind: MutationKind,
    /// The key that it happened to.
    pub id: String,
}

impl Organization {
    /// Adds a key made now, with everything about it drawn at random. Returns its id.
    pub fn add(&mut self) -> String {
        self.tick += 1;
        let mut draft = self.draft(self.now());
        draft.last_used_at = None;
        self.insert_draft(&draft);
        draft.id
    }

    /// Adds an item as it stands. Its place comes from its `created_at`; without an integer there
    /// it stands last for now. A second item of the same id takes the id over.
    pub fn add_raw(&mut self, item: &Map<String, Value>) {
        self.tick += 1;
        let created_at = item.get("created_at").and_then(Value::as_i64).unwrap_or(self.now());
        self.table.insert(created_at, Record::from_map(item, self.tick));
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
        self.credentials.push(Credential {
            secret: secret.clone(),
            access: Access::Admin,
            key_id: Some(Arc::from(draft.id)),
        });
        secret
    }

    /// Deletes a key. False if there is none of that id.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(position) = self.table.position(id) else {
            return false;
        };
        self.tick += 1;
        self.depart(position);
        true
    }

    fn depart(&mut self, position: Position) {
        let Some(record) = self.table.take(position) else {
            return;
        };
        if let Some(id) = &record.id {
            self.departed_index.insert(Arc::clone(id), self.departed.len());
        }
        self.departed.push(Departed { record, position, died: self.tick });
    }

    /// Brings a deleted key back, just as it was and where it was. False if the id never went, or
    /// is in use.
    pub fn restore(&mut self, id: &str) -> bool {
        if self.contains(id) {
            return false;
        }
        let Some(gone) = self.departed_index.get(id).and_then(|at| self.departed.get(*at)) else {
            return false;
        };
        let (position, mut record) = (gone.position, gone.record.clone());
        self.tick += 1;
        record.born = self.tick;
        self.table.put(position, record);
        true
    }

    /// Uses a key now: its `last_used_at` moves. False if there is none of that id.
    pub fn touch(&mut self, id: &str) -> bool {
        let now = self.now();
        if self.table.get(id).is_some_and(|record| record.last_used_at() == Some(now)) {
            return true;
        }
        self.set_field(id, "last_used_at", now)
    }

    /// Gives a key another name.
    pub fn rename(&mut self, id: &str, name: &str) -> bool {
        self.set_field(id, "name", name)
    }

    /// Gives a key to another of the organization's owners, drawn at random.
    pub fn change_owner(&mut self, id: &str) -> bool {
        let Some(key) = self.key(id) else {
            return false;
        };
        let current = key.get("owner").and_then(|owner| owner.get("id")).cloned();
        let start = self.rng.usize(..self.owners.len());
        let others = self.owners.iter().cycle().skip(start).take(self.owners.len());
        let next = others
            .map(|owner| parse_object(owner))
            .find(|owner| owner.get("id") != current.as_ref())
            .unwrap_or_default();
        self.set_field(id, "owner", next)
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

    /// Sets the field of every key.
    pub fn set_field_everywhere(&mut self, path: &str, value: &Value) {
        self.edit_everywhere(|key| set_at(key, path, value.clone()));
    }

    /// Leaves the field of every key out.
    pub fn remove_field_everywhere(&mut self, path: &str) {
        self.edit_everywhere(|key| remove_at(key, path));
    }

    /// Changes a key in any way. Another `created_at` moves it in the listing; another `id` is one
    /// key gone and another one there. False if there is none of that id.
    pub fn edit(&mut self, id: &str, change: impl FnOnce(&mut Map<String, Value>)) -> bool {
        let Some(position) = self.table.position(id) else {
            return false;
        };
        self.tick += 1;
        self.edit_at(position, change);
        true
    }

    fn edit_everywhere(&mut self, change: impl Fn(&mut Map<String, Value>)) {
        self.tick += 1;
        for position in self.table.positions() {
            self.edit_at(position, &change);
        }
    }

    fn edit_at(&mut self, position: Position, change: impl FnOnce(&mut Map<String, Value>)) {
        let Some(record) = self.table.at_mut(position) else {
            return;
        };
        let mut map = record.to_map();
        change(&mut map);
        let created_at = map.get("created_at").and_then(Value::as_i64);
        let created_at = created_at.unwrap_or(position.created_at);
        if map.get("id").and_then(Value::as_str) != record.id.as_deref() {
            self.depart(position);
            self.table.insert(created_at, Record::from_map(&map, self.tick));
            return;
        }
        record.rewrite(&map);
        if created_at != position.created_at
            && let Some(record) = self.table.take(position)
        {
            self.table.insert(created_at, record);
        }
    }

    /// One random change of the [usual](MutationKind::USUAL) kinds.
    pub fn mutate(&mut self, rng: &mut fastrand::Rng) -> Mutation {
        self.mutate_among(rng, MutationKind::USUAL)
    }

    /// One random change of one of the kinds. Where the kind drawn is not possible (nothing to
    /// remove, nothing to restore) a key is added instead. The credentials' own keys are left
    /// alone.
    pub fn mutate_among(&mut self, rng: &mut fastrand::Rng, kinds: &[MutationKind]) -> Mutation {
        let kind = rng.choice(kinds).copied().unwrap_or(MutationKind::Add);
        let id = match kind {
            MutationKind::Add => None,
            MutationKind::Restore => self.draw_departed(rng),
            _ => self.draw_key(rng),
        };
        let Some(id) = id else {
            return Mutation { kind: MutationKind::Add, id: self.add() };
        };
        match kind {
            MutationKind::Add => false,
            MutationKind::Remove => self.remove(&id),
            MutationKind::Restore => self.restore(&id),
            MutationKind::Touch => self.touch(&id),
            MutationKind::Rename => self.rename(&id, &generate::key_name(rng)),
            MutationKind::ChangeOwner => self.change_owner(&id),
            MutationKind::ChangeExpiry => {
                let expires_at = rng.bool().then(|| self.now() + rng.i64(0..90 * 86_400));
                self.set_field(&id, "expires_at", expires_at)
            }
        };
        Mutation { kind, id }
    }

    fn draw_key(&self, rng: &mut fastrand::Rng) -> Option<String> {
        // An own key can come up, but not often.
        (0..8).find_map(|_| {
            let id = self.table.at(self.table.random(rng)?)?.id.as_deref()?;
            (!self.is_own_key(id)).then(|| id.to_owned())
        })
    }

    fn draw_departed(&self, rng: &mut fastrand::Rng) -> Option<String> {
        if self.departed.is_empty() {
            return None;
        }
        let gone = &self.departed[rng.usize(..self.departed.len())];
        let id = gone.record.id.as_deref()?;
        (!self.contains(id)).then(|| id.to_owned())
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
