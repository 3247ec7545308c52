//! One API key as the provider describes it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::field::{Column, render_value};
use super::personal::{ERASED, is_erased};
use crate::clock::Timestamp;

/// The id of a key: a non-empty text, unique within its organization.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// `None` if the text is empty.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        (!id.is_empty()).then(|| Self(Arc::from(id)))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<KeyId> for Arc<str> {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Whether a key is an admin key or a project's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Admin,
    Project,
}

impl Scope {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Project => "project",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Admin, Self::Project].into_iter().find(|scope| scope.as_str() == text)
    }
}

/// The values without a column, by their path in the API's JSON. Nulls are left out.
pub type Other = BTreeMap<String, Value>;

/// One API key: what the views show of it, from `key_id` to `other`.
///
/// A value that does not fit its column (a time that is no integer within the years 1 to 9999, a name that is
/// no text) leaves the column `None` and stands in `other` under its path.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub id: KeyId,
    pub scope: Scope,
    pub name: Option<Arc<str>>,
    pub redacted_value: Option<Arc<str>>,
    pub project_id: Option<Arc<str>>,
    pub project_name: Option<Arc<str>>,
    pub owner_type: Option<Arc<str>>,
    pub owner_id: Option<Arc<str>>,
    pub owner_name: Option<Arc<str>>,
    pub owner_role: Option<Arc<str>>,
    pub created_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub other: Arc<Other>,
}

/// What keys share that may stand for each other: scope, project, owner and name.
pub type Namesake<'a> = (Scope, Option<&'a str>, &'a str, &'a str);

/// A text of the history that does not describe a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` of the recorded key is not what it must be")]
pub struct InvalidKey {
    pub field: String,
}

/// Marks the text of a value that does not fit its column.
const MISFIT: &str = "json:";

impl Key {
    /// A key of which nothing but its id is known.
    #[must_use]
    pub fn new(id: KeyId, scope: Scope) -> Self {
        Self {
            id,
            scope,
            name: None,
            redacted_value: None,
            project_id: None,
            project_name: None,
            owner_type: None,
            owner_id: None,
            owner_name: None,
            owner_role: None,
            created_at: None,
            last_used_at: None,
            expires_at: None,
            other: Arc::default(),
        }
    }

    /// The text in `column`; `None` for times.
    #[must_use]
    pub fn text(&self, column: Column) -> Option<&Arc<str>> {
        match column {
            Column::Name => self.name.as_ref(),
            Column::RedactedValue => self.redacted_value.as_ref(),
            Column::ProjectId => self.project_id.as_ref(),
            Column::ProjectName => self.project_name.as_ref(),
            Column::OwnerType => self.owner_type.as_ref(),
            Column::OwnerId => self.owner_id.as_ref(),
            Column::OwnerName => self.owner_name.as_ref(),
            Column::OwnerRole => self.owner_role.as_ref(),
            Column::CreatedAt | Column::LastUsedAt | Column::ExpiresAt => None,
        }
    }

    /// Whether the owner can still use the project that the key is of, in the API's words.
    #[must_use]
    pub fn owner_project_access(&self) -> Option<&str> {
        self.other.get("owner_project_access").and_then(Value::as_str)
    }

    /// When the key's project was archived; `None` where it was not, or nobody knows when.
    #[must_use]
    pub fn project_archived_at(&self) -> Option<Timestamp> {
        self.other.get("project_archived_at").and_then(Value::as_str)?.parse().ok()
    }

    /// Whether the key's project is archived; `None` where it has none.
    #[must_use]
    pub fn is_project_archived(&self) -> Option<bool> {
        let says = |path, status: Option<&str>| {
            let text = self.other.get(path).and_then(Value::as_str);
            text.is_some_and(|text| status.is_none_or(|status| text == status))
        };
        self.project_id.as_ref()?;
        Some(says("project_archived_at", None) || says("project_status", Some("archived")))
    }

    /// By what another key would be its namesake; `None` where name or owner are unknown.
    #[must_use]
    pub fn namesake(&self) -> Option<Namesake<'_>> {
        let name = self.name.as_deref().filter(|name| !name.trim().is_empty())?;
        let owner_name = self.owner_name.as_deref().filter(|name| !is_erased(Some(name)));
        let owner = self.owner_id.as_deref().or(owner_name)?;
        Some((self.scope, self.project_id.as_deref(), owner, name))
    }

    /// The time in `column`; `None` for texts.
    #[must_use]
    pub const fn time(&self, column: Column) -> Option<Timestamp> {
        match column {
            Column::CreatedAt => self.created_at,
            Column::LastUsedAt => self.last_used_at,
            Column::ExpiresAt => self.expires_at,
            _ => None,
        }
    }

    /// Sets a text column; nothing for times.
    pub fn set_text(&mut self, column: Column, value: Option<Arc<str>>) {
        match column {
            Column::Name => self.name = value,
            Column::RedactedValue => self.redacted_value = value,
            Column::ProjectId => self.project_id = value,
            Column::ProjectName => self.project_name = value,
            Column::OwnerType => self.owner_type = value,
            Column::OwnerId => self.owner_id = value,
            Column::OwnerName => self.owner_name = value,
            Column::OwnerRole => self.owner_role = value,
            Column::CreatedAt | Column::LastUsedAt | Column::ExpiresAt => {}
        }
    }

    /// Sets a time column; nothing for texts.
    pub fn set_time(&mut self, column: Column, value: Option<Timestamp>) {
        match column {
            Column::CreatedAt => self.created_at = value,
            Column::LastUsedAt => self.last_used_at = value,
            Column::ExpiresAt => self.expires_at = value,
            _ => {}
        }
    }

    /// Takes over what `column` holds in `from`, a value that does not fit included.
    pub(crate) fn copy_field(&mut self, from: &Self, column: Column) {
        self.set_text(column, from.text(column).cloned());
        self.set_time(column, from.time(column));
        self.set_other(column.api_path(), from.other.get(column.api_path()).cloned());
    }

    /// Sets or, with `None`, removes the value at `path` of `other`.
    pub(super) fn set_other(&mut self, path: &str, value: Option<Value>) {
        if self.other.get(path) == value.as_ref() {
            return;
        }
        let other = Arc::make_mut(&mut self.other);
        match value {
            Some(value) => other.insert(path.to_owned(), value),
            None => other.remove(path),
        };
    }

    /// What the history shows for `column`: the text itself, times in RFC 3339.
    ///
    /// A value that does not fit the column is shown as `json:` and its JSON, and so is a text that
    /// begins with `json:` itself, so that [`Key::set_shown`] always finds back what it was.
    #[must_use]
    pub fn shown(&self, column: Column) -> Option<String> {
        if let Some(time) = self.time(column) {
            return Some(time.to_string());
        }
        match self.text(column) {
            Some(text) if text.starts_with(MISFIT) => {
                Some(format!("{MISFIT}{}", Value::from(text.as_ref())))
            }
            Some(text) => Some(text.as_ref().to_owned()),
            None => self.other.get(column.api_path()).map(|value| match value {
                // A text that fits is here only in the place of an erased value that did not.
                Value::String(text) if text == ERASED && !column.is_time() => text.clone(),
                value => format!("{MISFIT}{value}"),
            }),
        }
    }

    /// What the history shows for any field, by the name that events use.
    #[must_use]
    pub fn shown_field(&self, field: &str) -> Option<String> {
        if field == "scope" {
            return Some(self.scope.as_str().to_owned());
        }
        match Column::from_name(field) {
            Some(column) => self.shown(column),
            None => self.other.get(field).map(render_value),
        }
    }

    /// Sets `column` to what [`Key::shown`] gave as `shown`.
    pub fn set_shown(&mut self, column: Column, shown: Option<&str>) -> Result<(), InvalidKey> {
        let invalid = || InvalidKey { field: column.name().to_owned() };
        self.set_text(column, None);
        self.set_time(column, None);
        self.set_other(column.api_path(), None);
        let Some(shown) = shown else { return Ok(()) };
        if let Some(json) = shown.strip_prefix(MISFIT) {
            match serde_json::from_str(json).map_err(|_| invalid())? {
                Value::String(text) if !column.is_time() && text.starts_with(MISFIT) => {
                    self.set_text(column, Some(Arc::from(text)));
                }
                value if column.fits(&value) || value.is_null() => return Err(invalid()),
                value => self.set_other(column.api_path(), Some(value)),
            }
        } else if column.is_time() {
            self.set_time(column, Some(shown.parse().map_err(|_| invalid())?));
        } else {
            self.set_text(column, Some(Arc::from(shown)));
        }
        Ok(())
    }

    /// The key as `baseline`, `added`, `restored` and `removed` events carry it: a JSON object of the
    /// views' columns `key_id` … `expires_at` and `other`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("key_id".to_owned(), Value::from(self.id.as_str()));
        for column in Column::ALL {
            let time = self.time(column).map(|time| Value::from(time.to_string()));
            let text = self.text(column).map(|text| Value::from(text.as_ref()));
            object.insert(column.name().to_owned(), time.or(text).unwrap_or(Value::Null));
        }
        let other = self.other.iter().map(|(path, value)| (path.clone(), value.clone()));
        object.insert("other".to_owned(), Value::Object(other.collect()));
        Value::Object(object)
    }

    /// The key that [`Key::to_json`] wrote. Columns that are not there count as null.
    pub fn from_json(scope: Scope, json: &str) -> Result<Self, InvalidKey> {
        let invalid = |field: &str| InvalidKey { field: field.to_owned() };
        let Ok(Value::Object(mut object)) = serde_json::from_str(json) else {
            return Err(invalid("new_value"));
        };
        let id = object.get("key_id").and_then(Value::as_str).and_then(KeyId::new);
        let mut key = Self::new(id.ok_or_else(|| invalid("key_id"))?, scope);
        for column in Column::ALL {
            match object.get(column.name()) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if column.is_time() => {
                    let time = text.parse().map_err(|_| invalid(column.name()))?;
                    key.set_time(column, Some(time));
                }
                Some(Value::String(text)) => key.set_text(column, Some(Arc::from(text.as_str()))),
                Some(_) => return Err(invalid(column.name())),
            }
        }
        match object.remove("other") {
            None | Some(Value::Null) => {}
            Some(Value::Object(other)) => key.other = Arc::new(other.into_iter().collect()),
            Some(_) => return Err(invalid("other")),
        }
        Ok(key)
    }
}
