//! Who did it, as the provider's own audit log tells it.

use std::sync::Arc;

use super::key::KeyId;
use crate::clock::Timestamp;

/// One entry of the provider's audit log, about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The entry's own id.
    pub log_id: Arc<str>,
    pub action: KeyAction,
    pub key_id: KeyId,
    /// `effective_at`.
    pub happened_at: Timestamp,
    pub actor: Actor,
    /// What the key was given, or was to be given; `None` where the entry does not say.
    pub scopes: Option<Vec<String>>,
}

/// What was done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyAction {
    Created,
    Updated,
    Deleted,
}

impl KeyAction {
    pub const ALL: [Self; 3] = [Self::Created, Self::Updated, Self::Deleted];

    /// The `type` of an entry.
    #[must_use]
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Created => "api_key.created",
            Self::Updated => "api_key.updated",
            Self::Deleted => "api_key.deleted",
        }
    }
}

/// Who acted: a person in a session, or a key with whoever it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Actor {
    /// `session`, `api_key`, or what else the API says.
    pub kind: Option<Arc<str>>,
    pub user_id: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    /// The tracking id of the key that acted.
    pub key_id: Option<Arc<str>>,
    pub service_account_id: Option<Arc<str>>,
    pub ip_address: Option<Arc<str>>,
}
