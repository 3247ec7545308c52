use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::inventory::{Column, Scope, join_path};

const CREDENTIAL: &str = "sk-admin-OWNcredential0123456789wxyz";
const SECRET: &str = "sk-proj-ABCDEFGHijklmnop0123456789";

fn parse_one(item: &Value) -> (Sighting, Warnings) {
    let mask = Mask::new(CREDENTIAL);
    let mut parser = PageParser::new(&mask, None);
    let mut page = parser.parse(&json!({ "data": [item] }).into()).unwrap();
    (page.items.remove(0), parser.warnings)
}

fn parse_problem(body: Value) -> Malformed {
    PageParser::new(&Mask::new(CREDENTIAL), None).parse(&body.into()).unwrap_err()
}

#[test]
fn the_example_of_the_reference_fills_its_columns() {
    let (seen, warnings) = parse_one(&json!({
        "object": "organization.admin_api_key", "id": "key_abc", "name": "Main Admin Key",
        "redacted_value": "sk-admin...def", "created_at": 1_711_471_533, "last_used_at": null,
        "owner": {
            "type": "service_account", "object": "organization.service_account", "id": "sa_456",
            "name": "My Service Account", "created_at": 1_711_471_533, "role": "member"
        }
    }));
    assert!(warnings.is_empty());
    let key = &seen.key;
    assert_eq!(key.id.as_str(), "key_abc");
    assert_eq!(key.scope, Scope::Admin);
    assert_eq!(key.owner_name.as_deref(), Some("My Service Account"));
    assert_eq!(key.created_at.unwrap().unix(), 1_711_471_533);
    let other: Vec<&str> = key.other.keys().map(String::as_str).collect();
    assert_eq!(other, ["object", "owner.created_at", "owner.object"]);
    let leaves: Vec<&str> = seen.shape.leaves.iter().map(String::as_str).collect();
    assert_eq!(
        leaves,
        [
            "created_at",
            "last_used_at",
            "name",
            "object",
            "owner.created_at",
            "owner.object",
            "owner_id",
            "owner_name",
            "owner_role",
            "owner_type",
            "redacted_value",
        ]
    );
    assert!(seen.shape.objects.contains("owner"));
}

#[test]
fn what_does_not_fit_its_column_is_kept_beside_it() {
    let (seen, _) = parse_one(&json!({
        "id": "k", "name": 7, "created_at": "yesterday", "last_used_at": 1.5,
        "expires_at": 999_999_999_999_999_i64, "owner": { "type": { "deep": true }, "id": null },
        "empty": {}, "owner_name": "not ours"
    }));
    let key = &seen.key;
    assert!(key.name.is_none() && key.created_at.is_none() && key.expires_at.is_none());
    let other = serde_json::to_string(&*key.other).unwrap();
    assert_eq!(
        other,
        r#"{"\"owner_name\"":"not ours","created_at":"yesterday","empty":{},"expires_at":999999999999999,"last_used_at":1.5,"name":7,"owner.type.deep":true}"#
    );
    assert!(seen.shape.leaves.contains("owner_id"), "null counts as sent");
}

#[test]
fn arrays_of_scalars_are_sets_and_others_stay() {
    let (seen, _) = parse_one(&json!({
        "id": "k", "permissions": ["write", "read", 2, "write", null, 1, true, 10],
        "nested": [["b", "a"], { "x": 1 }]
    }));
    assert_eq!(seen.key.other["permissions"], json!([null, true, 1, 2, 10, "read", "write"]));
    assert_eq!(seen.key.other["nested"], json!([["b", "a"], { "x": 1 }]));
}

#[test]
fn objects_nested_without_end_are_kept_as_one_value() {
    let deep = (0..100).fold(json!(SECRET), |inner, _| json!({ "x": inner }));
    let (seen, _) = parse_one(&json!({ "id": "k", "deep": deep }));
    let (path, value) = seen.key.other.first_key_value().unwrap();
    assert_eq!(path.matches(".x").count(), 16);
    assert!(value.to_string().contains("sk-proj-****6789"));
}

#[test]
fn a_full_value_is_dropped_and_leaves_no_trace() {
    let (seen, warnings) = parse_one(&json!({ "id": "k", "value": SECRET }));
    assert_eq!(warnings.values_dropped, 1);
    assert!(seen.key.other.is_empty() && seen.shape.leaves.is_empty());
    let (seen, warnings) = parse_one(&json!({ "id": "k", "value": null }));
    assert!(warnings.is_empty() && seen.shape.leaves.is_empty());
    let (_, warnings) = parse_one(&json!({ "id": "k", "value": { "secret": SECRET } }));
    assert_eq!(warnings.values_dropped, 1);
}

#[test]
fn secrets_in_any_other_place_are_masked_and_counted() {
    let (seen, warnings) = parse_one(&json!({
        "id": "k", "name": format!("prod {SECRET}"), "redacted_value": SECRET,
        "note": CREDENTIAL, "list": [SECRET, [SECRET, CREDENTIAL]], SECRET: 1,
        "owner": { "name": CREDENTIAL, "tags": [{ SECRET: SECRET }] }
    }));
    let shown = format!("{seen:?}");
    assert!(!shown.contains("0123456789"), "{shown}");
    assert_eq!(seen.key.name.as_deref(), Some("prod sk-proj-****6789"));
    assert_eq!(seen.key.other["note"], json!("****wxyz"));
    let fields: Vec<&str> = warnings.secrets_masked.keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        ["list", "name", "note", "owner.tags", "owner_name", "redacted_value", "sk-proj-****6789"]
    );
}

#[test]
fn a_credential_of_any_look_is_masked() {
    assert_eq!(
        Mask::new("correct horse battery").masked("my correct horse battery!").unwrap(),
        "my ****tery!"
    );
    assert_eq!(
        Mask::new("a-long-plain-credential").masked("a-long-plain-credential").unwrap(),
        "****tial"
    );
    // A word for some gateway is no secret, and would be found in many a name.
    assert_eq!(Mask::new("admin").masked("organization.admin_api_key"), None);
}

#[test]
fn a_page_that_is_not_a_list_of_keys_says_why() {
    assert_eq!(parse_problem(json!([])), Malformed::Page("it is not an object"));
    assert_eq!(parse_problem(json!({})), Malformed::Page("it has no `data`"));
    assert_eq!(parse_problem(json!({ "data": {} })), Malformed::Page("`data` is not an array"));
    assert_eq!(
        parse_problem(json!({ "data": [], "has_more": "no" })),
        Malformed::Page("`has_more` is neither true nor false")
    );
    for (item, problem) in [
        (json!(1), "it is not an object"),
        (json!({}), "it has no `id`"),
        (json!({ "id": 1 }), "its `id` is not a string"),
        (json!({ "id": "" }), "its `id` is empty"),
        (json!({ "id": SECRET }), "its `id` looks like a secret"),
        (json!({ "id": CREDENTIAL }), "its `id` looks like a secret"),
    ] {
        let body = json!({ "data": [{ "id": "k" }, item] });
        assert_eq!(parse_problem(body), Malformed::Item(2, problem));
    }
}

#[test]
fn a_missing_or_null_has_more_is_unknown() {
    let mask = Mask::new(CREDENTIAL);
    let mut parser = PageParser::new(&mask, None);
    assert_eq!(parser.parse(&json!({ "data": [] }).into()).unwrap().has_more, None);
    assert_eq!(
        parser.parse(&json!({ "data": [], "has_more": null }).into()).unwrap().has_more,
        None
    );
    let body = json!({ "data": [], "has_more": true, "last_id": 7, "first_id": {} });
    assert_eq!(parser.parse(&body.into()).unwrap().has_more, Some(true));
}

#[test]
fn equal_shapes_others_and_owners_are_shared() {
    let item = |id: &str| json!({ "id": id, "object": "x", "name": id, "owner": { "id": "user" } });
    let mask = Mask::new(CREDENTIAL);
    let mut parser = PageParser::new(&mask, None);
    let one = parser.parse(&json!({ "data": [item("a")] }).into()).unwrap().items.remove(0);
    let two = parser.parse(&json!({ "data": [item("b")] }).into()).unwrap().items.remove(0);
    assert!(Arc::ptr_eq(&one.shape, &two.shape));
    assert!(Arc::ptr_eq(&one.key.other, &two.key.other));
    assert!(Arc::ptr_eq(&one.key.owner_id.unwrap(), &two.key.owner_id.unwrap()));
}

fn error_of(body: &str) -> ErrorBody {
    parse_error(body.as_bytes(), true, &Mask::new(CREDENTIAL))
}

#[test]
fn both_envelopes_and_html_become_one_message() {
    let nested =
        error_of(r#"{"error":{"message":"Incorrect API key provided: sk-a***z.","type":"x"}}"#);
    assert_eq!(nested.message, "Incorrect API key provided: sk-a***z");
    assert!(nested.is_envelope);
    assert_eq!(error_of(r#"{"error":"No such key"}"#).message, "No such key");
    let html =
        error_of("<!DOCTYPE html><html><head><TITLE> 502 Bad Gateway </TITLE></head></html>");
    assert_eq!(html.message, "an HTML page (title `502 Bad Gateway`)");
    assert!(!html.is_envelope);
    for other in ["{}", r#"{"error":{}}"#, r#"{"error":[]}"#, "[1", "busy", ""] {
        assert!(!error_of(other).is_envelope, "{other}");
        assert!(!error_of(other).message.is_empty());
    }
    assert!(!parse_error(br#"{"error":"x"}"#, false, &Mask::new("c")).is_envelope);
}

#[test]
fn a_message_is_masked_and_cut() {
    let long =
        error_of(&json!({ "error": format!("{CREDENTIAL} {}", "x".repeat(5000)) }).to_string());
    assert!(!long.message.contains("OWNcredential"));
    assert_eq!(long.message.chars().count(), 301);
}

#[test]
fn missing_scopes_are_found_in_the_message() {
    let scopes = |message: &str| error_of(&json!({ "error": message }).to_string()).scopes;
    assert_eq!(
        scopes(
            "You have insufficient permissions for this operation. Missing scopes: \
             api.management.read. Check that you have the correct role in your organization."
        ),
        ["api.management.read"]
    );
    assert_eq!(scopes("missing Scopes: a.read, b.write."), ["a.read", "b.write"]);
    assert!(scopes("Missing scopes").is_empty());
    assert!(scopes("Incorrect API key").is_empty());
}

fn any_name() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        Just("owner".to_owned()),
        Just("name".to_owned()),
        Just("created_at".to_owned()),
        Just("expires_at".to_owned()),
        Just("type".to_owned()),
        Just("a.b".to_owned()),
        Just("owner_id".to_owned()),
        "[a-c.\"]{0,3}",
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..2_000_000_000_i64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any_name(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Every leaf of `value` that is not null, by its path.
fn leaves(parent: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    for (name, value) in value.as_object().unwrap() {
        let path = join_path(parent, name);
        match value {
            Value::Null => {}
            Value::Object(inner) if !inner.is_empty() => leaves(&path, value, found),
            _ => found.push((path, value.clone())),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_a_set_does_not_matter(mut items in prop::collection::vec(any_json(), 0..8)) {
        items.retain(|item| !item.is_array() && !item.is_object());
        let (one, _) = parse_one(&json!({ "id": "k", "x": items.clone() }));
        items.reverse();
        items.extend(items.clone());
        let (other, _) = parse_one(&json!({ "id": "k", "x": items }));
        prop_assert_eq!(format!("{:?}", one.key.other), format!("{:?}", other.key.other));
    }

    #[test]
    fn no_json_makes_the_parser_panic(body in any_json(), text in ".{0,200}") {
        let mask = Mask::new(CREDENTIAL);
        drop(PageParser::new(&mask, None).parse(&body.clone().into()));
        drop(PageParser::new(&mask, None).parse(&json!({ "data": [body] }).into()));
        parse_error(text.as_bytes(), true, &mask);
    }

    #[test]
    fn nothing_is_lost(members in prop::collection::btree_map(any_name(), any_json(), 0..8)) {
        let mut item = Value::Object(members.into_iter().collect());
        item["id"] = json!("key_1");
        let (seen, _) = parse_one(&item);
        let mut expected = Vec::new();
        leaves("", &item, &mut expected);
        for (path, value) in expected {
            if path == "id" || path == "value" {
                continue;
            }
            let column = Column::from_api_path(&path);
            let in_column = column.and_then(|column| {
                let text = seen.key.text(column).map(|text| Value::from(text.as_ref()));
                text.or(seen.key.time(column).map(|time| Value::from(time.unix())))
            });
            let kept = seen.key.other.get(&path).cloned().or(in_column);
            let as_set = |value: &Value| value.as_array().map(|items| {
                items.iter().map(Value::to_string).collect::<std::collections::BTreeSet<_>>()
            });
            prop_assert!(
                kept.as_ref() == Some(&value) || kept.as_ref().is_some_and(|k| as_set(k).is_some() && as_set(k) == as_set(&value)),
                "{path}: {value} became {kept:?}"
            );
            let field = column.map_or(path.as_str(), |column| column.name());
            prop_assert!(seen.shape.leaves.contains(field));
        }
    }
}
