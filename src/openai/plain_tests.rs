use proptest::prelude::*;
use serde_json::json;

use super::super::wire::{Body, PageParser};
use super::*;

const CREDENTIAL: &str = "sk-admin-OWNcredential0123456789wxyz";
const SECRET: &str = "sk-proj-ABCDEFGHijklmnop0123456789";

fn read(body: &str, interned: &mut Interned, known: &mut Known) -> Option<Page<Sighting>> {
    read_page(body.as_bytes(), &Mask::new(CREDENTIAL), interned, known)
}

fn is_fit(item: &str) -> bool {
    let body = format!("{{\"data\":[{item}],\"has_more\":false}}");
    read(&body, &mut Interned::default(), &mut Known::default()).is_some()
}

fn told(page: &Page<Sighting>) -> String {
    let Page { items, has_more } = page;
    format!("{has_more:?} {items:#?}")
}

#[test]
fn what_the_reference_shows_is_fit() {
    let item = json!({
        "object": "organization.admin_api_key", "id": "key_abc", "name": "Main \"Admin\" \u{e9} Key",
        "redacted_value": "sk-admin...def", "created_at": 1_711_471_533, "last_used_at": null,
        "owner": {
            "type": "service_account", "object": "organization.service_account", "id": "sa_456",
            "name": "My Service Account", "created_at": 1_711_471_533, "role": "member"
        }
    });
    assert!(is_fit(&item.to_string()));
    assert!(is_fit(r#"{"id":"k","new":true,"one":{"two":{"three":-1}}}"#));
}

#[test]
fn what_is_out_of_the_ordinary_is_unfit() {
    for item in [
        "7",
        "{}",
        r#"{"name":"n"}"#,
        r#"{"id":""}"#,
        r#"{"id":7}"#,
        r#"{"id":"k","id":"k"}"#,
        r#"{"id":"k","name":"a","name":"b"}"#,
        r#"{"id":"k","owner":{"id":"a"},"owner":{"id":"a"}}"#,
        r#"{"id":"k","x":[1]}"#,
        r#"{"id":"k","x":{}}"#,
        r#"{"id":"k","x":0.5}"#,
        r#"{"id":"k","x":18446744073709551615}"#,
        r#"{"id":"k","name":7}"#,
        r#"{"id":"k","created_at":"2026"}"#,
        r#"{"id":"k","created_at":9223372036854775807}"#,
        r#"{"id":"k","value":"secret"}"#,
        r#"{"id":"k","value":null}"#,
        r#"{"id":"k","a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}}}}}"#,
    ] {
        assert!(!is_fit(item), "{item}");
    }
    for secret in [SECRET, CREDENTIAL] {
        for item in [
            json!({ "id": secret }),
            json!({ "id": "k", "x": secret }),
            json!({ "id": "k", secret: 1 }),
        ] {
            assert!(!is_fit(&item.to_string()), "{item}");
        }
    }
    for body in [
        "",
        "[]",
        "{}",
        "{\"data\":[]} x",
        "{\"data\":7}",
        "{\"data\":[],\"data\":[]}",
        "{\"data\":[],\"has_more\":1}",
    ] {
        assert!(read(body, &mut Interned::default(), &mut Known::default()).is_none(), "{body}");
    }
}

#[test]
fn more_fields_than_a_list_has_are_unfit_and_cost_no_memory() {
    let (mut interned, mut known) = (Interned::default(), Known::default());
    for number in 0..3 * MAX_PATHS {
        let body = format!("{{\"data\":[{{\"id\":\"k\",\"field_{number}\":1}}]}}");
        let is_fit = read(&body, &mut interned, &mut known).is_some();
        assert_eq!(is_fit, number + 2 < MAX_PATHS);
    }
    assert_eq!(known.members.len(), MAX_PATHS);
}

const NAMES: &[&str] = &[
    "id",
    "name",
    "object",
    "redacted_value",
    "created_at",
    "last_used_at",
    "expires_at",
    "owner",
    "type",
    "role",
    "owner.id",
    "owner_id",
    "project_id",
    "value",
    "a",
    "b",
];

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![9 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => "[a-c.\"é]{0,3}"]
}

/// JSON as a server may write it: members in any order, and twice.
fn any_json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        2 => Just("null".to_owned()),
        2 => (0..2_000_000_000_i64).prop_map(|number| number.to_string()),
        4 => prop::sample::select(&["user", "key_1", "sk-admin-…abcd", "sk-proj-abcd", "a \"b\"", "\u{7}", ""][..])
            .prop_map(|text| json!(text).to_string()),
        1 => any::<String>().prop_map(|text| json!(text).to_string()),
        1 => prop::sample::select(&["true", "0.5", "-3", "1e3", "[]", "[1]", "{}"][..]).prop_map(str::to_owned),
    ];
    scalar.prop_recursive(3, 12, 4, any_object)
}

fn any_object(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec((any_name(), inner), 1..5).prop_map(|members| {
        let members = members.iter().map(|(name, value)| format!("{}:{value}", json!(name)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    })
}

fn any_item() -> impl Strategy<Value = String> {
    let named = (0..3_u8, any_object(any_json()));
    prop_oneof![
        4 => named.prop_map(|(id, rest)| format!("{{\"id\":\"key_{id}\",{}", &rest[1..])),
        1 => any_json(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Page after page, as both ways remember what came before.
    #[test]
    fn of_a_page_that_is_fit_both_ways_tell_the_same(
        pages in prop::collection::vec((prop::collection::vec(any_item(), 0..4), any::<Option<bool>>()), 1..4),
    ) {
        let mask = Mask::new(CREDENTIAL);
        let (mut interned, mut known) = (Interned::default(), Known::default());
        let mut thorough = PageParser::new(&mask, None);
        for (items, has_more) in pages {
            let has_more = has_more.map_or_else(String::new, |more| format!(",\"has_more\":{more}"));
            let body = format!("{{\"data\":[{}]{has_more}}}", items.join(","));
            let Some(page) = read(&body, &mut interned, &mut known) else { continue };
            thorough.warnings = super::super::Warnings::default();
            let other = thorough.parse_thoroughly(&Body::new(body.into_bytes()).unwrap());
            prop_assert_eq!(told(&page), told(&other.unwrap()));
            prop_assert!(thorough.warnings.is_empty());
        }
    }
}
