//! `prune` and `forget`: what goes is gone, what stays still answers and is still proven.

use std::path::Path;

use keydrift::run::Status;
use serde_json::json;

use crate::support::started::until;
use crate::support::{History, Keydrift, World, oracle, sql};

const BEFORE: &str = "2025-10-02T12:00:00Z";
const HORIZON: &str = "2025-10-03T08:00:00Z";
const AFTER: &str = "2025-10-04T12:00:00Z";

/// Four days of the small organization.
fn four_days() -> World {
    let history = History::small();
    let organization = history.world.organization();
    assert_eq!(history.sync("2025-10-02T08:00:00Z"), Status::Ok);
    organization.with(|organization| {
        organization.set_field("key_main", "last_used_at", 1_759_470_000);
        organization.rename("key_deploy", "ci deploy (eu)");
    });
    assert_eq!(history.sync(HORIZON), Status::Ok);
    organization.with(|organization| organization.remove("key_billing"));
    assert_eq!(history.sync("2025-10-04T08:00:00Z"), Status::Ok);
    organization.with(|organization| {
        organization.set_field("key_main", "last_used_at", 1_759_640_000);
        organization.set_field("key_deploy", "owner.email", json!("ci@example.com"));
    });
    assert_eq!(history.sync("2025-10-05T08:00:00Z"), Status::Ok);
    history.world
}

/// A command with a policy that keeps what is younger than noon of the third of October.
fn keeping(world: &World, args: &[&str]) -> Keydrift {
    let cutoff: keydrift::clock::Timestamp = "2025-10-03T12:00:00Z".parse().unwrap();
    let now = sql::integer(&world.database(), "select unixepoch()");
    let hours = (now - cutoff.unix()) / 3_600;
    world.keydrift(args).env("KEYDRIFT__RETENTION__EVENTS", format!("{hours}h"))
}

fn json_of(world: &World, args: &[&str]) -> serde_json::Value {
    world.keydrift(args).arg("--format=json").succeeds().json()
}

fn listing(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file() && !path.ends_with("keys.db-shm"));
    let mut files: Vec<_> =
        files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect();
    // A reader may leave an empty log.
    files.retain(|(_, bytes)| !bytes.is_empty());
    files.sort();
    files
}

#[test]
fn without_a_policy_nothing_is_pruned() {
    let world = four_days();
    let ran = world.keydrift(&["prune"]).exits(2);
    insta::assert_snapshot!(ran.stderr, @"
    error: no retention is configured: everything is kept
    hint: set `retention.used_events` or `retention.events`, such as `events = \"7y\"`
    ");
    let nowhere = World::new(1);
    let ran = keeping(&world, &["prune"]).arg("--organization=none").exits(2);
    assert!(ran.stderr.contains("there is no organization `none`"), "{ran}");
    let ran = nowhere.keydrift(&["prune"]).env("KEYDRIFT__RETENTION__EVENTS", "7y").exits(1);
    assert!(ran.stderr.contains("there is no database at"), "{ran}");
    assert!(!nowhere.database().exists());
}

#[test]
fn what_is_kept_answers_as_before_and_what_is_not_says_so() {
    let world = four_days();
    let as_of = ["keys", "--as-of", AFTER];
    let at_horizon = ["keys", "--as-of", HORIZON];
    let (kept, kept_there) = (json_of(&world, &as_of), json_of(&world, &at_horizon));
    let difference = json_of(&world, &["diff", HORIZON, "2025-10-06"]);
    let days = sql::rows(&world.database(), "select * from key_drift_daily");
    let keys = sql::rows(&world.database(), "select * from all_keys order by key_id");

    let before = listing(world.path());
    let ran = keeping(&world, &["prune", "--dry-run", "--format=json"]).succeeds();
    assert!(listing(world.path()) == before, "a dry run changes no byte");
    let said = ran.json();
    assert_eq!((&said[0]["used"], &said[0]["events"]), (&json!(1), &json!(5)), "{ran}");
    assert_eq!(said[0]["known_since"], HORIZON, "{ran}");

    let ran = keeping(&world, &["prune", "--vacuum", "--format=json"]).succeeds();
    assert_eq!(ran.json(), said);
    let ran = keeping(&world, &["prune"]).succeeds();
    assert_eq!(ran.stderr, "nothing is older than what is kept\n", "{ran}");

    assert_eq!(json_of(&world, &as_of), kept);
    assert_eq!(json_of(&world, &at_horizon), kept_there);
    assert_eq!(json_of(&world, &["diff", HORIZON, "2025-10-06"]), difference);
    assert_eq!(sql::rows(&world.database(), "select * from key_drift_daily"), days);
    assert_eq!(sql::rows(&world.database(), "select * from all_keys order by key_id"), keys);
    assert_eq!(json_of(&world, &["runs"]).as_array().unwrap().len(), 4);
    for args in [&["keys", "--as-of", BEFORE][..], &["diff", BEFORE, AFTER][..]] {
        let ran = world.keydrift(args).exits(1);
        insta::allow_duplicates! {
            insta::assert_snapshot!(ran.stderr, @"
            error: what `default` had before 2025-10-03T08:00:00Z is not kept: it was pruned
            hint: ask for 2025-10-03T08:00:00Z or later, or a backup from before it was pruned
            ");
        }
    }
    let first = &json_of(&world, &["log"])[0];
    assert_eq!(first["observed_at"], "2025-10-04T08:00:00Z");
    let ran = world.keydrift(&["show", "key_main"]).succeeds();
    assert!(
        ran.stdout.contains("what was observed of it up to 2025-10-03T08:00:00Z was pruned"),
        "{ran}"
    );
}

#[test]
fn a_pruned_history_is_proven_and_says_by_what_policy() {
    let world = four_days();
    keeping(&world, &["prune"]).succeeds();
    let ran = world.keydrift(&["verify"]).succeeds();
    assert!(ran.stdout.contains("` pruned 1 `used` event up to run 2, 5 other events and 1 notice up to run 2, as `events` = "), "{ran}");
    let status = world.keydrift(&["status", "--format=json"]).run();
    assert_eq!(status.json()[0]["status"], "late", "{status}");
    world.keydrift(&["backup", "copy.db"]).succeeds();
    world.keydrift_on(&world.path().join("copy.db"), &["verify"]).succeeds();
    // And it goes on.
    world.organization().with(keydrift::sim::Organization::add);
    world.keydrift(&["sync"]).succeeds();
    world.keydrift(&["verify"]).succeeds();
    let keys = world.organization().with(|organization| organization.keys().collect::<Vec<_>>());
    oracle::check_inventory(&world.database(), "default", &keys);
    for damage in [
        "update parts set digest = zeroblob(32) where run_id = 1",
        "update keyframes set last_used_at = 1 where key = 1",
    ] {
        let copy = world.path().join("damaged.db");
        std::fs::copy(world.path().join("copy.db"), &copy).unwrap();
        for guard in ["parts_no_update", "keyframes_no_update"] {
            sql::rows(&copy, &format!("drop trigger {guard}"));
        }
        sql::rows(&copy, damage);
        let ran = world.keydrift_on(&copy, &["verify"]).exits(3);
        assert!(ran.stdout.contains("broken: run "), "{ran}");
    }
}

#[test]
fn the_daemon_prunes_by_itself() {
    let world = four_days();
    let started = keeping(&world, &["run"]).start();
    let pruned = "select 1 from act_history where kind = 'pruned'";
    until("it prunes", || {
        sql::try_rows(&world.database(), pruned).is_ok_and(|rows| !rows.is_empty())
    });
    drop(started);
    world.keydrift(&["verify"]).succeeds();
    world.keydrift(&["keys", "--as-of", BEFORE]).exits(1);
    world.keydrift(&["keys", "--as-of", AFTER]).succeeds();
}

#[test]
fn a_forgotten_person_is_nowhere_and_does_not_come_back() {
    let world = four_days();
    let left = || {
        let found = |(_, bytes): &(String, Vec<u8>)| {
            ["Ada Lovelace", "ada@example.com"]
                .iter()
                .any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        };
        listing(world.path()).into_iter().filter(found).map(|(name, _)| name).collect::<Vec<_>>()
    };
    world.organization().with(|organization| {
        organization.set_field("key_main", "owner.email", json!("ada@example.com"));
    });
    world.sync();
    assert_eq!(left().len(), 1);
    let ran = world.keydrift(&["forget", "user-ada"]).succeeds();
    assert_eq!(ran.stdout, "default: `user-ada` is forgotten: 3 values erased\n", "{ran}");
    assert_eq!(left(), [""; 0]);
    let events = json_of(&world, &["log"]);
    world.keydrift(&["sync"]).succeeds();
    assert_eq!(json_of(&world, &["log"]), events);
    assert_eq!(left(), [""; 0]);
    let ran = world.keydrift(&["verify"]).succeeds();
    assert!(ran.stdout.contains("` erased what was known of `user-ada`"), "{ran}");
    let ran = world.keydrift(&["forget", "user-ada"]).succeeds();
    assert_eq!(ran.stdout, "default: `user-ada` was forgotten before\n", "{ran}");
    let main = &json_of(&world, &["show", "key_main"])["key"];
    assert_eq!((&main["owner_name"], &main["owner_id"]), (&json!("erased"), &json!("user-ada")));
    assert_eq!(main["other"]["owner.email"], "erased");
    for nobody in ["Ada Lovelace", "user-bob", ""] {
        let ran = world.keydrift(&["forget", nobody]).exits(1);
        assert!(ran.stderr.contains(&format!("nobody with the id `{nobody}` is known")), "{ran}");
        assert!(ran.stderr.contains("hint: "), "{ran}");
    }
}
