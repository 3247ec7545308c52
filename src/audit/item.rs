//! What the parts of a run consist of: events and notices, as the views show them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bytes::Bytes;
use super::seal::{Seal, Sealer, is_personal};
use crate::inventory::{Column, Key};

/// One event, by the columns of `audit_history` (the organization apart, which the run's header has).
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub event_id: i64,
    pub run_id: i64,
    pub observed_at: &'a str,
    pub previous_observed_at: Option<&'a str>,
    pub scope: &'a str,
    pub key_id: &'a str,
    pub key_name: Option<&'a str>,
    pub event: &'a str,
    pub field: Option<&'a str>,
    pub old: Placed<'a>,
    pub new: Placed<'a>,
}

/// A value in `old_value` or `new_value`, and whose it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Placed<'a> {
    pub content: Content<'a>,
    pub sealer: Sealer<'a>,
}

/// What stands in `old_value` or `new_value`.
#[derive(Debug, Clone, Copy, Default)]
pub enum Content<'a> {
    #[default]
    Nothing,
    /// The value of one field.
    Text(&'a str),
    /// A whole key.
    Key(&'a Key),
    /// A whole key, read from the JSON that the view shows.
    Json(&'a Value),
}

impl Event<'_> {
    pub(super) fn write(&self, into: &mut Bytes) {
        into.list(11);
        into.integer(self.event_id);
        into.integer(self.run_id);
        into.text(self.observed_at);
        into.optional(self.previous_observed_at);
        into.text(self.scope);
        into.text(self.key_id);
        into.optional(self.key_name);
        into.text(self.event);
        into.optional(self.field);
        self.old.write(into, self.field);
        self.new.write(into, self.field);
    }
}

impl Placed<'_> {
    fn write(&self, into: &mut Bytes, field: Option<&str>) {
        match self.content {
            Content::Nothing => into.null(),
            Content::Text(text) => {
                self.sealer.write_text(into, field.unwrap_or_default(), Some(text));
            }
            Content::Key(key) => write_key(into, key, self.sealer),
            Content::Json(json) => write_json(into, json, self.sealer),
        }
    }

    /// The seal of each personal value in it, by field.
    #[must_use]
    pub fn seals(&self, field: Option<&str>) -> BTreeMap<String, Seal> {
        let mut seals = BTreeMap::new();
        let mut put = |field: &str, value: &Value| {
            if let Some(seal) = self.sealer.seal(field, value) {
                seals.insert(field.to_owned(), seal);
            }
        };
        match self.content {
            Content::Text(text) => put(field.unwrap_or_default(), &Value::from(text)),
            Content::Json(json) => {
                put("owner_name", &json["owner_name"]);
                for (path, value) in json["other"].as_object().into_iter().flatten() {
                    put(path, value);
                }
            }
            Content::Nothing | Content::Key(_) => {}
        }
        seals
    }
}

/// The columns of a whole key, sorted.
const SORTED: [&str; 13] = [
    "created_at",
    "expires_at",
    "key_id",
    "last_used_at",
    "name",
    "other",
    "owner_id",
    "owner_name",
    "owner_role",
    "owner_type",
    "project_id",
    "project_name",
    "redacted_value",
];

/// The same bytes as [`write_json`] of [`Key::to_json`], without making it.
pub(super) fn write_key(into: &mut Bytes, key: &Key, sealer: Sealer<'_>) {
    into.map(SORTED.len());
    for name in SORTED {
        into.text(name);
        match name {
            "key_id" => into.text(key.id.as_str()),
            "other" => {
                into.map(key.other.len());
                for (path, value) in key.other.iter() {
                    into.text(path);
                    sealer.write(into, path, value);
                }
            }
            name => match Column::from_name(name) {
                Some(column) if column.is_time() => {
                    into.optional(key.time(column).map(|time| time.to_string()).as_deref());
                }
                Some(column) => {
                    sealer.write_text(into, name, key.text(column).map(AsRef::as_ref));
                }
                None => into.null(),
            },
        }
    }
}

fn write_json(into: &mut Bytes, json: &Value, sealer: Sealer<'_>) {
    let Value::Object(members) = json else { return into.json(json) };
    let mut members: Vec<(&String, &Value)> = members.iter().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    into.map(members.len());
    for (name, value) in members {
        into.text(name);
        match value {
            Value::Object(other) if name == "other" => {
                let mut other: Vec<(&String, &Value)> = other.iter().collect();
                other.sort_unstable_by_key(|(path, _)| *path);
                into.map(other.len());
                for (path, value) in other {
                    into.text(path);
                    sealer.write(into, path, value);
                }
            }
            value => sealer.write(into, name, value),
        }
    }
}

/// One notice: the values that keys took over without an event.
#[derive(Debug, Clone, Copy)]
pub struct NoticeItem<'a> {
    pub notice_id: i64,
    pub run_id: i64,
    pub kind: &'a str,
    pub field: &'a str,
    /// Each key's id, the value it has now, and whose it is.
    pub changes: &'a [(&'a str, Option<&'a str>, Sealer<'a>)],
}

impl NoticeItem<'_> {
    pub(super) fn write(&self, into: &mut Bytes) {
        into.list(5);
        into.integer(self.notice_id);
        into.integer(self.run_id);
        into.text(self.kind);
        into.text(self.field);
        into.list(self.changes.len());
        for (key_id, value, sealer) in self.changes {
            into.list(2);
            into.text(key_id);
            sealer.write_text(into, self.field, *value);
        }
    }

    /// Whether its values are names or addresses of people.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        is_personal(self.field)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::audit::Salt;
    use crate::clock::Timestamp;
    use crate::inventory::{KeyId, Scope};

    prop_compose! {
        fn any_key()(
            id in "\\PC{1,8}", texts in prop::collection::vec(prop::option::of(any::<String>()), 8),
            times in prop::collection::vec(prop::option::of(-62_135_596_800_i64..253_402_300_799), 3),
            other in prop::collection::btree_map("(owner\\.)?[a-z_]{1,6}(name|email)?", any_json(), 0..4),
        ) -> Key {
            let mut key = Key::new(KeyId::new(&id).unwrap(), Scope::Admin);
            let (mut texts, mut times) = (texts.into_iter(), times.into_iter());
            for column in Column::ALL {
                if column.is_time() {
                    key.set_time(column, times.next().flatten().and_then(Timestamp::from_unix));
                } else {
                    key.set_text(column, texts.next().flatten().map(Arc::from));
                }
            }
            key.other = Arc::new(other);
            key
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<String>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            prop::collection::vec(any::<String>(), 0..3).prop_map(Value::from),
            any::<String>().prop_map(|text| json!([{ "a": text, "B": null }])),
        ]
    }

    proptest! {
        #[test]
        fn a_key_and_its_json_have_the_same_bytes(key in any_key(), salt in prop::option::of(any::<[u8; 16]>())) {
            let salt = salt.map(Salt);
            let sealer = Sealer { salt, erased: None };
            let (mut direct, mut read) = (Bytes::default(), Bytes::default());
            write_key(&mut direct, &key, sealer);
            let text = key.to_json().to_string();
            write_json(&mut read, &serde_json::from_str(&text).unwrap(), sealer);
            prop_assert_eq!(direct.as_slice(), read.as_slice());
        }

        #[test]
        fn an_erased_value_keeps_its_bytes(key in any_key(), salt in any::<[u8; 16]>()) {
            let salt = Salt(salt);
            let mut json = key.to_json();
            let salted = Sealer { salt: Some(salt), erased: None };
            let seals = Placed { content: Content::Json(&json), sealer: salted }.seals(None);
            let mut before = Bytes::default();
            write_json(&mut before, &json, salted);
            for field in seals.keys() {
                let place = if field == "owner_name" { &mut json[field] } else { &mut json["other"][field] };
                *place = Value::from(crate::audit::ERASED);
            }
            let mut after = Bytes::default();
            write_json(&mut after, &json, Sealer { salt: None, erased: Some(&seals) });
            prop_assert_eq!(before.as_slice(), after.as_slice());
        }
    }

    #[test]
    fn names_and_addresses_of_people_are_personal_and_nothing_else_is() {
        for field in [
            "owner_name",
            "owner.email",
            "owner.first_name",
            "owner.user.email",
            "owner.ip_address",
        ] {
            assert!(is_personal(field), "{field}");
        }
        for field in
            ["name", "owner_id", "owner.created_at", "owner.surnames", "email", "owner.username"]
        {
            assert!(!is_personal(field), "{field}");
        }
    }
}
