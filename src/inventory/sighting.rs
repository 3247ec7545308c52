//! A key as one scan saw it.

use std::sync::Arc;

use super::field::Shape;
use super::key::{Key, Scope};

/// A key as one scan saw it: the key, and what only comparing needs to know.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// With the scope that `prefix_scope` or else the owner suggests.
    pub key: Key,
    /// Which fields the API sent for this key. Equal shapes should share one allocation.
    pub shape: Arc<Shape>,
    /// The scope that the prefix of the redacted value tells, if it tells one.
    pub prefix_scope: Option<Scope>,
}

impl Sighting {
    /// Finds the scope of `key` and puts it in.
    ///
    /// The listing labels every key `organization.admin_api_key`, also a project's, so that the label
    /// says nothing. The prefix does: `sk-admin` is an admin key, any other `sk-` a project's. Where
    /// it is unreadable, a service account with role `member` suggests a project's key.
    #[must_use]
    pub fn new(mut key: Key, shape: Arc<Shape>) -> Self {
        let prefix_scope = key.redacted_value.as_deref().and_then(|redacted| {
            if redacted.starts_with("sk-admin") {
                Some(Scope::Admin)
            } else {
                redacted.starts_with("sk-").then_some(Scope::Project)
            }
        });
        let member_account = key.owner_type.as_deref() == Some("service_account")
            && key.owner_role.as_deref() == Some("member");
        let by_owner = if member_account { Scope::Project } else { Scope::Admin };
        key.scope = prefix_scope.unwrap_or(by_owner);
        Self { key, shape, prefix_scope }
    }
}
