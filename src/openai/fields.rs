//! From one JSON object of a listing to a [`Sighting`].

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::mask::Mask;
use super::owner::lift_owner;
use crate::clock::Timestamp;
use crate::inventory::{Column, Key, KeyId, Other, Project, Scope, Shape, Sighting, join_path};

/// Objects nested deeper than this are kept as one value: their paths would grow without bound.
const MAX_DEPTH: usize = 16;
/// Caches of shared values are emptied when they hold this many.
pub(super) const MAX_CACHED: usize = 4096;
/// How many different fields are named in the warnings.
const MAX_WARNED_FIELDS: usize = 100;

/// What the API sent that it should not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    /// Keys that came with their full secret in `value`, which was dropped.
    pub values_dropped: u64,
    /// Keys with something like a secret in another field, which was masked, by that field.
    pub secrets_masked: BTreeMap<String, u64>,
}

impl Warnings {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values_dropped == 0 && self.secrets_masked.is_empty()
    }

    pub(super) fn count_masked(&mut self, field: &str) {
        if let Some(count) = self.secrets_masked.get_mut(field) {
            *count += 1;
        } else if self.secrets_masked.len() < MAX_WARNED_FIELDS {
            self.secrets_masked.insert(field.to_owned(), 1);
        }
    }
}

/// Values that many keys share, so that they are kept once.
#[derive(Debug, Default)]
pub(super) struct Interned {
    texts: HashSet<Arc<str>>,
    others: HashSet<Arc<Other>>,
    shapes: HashSet<Arc<Shape>>,
    /// The fields of the key before, in the order in which they came, and the shape that they make.
    newest: Option<(Fields, Arc<Shape>)>,
}

/// What was sent for a key, in the order in which it came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fields {
    leaves: Vec<String>,
    objects: Vec<String>,
}

impl Interned {
    /// Most keys have the fields of the one before, in the same order.
    fn shape_of(&mut self, fields: Fields) -> Arc<Shape> {
        if let Some((newest, shape)) = &self.newest
            && *newest == fields
        {
            return Arc::clone(shape);
        }
        let shape = Shape {
            leaves: fields.leaves.iter().cloned().collect(),
            objects: fields.objects.iter().cloned().collect(),
        };
        let shape = self.shape(shape);
        self.newest = Some((fields, Arc::clone(&shape)));
        shape
    }

    pub(super) fn shape(&mut self, shape: Shape) -> Arc<Shape> {
        intern(&mut self.shapes, shape)
    }

    pub(super) fn other(&mut self, other: Other) -> Arc<Other> {
        intern(&mut self.others, other)
    }

    /// The text of a column.
    pub(super) fn text(&mut self, column: Column, text: &str) -> Arc<str> {
        if !column.is_shared() {
            return Arc::from(text);
        }
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        remember(&mut self.texts, Arc::from(text))
    }
}

fn intern<T: Eq + Hash>(known: &mut HashSet<Arc<T>>, value: T) -> Arc<T> {
    match known.get(&value) {
        Some(known) => Arc::clone(known),
        None => remember(known, Arc::new(value)),
    }
}

fn remember<T: Eq + Hash + ?Sized>(known: &mut HashSet<Arc<T>>, value: Arc<T>) -> Arc<T> {
    if known.len() >= MAX_CACHED {
        known.clear();
    }
    known.insert(Arc::clone(&value));
    value
}

/// Takes the members of one key apart.
pub(super) struct Reader<'a> {
    mask: &'a Mask,
    interned: &'a mut Interned,
    warnings: &'a mut Warnings,
    key: Key,
    other: Other,
    fields: Fields,
}

impl<'a> Reader<'a> {
    /// For the key with this id.
    pub(super) fn new(
        id: KeyId,
        mask: &'a Mask,
        interned: &'a mut Interned,
        warnings: &'a mut Warnings,
    ) -> Self {
        let (key, other, fields) = (Key::new(id, Scope::Admin), Other::new(), Fields::default());
        Self { mask, interned, warnings, key, other, fields }
    }

    /// The key with these members of the listing of admin keys.
    pub(super) fn read_admin_key(mut self, mut members: Map<String, Value>) -> Sighting {
        self.drop_secret(&mut members);
        self.read_members("", members, 0);
        self.conclude()
    }

    /// The key with these members of the listing of `project`. A project's it is, whatever it looks like.
    pub(super) fn read_project_key(
        mut self,
        mut members: Map<String, Value>,
        project: &Project,
    ) -> Sighting {
        self.drop_secret(&mut members);
        lift_owner(&mut members);
        self.describe_project(project, &mut members);
        self.read_members("", members, 0);
        let mut sighting = self.conclude();
        sighting.key.scope = Scope::Project;
        sighting.prefix_scope = Some(Scope::Project);
        sighting
    }

    /// The full secret, if it is sent: nothing of it is kept, not even that the field was there.
    fn drop_secret(&mut self, members: &mut Map<String, Value>) {
        members.remove("id");
        if members.remove("value").is_some_and(|value| !value.is_null()) {
            self.warnings.values_dropped += 1;
        }
    }

    /// Fills in what the project's listing says of the project rather than of each key.
    fn describe_project(&mut self, project: &Project, members: &mut Map<String, Value>) {
        let columns =
            [(Column::ProjectId, Some(&project.id)), (Column::ProjectName, project.name.as_ref())];
        for (column, ours) in columns {
            self.fields.leaves.push(column.name().to_owned());
            self.key.set_text(column, ours.cloned());
            let Some(theirs) = members.remove(column.name()) else { continue };
            // Should the key itself say something else, it is kept under a name that is no column's.
            if theirs != ours.map_or(Value::Null, |text| Value::from(text.as_ref())) {
                self.read_member(Value::from(column.name()).to_string(), theirs, 0);
            }
        }
        let archived_at = project.archived_at.map(|time| Value::from(time.to_string()));
        let status = project.telling_status().map(|status| Value::from(status.as_ref()));
        for (name, value) in [("project_archived_at", archived_at), ("project_status", status)] {
            self.fields.leaves.push(name.to_owned());
            if let Some(value) = value {
                self.other.insert(name.to_owned(), value);
            }
        }
    }

    fn conclude(mut self) -> Sighting {
        self.key.other = self.interned.other(self.other);
        let shape = self.interned.shape_of(self.fields);
        Sighting::new(self.key, shape)
    }

    fn read_members(&mut self, parent: &str, members: Map<String, Value>, depth: usize) {
        for (mut name, value) in members {
            let name_masked = self.mask.apply(&mut name);
            let path = join_path(parent, &name);
            if name_masked {
                self.warnings.count_masked(&path);
            }
            self.read_member(path, value, depth);
        }
    }

    fn read_member(&mut self, path: String, value: Value, depth: usize) {
        match value {
            Value::Object(inner) if !inner.is_empty() && depth < MAX_DEPTH => {
                self.read_members(&path, inner, depth + 1);
                self.fields.objects.push(path);
            }
            value => {
                // An empty object is a value, and an object that lacks what it might hold.
                if value.is_object() {
                    self.fields.objects.push(path.clone());
                }
                self.read_leaf(path, value);
            }
        }
    }

    fn read_leaf(&mut self, path: String, mut value: Value) {
        let column = Column::from_api_path(&path);
        let field = column.map_or(path.as_str(), |column| column.name());
        if self.mask.apply_to_value(&mut value) {
            self.warnings.count_masked(field);
        }
        self.fields.leaves.push(field.to_owned());
        match (column, value) {
            (_, Value::Null) => {}
            (Some(column), Value::String(text)) if !column.is_time() => {
                let text = self.interned.text(column, &text);
                self.key.set_text(column, Some(text));
            }
            (Some(column), value) if column.is_time() => match parse_time(&value) {
                Some(time) => self.key.set_time(column, Some(time)),
                None => self.keep(path, value),
            },
            (_, value) => self.keep(path, value),
        }
    }

    fn keep(&mut self, path: String, mut value: Value) {
        if let Value::Array(items) = &mut value
            && items.iter().all(is_scalar)
        {
            items.sort_by(compare_scalars);
            // Not by `==`, to which 0.0 and -0.0 are the same though they are written differently.
            items.dedup_by(|a, b| compare_scalars(a, b).is_eq());
        }
        self.other.insert(path, value);
    }
}

pub(super) fn parse_time(value: &Value) -> Option<Timestamp> {
    value.as_i64().and_then(Timestamp::from_unix)
}

const fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

/// A total order over JSON's scalars, in which only those that are written the same are equal.
fn compare_scalars(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    let float = |number: &Number| number.as_f64().unwrap_or(f64::MAX);
    // Large integers share a float, and 1 and 1.0 do: their digits tell them apart.
    float(a).total_cmp(&float(b)).then_with(|| a.to_string().cmp(&b.to_string()))
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
