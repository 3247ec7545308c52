//! The fields of a key: the columns of the public views, and the paths of everything else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A column of the views that holds a value of the key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    Name,
    RedactedValue,
    ProjectId,
    ProjectName,
    OwnerType,
    OwnerId,
    OwnerName,
    OwnerRole,
    CreatedAt,
    LastUsedAt,
    ExpiresAt,
}

impl Column {
    /// In the order of the views.
    pub const ALL: [Self; 11] = [
        Self::Name,
        Self::RedactedValue,
        Self::ProjectId,
        Self::ProjectName,
        Self::OwnerType,
        Self::OwnerId,
        Self::OwnerName,
        Self::OwnerRole,
        Self::CreatedAt,
        Self::LastUsedAt,
        Self::ExpiresAt,
    ];

    /// The column's name in the views, which is also the `field` of an event.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::RedactedValue => "redacted_value",
            Self::ProjectId => "project_id",
            Self::ProjectName => "project_name",
            Self::OwnerType => "owner_type",
            Self::OwnerId => "owner_id",
            Self::OwnerName => "owner_name",
            Self::OwnerRole => "owner_role",
            Self::CreatedAt => "created_at",
            Self::LastUsedAt => "last_used_at",
            Self::ExpiresAt => "expires_at",
        }
    }

    /// Where the API's JSON has the value.
    #[must_use]
    pub const fn api_path(self) -> &'static str {
        match self {
            Self::OwnerType => "owner.type",
            Self::OwnerId => "owner.id",
            Self::OwnerName => "owner.name",
            Self::OwnerRole => "owner.role",
            other => other.name(),
        }
    }

    /// Whether the column holds Unix seconds in the API and RFC 3339 in the views.
    #[must_use]
    pub const fn is_time(self) -> bool {
        matches!(self, Self::CreatedAt | Self::LastUsedAt | Self::ExpiresAt)
    }

    /// The column called `name` in the views.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    /// The column whose value stands at `path` in the API's JSON.
    #[must_use]
    pub fn from_api_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.api_path() == path)
    }
}

/// Extends the path `parent` (empty at the top) by one member name.
///
/// Names are joined by dots. A name that could be mistaken for something else is written as a JSON
/// string: one with a dot, a quote or a control character in it, an empty one, and at the top one that
/// is also the name of a view's column with another source (`owner_name`). So two different members
/// never share a path.
#[must_use]
pub fn join_path(parent: &str, name: &str) -> String {
    let taken = parent.is_empty()
        && (matches!(name, "key_id" | "scope" | "organization" | "other" | "own_key")
            || Column::from_name(name).is_some_and(|column| column.api_path() != name));
    let odd = name.is_empty() || name.contains(|c: char| matches!(c, '.' | '"') || c.is_control());
    let name = if taken || odd { Value::from(name).to_string() } else { name.to_owned() };
    if parent.is_empty() { name } else { format!("{parent}.{name}") }
}

/// The path in the API's JSON of the field that events call `field`.
fn api_path(field: &str) -> &str {
    Column::from_name(field).map_or(field, |column| column.api_path())
}

/// The path of the object that holds the value at `path`, if it is not the key itself.
fn parent_path(path: &str) -> Option<&str> {
    let mut quoted = false;
    let mut escaped = false;
    let mut last_dot = None;
    for (at, c) in path.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '.' if !quoted => last_dot = Some(at),
            _ => {}
        }
    }
    last_dot.map(|at| &path[..at])
}

/// A value without a column, as the history shows it: a text as it is, all else as JSON.
///
/// A text that is itself valid JSON (`123`, `true`, `"x"`) is shown as a JSON string, so that
/// [`parse_value`] always finds back what it was.
#[must_use]
pub fn render_value(value: &Value) -> String {
    match value {
        Value::String(text) if serde_json::from_str::<Value>(text).is_err() => text.clone(),
        other => other.to_string(),
    }
}

/// The value that [`render_value`] showed as `text`.
#[must_use]
pub fn parse_value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// Which fields the API sent for one key, null or not, by the names that events use.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Fields that hold a value or null.
    pub leaves: BTreeSet<String>,
    /// Paths of the objects (other than the key) that hold further fields.
    pub objects: BTreeSet<String>,
}

/// How the API sends a field of the keys, as the last complete scan found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// For every key (null counts) that has the object it belongs to.
    Always,
    /// For some keys only.
    Sometimes,
    /// For none any more, though it was once sent for all: the last values are kept.
    Stopped,
}

impl Sent {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Sometimes => "sometimes",
            Self::Stopped => "stopped",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Always, Self::Sometimes, Self::Stopped].into_iter().find(|s| s.as_str() == text)
    }
}

/// How the API sends each field that it ever sent, by the field's name in events.
pub type FieldStates = BTreeMap<String, Sent>;

/// Counts over one scan how the API sends each field.
#[derive(Debug, Default)]
pub(super) struct FieldCensus {
    shapes: Vec<(std::sync::Arc<Shape>, usize)>,
    keys: usize,
}

impl FieldCensus {
    /// Counts one key. Keys mostly share a few shapes, which the reader of the API interns.
    pub(super) fn count(&mut self, shape: &std::sync::Arc<Shape>) {
        self.keys += 1;
        let known = self.shapes.iter_mut().find(|(known, _)| std::sync::Arc::ptr_eq(known, shape));
        if let Some((_, keys)) = known {
            *keys += 1;
        } else if let Some((_, keys)) = self.shapes.iter_mut().find(|(known, _)| known == shape) {
            *keys += 1;
        } else {
            self.shapes.push((std::sync::Arc::clone(shape), 1));
        }
    }

    /// How each field is sent now, given how it was sent `before`. An empty scan tells nothing.
    pub(super) fn conclude(&self, before: &FieldStates) -> FieldStates {
        let mut states = before.clone();
        if self.keys == 0 {
            return states;
        }
        let sent: BTreeSet<&String> = self.shapes.iter().flat_map(|(s, _)| &s.leaves).collect();
        let known: BTreeSet<&String> = before.keys().collect();
        for field in sent.union(&known) {
            match self.conclude_field(field, before.get(*field).copied()) {
                Some(state) => states.insert((*field).clone(), state),
                None => states.remove(*field),
            };
        }
        states
    }

    fn conclude_field(&self, field: &str, before: Option<Sent>) -> Option<Sent> {
        let sent = self.keys_where(|shape| shape.leaves.contains(field));
        let path = api_path(field);
        let parent = parent_path(path);
        let expected =
            self.keys_where(|shape| parent.is_none_or(|path| shape.objects.contains(path)));
        let parent_is_null =
            parent.is_some_and(|path| self.keys_where(|shape| shape.leaves.contains(path)) > 0);
        match before {
            _ if sent > 0 && sent == expected => Some(Sent::Always),
            Some(Sent::Stopped) => Some(Sent::Stopped),
            _ if sent > 0 => Some(Sent::Sometimes),
            Some(Sent::Always) if expected > 0 || !parent_is_null => Some(Sent::Stopped),
            // The object it belongs to is null for every key: nothing new is known of the field.
            Some(Sent::Always) => Some(Sent::Always),
            _ => None,
        }
    }

    /// Whether a field that is sent for every key that could have it, and was not before, can be told of
    /// all keys. Not if it came with an object that is new as well and that only some keys have.
    pub(super) fn is_new_for_all(&self, field: &str, before: &FieldStates) -> bool {
        let was_object = |object: &str| {
            let mut known = before.keys().map(|known| api_path(known.as_str()));
            known.any(|path| path.strip_prefix(object).is_some_and(|rest| rest.starts_with('.')))
        };
        let mut path = api_path(field);
        while let Some(object) = parent_path(path).filter(|object| !was_object(object)) {
            let having = self.keys_where(|shape| shape.objects.contains(object));
            let parent = parent_path(object);
            let expected =
                self.keys_where(|shape| parent.is_none_or(|path| shape.objects.contains(path)));
            if having < expected {
                return false;
            }
            path = object;
        }
        true
    }

    fn keys_where(&self, holds: impl Fn(&Shape) -> bool) -> usize {
        self.shapes.iter().filter(|(shape, _)| holds(shape)).map(|(_, keys)| keys).sum()
    }
}
