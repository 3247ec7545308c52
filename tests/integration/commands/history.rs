//! The past: `keys --as-of` and `diff` against copies of `current_keys` that were kept at the time, and
//! `log --follow`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::listings::{json_rows, view};
use crate::support::{History, Running};

/// What the history alone tells of a key: not whose credential it is, nor when it was seen.
const OF_THE_PRESENT: [&str; 3] = ["own_key", "first_seen_at", "last_seen_at"];

type Rows = Vec<Map<String, Value>>;

fn copy(history: &History) -> Rows {
    let mut rows = view(
        &history.world.database(),
        "select * from current_keys order by organization, created_at, key_id",
    );
    for row in &mut rows {
        row.retain(|column, _| !OF_THE_PRESENT.contains(&column.as_str()));
    }
    rows
}

/// Random days of an organization: the time of each sync, and the inventory after it.
fn days() -> (History, Vec<(String, Rows)>) {
    let mut organization = keydrift::sim::Organization::generate(11, 30);
    // Our own use of our own key is kept up to date, and is no event: the past does not know of it.
    organization.records_own_use = false;
    let history = History::of(organization);
    let mut chance = fastrand::Rng::with_seed(5);
    let mut copies = Vec::new();
    for day in 1..=8 {
        let time = format!("2026-10-{day:02}T08:00:00Z");
        history.sync(&time);
        copies.push((time, copy(&history)));
        history.world.organization().with(|organization| {
            organization.set_now(1_791_000_000 + day * 86_400);
            for _ in 0..12 {
                organization.mutate(&mut chance);
            }
            if day == 4 {
                organization.set_field_everywhere("tier", &"standard".into());
            }
        });
    }
    (history, copies)
}

#[test]
fn the_inventory_as_of_a_time_is_what_it_was_then() {
    let (history, copies) = days();
    for (time, rows) in &copies {
        assert_eq!(json_rows(&history.world, &["keys", "--as-of", time]), *rows, "as of {time}");
        let later = time.replace("T08", "T23");
        assert_eq!(json_rows(&history.world, &["keys", "--as-of", &later]), *rows, "{later}");
    }
    // Just before a run, the state is that of the run before.
    let (third, fourth) = (&copies[2].1, "2026-10-04T07:59:59Z");
    assert_eq!(json_rows(&history.world, &["keys", "--as-of", fourth]), *third);
    let admin = |row: &&Map<String, Value>| row["scope"] == "admin";
    let expected: Rows = third.iter().filter(admin).cloned().collect();
    let args = ["keys", "--as-of", fourth, "--scope", "admin"];
    assert_eq!(json_rows(&history.world, &args), expected);
    let unused = |row: &&Map<String, Value>| {
        let used =
            if row["last_used_at"].is_null() { &row["created_at"] } else { &row["last_used_at"] };
        used.as_str() < Some("2026-07-06T07:59:59Z")
    };
    let expected: Rows = third.iter().filter(unused).cloned().collect();
    let args = ["keys", "--as-of", fourth, "--stale", "90d"];
    assert_eq!(json_rows(&history.world, &args), expected);
    let ran = history.world.keydrift(&["keys", "--as-of", fourth]).succeeds();
    // What was asked lies before the run that would have said so, for longer than an hourly schedule allows.
    let third_run = "2026-10-03T08:00:00Z";
    assert_eq!(
        ran.stderr,
        format!(
            "{} keys as of {fourth}
as of {fourth}: what run 3 observed between {third_run} and {third_run}; the next good run began at 2026-10-04T08:00:00Z
warning: {fourth} lies in a gap: nothing was observed between {third_run} and 2026-10-04T08:00:00Z
",
            third.len()
        )
    );
    let daily = history.world.keydrift(&["keys", "--as-of", fourth]);
    let ran = daily.env("KEYDRIFT__SCHEDULE__CRON", "0 8 * * *").succeeds();
    assert!(!ran.stderr.contains("gap"), "{ran}");
    let programs = history.world.keydrift(&["keys", "--as-of", fourth, "--format", "json"]);
    let ran = programs.succeeds();
    assert!(ran.stderr.starts_with("warning: ") && ran.stderr.lines().count() == 1, "{ran}");
}

/// One difference as a program reads it: key, event, field, old and new value.
type Difference = (String, String, Option<String>, Option<String>, Option<String>);

fn difference_between(before: &Rows, after: &Rows) -> BTreeSet<Difference> {
    let by_id = |rows: &Rows| -> BTreeMap<String, BTreeMap<String, String>> {
        rows.iter().map(|row| (row["key_id"].as_str().unwrap().to_owned(), fields(row))).collect()
    };
    let (before, after) = (by_id(before), by_id(after));
    let mut found = BTreeSet::new();
    for id in before.keys().chain(after.keys()) {
        match (before.get(id), after.get(id)) {
            (Some(before), Some(after)) => {
                for field in before.keys().chain(after.keys()) {
                    let (old, new) = (before.get(field).cloned(), after.get(field).cloned());
                    if old != new {
                        let event = if field == "last_used_at" { "used" } else { "changed" };
                        found.insert((id.clone(), event.to_owned(), Some(field.clone()), old, new));
                    }
                }
            }
            (None, _) => drop(found.insert((id.clone(), "added".to_owned(), None, None, None))),
            (_, None) => drop(found.insert((id.clone(), "removed".to_owned(), None, None, None))),
        }
    }
    found
}

fn fields(row: &Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let own = row.iter().filter(|(name, _)| !matches!(name.as_str(), "other" | "organization"));
    let other = row["other"].as_object().unwrap().iter();
    own.chain(other)
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

#[test]
fn a_diff_is_the_difference_of_the_two_inventories() {
    let (history, copies) = days();
    // A notice told of the field that the API began to send; of a key that is back, its event did.
    let restored = json_rows(&history.world, &["log", "--event", "restored"]);
    let came_back_with_tier = |id: &str, from: &str, to: &str| {
        restored.iter().any(|row| {
            let text = |name: &str| row[name].as_str().unwrap();
            let between = from < text("observed_at") && text("observed_at") <= to;
            between && text("key_id") == id && text("new_value").contains("\"tier\"")
        })
    };
    for (from, to) in [(0, 0), (0, 1), (0, 7), (2, 5), (3, 4), (6, 7)] {
        let ((from, before), (to, after)) = (&copies[from], &copies[to]);
        let rows = json_rows(&history.world, &["diff", from, to]);
        let text = |row: &Map<String, Value>, name: &str| row[name].as_str().map(str::to_owned);
        let mut found = BTreeSet::new();
        for row in &rows {
            let whole = row["field"].is_null();
            let values =
                if whole { (None, None) } else { (text(row, "old_value"), text(row, "new_value")) };
            let id = text(row, "key_id").unwrap();
            if whole {
                let state = row["old_value"].as_str().or(row["new_value"].as_str()).unwrap();
                let state: Value = serde_json::from_str(state).unwrap();
                assert_eq!(state["key_id"].as_str(), Some(id.as_str()));
            }
            found.insert((id, text(row, "event").unwrap(), text(row, "field"), values.0, values.1));
        }
        assert_eq!(found.len(), rows.len(), "no difference is told twice");
        let mut expected = difference_between(before, after);
        expected.retain(|(id, _, field, ..)| {
            field.as_deref() != Some("tier") || came_back_with_tier(id, from, to)
        });
        assert_eq!(found, expected, "from {from} to {to}");
        let csv = history.world.keydrift(&["diff", from, to, "--format", "csv"]).succeeds();
        assert_eq!(csv::Reader::from_reader(csv.stdout.as_bytes()).records().count(), rows.len());
    }
}

#[test]
fn a_diff_of_one_time_is_empty_and_one_backwards_is_a_mistake() {
    let history = History::eventful();
    let time = "2026-10-03T08:00:00Z";
    let ran = history.world.keydrift(&["diff", time, time]).succeeds();
    assert_eq!(ran.stdout, "");
    assert_eq!(
        ran.stderr,
        format!(
            "nothing differs between {time} and {time}
as of {time}: what run 3 observed between {time} and {time}; the next good run began at 2026-10-06T08:00:00Z
"
        )
    );
    let ran = history.world.keydrift(&["diff", "2026-10-04", "2026-10-03"]).exits(2);
    assert!(ran.stderr.contains("`2026-10-04T00:00:00Z` is after `2026-10-03T00:00:00Z`"), "{ran}");
}

#[test]
fn of_the_time_before_the_history_nothing_is_known() {
    let history = History::eventful();
    for args in
        [["keys", "--as-of", "2026-10-01"].as_slice(), &["diff", "2026-09-01", "2026-10-01"]]
    {
        let ran = history.world.keydrift(args).args(["--format", "csv"]).exits(1);
        assert!(
            ran.stderr.contains("nothing is known of the time before 2026-10-01T08:00:00Z"),
            "{ran}"
        );
        assert_eq!(ran.stdout, "", "{ran}");
    }
    // A history of which no run was good tells of no time at all.
    let world = crate::support::World::new(3);
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-admin-wrong").exits(1);
    for args in [["keys", "--as-of", "now"].as_slice(), &["diff", "1h", "now"]] {
        let ran = world.keydrift(args).exits(1);
        assert!(ran.stderr.contains("no sync has succeeded so far"), "{ran}");
    }
}

#[test]
fn following_the_log_prints_each_new_event_until_interrupted() {
    for format in ["table", "ndjson", "csv"] {
        let history = History::small();
        let world = &history.world;
        world.keydrift(&["sync"]).succeeds();
        let mut follower = Running::start(
            world.keydrift(&["log", "--follow", "--limit", "1", "--format", format]),
        );
        follower.wait_for(|line| line.contains("key_"));
        world.organization().with(|organization| organization.rename("key_main", "first rename"));
        world.keydrift(&["sync"]).succeeds();
        follower.wait_for(|line| line.contains("first rename"));
        world
            .organization()
            .with(|organization| organization.rename("key_deploy", "second rename"));
        world.keydrift(&["sync"]).succeeds();
        follower.wait_for(|line| line.contains("second rename"));
        follower.interrupt();
        let seen = follower.seen.clone();
        let (code, rest) = follower.end();
        assert_eq!(code, Some(0), "{format}");
        let all = [seen, rest].concat();
        // One event of the baseline, and then each one once.
        let events = all.iter().filter(|line| line.contains("key_main") || line.contains("key_d"));
        assert!(events.count() <= 3, "{format}: {all:?}");
    }
}

#[test]
fn a_followed_json_array_is_closed_at_the_end() {
    let history = History::small();
    history.world.keydrift(&["sync"]).succeeds();
    let args = ["log", "--follow", "--format", "json"];
    let mut follower = Running::start(history.world.keydrift(&args));
    follower.wait_for(|line| line.contains("key_deploy"));
    follower.interrupt();
    let seen = follower.seen.clone();
    let (code, rest) = follower.end();
    assert_eq!(code, Some(0));
    let whole: Vec<Value> = serde_json::from_str(&[seen, rest].concat().join("\n")).expect("JSON");
    assert_eq!(whole.len(), 4);
}
