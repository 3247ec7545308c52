//! The keys in the order of the listing: each kept as the JSON text that is served, found by id or
//! by place without a walk over the others, so that an organization of a million keys pages as
//! fast as one of ten.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use serde_json::{Map, Value};

/// A key's place in the listing: by creation time, then by insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) created_at: i64,
    serial: u64,
}

/// One key as the organization holds it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// `None` only for a raw item that lacks a textual `id`.
    pub(super) id: Option<Arc<str>>,
    /// A JSON object, without its owner if `owner` holds that.
    json: Box<str>,
    /// The owner's JSON, shared among the keys of a generated owner.
    owner: Option<Arc<str>>,
    /// When the key appeared, in ticks of the organization.
    pub(super) born: u64,
    slot: usize,
}

impl Record {
    /// `json` is an object with at least one member, the owner apart.
    pub(super) fn sharing_owner(id: Arc<str>, json: String, owner: Arc<str>, born: u64) -> Self {
        Self { id: Some(id), json: json.into(), owner: Some(owner), born, slot: 0 }
    }

    pub(super) fn from_map(map: &Map<String, Value>, born: u64) -> Self {
        let id = map.get("id").and_then(Value::as_str).map(Arc::from);
        Self { id, json: json_text(map).into(), owner: None, born, slot: 0 }
    }

    /// Replaces the content; the id and the time of birth stay.
    pub(super) fn rewrite(&mut self, map: &Map<String, Value>) {
        self.json = json_text(map).into();
        self.owner = None;
    }

    pub(super) fn to_json(&self) -> String {
        let Some(owner) = &self.owner else {
            return self.json.to_string();
        };
        let head = self.json.strip_suffix('}').unwrap_or(&self.json);
        format!("{head},\"owner\":{owner}}}")
    }

    pub(super) fn last_used_at(&self) -> Option<i64> {
        self.to_map().get("last_used_at").and_then(Value::as_i64)
    }

    pub(super) fn to_map(&self) -> Map<String, Value> {
        parse_object(&self.to_json())
    }
}

pub(super) fn json_text(map: &Map<String, Value>) -> String {
    // A map of JSON values with text for keys cannot fail to serialize.
    serde_json::to_string(map).unwrap_or_default()
}

pub(super) fn parse_object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Every key of the organization.
#[derive(Clone, Default)]
pub(super) struct KeyTable {
    ordered: BTreeMap<Position, Record>,
    index: HashMap<Arc<str>, Position>,
    /// The same positions in no order, to draw one at random.
    slots: Vec<Position>,
    next_serial: u64,
}

impl KeyTable {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn reserve(&mut self, more: usize) {
        self.index.reserve(more);
        self.slots.reserve(more);
    }

    pub(super) fn insert(&mut self, created_at: i64, record: Record) -> Position {
        let position = Position { created_at, serial: self.next_serial };
        self.next_serial += 1;
        self.put(position, record);
        position
    }

    /// Puts a record back where one was taken from.
    pub(super) fn put(&mut self, position: Position, mut record: Record) {
        record.slot = self.slots.len();
        self.slots.push(position);
        if let Some(id) = &record.id {
            self.index.insert(Arc::clone(id), position);
        }
        self.ordered.insert(position, record);
    }

    pub(super) fn take(&mut self, position: Position) -> Option<Record> {
        let record = self.ordered.remove(&position)?;
        self.slots.swap_remove(record.slot);
        if let Some(moved) = self.slots.get(record.slot)
            && let Some(other) = self.ordered.get_mut(moved)
        {
            other.slot = record.slot;
        }
        if let Some(id) = &record.id
            && self.index.get(id) == Some(&position)
        {
            self.index.remove(id);
        }
        Some(record)
    }

    pub(super) fn position(&self, id: &str) -> Option<Position> {
        self.index.get(id).copied()
    }

    pub(super) fn at(&self, position: Position) -> Option<&Record> {
        self.ordered.get(&position)
    }

    pub(super) fn at_mut(&mut self, position: Position) -> Option<&mut Record> {
        self.ordered.get_mut(&position)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Record> {
        self.at(self.position(id)?)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.ordered.values()
    }

    pub(super) fn positions(&self) -> Vec<Position> {
        self.ordered.keys().copied().collect()
    }

    /// The keys past a place, in the order asked for; from the beginning without one.
    pub(super) fn past(
        &self,
        cursor: Option<Position>,
        descending: bool,
    ) -> Box<dyn Iterator<Item = &Record> + '_> {
        match (cursor, descending) {
            (None, false) => Box::new(self.ordered.values()),
            (None, true) => Box::new(self.ordered.values().rev()),
            (Some(at), false) => {
                Box::new(self.ordered.range((Excluded(at), Unbounded)).map(|(_, record)| record))
            }
            (Some(at), true) => Box::new(self.ordered.range(..at).rev().map(|(_, record)| record)),
        }
    }

    /// The place `steps` keys before `position` in the order asked for; `None` is the beginning.
    pub(super) fn step_back(
        &self,
        position: Position,
        steps: usize,
        descending: bool,
    ) -> Option<Position> {
        let Some(before) = steps.checked_sub(1) else {
            return Some(position);
        };
        if descending {
            self.ordered.range((Excluded(position), Unbounded)).nth(before).map(|(at, _)| *at)
        } else {
            self.ordered.range(..position).rev().nth(before).map(|(at, _)| *at)
        }
    }

    pub(super) fn random(&self, rng: &mut fastrand::Rng) -> Option<Position> {
        (!self.slots.is_empty()).then(|| self.slots[rng.usize(..self.slots.len())])
    }
}
