//! Keys as rows: how the store splits them, and puts them together again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::error::Error;
use crate::clock::Timestamp;
use crate::inventory::{Key, KeyId, Other, Scope};
use serde_json::Value;

/// Declares a struct that is read from a row by the names of its fields, whose types the schema guarantees.
///
/// sqlx's own derive would do, but it comes with a second build of `SQLite` for the compiler.
macro_rules! row {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($field_vis:vis $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        $vis struct $name {
            $($field_vis $field: $type,)*
        }

        impl<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> for $name {
            fn from_row(row: &'r sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: sqlx::Row::try_get(row, stringify!($field))?,)* })
            }
        }
    };
}
pub(super) use row;

/// The columns of one state of an owner, in the order of the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OwnerState {
    pub(super) kind: Option<Arc<str>>,
    pub(super) id: Option<Arc<str>>,
    pub(super) name: Option<Arc<str>>,
    pub(super) role: Option<Arc<str>>,
    pub(super) other: Option<String>,
}

impl OwnerState {
    /// The owner's part of a key; `None` if nothing is known of one.
    pub(super) fn of(key: &Key) -> Option<Self> {
        let state = Self {
            kind: key.owner_type.clone(),
            id: key.owner_id.clone(),
            name: key.owner_name.clone(),
            role: key.owner_role.clone(),
            other: other_json(key, |path| path.starts_with("owner.")),
        };
        let Self { kind: None, id: None, name: None, role: None, other: None } = state else {
            return Some(state);
        };
        None
    }
}

/// The values without a column that are not the owner's.
pub(super) fn own_other(key: &Key) -> Option<String> {
    other_json(key, |path| !path.starts_with("owner."))
}

fn other_json(key: &Key, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let wanted: BTreeMap<&String, &Value> =
        key.other.iter().filter(|(path, _)| wanted(path)).collect();
    // A map of strings to JSON values can always be written.
    (!wanted.is_empty()).then(|| serde_json::to_string(&wanted).unwrap_or_default())
}

/// Puts keys together. Equal values of many keys share one allocation.
#[derive(Debug, Default)]
pub(super) struct KeyReader {
    texts: HashMap<String, Arc<str>>,
    others: HashMap<(Option<String>, Option<String>), Arc<Other>>,
}

row! {
    /// One key with its current version and owner.
    #[derive(Debug, serde::Deserialize)]
    pub(super) struct StoredKey {
        pub(super) key_id: String,
        scope: String,
        name: Option<String>,
        redacted_value: Option<String>,
        project_id: Option<String>,
        project_name: Option<String>,
        owner_type: Option<String>,
        owner_id: Option<String>,
        owner_name: Option<String>,
        owner_role: Option<String>,
        created_at: Option<i64>,
        pub(super) last_used_at: Option<i64>,
        expires_at: Option<i64>,
        other: Option<String>,
        owner_other: Option<String>,
    }
}

impl KeyReader {
    pub(super) fn read(&mut self, row: StoredKey) -> Result<Key, Error> {
        let bad = |column| {
            let row = row.key_id.clone();
            Error::Inconsistent { table: "key_versions", column, row }
        };
        let time = |column, seconds: Option<i64>| match seconds {
            None => Ok(None),
            Some(seconds) => Timestamp::from_unix(seconds).map(Some).ok_or_else(|| bad(column)),
        };
        let id = KeyId::new(&row.key_id).ok_or_else(|| bad("key_id"))?;
        let scope = Scope::parse(&row.scope).ok_or_else(|| bad("scope"))?;
        let created_at = time("created_at", row.created_at)?;
        let last_used_at = time("last_used_at", row.last_used_at)?;
        let expires_at = time("expires_at", row.expires_at)?;
        let other = self.other(row.other, row.owner_other).ok_or_else(|| bad_other(&id))?;
        Ok(Key {
            id,
            scope,
            name: row.name.map(Arc::from),
            redacted_value: row.redacted_value.map(Arc::from),
            project_id: self.shared(row.project_id),
            project_name: self.shared(row.project_name),
            owner_type: self.shared(row.owner_type),
            owner_id: self.shared(row.owner_id),
            owner_name: self.shared(row.owner_name),
            owner_role: self.shared(row.owner_role),
            created_at,
            last_used_at,
            expires_at,
            other,
        })
    }

    fn shared(&mut self, text: Option<String>) -> Option<Arc<str>> {
        let text = text?;
        if let Some(known) = self.texts.get(&text) {
            return Some(Arc::clone(known));
        }
        let shared: Arc<str> = Arc::from(text.as_str());
        self.texts.insert(text, Arc::clone(&shared));
        Some(shared)
    }

    fn other(&mut self, own: Option<String>, owner: Option<String>) -> Option<Arc<Other>> {
        let parts = (own, owner);
        if let Some(known) = self.others.get(&parts) {
            return Some(Arc::clone(known));
        }
        let mut other = Other::new();
        for part in [&parts.0, &parts.1].into_iter().flatten() {
            other.extend(serde_json::from_str::<Other>(part).ok()?);
        }
        let other = Arc::new(other);
        self.others.insert(parts, Arc::clone(&other));
        Some(other)
    }
}

fn bad_other(id: &KeyId) -> Error {
    Error::Inconsistent { table: "key_versions", column: "other", row: id.to_string() }
}
