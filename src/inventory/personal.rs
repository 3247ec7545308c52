//! What is known of a person beside an id: what somebody may ask to have erased.

use std::sync::Arc;

use serde_json::Value;

use super::changes::field_changes;
use super::key::Key;
use super::replay::FieldChange;

/// What stands in the place of an erased value.
pub const ERASED: &str = "erased";

/// Whether a field holds the name or an address of a person: `owner_name`, and below `owner.` whatever is
/// called a name, an e-mail or an IP address.
#[must_use]
pub fn is_personal(field: &str) -> bool {
    let Some(path) = field.strip_prefix("owner.") else { return field == "owner_name" };
    let last = path.rsplit('.').next().unwrap_or(path);
    ["name", "email", "ip_address"].iter().any(|word| {
        last == *word || last.strip_suffix(word).is_some_and(|rest| rest.ends_with('_'))
    })
}

/// Each field in which two states of one key differ, as far as anybody can still say: of a value that was erased
/// in the first one, nobody can. It may be erased there and not in the second, where two people have it.
#[must_use]
pub fn known_changes(before: &Key, after: &Key) -> Vec<FieldChange> {
    let mut changes = field_changes(before, after);
    changes.retain(|change| !(is_personal(&change.field) && is_erased(change.old.as_deref())));
    changes
}

/// Whether the value is one that was erased.
#[must_use]
pub fn is_erased(shown: Option<&str>) -> bool {
    shown == Some(ERASED)
}

impl Key {
    /// Puts [`ERASED`] in the place of every personal value.
    pub(crate) fn erase_personal(&mut self) {
        if self.owner_name.is_some() {
            self.owner_name = Some(Arc::from(ERASED));
        }
        let paths: Vec<String> =
            self.other.keys().filter(|path| is_personal(path)).cloned().collect();
        for path in paths {
            self.set_other(&path, Some(Value::from(ERASED)));
        }
    }
}
