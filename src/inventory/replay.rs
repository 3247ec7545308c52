//! The audit history read forward: the inventory that a row of events leads to.

use std::collections::BTreeMap;

use super::field::{Column, parse_value};
use super::key::{InvalidKey, Key, KeyId, Scope};

/// What kind of difference an event records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// Found by the first complete listing of its source.
    Baseline,
    /// Not in the snapshot before, and never seen before.
    Added,
    /// In the snapshot before, and gone.
    Removed,
    /// Gone once, and back.
    Restored,
    /// `last_used_at` moved.
    Used,
    /// Any other field is different.
    Changed,
}

impl EventKind {
    pub const ALL: [Self; 6] =
        [Self::Baseline, Self::Added, Self::Removed, Self::Restored, Self::Used, Self::Changed];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Restored => "restored",
            Self::Used => "used",
            Self::Changed => "changed",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One field of a key before and after, as the history shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// The view's column, or the path in the API's JSON.
    pub field: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

impl FieldChange {
    /// `used` for `last_used_at`, else `changed`.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        if self.field == Column::LastUsedAt.name() { EventKind::Used } else { EventKind::Changed }
    }
}

/// One recorded difference, as the view `audit_history` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastEvent {
    pub key_id: KeyId,
    pub scope: Scope,
    pub kind: EventKind,
    pub field: Option<String>,
    pub old_value: Option<String>,
    pub new_value: Option<String>,
}

/// A history that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("`{event}` is recorded for key `{key_id}`, which was not there")]
    NoSuchKey { event: &'static str, key_id: KeyId },
    #[error("`{event}` is recorded for key `{key_id}`, which was there already")]
    KeyThere { event: &'static str, key_id: KeyId },
    #[error("`{event}` is recorded for key `{key_id}` without what it must hold")]
    Incomplete { event: &'static str, key_id: KeyId },
    #[error("the recorded state of key `{key_id}` cannot be read")]
    InvalidKey { key_id: KeyId, source: InvalidKey },
}

/// The keys of one organization at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    pub keys: BTreeMap<KeyId, Key>,
}

impl Inventory {
    /// Moves the inventory past one event.
    pub fn apply(&mut self, event: &PastEvent) -> Result<(), ReplayError> {
        let (kind, key_id) = (event.kind.as_str(), &event.key_id);
        let incomplete = || ReplayError::Incomplete { event: kind, key_id: key_id.clone() };
        match event.kind {
            EventKind::Baseline | EventKind::Added | EventKind::Restored => {
                let json = event.new_value.as_deref().ok_or_else(incomplete)?;
                let key = Key::from_json(event.scope, json);
                let key = if key.as_ref().is_ok_and(|key| key.id != *key_id) {
                    Err(InvalidKey { field: "key_id".to_owned() })
                } else {
                    key
                };
                let key = key
                    .map_err(|source| ReplayError::InvalidKey { key_id: key_id.clone(), source })?;
                if self.keys.insert(key_id.clone(), key).is_some() {
                    return Err(ReplayError::KeyThere { event: kind, key_id: key_id.clone() });
                }
            }
            EventKind::Removed => {
                let gone = self.keys.remove(key_id);
                gone.ok_or_else(|| ReplayError::NoSuchKey { event: kind, key_id: key_id.clone() })?;
            }
            EventKind::Used | EventKind::Changed => {
                let field = event.field.as_deref().ok_or_else(incomplete)?;
                self.set(kind, key_id, field, event.new_value.as_deref())?;
            }
        }
        Ok(())
    }

    /// Takes over a value that a notice recorded.
    pub fn adopt(
        &mut self,
        key_id: &KeyId,
        field: &str,
        value: Option<&str>,
    ) -> Result<(), ReplayError> {
        self.set("notice", key_id, field, value)
    }

    fn set(
        &mut self,
        event: &'static str,
        key_id: &KeyId,
        field: &str,
        value: Option<&str>,
    ) -> Result<(), ReplayError> {
        let no_such_key = || ReplayError::NoSuchKey { event, key_id: key_id.clone() };
        let key = self.keys.get_mut(key_id).ok_or_else(no_such_key)?;
        let invalid = |source| ReplayError::InvalidKey { key_id: key_id.clone(), source };
        if field == "scope" {
            let scope = value.and_then(Scope::parse);
            key.scope = scope.ok_or_else(|| invalid(InvalidKey { field: field.to_owned() }))?;
        } else if let Some(column) = Column::from_name(field) {
            key.set_shown(column, value).map_err(invalid)?;
        } else {
            key.set_other(field, value.map(parse_value));
        }
        Ok(())
    }
}
