//! Evidence packs through the binary: the same bytes each time, right at both ends, and no edit goes unseen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use keydrift::evidence::archive::{self, Builder, Entry};
use keydrift::evidence::{MANIFEST, Manifest, NOTE};
use serde_json::{Map, Value};

use crate::support::{History, Keydrift, Ran, World, sql};

pub type Files = BTreeMap<String, Vec<u8>>;

/// What the digests of events cover: who did it is in a file of its own.
const EVENT: &str = "event_id, run_id, observed_at, previous_observed_at, organization, scope, key_id, \
                     key_name, event, field, old_value, new_value";

pub fn make(history: &History, from: &str, to: &str, name: &str) -> PathBuf {
    let path = history.world.path().join(name);
    let output = path.to_str().unwrap();
    history.world.keydrift(&["evidence", "--from", from, "--to", to, "-o", output]).succeeds();
    path
}

/// With nothing but the file.
pub fn verify(pack: &Path) -> Ran {
    let home = tempfile::tempdir().unwrap();
    Keydrift::new(home.path()).args(["evidence", "verify"]).arg(pack).run()
}

/// What the script says of the unpacked files, held against what the binary said; loudly, where there is no Python.
#[expect(clippy::print_stderr, reason = "nobody may take it for tested")]
#[track_caller]
pub fn script_agrees(pack: &Path, ran: &Ran, keys: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files(pack) {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_keydrift.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(script).arg(directory.path());
    command.args(keys.iter().flat_map(|key| ["--public-key", key]));
    let Ok(output) = command.output() else {
        eprintln!("!!! there is no python3: docs/verify_keydrift.py is NOT TESTED");
        return;
    };
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert_eq!(output.status.code(), ran.code, "the script: {said}\nthe binary: {ran}");
    // The first bad run, if there is one.
    let bad = |text: &str| {
        let run = text.split("broken: run ").nth(1)?.split(": ").next()?.to_owned();
        Some(run).filter(|run| run != "0")
    };
    assert_eq!(bad(&said), bad(&ran.stdout), "the script: {said}\nthe binary: {ran}");
}

pub fn files(pack: &Path) -> Files {
    archive::read(std::fs::File::open(pack).unwrap()).unwrap()
}

/// Packs the files as somebody would who edits them, and the manifest with them.
pub fn pack_again(files: &Files, path: &Path) {
    let mut manifest = Manifest::read(&files[MANIFEST]).unwrap();
    let mut builder = Builder::new(std::fs::File::create(path).unwrap(), 0);
    for (name, content) in files.iter().filter(|(name, _)| *name != MANIFEST) {
        builder.add(name, content).unwrap();
    }
    manifest.files = builder.entries().iter().filter(|entry| entry.name != NOTE).cloned().collect();
    builder.add(MANIFEST, &serde_json::to_vec(&manifest).unwrap()).unwrap();
    builder.finish().unwrap();
}

fn lines(content: &[u8]) -> Vec<Map<String, Value>> {
    let text = std::str::from_utf8(content).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const ALL: (&str, &str) = ("2026-09-01", "2026-10-08");
/// The same behind a horizon at noon of the third.
const SOME_KEPT: (&str, &str) = ("2026-10-04T12:00:00Z", "2026-10-06T12:00:00Z");
const SOME: (&str, &str) = ("2026-10-02T12:00:00Z", "2026-10-06T12:00:00Z");

#[test]
fn a_period_gives_the_same_bytes_each_time_and_holds_anywhere() {
    let history = History::eventful();
    for (number, (from, to)) in [ALL, SOME, ("2026-10-03", "2026-10-03")].into_iter().enumerate() {
        let first = make(&history, from, to, &format!("{number}-a.tar.gz"));
        let second = make(&history, from, to, &format!("{number}-b.tar.gz"));
        assert!(std::fs::read(&first).unwrap() == std::fs::read(second).unwrap());
        let ran = verify(&first);
        assert_eq!(ran.code, Some(0), "{ran}");
        assert!(ran.stdout.ends_with("\nwhole and unedited\n"), "{ran}");
        script_agrees(&first, &ran, &[]);
    }
    // Nor does what happens later change it.
    let (from, to) = SOME;
    let before = make(&history, from, to, "before.tar.gz");
    history.world.organization().with(keydrift::sim::Organization::add);
    history.sync("2026-10-09T08:00:00Z");
    let after = make(&history, from, to, "after.tar.gz");
    assert!(std::fs::read(before).unwrap() == std::fs::read(after).unwrap());
}

const PROJECT_COLUMNS: [&str; 3] =
    ["owner_project_access", "project_archived", "project_archived_at"];

#[test]
fn it_has_the_inventory_at_both_ends_and_all_between() {
    let history = History::eventful();
    let (from, to) = SOME;
    let files = files(&make(&history, from, to, "pack.tar.gz"));
    let as_of = |time: &str| {
        let ran = history.world.keydrift(&["keys", "--as-of", time, "--format", "ndjson"]);
        let mut rows = lines(ran.succeeds().stdout.as_bytes());
        for row in &mut rows {
            let other = row["other"].to_string();
            row.insert("other".to_owned(), other.into());
            // What these say stands in `other`.
            row.retain(|column, _| !PROJECT_COLUMNS.contains(&column.as_str()));
        }
        rows.into_iter().map(|row| (row["key_id"].to_string(), row)).collect::<BTreeMap<_, _>>()
    };
    for (name, time) in [("keys_before.ndjson", from), ("all_keys.ndjson", to)] {
        let expected = as_of(time);
        let present = lines(&files[name]).into_iter().filter(|row| row["removed_at"].is_null());
        let found: BTreeMap<String, Map<String, Value>> = present
            .map(|mut row| {
                let later =
                    ["own_key", "first_seen_at", "last_seen_at", "removed_at", "unconfirmed"];
                row.retain(|column, _| !later.contains(&column.as_str()));
                (row["key_id"].to_string(), row)
            })
            .collect();
        assert_eq!(found, expected, "{name}");
    }
    let database = history.world.database();
    let within =
        "where observed_at > '2026-10-02T12:00:00Z' and observed_at <= '2026-10-06T12:00:00Z'";
    let events = sql::rows(
        &database,
        &format!("select {EVENT} from audit_history {within} order by event_id"),
    );
    assert_eq!(lines(&files["audit_history.ndjson"]), events);
    assert!(events.len() > 3);
    let runs = within.replace("observed_at", "finished_at");
    let runs = sql::rows(&database, &format!("select * from run_history {runs} order by run_id"));
    assert_eq!(lines(&files["run_history.ndjson"]), runs);
    assert_eq!(runs.len(), 4);
    let coverage: Value = serde_json::from_slice(&files["coverage.json"]).unwrap();
    assert_eq!(coverage[0]["first_run"]["run_id"], 3);
    assert_eq!(coverage[0]["last_run"]["run_id"], 6);
    assert!(!coverage[0]["gaps"].as_array().unwrap().is_empty());
    let all: Vec<u8> = files.into_values().flatten().collect();
    let credential = history.world.organization().credential();
    assert!(!String::from_utf8(all).unwrap().contains(&credential));
}

#[test]
fn whatever_is_edited_in_it_is_found() {
    let history = History::eventful();
    let (from, to) = SOME;
    let pack = make(&history, from, to, "pack.tar.gz");
    let original = files(&pack);
    let edited = history.world.path().join("edited.tar.gz");
    // One digit of each line of each file that the verdict rests on.
    let mut tried = 0;
    for name in [
        "audit_history.ndjson",
        "run_history.ndjson",
        "run_parts.ndjson",
        "notice_history.ndjson",
        "keys_before.ndjson",
        "all_keys.ndjson",
        "start.json",
        "chains.ndjson",
    ] {
        let text = String::from_utf8(original[name].clone()).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for at in 0..lines.len() {
            let line = lines[at].clone();
            // Of a key, when it was made: nothing else in the line is before it.
            let place = if name == "keys_before.ndjson" {
                line.find(|c: char| c.is_ascii_digit())
            } else {
                line.rfind(|c: char| c.is_ascii_digit())
            };
            let Some(place) = place else { continue };
            let digit = if line.as_bytes()[place] == b'1' { "2" } else { "1" };
            lines[at].replace_range(place..=place, digit);
            let mut files = original.clone();
            files.insert(name.to_owned(), (lines.join("\n") + "\n").into_bytes());
            pack_again(&files, &edited);
            let ran = verify(&edited);
            let is_origin = name == "chains.ndjson";
            assert!(is_origin || ran.code == Some(3), "{name} line {at}: {}\n{ran}", lines[at]);
            script_agrees(&edited, &ran, &[]);
            tried += 1;
            lines[at] = line;
        }
        // A line less.
        if name.ends_with(".ndjson") && !lines.is_empty() {
            lines.remove(lines.len() / 2);
            let mut files = original.clone();
            files.insert(
                name.to_owned(),
                lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>().into(),
            );
            pack_again(&files, &edited);
            let ran = verify(&edited);
            assert_eq!(ran.code, Some(3), "{name}: a line less");
            script_agrees(&edited, &ran, &[]);
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn a_pack_that_is_not_as_it_was_packed_is_broken() {
    let history = History::eventful();
    let (from, to) = SOME;
    let pack = make(&history, from, to, "pack.tar.gz");
    let original = files(&pack);
    let edited = history.world.path().join("edited.tar.gz");
    let repack = |files: &Files| {
        let mut builder = Builder::new(std::fs::File::create(&edited).unwrap(), 0);
        for (name, content) in files {
            builder.add(name, content).unwrap();
        }
        builder.finish().unwrap();
        let ran = verify(&edited);
        if ran.code != Some(1) {
            script_agrees(&edited, &ran, &[]);
        }
        ran
    };
    assert_eq!(repack(&original).code, Some(0));
    let mut other = original.clone();
    other.get_mut("README.md").unwrap().push(b'!');
    let ran = repack(&other);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stdout.contains("`README.md` is not what the manifest says"), "{ran}");
    let mut other = original.clone();
    other.remove("coverage.json");
    assert!(repack(&other).stdout.contains("`coverage.json` is missing"));
    let mut other = original.clone();
    other.insert("more.txt".to_owned(), Vec::new());
    assert!(repack(&other).stdout.contains("`more.txt` is not in the manifest"));
    let mut manifest: Value = serde_json::from_slice(&original[MANIFEST]).unwrap();
    manifest["format"] = "keydrift/evidence/2".into();
    let mut other = original.clone();
    other.insert(MANIFEST.to_owned(), serde_json::to_vec(&manifest).unwrap());
    let ran = repack(&other);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("its manifest is of another format"), "{ran}");
    std::fs::write(&edited, "no archive").unwrap();
    assert_eq!(verify(&edited).code, Some(1));
    let entries: Vec<Entry> = Manifest::read(&original[MANIFEST]).unwrap().files;
    assert_eq!(entries.len(), original.len() - 1);
}

#[test]
#[expect(clippy::print_stderr, reason = "nobody may take it for tested")]
fn a_pack_has_what_every_pack_has_and_verifies_itself() {
    let history = History::eventful();
    let (from, to) = SOME;
    let pack = make(&history, from, to, "pack.tar.gz");
    let original = files(&pack);
    let edited = history.world.path().join("edited.tar.gz");
    let fixed = [
        "README.md",
        "coverage.json",
        "configuration.json",
        "checkpoints.txt",
        "verify_keydrift.py",
        "verify_signatures.py",
    ];
    for name in fixed {
        let mut files = original.clone();
        files.remove(name).unwrap();
        pack_again(&files, &edited);
        let ran = verify(&edited);
        assert_eq!(ran.code, Some(3), "{name}: {ran}");
        assert!(ran.stdout.contains(&format!("`{name}` is missing from the manifest")), "{ran}");
        script_agrees(&edited, &ran, &[]);
    }
    // With the scripts that are in it, which leave no trace in it.
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in &original {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    let mut command = Command::new("python3");
    command.arg(directory.path().join("verify_keydrift.py")).arg(directory.path());
    for _ in 0..2 {
        let Ok(output) = command.output() else {
            eprintln!("!!! there is no python3: the scripts in packs are NOT TESTED");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("default whole: "), "{said}");
    }
}

#[test]
fn mistakes_are_said_and_no_file_takes_the_place_of_another() {
    let history = History::eventful();
    let (from, to) = SOME;
    let pack = make(&history, from, to, "pack.tar.gz");
    let before = std::fs::read(&pack).unwrap();
    let evidence = |from: &str, to: &str| {
        let args = ["evidence", "--from", from, "--to", to, "-o", pack.to_str().unwrap()];
        history.world.keydrift(&args)
    };
    let ran = evidence(from, to).exits(1);
    assert!(ran.stderr.contains("it is there already"), "{ran}");
    let ran = evidence(to, from).exits(2);
    assert!(ran.stderr.contains("is after"), "{ran}");
    let ran = evidence(from, "2999-01-01").exits(2);
    assert!(ran.stderr.contains("is yet to come"), "{ran}");
    assert!(std::fs::read(&pack).unwrap() == before);
    // Of a history that does not hold, there is no evidence.
    let database = history.world.database();
    sql::rows(&database, "drop trigger audit_no_update");
    sql::rows(&database, "update audit set old_value = 'x' where event = 'changed' and run_id = 2");
    let output = history.world.path().join("none.tar.gz");
    let args = ["evidence", "--from", from, "--to", to, "-o", output.to_str().unwrap()];
    let ran = history.world.keydrift(&args).exits(3);
    assert!(ran.stdout.contains("default: broken: run 2: "), "{ran}");
    assert!(!output.exists());
    let left = std::fs::read_dir(history.world.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
fn a_signed_pack_is_told_from_any_other_and_its_checkpoints_are_held_against_it() {
    let world = World::new(8);
    let key = world.path().join("signing.key");
    let keygen = world.keydrift(&["checkpoint", "keygen", key.to_str().unwrap()]);
    let public = keygen.succeeds().stdout.trim().to_owned();
    for _ in 0..3 {
        world.organization().with(keydrift::sim::Organization::add);
        let sync = world.keydrift(&["sync"]);
        sync.env("KEYDRIFT__CHECKPOINT__KEY_FILE", &key).succeeds();
    }
    let pack = world.path().join("pack.tar.gz");
    let args = ["evidence", "--from", "2020-01-01", "--to", "now", "-o", pack.to_str().unwrap()];
    world.keydrift(&args).env("KEYDRIFT__CHECKPOINT__KEY_FILE", &key).succeeds();
    let ran = verify(&pack);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stderr.contains("signature of the manifest was not checked"), "{ran}");
    let with_key = |pack: &Path, key: &str| {
        let home = tempfile::tempdir().unwrap();
        let args = ["evidence", "verify", "--public-key", key];
        let ran = Keydrift::new(home.path()).args(args).arg(pack).run();
        script_agrees(pack, &ran, &[key]);
        ran
    };
    let ran = with_key(&pack, &public);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stderr.contains("the manifest is signed by `"), "{ran}");
    assert!(
        ran.stdout.contains("default: 3 checkpoints agree, the newest of run 3 (signed by `"),
        "{ran}"
    );
    // Another key, a manifest that was edited, none at all.
    let other = world.path().join("other.key");
    let other = world.keydrift(&["checkpoint", "keygen", other.to_str().unwrap()]);
    let other = other.succeeds().stdout.trim().to_owned();
    let ran = with_key(&pack, &other);
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(ran.stdout.contains("its manifest is not signed by a key that was given"), "{ran}");
    let edited = world.path().join("edited.tar.gz");
    let mut files = files(&pack);
    files.get_mut("README.md").unwrap().push(b'!');
    pack_again(&files, &edited);
    assert_eq!(verify(&edited).code, Some(0));
    assert_eq!(with_key(&edited, &public).code, Some(3));
    // A history that is not the one that was published.
    files = super::evidence::files(&pack);
    let text = String::from_utf8(files["checkpoints.txt"].clone()).unwrap();
    let digest = text.lines().find_map(|line| line.strip_prefix("digest ")).unwrap().to_owned();
    let text = text.replace(&digest, &"0".repeat(64));
    files.insert("checkpoints.txt".to_owned(), text.into_bytes());
    pack_again(&files, &edited);
    let ran = verify(&edited);
    assert_eq!(ran.code, Some(3), "{ran}");
    script_agrees(&edited, &ran, &[]);
    assert!(
        ran.stdout.contains("default: broken: run 1: a checkpoint has another digest of run 1"),
        "{ran}"
    );
}

#[test]
fn packs_of_a_pruned_history_and_of_forgotten_people_hold_wherever_they_are_kept() {
    let history = History::eventful();
    let cutoff: keydrift::clock::Timestamp = "2026-10-03T12:00:00Z".parse().unwrap();
    let owners = "select distinct owner_id as id from all_keys";
    assert_eq!(sql::rows(&history.world.database(), owners).len(), 2);
    let hold = |name: &str| {
        for (number, (from, to)) in
            [("2026-10-03T12:00:00Z", "2026-10-08"), SOME_KEPT, ("2026-10-07T12:00:00Z", "now")]
                .into_iter()
                .enumerate()
        {
            let pack = make(&history, from, to, &format!("{name}-{number}.tar.gz"));
            let ran = verify(&pack);
            assert_eq!(ran.code, Some(0), "{name} {number}: {ran}");
            script_agrees(&pack, &ran, &[]);
        }
    };
    hold("before");
    let now = sql::integer(&history.world.database(), "select unixepoch()");
    let hours = (now - cutoff.unix()) / 3_600;
    let prune = history.world.keydrift(&["prune"]);
    prune.env("KEYDRIFT__RETENTION__EVENTS", format!("{hours}h")).succeeds();
    hold("pruned");
    for owner in ["user-ada", "svc_ci"] {
        history.world.keydrift(&["forget", owner]).succeeds();
        hold(owner);
    }
    // What is edited of such a pack is found by both.
    let (from, to) = SOME_KEPT;
    let original = files(&make(&history, from, to, "pack.tar.gz"));
    let edited = history.world.path().join("edited.tar.gz");
    for name in
        ["erased_values.ndjson", "all_keys.ndjson", "keys_before.ndjson", "run_parts.ndjson"]
    {
        let text = String::from_utf8(original[name].clone()).unwrap();
        let mut files = original.clone();
        let less: String = text.lines().skip(1).flat_map(|line| [line, "\n"]).collect();
        files.insert(name.to_owned(), less.into_bytes());
        pack_again(&files, &edited);
        script_agrees(&edited, &verify(&edited), &[]);
        files.insert(name.to_owned(), text.replace("erased", "Somebody").into_bytes());
        pack_again(&files, &edited);
        script_agrees(&edited, &verify(&edited), &[]);
    }
    // Of what is no longer kept there is none.
    let output = history.world.path().join("none.tar.gz");
    let (from, to) = SOME;
    let args = ["evidence", "--from", from, "--to", to, "-o", output.to_str().unwrap()];
    let ran = history.world.keydrift(&args).exits(1);
    assert!(ran.stderr.contains("is not kept: it was pruned"), "{ran}");
    assert!(!output.exists());
}
