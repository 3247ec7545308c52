//! A key as one scan saw it.

use std::sync::Arc;

use super::field::{Column, Shape, is_below, path_of};
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

    /// Takes over what the admin list tells of a key that the list of its project shows, and does not tell.
    pub(super) fn merge(&mut self, admin: &Self) {
        let leaves = admin.shape.leaves.iter().map(String::as_str);
        self.take_over(&admin.key, leaves);
        let mut shape = Shape::clone(&self.shape);
        shape.leaves.extend(admin.shape.leaves.iter().cloned());
        shape.objects.extend(admin.shape.objects.iter().cloned());
        self.shape = Arc::new(shape);
    }

    /// Keeps those `wanted` of the values that the key had before and is not told of now.
    pub(super) fn keep<'k>(&mut self, before: &'k Key, wanted: impl Fn(&str) -> bool) {
        let columns = Column::ALL.into_iter().filter(|column| before.shown(*column).is_some());
        let columns = columns.map(|column| -> &'k str { column.name() });
        let others = before.other.keys().map(String::as_str);
        let others = others.filter(|path| Column::from_api_path(path).is_none());
        let fields: Vec<&'k str> = columns.chain(others).filter(|field| wanted(field)).collect();
        if !fields.is_empty() {
            self.take_over(before, fields);
        }
    }

    /// Values of an owner go together: those of another one are left alone.
    fn take_over<'f>(&mut self, from: &Key, fields: impl IntoIterator<Item = &'f str>) {
        let shape = Arc::clone(&self.shape);
        let (ours, theirs) = (&self.key.owner_id, &from.owner_id);
        let same_owner = ours.is_none() || theirs.is_none() || ours == theirs;
        let tells = |path: &str| {
            let covers = |leaf: &str| path_of(leaf) == path || is_below(path, path_of(leaf));
            shape.objects.contains(path) || shape.leaves.iter().any(|leaf| covers(leaf))
        };
        for field in fields {
            let path = path_of(field);
            if tells(path) || (!same_owner && path.starts_with("owner.")) {
                continue;
            }
            match Column::from_name(field) {
                Some(column) => self.key.copy_field(from, column),
                None => self.key.set_other(field, from.other.get(field).cloned()),
            }
        }
    }
}
