//! One list's rows: those that it shows now, and those that went, with all that is needed to bring
//! them back.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::keys::{KeyTable, Position, Record};

/// A row that is gone.
#[derive(Debug, Clone)]
pub(super) struct Departed {
    pub(super) record: Record,
    pub(super) position: Position,
    pub(super) died: u64,
}

/// The rows of the admin listing, of the list of projects, or of one project's keys.
#[derive(Clone, Default)]
pub(super) struct Rows {
    pub(super) table: KeyTable,
    pub(super) departed: Vec<Departed>,
    departed_index: HashMap<Arc<str>, usize>,
}

impl Rows {
    pub(super) fn contains(&self, id: &str) -> bool {
        self.table.position(id).is_some()
    }

    /// Whether the id is, or ever was, in the list.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.contains(id) || self.departed_index.contains_key(id)
    }

    /// The row of that id as it was when it last went.
    pub(super) fn gone(&self, id: &str) -> Option<&Departed> {
        self.departed_index.get(id).and_then(|at| self.departed.get(*at))
    }

    /// The row as it is, or as it was before it went.
    pub(super) fn remembered(&self, id: &str) -> Option<&Record> {
        self.table.get(id).or_else(|| self.gone(id).map(|gone| &gone.record))
    }

    pub(super) fn depart(&mut self, position: Position, tick: u64) {
        let Some(record) = self.table.take(position) else {
            return;
        };
        if let Some(id) = &record.id {
            self.departed_index.insert(Arc::clone(id), self.departed.len());
        }
        self.departed.push(Departed { record, position, died: tick });
    }

    /// Takes the row of that id away. False if there is none.
    pub(super) fn remove(&mut self, id: &str, tick: u64) -> bool {
        let position = self.table.position(id);
        if let Some(position) = position {
            self.depart(position, tick);
        }
        position.is_some()
    }

    /// Puts a row back as it was and where it was. False if it never went, or is there.
    pub(super) fn restore(&mut self, id: &str, tick: u64) -> bool {
        if self.contains(id) {
            return false;
        }
        let Some(gone) = self.gone(id) else {
            return false;
        };
        let (position, mut record) = (gone.position, gone.record.clone());
        record.born = tick;
        self.table.put(position, record);
        true
    }

    /// Changes one row in any way. Another `created_at` moves it in the list; another `id` is one
    /// row gone and another one there.
    pub(super) fn edit_at(
        &mut self,
        position: Position,
        tick: u64,
        change: impl FnOnce(&mut Map<String, Value>),
    ) {
        let Some(record) = self.table.at_mut(position) else {
            return;
        };
        let mut map = record.to_map();
        change(&mut map);
        let created_at = map.get("created_at").and_then(Value::as_i64);
        let created_at = created_at.unwrap_or(position.created_at);
        if map.get("id").and_then(Value::as_str) != record.id.as_deref() {
            self.depart(position, tick);
            self.table.insert(created_at, Record::from_map(&map, tick));
            return;
        }
        record.rewrite(&map);
        if created_at != position.created_at
            && let Some(record) = self.table.take(position)
        {
            self.table.insert(created_at, record);
        }
    }

    /// As [`Rows::edit_at`], for the row of that id. False if there is none.
    pub(super) fn edit(
        &mut self,
        id: &str,
        tick: u64,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> bool {
        let position = self.table.position(id);
        if let Some(position) = position {
            self.edit_at(position, tick, change);
        }
        position.is_some()
    }

    /// When each row was there: the departed first, then those that are.
    pub(super) fn lives(&self) -> impl Iterator<Item = (&Arc<str>, u64, Option<u64>)> {
        let departed = self.departed.iter().map(|gone| (&gone.record, Some(gone.died)));
        let living = self.table.records().map(|record| (record, None));
        departed
            .chain(living)
            .filter_map(|(record, died)| Some((record.id.as_ref()?, record.born, died)))
    }

    /// The id of a row drawn at random.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Option<&str> {
        self.table.at(self.table.random(rng)?)?.id.as_deref()
    }

    /// The id of a row drawn at random from those that went; `None` if just that one is back.
    pub(super) fn draw_departed(&self, rng: &mut fastrand::Rng) -> Option<&str> {
        if self.departed.is_empty() {
            return None;
        }
        let id = self.departed[rng.usize(..self.departed.len())].record.id.as_deref()?;
        (!self.contains(id)).then_some(id)
    }
}
