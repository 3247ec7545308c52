//! Names, owners and ids from somebody with bad intentions, or a bad day: through sync, look-ups, and every
//! command in every format.

use std::collections::BTreeSet;

use keydrift::sim::{Endpoint, ErrorBody, Fault, Matcher, Organization};
use serde_json::{Map, Value, json};

use crate::support::{Keydrift, Ran, World, sql};

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "\u{1b}[31mred\u{1b}[0m",
        "\u{1b}[2J\u{1b}[H\u{1b}]0;title\u{7}",
        "\u{1b}]8;;https://evil.example\u{7}click\u{1b}]8;;\u{7}",
        "nul\0inside",
        "<script>alert(1)</script>",
        "=cmd()",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=cmd()",
        "\r=cmd()",
        " =cmd()",
        "\"=cmd()",
        "＝cmd()",
        "two\r\nlines\nerror: forged",
        "abc\u{202e}fdp.exe",
        "\u{2066}isolated\u{2069}",
        "line\u{2028}and\u{2029}paragraph\u{85}next",
        "csi \u{9b}31m",
        "json:1",
        "json:\"x\"",
        "json:",
        "json:{not json",
        "{\"key_id\":\"forged\"}",
        "[1,2]",
        "123",
        "null",
        "\"quoted\", 'and' a\\backslash",
        "robert'); drop table keys;--",
        "%s%n%d {} {0} ${HOME} `id` $(id)",
        " ",
        "👩\u{200d}🚀 日本語",
        "\u{fffd}\u{feff}\u{200b}",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("x".repeat(10_240));
    texts.push("\u{202e}".repeat(3_000));
    texts
}

fn ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "..",
        ".",
        "...",
        "../../../etc/passwd",
        "a/b",
        "/",
        "//evil.example/x",
        "?",
        "a?limit=1&after=b",
        "#",
        "%2f",
        "%2e%2e",
        "%",
        "a b",
        " key",
        "key ",
        "+",
        "\\",
        "\"",
        "'; drop table keys;--",
        "a\tb\nc\rd",
        "\0",
        "\u{1b}[31m",
        "\u{202e}x",
        "=cmd()",
        "-rf",
        "json:1",
        "null",
        "ключ",
        "👩\u{200d}🚀",
        "\u{fffd}",
        ";jsessionid=1",
        "@evil.example",
        ":80",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.push("k".repeat(10_240));
    ids.push("ключ".repeat(1_280));
    ids
}

/// An organization of hostile texts and ids, and as many harmless keys for the look-ups to be believed.
fn hostile_world() -> World {
    let mut organization = Organization::generate(13, 12);
    for (at, text) in texts().iter().enumerate() {
        organization.add_raw(&item(&format!("key_text_{at}"), text, 1_700_000_000));
    }
    for id in ids() {
        organization.add_raw(&item(&id, "a name", 1_700_000_000));
    }
    World::of(organization)
}

/// Every text that somebody can choose is `text`.
fn item(id: &str, text: &str, created_at: i64) -> Map<String, Value> {
    let item = json!({
        "object": "organization.admin_api_key",
        "id": id,
        "name": text,
        "redacted_value": text,
        "created_at": created_at,
        "last_used_at": null,
        "owner": { "type": text, "id": text, "name": text, "role": text, "note": text },
        "project_id": text,
        "note": text,
        "labels": [text],
    });
    item.as_object().expect("an object").clone()
}

fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[track_caller]
fn check_harmless(ran: &Ran) {
    for (stream, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        if let Some(at) = text.find(is_harmful) {
            let around: String =
                text[..at].chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
            panic!("{stream} holds a harmful character after {around:?}");
        }
    }
}

const EVERY_COMMAND: [&[&str]; 8] = [
    &["keys"],
    &["keys", "--removed"],
    &["keys", "--as-of", "now"],
    &["log"],
    &["diff", "1h", "now"],
    &["runs"],
    &["sync"],
    &["config", "check"],
];

/// Every listing in every format, logs and all; what is harmful stops here.
fn check_every_command(world: &World) {
    for args in EVERY_COMMAND {
        for format in ["table", "json", "ndjson", "csv"] {
            let ran = world.keydrift(args).args(["--format", format, "-vvv"]).run();
            // `diff 1h now` begins before the history.
            assert!(ran.code == Some(0) || args[0] == "diff", "{ran}");
            check_harmless(&ran);
            match format {
                "json" if ran.code == Some(0) => drop(ran.json()),
                "ndjson" => {
                    for line in ran.stdout.lines() {
                        serde_json::from_str::<Value>(line).expect("JSON");
                    }
                }
                "csv" => check_cells(&ran),
                _ => {}
            }
        }
    }
}

/// No cell of a CSV can be taken for a formula.
#[track_caller]
fn check_cells(ran: &Ran) {
    let mut csv = csv::Reader::from_reader(ran.stdout.as_bytes());
    for record in csv.records() {
        for cell in &record.expect("a whole record") {
            let bare = cell.trim_start_matches(|c: char| c.is_whitespace() || c == '"');
            assert!(!bare.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']), "{cell:?}");
        }
    }
}

#[test]
fn the_database_holds_the_exact_text() {
    let world = hostile_world();
    // Against the simulation's own state, every field and path of every key.
    world.sync();
    for (at, text) in texts().iter().enumerate() {
        let hex = text.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat();
        let columns =
            ["name", "redacted_value", "owner_name", "owner_id", "owner_role", "project_id"];
        for column in columns {
            let query =
                format!("select hex({column}) from current_keys where key_id = 'key_text_{at}'");
            assert_eq!(sql::value(&world.database(), &query), hex, "{column} of {text:?}");
        }
    }
    let found = sql::rows(&world.database(), "select key_id from current_keys");
    let found: BTreeSet<&str> = found.iter().map(|row| row["key_id"].as_str().unwrap()).collect();
    for id in ids() {
        assert!(found.contains(id.as_str()), "{id:?}");
    }
}

#[test]
fn nothing_harmful_is_ever_printed() {
    let world = hostile_world();
    world.sync();
    check_every_command(&world);
    // Then events of every kind about them.
    world.organization().with(|organization| {
        let texts = texts();
        for (at, text) in texts.iter().enumerate() {
            let id = format!("key_text_{at}");
            let other = &texts[(at + 1) % texts.len()];
            match at % 3 {
                0 => organization.rename(&id, other),
                1 => organization.set_field(&id, "note", format!("{other}{text}")),
                _ => organization.remove(&id),
            };
        }
        for id in ids().iter().step_by(2) {
            organization.rename(id, "\u{1b}[31mrenamed");
            organization.set_field(id, "owner.name", "\u{202e}evil");
        }
    });
    world.sync();
    check_every_command(&world);
    world.organization().with(|organization| {
        for at in 0..texts().len() {
            organization.restore(&format!("key_text_{at}"));
        }
    });
    world.sync();
    check_every_command(&world);
}

#[test]
fn names_of_fields_are_harmless_too() {
    let mut organization = Organization::generate(13, 3);
    for (at, text) in texts().iter().enumerate() {
        let mut item = item(&format!("key_{at}"), "a name", 1_700_000_000);
        item.insert(text.clone(), json!("a"));
        item.insert("nested".to_owned(), json!({ text: { text: 1 } }));
        organization.add_raw(&item);
    }
    let world = World::of(organization);
    world.keydrift(&["sync"]).succeeds();
    world.organization().with(|organization| {
        for (at, text) in texts().iter().enumerate() {
            organization.edit(&format!("key_{at}"), |key| {
                key.insert(text.clone(), json!("b"));
                key.insert("nested".to_owned(), json!({ text: { text: 2 } }));
            });
        }
    });
    world.keydrift(&["sync"]).succeeds();
    let changed = "select count(*) from audit_history where event = 'changed'";
    assert_eq!(sql::value(&world.database(), changed), json!(2 * texts().len()));
    check_every_command(&world);
    // A field that comes for every key is told in a notice.
    world.organization().with(|organization| {
        organization.set_field_everywhere("\u{1b}[31mnew\u{202e}\n", &json!(1));
    });
    check_every_command(&world);
}

#[test]
fn json_gives_back_the_exact_text() {
    let world = hostile_world();
    world.sync();
    let expected = |column: &str| -> Vec<Value> {
        let query = format!("select {column} as v from current_keys order by created_at, key_id");
        sql::rows(&world.database(), &query).into_iter().map(|mut row| row["v"].take()).collect()
    };
    let keys = world.keydrift(&["keys", "--format", "json"]).succeeds().json();
    for column in ["key_id", "name", "owner_name", "redacted_value"] {
        let found: Vec<Value> =
            keys.as_array().unwrap().iter().map(|row| row[column].clone()).collect();
        assert_eq!(found, expected(column));
    }
    for (at, text) in texts().iter().enumerate() {
        let id = format!("key_text_{at}");
        let key = keys.as_array().unwrap().iter().find(|row| row["key_id"] == *id).unwrap();
        assert_eq!((&key["name"], &key["other"]["note"]), (&json!(text), &json!(text)));
        assert_eq!(key["other"]["owner.note"], *text);
    }
    // And from the history alone.
    let past = world.keydrift(&["keys", "--as-of", "now", "--format", "json"]).succeeds().json();
    for (now, then) in keys.as_array().unwrap().iter().zip(past.as_array().unwrap()) {
        let ours = now["own_key"] == 1;
        for (column, value) in then.as_object().unwrap() {
            assert!(now[column] == *value || (ours && column == "last_used_at"), "{column}");
        }
    }
}

#[test]
fn each_hostile_key_can_be_shown() {
    let world = hostile_world();
    world.sync();
    for id in ids().iter().filter(|id| !id.contains('\0') && !id.starts_with('-')) {
        let ran = world.keydrift(&["show", id, "--format", "json"]).succeeds();
        assert_eq!(ran.json()["key"]["key_id"], **id);
        let ran = world.keydrift(&["show", id, "-vvv"]).succeeds();
        check_harmless(&ran);
        check_harmless(&world.keydrift(&["log", "--key", id]).succeeds());
    }
    Keydrift::new(world.path())
        .env("KEYDRIFT__DATABASE__PATH", world.database())
        .args(["show", "--", "-rf"])
        .succeeds();
    for nobody in ["\u{1b}[31mnobody", "\u{202e}nobody\n", "nobody\u{9b}"] {
        for args in [
            &["show", nobody][..],
            &["keys", "--organization", nobody],
            &["keys", "--as-of", nobody],
            &["keys", "--stale", nobody],
            &["sync", "--accept", nobody],
            &["log", "--since", nobody],
        ] {
            check_harmless(&world.keydrift(args).run());
        }
    }
}

#[test]
fn every_vanished_id_is_looked_up_as_itself() {
    let world = hostile_world();
    world.sync();
    // Merely hidden: each is there when it is asked for by its id, so that nothing happens.
    for id in ids() {
        world.organization().fault(Matcher::list(), Fault::HiddenKey(id));
    }
    world.organization().clear_requests();
    let ran = world.keydrift(&["sync", "-vvv"]).succeeds();
    check_harmless(&ran);
    let drift = "select count(*) from audit_history where event <> 'baseline'";
    assert_eq!(sql::integer(&world.database(), drift), 0, "{ran}");
    assert!(ran.stdout.contains(&format!(", {} unconfirmed", ids().len())), "{ran}");
    let asked = world.organization().requests();
    let asked: BTreeSet<String> = asked
        .into_iter()
        .filter(|request| request.endpoint == Endpoint::Retrieve)
        .filter_map(|request| request.key_id)
        .collect();
    for id in ids() {
        // No URL can carry these two as a segment, so that nobody can say that they are gone.
        assert_eq!(asked.contains(&id), !matches!(id.as_str(), "." | ".."), "{id:?}");
    }
    world.organization().clear_faults();

    // Truly gone.
    world
        .organization()
        .with(|organization| ids().iter().for_each(|id| assert!(organization.remove(id))));
    let ran = world.keydrift(&["sync", "-vvv"]).succeeds();
    check_harmless(&ran);
    let gone =
        sql::rows(&world.database(), "select key_id from audit_history where event = 'removed'");
    let gone: BTreeSet<&str> = gone.iter().map(|row| row["key_id"].as_str().unwrap()).collect();
    for id in ids() {
        assert_eq!(gone.contains(id.as_str()), !matches!(id.as_str(), "." | ".."), "{id:?}");
    }
    assert!(ran.stdout.contains(", 2 unconfirmed"), "{ran}");
    check_every_command(&world);
}

#[test]
fn what_the_api_says_of_an_error_is_harmless_too() {
    let world = World::new(3);
    world.sync();
    let texts = texts();
    for text in &texts {
        for fault in [
            Fault::status_with(401, ErrorBody::Envelope(text.clone())),
            Fault::status_with(403, ErrorBody::BareString(format!("Missing scopes: {text}"))),
            Fault::status_with(400, ErrorBody::Json(text.clone())),
        ] {
            world.organization().fault(Matcher::list(), fault);
            let ran = world.keydrift(&["sync", "-vv"]).exits(1);
            check_harmless(&ran);
            let errors = ran.stderr.lines().filter(|line| line.starts_with("error:"));
            assert_eq!(errors.count(), 1, "{ran}");
            world.organization().clear_faults();
        }
    }
    for format in ["table", "json", "ndjson", "csv"] {
        let ran = world.keydrift(&["runs", "--format", format]).succeeds();
        check_harmless(&ran);
        if format == "csv" {
            check_cells(&ran);
        }
    }
    for headers in ["Ünïcode \u{9b}31m", "=cmd()", "a\tb"] {
        world.organization().fault(Matcher::list(), Fault::ContentType(Some(headers.to_owned())));
        check_harmless(&world.keydrift(&["sync", "-vvv"]).run());
        world.organization().clear_faults();
        let redirect = Fault::redirect(302, &format!("https://evil.example/{headers}"));
        world.organization().fault(Matcher::list(), redirect);
        check_harmless(&world.keydrift(&["sync", "-vvv"]).run());
        world.organization().clear_faults();
        let renamed = Fault::OrganizationHeader(Some(headers.to_owned()));
        world.organization().fault(Matcher::list(), renamed);
        check_harmless(&world.keydrift(&["sync", "-vvv"]).run());
        world.organization().clear_faults();
    }
}

/// A list of one item, as raw JSON text.
fn list_with_name(name: &str) -> Fault {
    let body = format!(
        r#"{{"object":"list","data":[{{"id":"key_a","name":{name},"created_at":1700000000}}],"has_more":false}}"#
    );
    Fault::status_with(200, ErrorBody::Json(body))
}

#[test]
fn a_lone_surrogate_fails_the_page_and_nothing_else() {
    for name in [r#""\ud800""#, r#""\udc00x""#, r#""\ud800\ud800""#] {
        let world = World::new(3);
        world.sync();
        world.organization().fault(Matcher::list(), list_with_name(name));
        let ran = world.keydrift(&["sync"]).exits(1);
        assert!(
            ran.stderr.contains("page 1 of the admin keys is not valid JSON (request req_"),
            "{ran}"
        );
        assert!(ran.stderr.contains("line 1, column "), "{ran}");
        check_harmless(&ran);
        world.organization().clear_faults();
        world.sync();
        assert_eq!(sql::integer(&world.database(), "select count(*) from current_keys"), 3);
    }
    // A pair is a character like any other.
    let world = World::new(0);
    world.organization().fault(Matcher::list(), list_with_name(r#""\ud83d\ude80 \u0000 \u202e""#));
    world.keydrift(&["sync"]).succeeds();
    let name = sql::value(&world.database(), "select name from current_keys");
    assert_eq!(name, "🚀 \0 \u{202e}");
}

#[test]
fn texts_that_look_like_something_else_come_back_as_they_were() {
    let world = World::new(4);
    let id =
        world.organization().with(|organization| organization.ids().next().unwrap().to_owned());
    for path in ["name", "owner.name", "note"] {
        world.organization().with(|organization| organization.set_field(&id, path, "before"));
        world.sync();
        for text in
            ["json:1", "json:\"x\"", "json:", "123", "true", "null", "\"x\"", "[1]", "{}", "-", ""]
        {
            world.organization().with(|organization| organization.set_field(&id, path, text));
            world.sync();
            let past =
                world.keydrift(&["keys", "--as-of", "now", "--format", "json"]).succeeds().json();
            let key = past.as_array().unwrap().iter().find(|key| key["key_id"] == *id).unwrap();
            let found = match path {
                "name" => &key["name"],
                "owner.name" => &key["owner_name"],
                _ => &key["other"]["note"],
            };
            assert_eq!(found, text, "{path}");
        }
    }
}
