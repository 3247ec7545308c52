//! `show` and `log --key`: which key somebody means, and its story.

use serde_json::{Value, json};

use super::listings::{json_rows, view};
use crate::support::{History, World};

const MAIN: [&str; 7] = [
    "key_main",
    "key_m",
    "Main Admin Key",
    // The end of the secret: shorter, as long as, and longer than what is shown of it.
    "ain",
    "Main",
    "xyzMain",
    "sk-admin-0123456789abcdefMain",
];

#[test]
fn a_key_is_found_by_id_start_name_and_end() {
    let world = History::eventful().world;
    let key = &view(&world.database(), "select * from all_keys where key_id = 'key_main'")[0];
    let story = view(
        &world.database(),
        "select *, '[]' as notes from audit_history where key_id = 'key_main' order by event_id",
    );
    for text in MAIN {
        let ran = world.keydrift(&["show", text, "--format", "json"]).succeeds();
        assert_eq!(ran.json(), json!({ "key": key, "notes": [], "history": story }), "{text}");
        assert_eq!(json_rows(&world, &["log", "--key", text]), story, "{text}");
        let ran = world.keydrift(&["show", text, "--format", "ndjson"]).succeeds();
        let lines: Vec<Value> =
            ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(json!(lines), json!(story), "{text}");
        let ran = world.keydrift(&["show", text]).succeeds();
        assert!(ran.stdout.starts_with("key key_main\nstate           present\n"), "{ran}");
    }
}

#[test]
fn a_removed_key_is_found_too() {
    let world = History::eventful().world;
    let ran = world.keydrift(&["show", "Bill"]).succeeds();
    assert!(ran.stdout.contains("removed, seen gone at 2026-10-07T08:00:00Z"), "{ran}");
    assert!(ran.stdout.contains("removed   sk-proj-****Bill of ci"), "{ran}");
}

#[test]
fn a_text_that_means_no_key_or_several_is_an_error() {
    let world = History::eventful().world;
    for command in ["show", "log"] {
        let run = |text: &str| match command {
            "show" => world.keydrift(&["show", text]).exits(1),
            _ => world.keydrift(&["log", "--key", text]).exits(1),
        };
        let ran = run("key_");
        assert_eq!(ran.stdout, "", "{ran}");
        assert!(ran.stderr.contains("`key_` may mean 5 keys: default/key_"), "{ran}");
        for nothing in ["nobody", "in", "", " ", "KEY_MAIN", "Main Admin"] {
            let ran = run(nothing);
            assert!(ran.stderr.contains("no key has the id"), "{ran}");
            assert_eq!(ran.stderr.lines().count(), 2, "{ran}");
        }
    }
}

#[test]
fn an_exact_id_wins_over_a_longer_one_and_over_a_name() {
    let mut organization = keydrift::sim::Organization::generate(3, 0);
    for (id, name) in [("key_a", "x"), ("key_ab", "y"), ("other", "key_a")] {
        let item = json!({"id": id, "name": name, "created_at": 1_700_000_000});
        organization.add_raw(item.as_object().unwrap());
    }
    let world = World::of(organization);
    world.sync();
    let found = |text: &str| world.keydrift(&["show", text, "--format", "json"]).succeeds().json();
    assert_eq!(found("key_a")["key"]["key_id"], "key_a");
    assert_eq!(found("key_ab")["key"]["key_id"], "key_ab");
    world.keydrift(&["show", "key_"]).exits(1);
}
