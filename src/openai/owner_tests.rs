use proptest::prelude::*;
use serde_json::json;

use super::*;

fn lifted(owner: Value) -> Value {
    let mut members = Map::from_iter([("owner".to_owned(), owner)]);
    lift_owner(&mut members);
    members.remove("owner").unwrap()
}

#[test]
fn the_owner_that_the_type_names_moves_up() {
    for kind in KINDS {
        let owner = json!({ "type": kind, kind: { "id": "o1", "name": "Ana", "role": "member" } });
        let flat = json!({ "type": kind, "id": "o1", "name": "Ana", "role": "member" });
        assert_eq!(lifted(owner), flat);
    }
    let both = json!({ "type": "service_account", "user": { "id": "u" }, "service_account": { "id": "s" } });
    assert_eq!(
        lifted(both),
        json!({ "type": "service_account", "id": "s", "user": { "id": "u" } })
    );
}

#[test]
fn the_only_owner_there_moves_up_whatever_the_type_says() {
    for named in [json!(null), json!("robot"), json!("service_account"), json!(7)] {
        let owner = json!({ "type": named, "user": { "id": "u" }, "service_account": null });
        assert_eq!(lifted(owner), json!({ "type": named, "id": "u" }));
    }
    assert_eq!(lifted(json!({ "user": { "id": "u" } })), json!({ "id": "u" }));
}

#[test]
fn what_is_there_already_is_not_overwritten() {
    let owner = json!({
        "type": "user", "id": null, "name": "flat",
        "user": { "id": "u", "name": "nested", "type": "x", "user": 1, "service_account": 2, "email": "e" }
    });
    assert_eq!(
        lifted(owner),
        json!({
            "type": "user", "id": null, "name": "flat", "email": "e",
            "user": { "id": "u", "name": "nested", "type": "x", "user": 1, "service_account": 2 }
        })
    );
}

#[test]
fn what_holds_no_owner_stays_as_it_is() {
    for owner in [
        json!(null),
        json!("ana"),
        json!([]),
        json!({}),
        json!({ "type": "user" }),
        json!({ "type": "user", "user": null }),
        json!({ "type": "user", "user": {} }),
        json!({ "type": "user", "user": "u" }),
        json!({ "type": "robot", "robot": { "id": "r" } }),
        // Two, and nobody says which.
        json!({ "type": null, "user": { "id": "u" }, "service_account": { "id": "s" } }),
    ] {
        assert_eq!(lifted(owner.clone()), owner);
    }
    let mut none = Map::new();
    lift_owner(&mut none);
    assert!(none.is_empty());
}

/// Every value below `value` that is neither an object nor null.
fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.values().for_each(|value| leaves(value, found)),
        Value::Null => {}
        leaf => found.push(leaf.to_string()),
    }
}

proptest! {
    #[test]
    fn no_value_is_lost_and_none_invented(
        flat in prop::collection::btree_map("type|id|name|user|service_account", 0..9_i32, 0..4),
        user in prop::option::of(prop::collection::btree_map("type|id|name|user", 10..19_i32, 0..4)),
        account in prop::option::of(prop::collection::btree_map("type|id|user|role", 20..29_i32, 0..4)),
        named in prop::option::of("user|service_account|robot"),
    ) {
        let mut owner = serde_json::to_value(flat).unwrap();
        if let Some(user) = user { owner["user"] = json!(user); }
        if let Some(account) = account { owner["service_account"] = json!(account); }
        if let Some(named) = named { owner["type"] = json!(named); }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        leaves(&owner, &mut before);
        let once = lifted(owner);
        leaves(&once, &mut after);
        before.sort();
        after.sort();
        prop_assert_eq!(before, after);
    }
}
