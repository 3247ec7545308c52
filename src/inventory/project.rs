//! One project as the provider describes it.

use std::sync::Arc;

use crate::clock::Timestamp;

/// A project of the organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    pub id: Arc<str>,
    pub name: Option<Arc<str>>,
    pub archived_at: Option<Timestamp>,
    /// `active` or `archived`, as the API says it.
    pub status: Option<Arc<str>>,
}

impl Project {
    #[must_use]
    pub fn is_archived(&self) -> bool {
        self.archived_at.is_some() || self.status.as_deref() == Some("archived")
    }
}
