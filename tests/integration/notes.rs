//! Notes through the binary: written for good, shown where they belong, and explaining drift.

use serde_json::{Value, json};

use crate::support::{History, World, sql};

fn json_rows(world: &World, args: &[&str]) -> Vec<Value> {
    let ran = world.keydrift(args).args(["--format", "json"]).succeeds();
    ran.json().as_array().unwrap().clone()
}

fn unexplained(world: &World, args: &[&str]) -> Vec<String> {
    let rows = json_rows(world, &[&["log", "--unexplained"], args].concat());
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    rows.iter().map(|row| format!("{} {}", text(&row["event"]), text(&row["key_id"]))).collect()
}

#[test]
fn a_note_is_shown_beside_its_event_in_every_format() {
    let world = History::eventful().world;
    let removed = "select max(event_id) from audit_history where event = 'removed'";
    let event = sql::integer(&world.database(), removed).to_string();
    let ran = world.keydrift(&["note", &event, "rotation,\nticket 1234"]).succeeds();
    assert_eq!(ran.stdout, format!("noted of event {event} of `default`: removed key_billing\n"));
    world.keydrift(&["note", &event, "-- and =done"]).succeeds();
    let log = world.keydrift(&["log", "--event", "removed", "--limit", "1"]).succeeds();
    assert!(log.stdout.contains(r"rotation,\nticket 1234; noted by "), "{log}");
    for args in [&["log", "--event", "removed", "--limit", "1"][..], &["show", "key_billing"]] {
        let text = world.keydrift(args).succeeds().stdout;
        assert!(text.contains("noted by ") && text.contains("ticket 1234"), "{text}");
    }
    let row = json_rows(&world, &["log", "--event", "removed", "--limit", "1"]).remove(0);
    let notes = row["notes"].as_array().unwrap();
    let view = sql::rows(
        &world.database(),
        "select note_id, noted_at, author, text from note_history order by note_id",
    );
    assert_eq!(json!(notes), json!(view));
    assert_eq!(notes[0]["text"], "rotation,\nticket 1234");
    let csv = ["log", "--event", "removed", "--limit", "1", "--format", "csv"];
    let csv = world.keydrift(&csv).succeeds().stdout;
    assert!(csv.lines().next().unwrap().ends_with(",actor_scopes,notes"), "{csv}");
    assert!(csv.trim_end().ends_with(r#""rotation,\nticket 1234; -- and =done""#), "{csv}");
    // Others have none.
    let baseline = json_rows(&world, &["log", "--event", "baseline", "--limit", "1"]);
    assert_eq!(baseline[0]["notes"], json!([]));
    let verified = world.keydrift(&["verify"]).succeeds();
    assert!(verified.stdout.contains("default: 2 notes in it\n"), "{verified}");
    assert!(!verified.stdout.contains("erased"), "{verified}");
}

#[test]
fn a_note_on_a_key_stands_with_the_key() {
    let world = History::eventful().world;
    let ran = world.keydrift(&["note", "Dply", "the key of the pipeline"]).succeeds();
    assert_eq!(ran.stdout, "noted of key key_deploy of `default`\n");
    let show = world.keydrift(&["show", "key_deploy"]).succeeds();
    assert!(show.stdout.contains(": the key of the pipeline\n"), "{show}");
    let shown = world.keydrift(&["show", "key_deploy", "--format", "json"]).succeeds().json();
    assert_eq!(shown["notes"][0]["text"], "the key of the pipeline");
    let act = sql::rows(&world.database(), "select * from act_history where kind = 'noted'");
    assert_eq!(act[0]["detail"], r#"{"key_id":"key_deploy","text":"the key of the pipeline"}"#);
    assert_eq!(act[0]["actor"], shown["notes"][0]["author"]);
}

#[test]
fn unexplained_is_drift_that_no_note_is_about() {
    let history = History::eventful();
    let world = &history.world;
    let all = unexplained(world, &[]);
    let used = unexplained(world, &["--event", "used"]);
    assert!(!used.is_empty() && used.iter().all(|it| it.starts_with("used ")), "{used:?}");
    assert!(all.iter().all(|it| !it.starts_with("used") && !it.starts_with("baseline")), "{all:?}");
    assert!(all.contains(&"removed key_billing".to_owned()), "{all:?}");
    world.keydrift(&["note", "key_deploy", "its renaming was announced"]).succeeds();
    let without = unexplained(world, &[]);
    let expected: Vec<String> =
        all.iter().filter(|it| !it.ends_with("key_deploy")).cloned().collect();
    assert!(without.len() < all.len());
    assert_eq!(without, expected);
    // What happens to it later is not explained by that.
    world.organization().with(|organization| organization.rename("key_deploy", "another"));
    history.sync("2026-10-08T08:00:00Z");
    assert_eq!(unexplained(world, &[]), [expected, vec!["changed key_deploy".to_owned()]].concat());
    world.keydrift(&["log", "--unexplained", "--event", "baseline"]).exits(2);
}

#[test]
fn what_cannot_be_noted_is_refused() {
    let world = History::small().world;
    world.keydrift(&["note", "1", "too early"]).exits(1);
    let world = History::eventful().world;
    let long = "x".repeat(2_001);
    for text in ["", " \n", "bell \u{7}", &long] {
        let ran = world.keydrift(&["note", "1", text]).exits(2);
        assert!(ran.stderr.contains("the text cannot be a note"), "{ran}");
    }
    let secret = "sk-admin-ABCDefgh0123456789ijklmnopQRST";
    let ran = world.keydrift(&["note", "1", &format!("leaked: {secret}")]).exits(2);
    assert!(ran.stderr.contains("what looks like a whole API key"), "{ran}");
    assert!(!ran.stderr.contains("0123456789"), "{ran}");
    for (subject, said) in [
        ("999", "there is no event 999"),
        ("99999999999999999999", "there is no event 99999999999999999999"),
        ("key_", "may mean"),
        ("nobody", "no key has the id"),
        ("", "no key has the id"),
    ] {
        let ran = world.keydrift(&["note", subject, "x"]).exits(1);
        assert!(ran.stderr.contains(said), "{subject}: {ran}");
    }
    world.keydrift(&["note", "1", "x", "--organization", "nobody"]).exits(2);
    assert_eq!(sql::integer(&world.database(), "select count(*) from act_history"), 0);
    world.keydrift(&["note", "1", &"ü".repeat(2_000)]).succeeds();
    world.keydrift(&["note", "1", "two\n\tlines", "--organization", "default"]).succeeds();
    world.keydrift(&["verify"]).succeeds();
}
