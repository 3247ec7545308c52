//! Checkpoints: what is kept outside the database, and what that finds out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::support::{Keydrift, Ran, Started, World, sql, started};

mod crashes;
mod departures;
mod restores;
mod signed;

/// A checkpoint as its lines say, without our code.
fn blocks(world: &World) -> Vec<String> {
    let text = fs::read_to_string(file(world)).unwrap_or_default();
    let first = "keydrift checkpoint v1\n";
    text.split(first).skip(1).map(|rest| format!("{first}{rest}")).collect()
}

fn file(world: &World) -> PathBuf {
    world.path().join("keys.db.checkpoints")
}

/// The line of a checkpoint that begins with a word.
fn value<'b>(block: &'b str, word: &str) -> &'b str {
    let line = block.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{word}` in {block}"))
}

/// A copy of the database as it is, for a restore.
fn copy(world: &World, name: &str) -> PathBuf {
    let to = world.path().join(name);
    world.keydrift(&["backup"]).arg(&to).succeeds();
    to
}

/// Puts a copy in the place of the database.
fn restore(world: &World, copy: &PathBuf) {
    for suffix in ["-wal", "-shm", ".lock"] {
        drop(fs::remove_file(world.path().join(format!("keys.db{suffix}"))));
    }
    fs::copy(copy, world.database()).unwrap();
}

/// What was said, with what differs from run to run left out.
fn said(world: &World, text: &str) -> String {
    let text = text.replace(&world.path().display().to_string(), "DIR");
    text.lines().map(without_times).collect::<Vec<String>>().join("\n")
}

fn without_times(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        let time = word.len() >= 20 && word.starts_with("20") && word.as_bytes()[10] == b'T';
        if time { format!("TIME{}", &word[20..]) } else { word.to_owned() }
    });
    words.collect::<Vec<String>>().join(" ")
}

fn verify(world: &World, args: &[&str]) -> Ran {
    world.keydrift(&[&["verify"], args].concat()).run()
}

#[test]
fn each_run_leaves_a_checkpoint_of_its_digest() {
    let world = World::new(3);
    world.sync();
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-admin-wrong").exits(1);
    world.sync();
    let blocks = blocks(&world);
    assert_eq!(blocks.len(), 3);
    let id = sql::value(&world.database(), "select id from installation");
    let runs = "select run_id, digest, finished_at from run_history order by run_id";
    for (block, run) in blocks.iter().zip(sql::rows(&world.database(), runs)) {
        let expected = format!(
            "keydrift checkpoint v1\ndatabase {}\norganization default\nrun {}\ndigest {}\ntime {}\n\n",
            id.as_str().unwrap(),
            run["run_id"],
            run["digest"].as_str().unwrap(),
            run["finished_at"].as_str().unwrap(),
        );
        assert_eq!(*block, expected);
    }
    let mode = file(&world).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let verified = verify(&world, &[]);
    assert_eq!(verified.code, Some(0), "{verified}");
    assert!(
        verified.stdout.contains("default: 3 checkpoints agree, the newest of run 3 (unsigned)\n"),
        "{verified}"
    );
    let json = verify(&world, &["--format=json"]).json();
    assert_eq!(json[0]["checkpoints"], 3);
    assert_eq!(json[0]["signed"], 0);
    assert_eq!(json[0]["ignored"], 0);
}

#[test]
fn checkpoints_of_another_database_are_ignored_and_counted() {
    let (world, other) = (World::new(3), World::new(3));
    world.sync();
    other.sync();
    let other = file(&other).display().to_string();
    let verified = verify(&world, &["--checkpoints", &other]);
    assert_eq!(verified.code, Some(0), "{verified}");
    assert!(verified.stdout.contains("1 checkpoint of other databases ignored\n"), "{verified}");
    let nowhere = verify(&world, &["--checkpoints", "nowhere"]);
    assert_eq!(nowhere.code, Some(1));
    insta::assert_snapshot!(said(&world, &nowhere.stderr), @"
    error: the checkpoint file `nowhere` cannot be read
      caused by: No such file or directory (os error 2)
    hint: make `nowhere` readable for this user, or name the right file
    ");
}

#[test]
fn verify_asks_the_journal() {
    let world = World::new(3);
    world.sync();
    world.sync();
    let checkpoints = fs::read_to_string(file(&world)).unwrap();
    fs::remove_file(file(&world)).unwrap();
    // As systemd prints a field: a text, or its bytes.
    let (first, second) = checkpoints.split_at(checkpoints.find("\n\n").unwrap() + 2);
    let lines = format!(
        "{}\n{}\n",
        serde_json::json!({ "KEYDRIFT_CHECKPOINT": first }),
        serde_json::json!({ "KEYDRIFT_CHECKPOINT": second.as_bytes() }),
    );
    fs::write(world.path().join("journal.json"), lines).unwrap();
    let script = world.path().join("journalctl");
    fs::write(&script, "#!/bin/sh\necho \"$@\" > asked\ncat journal.json\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", world.path().display());
    let verified = world.keydrift(&["verify", "--journal"]).env("PATH", &path).succeeds();
    assert!(verified.stdout.contains("2 checkpoints agree, the newest of run 2"), "{verified}");
    let asked = fs::read_to_string(world.path().join("asked")).unwrap();
    let id = keydrift::telemetry::message::CHECKPOINT;
    assert!(asked.contains(&format!("MESSAGE_ID={id}")), "{asked}");
    fs::write(&script, "#!/bin/sh\necho 'no journal here' >&2\nexit 1\n").unwrap();
    let failed = world.keydrift(&["verify", "--journal"]).env("PATH", &path).exits(1);
    insta::assert_snapshot!(failed.stderr, @"
    error: the journal could not be read: `journalctl` says: no journal here
    hint: `journalctl` has to be there, and its journal yours to read
    ");
    // More than a pipe takes is on stderr before anything is on stdout.
    let chatty = "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x >&2\ncat journal.json\n";
    fs::write(&script, chatty).unwrap();
    let verified = world.keydrift(&["verify", "--journal"]).env("PATH", &path).succeeds();
    assert!(verified.stdout.contains("2 checkpoints agree"), "{verified}");
    for (end, told) in [
        ("exit 4", "`journalctl` ended with exit status: 4"),
        ("kill -9 $$", "`journalctl` ended with signal: 9 (SIGKILL)"),
    ] {
        fs::write(&script, format!("#!/bin/sh\ncat journal.json\n{end}\n")).unwrap();
        let failed = world.keydrift(&["verify", "--journal"]).env("PATH", &path).exits(1);
        assert!(failed.stderr.contains(told), "{failed}");
    }
    let missing = world.keydrift(&["verify", "--journal"]).env("PATH", "/nowhere").exits(1);
    assert!(missing.stderr.contains("`journalctl` could not be run"), "{missing}");
}

#[test]
fn a_checkpoint_is_told_in_the_log() {
    let world = World::new(3);
    let ran = world.keydrift(&["sync", "-v", "--log-format=json"]).succeeds();
    let id = keydrift::telemetry::message::CHECKPOINT;
    let line = ran.stderr.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{ran}"));
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let digest = sql::value(&world.database(), "select digest from run_history");
    assert_eq!(line["audit.head"], digest);
    assert_eq!(line["run.id"], 1);
    assert_eq!(line["org.label"], "default");
    assert_eq!(line["checkpoint"].as_str(), Some(blocks(&world)[0].as_str()));
    let quiet = world.keydrift(&["sync"]).succeeds();
    assert!(!quiet.stderr.contains("checkpoint"), "{quiet}");
}

/// The binary as a daemon on this world.
fn daemon(world: &World) -> Started {
    world.keydrift(&["run"]).start()
}

#[test]
fn the_daemon_stays_up_on_a_database_that_departs_and_says_so() {
    let world = World::new(3);
    world.sync();
    let older = copy(&world, "older.db");
    world.sync();
    restore(&world, &older);
    let daemon = daemon(&world);
    started::until("a run is refused", || daemon.stderr().contains("not synced, and not recorded"));
    let stderr = daemon.stderr();
    assert!(stderr.contains("is older than its checkpoint: it ends with run 1"), "{stderr}");
    daemon.signal(Signal::TERM);
    let ended = daemon.exits(0);
    assert!(!ended.stderr.contains("panicked"), "{ended}");
    assert_eq!(sql::integer(&world.database(), "select count(*) from run_history"), 1);
}

fn keydrift_on(world: &World, variables: &[(&str, &str)], args: &[&str]) -> Keydrift {
    let keydrift = world.keydrift(args);
    variables.iter().fold(keydrift, |keydrift, (name, value)| keydrift.env(name, value))
}
