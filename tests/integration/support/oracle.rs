//! The truth, computed again without keydrift's code: from raw SQL, and from the simulated organization's
//! own state.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::sql;

/// The columns of a whole key in the history, `other` apart.
const COLUMNS: [(&str, &str); 11] = [
    ("name", "name"),
    ("redacted_value", "redacted_value"),
    ("project_id", "project_id"),
    ("project_name", "project_name"),
    ("owner_type", "owner.type"),
    ("owner_id", "owner.id"),
    ("owner_name", "owner.name"),
    ("owner_role", "owner.role"),
    ("created_at", "created_at"),
    ("last_used_at", "last_used_at"),
    ("expires_at", "expires_at"),
];

type Keys = BTreeMap<String, Map<String, Value>>;

/// What must hold in any database, whatever happened to it: SQLite's own checks, that the history replays
/// to the inventory, and that the counts of the runs are those of their events.
#[track_caller]
pub fn check_consistent(database: &Path) {
    sql::keeping_open(database, || {
        assert_eq!(sql::value(database, "pragma integrity_check"), "ok");
        assert_eq!(sql::rows(database, "pragma foreign_key_check"), []);
        check_replay(database);
        check_counts(database);
    });
}

/// `current_keys` of an organization against the API's own items.
#[track_caller]
pub fn check_inventory(database: &Path, organization: &str, items: &[Map<String, Value>]) {
    let expected: Keys = items.iter().map(expected_key).collect();
    let found = current_keys(database, organization);
    assert_same(&expected, &found, "the API and the inventory");
}

/// The columns that the API's item must lead to.
pub fn expected_key(item: &Map<String, Value>) -> (String, Map<String, Value>) {
    let mut paths = BTreeMap::new();
    flatten("", &Value::Object(item.clone()), &mut paths);
    let id = paths.remove("id").and_then(|id| id.as_str().map(str::to_owned)).expect("an id");
    let mut key = Map::new();
    for (column, path) in COLUMNS {
        let value = paths.get(path).cloned();
        let shown = match value {
            Some(Value::Number(seconds)) if column.ends_with("_at") => {
                let seconds = seconds.as_i64().and_then(rfc3339);
                seconds.map(Value::from)
            }
            Some(Value::String(text)) if !column.ends_with("_at") => Some(Value::from(text)),
            _ => None,
        };
        if shown.is_some() {
            paths.remove(path);
        }
        key.insert(column.to_owned(), shown.unwrap_or(Value::Null));
    }
    key.insert("other".to_owned(), Value::Object(paths.into_iter().collect()));
    (id, key)
}

pub fn rfc3339(seconds: i64) -> Option<String> {
    let time = chrono::DateTime::from_timestamp(seconds, 0)?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

pub fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(members) if path.is_empty() || !members.is_empty() => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, into);
            }
        }
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            let set: BTreeMap<String, &Value> =
                items.iter().map(|item| (item.to_string(), item)).collect();
            into.insert(path.to_owned(), set.into_values().cloned().collect());
        }
        other => {
            into.insert(path.to_owned(), other.clone());
        }
    }
}

fn current_keys(database: &Path, organization: &str) -> Keys {
    let rows = sql::rows(
        database,
        &format!("select * from current_keys where organization = '{organization}'"),
    );
    let key = |row: Map<String, Value>| {
        let mut key = Map::new();
        for (column, _) in COLUMNS {
            key.insert(column.to_owned(), row[column].clone());
        }
        let other = row["other"].as_str().expect("`other` is JSON text");
        key.insert("other".to_owned(), serde_json::from_str(other).expect("`other` is JSON"));
        (row["key_id"].as_str().expect("an id").to_owned(), key)
    };
    rows.into_iter().map(key).collect()
}

/// The events alone must lead to the inventory, but for what notices tell and our own key's use.
#[track_caller]
fn check_replay(database: &Path) {
    let events = sql::rows(database, "select * from audit_history order by event_id");
    let notices = sql::rows(
        database,
        "select n.run_id, o.name as organization, n.kind, n.field, n.changes from notices n
         join runs r using (run_id) join organizations o on o.organization = r.organization
         order by n.notice_id",
    );
    let mut state: BTreeMap<String, Keys> = BTreeMap::new();
    let mut notices = notices.into_iter().peekable();
    for event in events {
        let run = event["run_id"].as_i64();
        while let Some(notice) = notices.next_if(|notice| notice["run_id"].as_i64() < run) {
            adopt(&mut state, &notice);
        }
        replay(&mut state, &event);
    }
    notices.for_each(|notice| adopt(&mut state, &notice));
    let organizations = sql::rows(database, "select name from organizations");
    for row in organizations {
        let name = row["name"].as_str().expect("a name");
        let mut replayed = state.remove(name).unwrap_or_default();
        let mut found = current_keys(database, name);
        let own = "select distinct j.value ->> 0 as key_id from notices n, json_each(n.changes) j
             where n.kind = 'own_key'";
        for own in sql::rows(database, own) {
            for keys in [&mut replayed, &mut found] {
                if let Some(key) = own["key_id"].as_str().and_then(|id| keys.get_mut(id)) {
                    key.remove("last_used_at");
                }
            }
        }
        assert_same(&replayed, &found, "the replayed history and the inventory");
    }
}

fn replay(state: &mut BTreeMap<String, Keys>, event: &Map<String, Value>) {
    let keys = state.entry(event["organization"].as_str().expect("text").to_owned()).or_default();
    let id = event["key_id"].as_str().expect("an id").to_owned();
    let whole = |value: &Value| {
        let text = value.as_str().expect("a whole key");
        let mut key: Map<String, Value> = serde_json::from_str(text).expect("JSON");
        assert_eq!(key.remove("key_id"), Some(Value::from(id.clone())));
        key
    };
    match event["event"].as_str().expect("a kind") {
        "baseline" | "added" | "restored" => {
            let before = keys.insert(id.clone(), whole(&event["new_value"]));
            assert_eq!(before, None, "{event:?}: the key was there");
            assert!(event["old_value"].is_null() && event["field"].is_null(), "{event:?}");
        }
        "removed" => {
            let before = keys.remove(&id);
            assert!(before.is_some(), "{event:?}: the key was not there");
            assert!(event["new_value"].is_null() && event["field"].is_null(), "{event:?}");
            whole(&event["old_value"]);
        }
        "used" | "changed" => {
            assert_ne!(event["old_value"], event["new_value"], "{event:?}");
            let key = keys.get_mut(&id).unwrap_or_else(|| panic!("{event:?}: no such key"));
            set(key, event["field"].as_str().expect("a field"), &event["new_value"]);
        }
        other => panic!("unknown event {other}"),
    }
}

/// Puts a shown value into a key.
fn set(key: &mut Map<String, Value>, field: &str, shown: &Value) {
    let column = COLUMNS.iter().find(|(column, _)| *column == field);
    let other = |key: &mut Map<String, Value>, path: &str, value: Option<Value>| {
        let other = key["other"].as_object_mut().expect("an object");
        match value {
            Some(value) => other.insert(path.to_owned(), value),
            None => other.remove(path),
        };
    };
    let Some((column, path)) = column else {
        if field != "scope" {
            let parse =
                |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            other(key, field, shown.as_str().map(parse));
        }
        return;
    };
    key.insert((*column).to_owned(), Value::Null);
    other(key, path, None);
    match shown.as_str().and_then(|text| text.strip_prefix("json:")) {
        None => {
            key.insert((*column).to_owned(), shown.clone());
        }
        Some(json) => match serde_json::from_str(json).expect("JSON after `json:`") {
            Value::String(text) if !column.ends_with("_at") => {
                key.insert((*column).to_owned(), Value::from(text));
            }
            value => other(key, path, Some(value)),
        },
    }
}

fn adopt(state: &mut BTreeMap<String, Keys>, notice: &Map<String, Value>) {
    if notice["kind"] == "own_key" || notice["kind"] == "unconfirmed" {
        return;
    }
    let keys = state.entry(notice["organization"].as_str().expect("text").to_owned()).or_default();
    // Where a value is a person's, whose it is comes behind it.
    let changes: Vec<Vec<Value>> =
        serde_json::from_str(notice["changes"].as_str().expect("text")).expect("JSON");
    for change in changes {
        let (id, value) = (change[0].as_str().expect("an id").to_owned(), change[1].clone());
        let key = keys.get_mut(&id).unwrap_or_else(|| panic!("{notice:?}: no key {id}"));
        set(key, notice["field"].as_str().expect("a field"), &value);
    }
}

/// The counts in `run_history` against the events themselves.
#[track_caller]
fn check_counts(database: &Path) {
    let wrong = sql::rows(
        database,
        "select r.run_id from run_history r left join (
             select run_id, sum(event = 'baseline') as baseline, sum(event = 'added') as added,
                 sum(event = 'restored') as restored, sum(event = 'removed') as removed,
                 sum(event = 'used') as used, sum(event = 'changed') as changed
             from audit_history group by run_id) e using (run_id)
         where (r.baseline, r.added, r.restored, r.removed, r.used, r.changed) is not
             (ifnull(e.baseline, 0), ifnull(e.added, 0), ifnull(e.restored, 0), ifnull(e.removed, 0),
              ifnull(e.used, 0), ifnull(e.changed, 0))
            or (r.status <> 'ok' and e.run_id is not null)
            or (r.status = 'ok') = (r.error is not null)",
    );
    assert_eq!(wrong, [], "runs whose counts are not those of their events");
}

#[track_caller]
fn assert_same(expected: &Keys, found: &Keys, what: &str) {
    for (id, key) in expected {
        assert_eq!(Some(key), found.get(id), "{what} differ in `{id}`");
    }
    for id in found.keys() {
        assert!(expected.contains_key(id), "{what} differ: `{id}` is only in the second");
    }
}

/// As [`check_inventory`], but for some paths of `other`, and for the use of our own key.
#[track_caller]
pub fn check_inventory_but(
    database: &Path,
    organization: &str,
    items: &[Map<String, Value>],
    paths: &[&str],
    own_key: Option<&str>,
) {
    let mut expected: Keys = items.iter().map(expected_key).collect();
    let mut found = current_keys(database, organization);
    for keys in [&mut expected, &mut found] {
        for (id, key) in keys {
            if own_key == Some(id) {
                key.remove("last_used_at");
            }
            let other = key["other"].as_object_mut().expect("an object");
            other.retain(|path, _| !paths.contains(&path.as_str()));
        }
    }
    assert_same(&expected, &found, "the API and the inventory");
}
