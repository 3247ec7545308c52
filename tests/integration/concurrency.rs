//! Several processes on one database: one writer at a time, and readers in nobody's way.

use std::path::Path;
use std::time::{Duration, Instant};

use keydrift::sim::Organization;

use crate::support::sql::Session;
use crate::support::{Gate, Started, World, oracle, sql, until};

/// A sync that is held up in the middle of its scan.
fn held_sync(world: &World) -> (Started, Gate) {
    let gate = Gate::before_list(&world.organization(), 2);
    let sync = world.keydrift(&["sync"]).start();
    gate.is_reached();
    (sync, gate)
}

fn run_count(world: &World) -> i64 {
    sql::integer(&world.database(), "select count(*) from run_history")
}

#[test]
fn a_second_sync_says_whom_it_waits_for_and_then_runs() {
    let world = World::new(250);
    let (first, gate) = held_sync(&world);
    let mut second = world.keydrift(&["sync"]).start();
    until("the second one says that it waits", || second.stderr().contains('\n'));
    let told = second.stderr();
    let pid = first.pid();
    assert!(
        told.starts_with(&format!("waiting for process {pid} (a sync of `default` since 20")),
        "{told}"
    );
    assert!(second.is_running());
    gate.open();
    first.exits(0);
    second.exits(0);
    world.check();
    assert_eq!(run_count(&world), 2);
    assert_eq!(sql::integer(&world.database(), "select count(*) from audit_history"), 250);
}

#[test]
fn a_second_sync_that_may_not_wait_gives_up_and_loses_nothing() {
    let world = World::new(250);
    let (first, gate) = held_sync(&world);
    let ran = world.keydrift(&["sync"]).env("KEYDRIFT__DATABASE__LOCK_TIMEOUT", "0s").exits(1);
    let holder = format!("error: process {} (a sync of `default` since ", first.pid());
    assert!(ran.stderr.starts_with(&holder), "{ran}");
    assert!(ran.stderr.contains("hint: wait for it to end"), "{ran}");
    assert_eq!(ran.stdout, "");
    gate.open();
    first.exits(0);
    world.check();
    let said = world.sync();
    assert_eq!(said.stderr, "", "the one that gave up touched the note of the first");
    assert_eq!(run_count(&world), 2);
}

#[test]
fn the_lock_is_free_when_its_holder_is_killed() {
    let world = World::new(250);
    let (first, gate) = held_sync(&world);
    let second = world.keydrift(&["sync"]).start();
    until("the second one waits", || second.stderr().contains("waiting for"));
    assert!(first.kill());
    gate.open();
    let ran = second.exits(0);
    assert!(ran.stderr.contains("an earlier run of `default` was interrupted"), "{ran}");
    world.check();
    let runs = sql::rows(&world.database(), "select status from run_history order by run_id");
    assert_eq!(
        serde_json::json!(runs),
        serde_json::json!([{"status": "failed"}, {"status": "ok"}])
    );
}

#[test]
fn other_names_of_one_database_have_the_same_lock() {
    let world = World::new(250);
    let link = world.path().join("link.db");
    std::os::unix::fs::symlink(world.database(), &link).unwrap();
    let directory = world.path().join("directory");
    std::os::unix::fs::symlink(world.path(), &directory).unwrap();
    let (first, gate) = held_sync(&world);
    let names =
        [link.as_path(), &directory.join("keys.db"), Path::new("keys.db"), Path::new("./link.db")];
    for name in names {
        let ran = world
            .keydrift_on(name, &["sync"])
            .env("KEYDRIFT__DATABASE__LOCK_TIMEOUT", "0s")
            .exits(1);
        assert!(ran.stderr.contains(&format!("process {} ", first.pid())), "{ran}");
    }
    gate.open();
    first.exits(0);
    world.check();
}

#[test]
fn a_link_to_a_database_that_is_yet_to_be_made_has_its_lock() {
    let world = World::new(250);
    let link = world.path().join("link.db");
    std::os::unix::fs::symlink("keys.db", &link).unwrap();
    let gate = Gate::before_list(&world.organization(), 2);
    let first = world.keydrift_on(&link, &["sync"]).start();
    gate.is_reached();
    let ran = world.keydrift(&["sync"]).env("KEYDRIFT__DATABASE__LOCK_TIMEOUT", "0s").exits(1);
    assert!(ran.stderr.contains(&format!("process {} ", first.pid())), "{ran}");
    gate.open();
    first.exits(0);
    world.check();
}

#[test]
fn reading_commands_answer_while_a_sync_is_under_way() {
    let world = World::new(250);
    world.sync();
    let read = || -> Vec<String> {
        [["keys", "--format=csv"], ["log", "--format=csv"], ["runs", "--format=csv"]]
            .map(|args| world.keydrift(&args).succeeds().stdout)
            .into()
    };
    let before = read();
    assert!(before[0].lines().count() > 250);
    world.organization().with(Organization::add);
    let (sync, gate) = held_sync(&world);
    assert!(read() == before, "they see another state than the last recorded one");
    gate.open();
    sync.exits(0);
    world.check();
    // And while somebody has begun to write.
    let before = read();
    let mut writer = Session::open(&world.database());
    writer.run("begin exclusive");
    writer.run("update organizations set header = 'another'");
    assert!(read() == before, "they see what is not recorded");
    writer.run("rollback");
    writer.close();
}

#[test]
fn a_reader_in_the_middle_of_reading_does_not_hold_up_a_sync() {
    let world = World::new(250);
    world.sync();
    let mut reader = Session::open(&world.database());
    reader.run("begin");
    let before = reader.run("select * from current_keys");
    world.organization().with(Organization::add);
    let began = Instant::now();
    let ran = world.sync();
    assert!(ran.stdout.contains("1 added"), "{ran}");
    assert!(began.elapsed() < Duration::from_secs(4), "it waited for the reader");
    assert_eq!(reader.run("select * from current_keys"), before);
    reader.run("commit");
    assert_eq!(reader.run("select * from current_keys").len(), before.len() + 1);
    // The reader may keep the write-ahead log, but the next sync cuts it back.
    world.sync();
    let log = world.path().join("keys.db-wal");
    assert_eq!(log.metadata().unwrap().len(), 0);
    reader.close();
}

/// Its log is there but empty, so that whoever may only read the files can.
#[test]
fn the_log_of_a_database_at_rest_is_empty() {
    let world = World::new(250);
    let log = world.path().join("keys.db-wal");
    for command in ["sync", "keys", "log", "runs", "sync"] {
        world.keydrift(&[command]).succeeds();
        assert_eq!(log.metadata().unwrap().len(), 0, "{command}");
    }
    world.check();
}

/// This one takes as long as a foreign writer is waited for: five seconds.
#[test]
fn a_run_that_a_foreign_writer_kept_out_is_owed_and_recorded_by_the_next() {
    let world = World::new(120);
    world.sync();
    world.organization().with(Organization::add);
    let mut foreign = Session::open(&world.database());
    foreign.run("begin exclusive");
    let began = Instant::now();
    let ran = world.keydrift(&["sync"]).exits(1);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(ran.stderr.contains("is locked by another program"), "{ran}");
    assert!(ran.stderr.contains("hint: close the program"), "{ran}");
    assert!(ran.stderr.contains("could not be recorded; the next one records it"), "{ran}");
    assert!(!ran.stdout.contains("1 added"), "{ran}");
    foreign.run("rollback");
    assert_eq!(run_count(&world), 1);
    let ran = world.sync();
    assert!(ran.stderr.contains("an earlier run of `default` could not be recorded then"), "{ran}");
    let owed = sql::rows(
        &world.database(),
        "select status, trigger, keys_seen, requests, error from run_history where run_id = 2",
    );
    let expected = serde_json::json!([{
        "status": "failed", "trigger": "manual", "keys_seen": 121, "requests": 3,
        "error": format!(
            "the database could not be used: the database `{}` is locked by another program",
            world.database().display()
        ),
    }]);
    assert_eq!(serde_json::json!(owed), expected);
    assert_eq!(run_count(&world), 3);
    oracle::check_consistent(&world.database());
    foreign.close();
}

/// A run that can't even record an earlier one is not forgotten either: no slot of a schedule is.
#[test]
fn each_run_while_the_database_cannot_be_written_is_recorded_in_the_end() {
    let world = World::new(20);
    world.sync();
    let mut foreign = Session::open(&world.database());
    foreign.run("begin exclusive");
    let syncs: Vec<_> = (0..2).map(|_| world.keydrift(&["sync"]).exits(1)).collect();
    assert!(
        syncs.iter().all(|ran| ran.stderr.contains("is locked by another program")),
        "{syncs:?}"
    );
    foreign.run("rollback");
    foreign.close();
    world.sync();
    let statuses = sql::rows(&world.database(), "select status from run_history order by run_id");
    let statuses: Vec<&str> = statuses.iter().map(|row| row["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["ok", "failed", "failed", "ok"]);
}
