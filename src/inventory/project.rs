//! A project of an organization, as far as its keys need it.

use std::sync::Arc;

use crate::clock::Timestamp;

/// A project as the provider lists it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Project {
    /// Never empty.
    pub id: Arc<str>,
    pub name: Option<Arc<str>>,
    pub archived_at: Option<Timestamp>,
    /// `active`, `archived`, or what else the API says.
    pub status: Option<Arc<str>>,
}

impl Project {
    /// Whether anything says that the project is archived.
    #[must_use]
    pub fn is_archived(&self) -> bool {
        self.archived_at.is_some() || self.status.as_deref() == Some("archived")
    }

    /// The status, where it tells something that the time of archiving does not: an unknown one, or one
    /// that contradicts the time.
    #[must_use]
    pub fn telling_status(&self) -> Option<&Arc<str>> {
        let as_expected = match self.archived_at {
            Some(_) => "archived",
            None => "active",
        };
        self.status.as_ref().filter(|status| status.as_ref() != as_expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(archived_at: Option<i64>, status: Option<&str>) -> Project {
        Project {
            id: Arc::from("proj_1"),
            name: None,
            archived_at: archived_at.and_then(Timestamp::from_unix),
            status: status.map(Arc::from),
        }
    }

    #[test]
    fn either_sign_makes_a_project_archived() {
        for (archived_at, status, archived, telling) in [
            (None, None, false, None),
            (None, Some("active"), false, None),
            (None, Some("archived"), true, Some("archived")),
            (None, Some("suspended"), false, Some("suspended")),
            (Some(7), None, true, None),
            (Some(7), Some("archived"), true, None),
            (Some(7), Some("active"), true, Some("active")),
            (Some(7), Some("Archived"), true, Some("Archived")),
        ] {
            let project = project(archived_at, status);
            assert_eq!(project.is_archived(), archived, "{project:?}");
            assert_eq!(project.telling_status().map(AsRef::as_ref), telling, "{project:?}");
        }
    }
}
