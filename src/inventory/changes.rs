//! What one run changes: the words in which a comparison says it, and the store writes it down.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::appeared::Appeared;
use super::field::{Column, FieldStates, render_value};
use super::key::{Key, KeyId};
use super::projects::KnownProjects;
use super::replay::{EventKind, FieldChange};

/// How a key came into the inventory.
#[derive(Debug, Clone, PartialEq)]
pub enum Appearance {
    Baseline(Key),
    Added(Key),
    Restored(Key),
}

impl Appearance {
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Baseline(key) | Self::Added(key) | Self::Restored(key) => key,
        }
    }

    /// The event that tells of it.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Baseline(_) => EventKind::Baseline,
            Self::Added(_) => EventKind::Added,
            Self::Restored(_) => EventKind::Restored,
        }
    }
}

/// A key that is not as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Alteration {
    /// The key as it is now.
    pub key: Key,
    /// The id of its owner as it was.
    pub owner_before: Option<Arc<str>>,
    /// Whether anything but `last_used_at` is different, told or not.
    pub more_than_use: bool,
    /// The events. None if all that changed is told by a notice, or is our own use of our own key.
    pub changes: Vec<FieldChange>,
}

/// What changed in the inventory without being drift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub kind: NoticeKind,
    pub field: String,
    /// The value that each key now has in `field`, where it is another than before.
    pub values: Vec<(KeyId, Option<String>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeKind {
    /// The API sends the field for every key now, and did not before.
    FieldStarted,
    /// The API sends the field for no key any more. The last values are kept.
    FieldStopped,
    /// The redacted values of all keys changed at once.
    RedactedFormat,
    /// Another key is the one that we ourselves use (`1` in `values`), or none is.
    OwnKey,
    /// What our own use did to the `last_used_at` of a key that was our own until now, of which no
    /// event tells.
    OwnUse,
    /// Keys were neither listed nor believed gone (`1` in `values`), or are seen again.
    Unconfirmed,
    /// What the list of a project told of keys that were known from the admin list alone until then.
    ProjectLearned,
}

impl NoticeKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FieldStarted => "field_started",
            Self::FieldStopped => "field_stopped",
            Self::RedactedFormat => "redacted_format",
            Self::OwnKey => "own_key",
            Self::OwnUse => "own_use",
            Self::Unconfirmed => "unconfirmed",
            Self::ProjectLearned => "project_learned",
        }
    }
}

impl NoticeKind {
    /// Whether a run's own text says so, as it is news for people.
    #[must_use]
    pub const fn is_told(self) -> bool {
        !matches!(self, Self::OwnKey | Self::Unconfirmed | Self::ProjectLearned)
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match self.kind {
            NoticeKind::FieldStarted => write!(f, "the API now sends `{field}`"),
            NoticeKind::FieldStopped => {
                write!(f, "the API no longer sends `{field}`; the last values are kept")
            }
            NoticeKind::RedactedFormat => {
                write!(f, "the `{field}` of all {} keys changed at once", self.values.len())
            }
            NoticeKind::OwnKey => match self.values.iter().find(|(_, value)| value.is_some()) {
                Some((key_id, _)) => write!(f, "our own key is `{key_id}`"),
                None => f.write_str("our own key is not in the list"),
            },
            NoticeKind::OwnUse => {
                write!(f, "the `{field}` of the key that was our own is the time of our last use")
            }
            NoticeKind::Unconfirmed => f.write_str("other keys are unconfirmed than before"),
            NoticeKind::ProjectLearned => {
                let keys = super::keys(self.values.len());
                write!(f, "the lists of projects told the `{field}` of {keys}")
            }
        }
    }
}

/// Everything that one run changes.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub struct Changes {
    /// In the order of the listing.
    pub appeared: Appeared,
    /// As they were, in the order of the ids.
    pub removed: Vec<Key>,
    /// In the order of the listing.
    pub altered: Vec<Alteration>,
    /// Keys that were neither listed nor believed gone: they stay as they were.
    pub unconfirmed: Vec<KeyId>,
    pub own_key: Option<KeyId>,
    pub notices: Vec<Notice>,
    pub fields: FieldStates,
    pub project_fields: FieldStates,
    pub projects: KnownProjects,
}

/// Each field in which two states of one key differ: the columns in the order of the views, the scope,
/// then the other values by path.
#[must_use]
pub fn field_changes(before: &Key, after: &Key) -> Vec<FieldChange> {
    let change = |field: &str, old: Option<String>, new: Option<String>| {
        (old != new).then(|| FieldChange { field: field.to_owned(), old, new })
    };
    let scope = |key: &Key| Some(key.scope.as_str().to_owned());
    let columns = Column::ALL
        .into_iter()
        .filter_map(|column| change(column.name(), before.shown(column), after.shown(column)));
    let mut changes: Vec<FieldChange> =
        columns.chain(change("scope", scope(before), scope(after))).collect();
    if before.other != after.other {
        let paths: BTreeSet<&String> = before.other.keys().chain(after.other.keys()).collect();
        let without_column = paths.into_iter().filter(|path| Column::from_api_path(path).is_none());
        changes.extend(without_column.filter_map(|path| {
            change(
                path,
                before.other.get(path).map(render_value),
                after.other.get(path).map(render_value),
            )
        }));
    }
    changes
}
