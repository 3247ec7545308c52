use serde_json::json;

use super::super::wire::PageParser;
use super::*;

const CREDENTIAL: &str = "sk-admin-OWNcredential0123456789wxyz";
const SECRET: &str = "sk-proj-ABCDEFGHijklmnop0123456789";

fn parse_one(item: &Value) -> (Sighting, Warnings) {
    parse(None, item)
}

fn parse_in(project: &Project, item: &Value) -> (Sighting, Warnings) {
    parse(Some(project), item)
}

fn parse(project: Option<&Project>, item: &Value) -> (Sighting, Warnings) {
    let mask = Mask::new(CREDENTIAL);
    let mut parser = PageParser::new(&mask, project);
    let mut page = parser.parse(&json!({ "data": [item] }).into()).unwrap();
    (page.items.remove(0), parser.warnings)
}

fn project(archived_at: Option<i64>, status: Option<&str>) -> Project {
    Project {
        id: Arc::from("proj_1"),
        name: Some(Arc::from("Search")),
        archived_at: archived_at.and_then(Timestamp::from_unix),
        status: status.map(Arc::from),
    }
}

fn shown(seen: &Sighting) -> String {
    serde_json::to_string(&*seen.key.other).unwrap()
}

#[test]
fn the_example_of_a_project_key_fills_the_same_columns() {
    let (seen, warnings) = parse_in(
        &project(None, Some("active")),
        &json!({
            "object": "organization.project.api_key", "redacted_value": "sk-abc...def",
            "name": "My API Key", "created_at": 1_711_471_533, "last_used_at": 1_711_471_534,
            "id": "key_abc", "owner_project_access": "inactive",
            "owner": {
                "type": "user",
                "user": {
                    "id": "user_abc", "name": "Ana", "email": "ana@example.com",
                    "role": "owner", "created_at": 1_711_471_533
                }
            }
        }),
    );
    assert!(warnings.is_empty());
    let key = &seen.key;
    assert_eq!((key.scope, seen.prefix_scope), (Scope::Project, Some(Scope::Project)));
    let texts: Vec<Option<&str>> = Column::ALL.map(|c| key.text(c).map(AsRef::as_ref)).to_vec();
    assert_eq!(
        texts[..8],
        [
            Some("My API Key"),
            Some("sk-abc...def"),
            Some("proj_1"),
            Some("Search"),
            Some("user"),
            Some("user_abc"),
            Some("Ana"),
            Some("owner"),
        ]
    );
    assert_eq!(key.last_used_at.unwrap().unix(), 1_711_471_534);
    assert_eq!(
        shown(&seen),
        r#"{"object":"organization.project.api_key","owner.created_at":1711471533,"owner.email":"ana@example.com","owner_project_access":"inactive"}"#
    );
    let leaves: Vec<&str> = seen.shape.leaves.iter().map(String::as_str).collect();
    assert_eq!(
        leaves,
        [
            "created_at",
            "last_used_at",
            "name",
            "object",
            "owner.created_at",
            "owner.email",
            "owner_id",
            "owner_name",
            "owner_project_access",
            "owner_role",
            "owner_type",
            "project_archived_at",
            "project_id",
            "project_name",
            "project_status",
            "redacted_value",
        ]
    );
    assert_eq!(seen.shape.objects.iter().collect::<Vec<_>>(), ["owner"]);
}

#[test]
fn a_key_of_a_project_is_one_whatever_it_looks_like() {
    let item = json!({ "id": "k", "redacted_value": "sk-admin-****abcd" });
    let (seen, _) = parse_in(&project(None, None), &item);
    assert_eq!((seen.key.scope, seen.prefix_scope), (Scope::Project, Some(Scope::Project)));
    assert_eq!(parse_one(&item).0.key.scope, Scope::Admin);
}

#[test]
fn the_owner_of_a_key_is_told_the_same_by_both_listings() {
    let account = json!({ "id": "sa", "name": "Bot", "role": "member", "created_at": 7 });
    let mut flat = account.clone();
    flat["type"] = json!("service_account");
    let nested = json!({ "type": "service_account", "service_account": account, "user": null });
    let (flat, _) = parse_one(&json!({ "id": "k", "owner": flat }));
    let (nested, _) = parse_in(&project(None, None), &json!({ "id": "k", "owner": nested }));
    for column in Column::ALL.into_iter().filter(|column| column.name().starts_with("owner")) {
        assert_eq!(flat.key.text(column), nested.key.text(column));
    }
    assert_eq!(flat.key.other, nested.key.other);
    let owners = |seen: &Sighting| -> Vec<String> {
        seen.shape.leaves.iter().filter(|field| field.starts_with("owner")).cloned().collect()
    };
    assert_eq!(owners(&flat), owners(&nested));
}

#[test]
fn an_archived_project_shows_on_its_keys() {
    let item = json!({ "id": "k" });
    for (archived_at, status, other) in [
        (None, None, "{}"),
        (None, Some("active"), "{}"),
        (Some(7), Some("archived"), r#"{"project_archived_at":"1970-01-01T00:00:07Z"}"#),
        (Some(7), None, r#"{"project_archived_at":"1970-01-01T00:00:07Z"}"#),
        (
            Some(7),
            Some("active"),
            r#"{"project_archived_at":"1970-01-01T00:00:07Z","project_status":"active"}"#,
        ),
        (None, Some("archived"), r#"{"project_status":"archived"}"#),
        (None, Some("suspended"), r#"{"project_status":"suspended"}"#),
    ] {
        let (seen, _) = parse_in(&project(archived_at, status), &item);
        assert_eq!(shown(&seen), other);
        for field in ["project_id", "project_name", "project_archived_at", "project_status"] {
            assert!(seen.shape.leaves.contains(field), "{field}");
        }
    }
}

#[test]
fn what_a_key_says_of_its_project_itself_is_not_taken_for_ours() {
    let (seen, _) = parse_in(
        &project(None, None),
        &json!({
            "id": "k", "project_id": "proj_2", "project_name": { "de": "Suche" },
            "project_archived": true, "project_archived_at": 7, "project_status": "x"
        }),
    );
    assert_eq!(seen.key.project_id.as_deref(), Some("proj_1"));
    assert_eq!(seen.key.project_name.as_deref(), Some("Search"));
    assert_eq!(
        shown(&seen),
        r#"{"\"project_archived\"":true,"\"project_archived_at\"":7,"\"project_id\"":"proj_2","\"project_name\".de":"Suche","\"project_status\"":"x"}"#
    );
    let (seen, _) = parse_in(
        &project(None, None),
        &json!({ "id": "k", "project_id": "proj_1", "project_name": "Search" }),
    );
    assert_eq!(shown(&seen), "{}");
    let quoted = seen.shape.leaves.iter().any(|field| field.contains('"'));
    assert!(!quoted, "{:?}", seen.shape);
    let nameless = Project { name: None, ..project(None, None) };
    let (seen, _) = parse_in(&nameless, &json!({ "id": "k", "project_name": 7 }));
    assert_eq!(shown(&seen), r#"{"\"project_name\"":7}"#);
}

#[test]
fn secrets_of_a_project_key_are_dropped_and_masked_too() {
    let (seen, warnings) = parse_in(
        &project(None, None),
        &json!({
            "id": "k", "value": SECRET, "name": SECRET, "project_id": SECRET,
            "owner": { "type": "user", "user": { "name": CREDENTIAL, "value": SECRET } }
        }),
    );
    let all = format!("{seen:?} {warnings:?}");
    assert!(!all.contains("0123456789"), "{all}");
    assert_eq!(warnings.values_dropped, 1);
    let fields: Vec<&str> = warnings.secrets_masked.keys().map(String::as_str).collect();
    assert_eq!(fields, ["\"project_id\"", "name", "owner.value", "owner_name"]);
}
