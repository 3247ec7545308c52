//! The fields of a key: the columns of the public views, and the paths of everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::clock::Timestamp;

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

    /// Whether many keys have the same text there; names and redacted values differ from key to key.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Name | Self::RedactedValue)
    }

    /// Whether the column can hold what the API sent; if not, it stands in `other`.
    pub(super) fn fits(self, value: &Value) -> bool {
        if self.is_time() {
            value.as_i64().and_then(Timestamp::from_unix).is_some()
        } else {
            value.is_string()
        }
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
/// is also the name of a view's column with another source (`owner_name`, `removed_at`). So two
/// different members never share a path, and no path is taken for a column that it does not fill.
#[must_use]
pub fn join_path(parent: &str, name: &str) -> String {
    let taken = parent.is_empty()
        && (VIEW_COLUMNS.contains(&name)
            || Column::from_name(name).is_some_and(|column| column.api_path() != name));
    let odd = name.is_empty() || name.contains(|c: char| matches!(c, '.' | '"') || c.is_control());
    let name = if taken || odd { Value::from(name).to_string() } else { name.to_owned() };
    if parent.is_empty() { name } else { format!("{parent}.{name}") }
}

/// The columns of the views that no field of the API fills directly, and what `other` holds of a key's
/// project.
const VIEW_COLUMNS: [&str; 11] = [
    "organization",
    "scope",
    "key_id",
    "other",
    "own_key",
    "first_seen_at",
    "last_seen_at",
    "removed_at",
    "project_archived",
    "project_archived_at",
    "project_status",
];

/// Where the API's JSON has the value of the field that events call `field`.
pub(super) fn path_of(field: &str) -> &str {
    Column::from_name(field).map_or(field, |column| column.api_path())
}

/// What events call the field at `path` of the API's JSON.
pub(crate) fn field_at(path: &str) -> &str {
    Column::from_api_path(path).map_or(path, |column| column.name())
}

/// Whether `path` leads into what stands at `ancestor`. No name in a path has a bare dot in it.
pub(super) fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('.'))
}

/// The path of the object that holds the value at `path`, if it is not the key itself.
pub(super) fn parent_path(path: &str) -> Option<&str> {
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

impl Shape {
    /// Every field that was sent, be it a value, null or an object.
    fn fields(&self) -> impl Iterator<Item = &str> {
        let objects = self.objects.iter().map(|path| field_at(path));
        self.leaves.iter().map(String::as_str).chain(objects)
    }

    pub(super) fn sends(&self, field: &str) -> bool {
        self.leaves.contains(field) || self.objects.contains(path_of(field))
    }

    /// Whether the object that `field` belongs to was sent, and not the field in it. Where the object is
    /// null or not sent either, nothing is said of the field itself.
    pub(super) fn lacks(&self, field: &str) -> bool {
        let parent = parent_path(path_of(field));
        !self.sends(field) && parent.is_none_or(|path| self.objects.contains(path))
    }
}

/// How the API sends a field of the keys, as the last complete scan found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// For every key that has the object it belongs to, and most keys have that; null counts.
    Always,
    /// For some keys only, or in an object that few keys have.
    Sometimes,
    /// Once for all, then for none, and not for all again yet: keys that lack it keep their last value.
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

/// Finds out over one scan how the API sends each field.
#[derive(Debug, Default)]
pub(super) struct FieldCensus {
    /// How many keys have each shape.
    shapes: BTreeMap<Arc<Shape>, usize>,
    /// The newest shape, and how many keys have it that are not counted in `shapes` yet.
    newest: Option<(Arc<Shape>, usize)>,
    keys: usize,
}

impl FieldCensus {
    /// Takes in one key. Keys mostly share a few shapes, which the reader of the API interns.
    pub(super) fn count(&mut self, shape: &Arc<Shape>) {
        self.keys += 1;
        match &mut self.newest {
            Some((newest, keys)) if Arc::ptr_eq(newest, shape) => *keys += 1,
            _ => {
                self.settle();
                self.newest = Some((Arc::clone(shape), 1));
            }
        }
    }

    fn settle(&mut self) {
        if let Some((shape, keys)) = self.newest.take() {
            *self.shapes.entry(shape).or_default() += keys;
        }
    }

    /// How each field is sent now, given how it was sent `before`. An empty scan tells nothing.
    pub(super) fn conclude(&mut self, before: &FieldStates) -> FieldStates {
        self.settle();
        let sent = self.shapes.keys().flat_map(|shape| shape.fields());
        let fields: BTreeSet<&str> = sent.chain(before.keys().map(String::as_str)).collect();
        let state = |field: &str| {
            let state = self.conclude_field(field, before.get(field).copied());
            state.map(|state| (field.to_owned(), state))
        };
        fields.into_iter().filter_map(state).collect()
    }

    fn conclude_field(&self, field: &str, before: Option<Sent>) -> Option<Sent> {
        let sent = self.keys_where(|shape| shape.sends(field));
        let lacking = self.keys_where(|shape| shape.lacks(field));
        // A field of an object that few keys have says nothing of the API: what happens to it happens to
        // those keys.
        let common = (sent + lacking) * 2 > self.keys;
        match before {
            _ if sent > 0 && lacking == 0 && common => Some(Sent::Always),
            // It is back when no key lacks it any more; until then, those keep their last value.
            Some(Sent::Stopped) => Some(Sent::Stopped),
            _ if sent > 0 => Some(Sent::Sometimes),
            Some(Sent::Always) if lacking > 0 && common => Some(Sent::Stopped),
            _ if lacking > 0 => None,
            // The object it belongs to is null or not sent for any key: nothing new is known of it.
            known => known,
        }
    }

    fn keys_where(&self, holds: impl Fn(&Shape) -> bool) -> usize {
        self.shapes.iter().filter(|(shape, _)| holds(shape)).map(|(_, keys)| keys).sum()
    }
}
