//! What is written down of a value leads back to it.

use super::*;
use crate::inventory::field::parent_path;

proptest! {
    #[test]
    fn a_rendered_value_is_parsed_to_what_it_was(value in value()) {
        prop_assert_eq!(parse_value(&render_value(&value)), value);
    }

    #[test]
    fn a_rendered_number_is_parsed_to_what_it_was(number in proptest::num::f64::NORMAL) {
        prop_assert_eq!(parse_value(&render_value(&Value::from(number))), Value::from(number));
    }

    #[test]
    fn two_values_are_never_rendered_the_same(one in scalar(), two in scalar()) {
        prop_assert_eq!(render_value(&one) == render_value(&two), one == two);
    }

    #[test]
    fn what_is_shown_of_a_column_sets_it_again(key in key()) {
        for column in Column::ALL {
            let mut other = Key::new(key.id.clone(), key.scope);
            other.set_text(column, Some(Arc::from("before")));
            other.set_other(column.api_path(), Some(json!([1])));
            other.set_shown(column, key.shown(column).as_deref()).unwrap();
            prop_assert_eq!(other.shown(column), key.shown(column));
            prop_assert_eq!(other.text(column), key.text(column));
            prop_assert_eq!(other.time(column), key.time(column));
            let path = column.api_path();
            prop_assert_eq!(other.other.get(path), key.other.get(path));
        }
    }

    #[test]
    fn a_key_written_as_json_is_read_back(key in key()) {
        let text = key.to_json().to_string();
        prop_assert_eq!(Key::from_json(key.scope, &text).unwrap(), key);
    }

    #[test]
    fn different_members_never_share_a_path(
        one in proptest::collection::vec(text(), 1..4),
        two in proptest::collection::vec(text(), 1..4),
    ) {
        let path = |names: &[String]| names.iter().fold(String::new(), |path, name| join_path(&path, name));
        prop_assert_eq!(path(&one) == path(&two), one == two);
        let parent = Some(path(&one[..one.len() - 1])).filter(|parent| !parent.is_empty());
        let whole = path(&one);
        prop_assert_eq!(parent_path(&whole), parent.as_deref());
    }
}

#[test]
fn a_member_is_never_taken_for_a_column_of_the_views_that_it_is_not() {
    for name in [
        "organization",
        "scope",
        "key_id",
        "owner_type",
        "owner_id",
        "owner_name",
        "owner_role",
        "other",
        "own_key",
        "first_seen_at",
        "last_seen_at",
        "removed_at",
        "project_archived",
        "project_archived_at",
        "project_status",
    ] {
        assert_eq!(join_path("", name), format!("\"{name}\""));
        assert_eq!(join_path("owner", name), format!("owner.{name}"));
    }
    for column in Column::ALL {
        let path =
            column.api_path().split('.').fold(String::new(), |path, name| join_path(&path, name));
        assert_eq!(path, column.api_path());
        assert_eq!(Column::from_api_path(&path), Some(column));
        assert_eq!(Column::from_name(column.name()), Some(column));
    }
}

#[test]
fn values_that_do_not_fit_are_shown_as_json() {
    let mut key =
        sighting("key_1", &json!({"name": 123, "expires_at": "soon", "owner": {"id": true}})).key;
    assert_eq!(key.shown(Column::Name).unwrap(), "json:123");
    assert_eq!(key.shown(Column::ExpiresAt).unwrap(), "json:\"soon\"");
    assert_eq!(key.shown(Column::OwnerId).unwrap(), "json:true");
    key.set_shown(Column::Name, Some("json:\"json:1\"")).unwrap();
    assert_eq!(key.name.as_deref(), Some("json:1"));
    assert_eq!(key.shown(Column::Name).unwrap(), "json:\"json:1\"");
    assert_eq!(key.other.get("name"), None);
}

#[test]
fn what_no_key_can_show_is_refused() {
    let mut key = Key::new(id("key_1"), Scope::Admin);
    for (column, shown) in [
        (Column::CreatedAt, "yesterday"),
        (Column::CreatedAt, "json:1760000000"),
        (Column::CreatedAt, "json:null"),
        (Column::Name, "json:"),
        (Column::Name, "json:null"),
        (Column::Name, "json:\"plain\""),
    ] {
        assert_eq!(key.set_shown(column, Some(shown)).unwrap_err().field, column.name(), "{shown}");
    }
    for json in [
        "",
        "[]",
        "{}",
        r#"{"key_id":""}"#,
        r#"{"key_id":"k","name":1}"#,
        r#"{"key_id":"k","other":[]}"#,
    ] {
        assert!(Key::from_json(Scope::Admin, json).is_err(), "{json}");
    }
}
