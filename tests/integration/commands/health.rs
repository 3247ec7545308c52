//! `status` and `backup`.

use std::path::Path;

use keydrift::run::Status;
use keydrift::sim::{Fault, Matcher};

use crate::support::history::History;
use crate::support::started::{Gate, until};
use crate::support::world::World;
use crate::support::{oracle, sql};

const EACH_SECOND: &str = "* * * * * *";

/// The exit code of `status`, and the row of the organization.
fn status(world: &World, cron: &str) -> (i32, serde_json::Value) {
    let ran = world
        .keydrift(&["status", "--format", "json"])
        .without_env("OPENAI_ADMIN_KEY")
        .env("KEYDRIFT__SCHEDULE__CRON", cron)
        .run();
    let rows = ran.json();
    (ran.code.unwrap(), rows[0].clone())
}

#[test]
fn a_run_that_is_under_way_is_named() {
    let world = World::new(5);
    let gate = Gate::before(&world.organization(), Matcher::list());
    let started = world.keydrift(&["sync"]).start();
    gate.is_reached();
    let row = &world.keydrift(&["status", "--format", "json"]).exits(3).json()[0];
    assert!(row["running_since"].is_string(), "{row}");
    let table = world.keydrift(&["status"]).exits(3);
    assert!(table.stdout.contains("default: a run is under way since 2"), "{table}");
    assert!(table.stdout.contains("`api.run_deadline` ends one that hangs"), "{table}");
    gate.open();
    started.ends();
    let row = &world.keydrift(&["status", "--format", "json"]).succeeds().json()[0];
    assert!(row["running_since"].is_null(), "{row}");
}

#[test]
fn after_a_good_run_it_is_healthy_and_says_when_the_next_is_due() {
    let world = World::new(5);
    world.sync();
    let (code, row) = status(&world, "0 0 1 1 *");
    assert_eq!((code, &row["status"], &row["healthy"]), (0, &"ok".into(), &true.into()));
    assert_eq!((&row["keys"], &row["last_run_trigger"]), (&5.into(), &"manual".into()));
    assert!(row["next_run_at"].as_str().unwrap().contains("-01-01T00:0"), "{row}");
    assert!(row["problem"].is_null());
    let told = world.keydrift(&["status"]).succeeds().stdout;
    assert!(told.ends_with("\nhealthy\n"), "{told}");
}

#[test]
fn a_success_that_is_older_than_two_intervals_is_late() {
    let world = World::new(5);
    world.sync();
    until("it is late", || status(&world, EACH_SECOND).0 == 3);
    let (_, row) = status(&world, EACH_SECOND);
    assert_eq!((&row["status"], &row["healthy"]), (&"late".into(), &false.into()));
    let ran = world.keydrift(&["status"]).env("KEYDRIFT__SCHEDULE__CRON", EACH_SECOND).exits(3);
    assert!(ran.stdout.contains("default: no run has succeeded since "), "{ran}");
    assert!(ran.stdout.ends_with("\nnot healthy\n"), "{ran}");
}

#[test]
fn a_success_in_the_future_is_no_proof_of_health() {
    let history = History::small();
    assert_eq!(history.sync("2999-01-01T00:00:00Z"), Status::Ok);
    let (code, row) = status(&history.world, "0 * * * *");
    assert_eq!((code, &row["status"]), (3, &"late".into()));
    assert!(row["problem"].as_str().unwrap().contains("the clock was set back"), "{row}");
    // The clock is right again: what counts is when the next good run began, though its end is not before the
    // other's.
    history.world.keydrift(&["sync"]).succeeds();
    let (code, row) = status(&history.world, "0 * * * *");
    assert_eq!((code, &row["status"]), (0, &"ok".into()), "{row}");
    until("it is late", || status(&history.world, EACH_SECOND).0 == 3);
}

#[test]
fn a_failed_run_is_told_of_and_none_that_succeeded_is_not_healthy() {
    let world = World::new(5);
    world.organization().fault(Matcher::list(), Fault::status(401));
    world.keydrift(&["sync"]).exits(1);
    let (code, row) = status(&world, "0 * * * *");
    assert_eq!((code, &row["status"]), (3, &"never synced".into()));
    world.organization().clear_faults();
    world.sync();
    world.organization().fault(Matcher::list(), Fault::status(401));
    world.keydrift(&["sync"]).exits(1);
    let (code, row) = status(&world, "0 * * * *");
    assert_eq!(
        (code, &row["status"], &row["last_run_status"]),
        (0, &"failing".into(), &"failed".into())
    );
    assert!(row["problem"].as_str().unwrap().contains("401"), "{row}");
}

#[test]
fn a_held_run_stays_a_problem_until_a_good_one() {
    let world = World::new(5);
    world.sync();
    world.organization().with(|organization| {
        let id = organization.keys().nth(2).unwrap()["id"].as_str().unwrap().to_owned();
        organization.remove(&id)
    });
    world.keydrift(&["sync"]).env("KEYDRIFT__REMOVAL__CONFIRM_LIMIT", "0").exits(1);
    world.organization().fault(Matcher::list(), Fault::status(401));
    world.keydrift(&["sync"]).exits(1);
    let (code, row) = status(&world, "0 * * * *");
    assert_eq!((code, &row["status"]), (3, &"held".into()));
    world.organization().clear_faults();
    world.sync();
    assert_eq!(status(&world, "0 * * * *").0, 0);
}

#[test]
fn a_history_with_something_missing_is_broken() {
    for (damage, says) in [
        ("delete from audit where event_id = 3", "are not all there"),
        ("delete from audit where event_id = 7", "are not all there"),
        ("delete from runs where run_id = 1", "run 2 is not where it should be"),
        ("update runs set added = 4 where run_id = 2", "run 2 does not have"),
        ("update keys set removed_run = 2 where key = 1", "does not have as many keys"),
    ] {
        let world = World::new(6);
        world.sync();
        world.organization().with(keydrift::sim::Organization::add);
        world.sync();
        sql::rows(&world.database(), "pragma foreign_keys = off");
        for row in
            sql::rows(&world.database(), "select name from sqlite_schema where type = 'trigger'")
        {
            sql::rows(
                &world.database(),
                &format!("drop trigger {}", row["name"].as_str().unwrap()),
            );
        }
        sql::rows(&world.database(), &format!("pragma foreign_keys = off; {damage}"));
        let (code, row) = status(&world, "0 * * * *");
        assert_eq!((code, &row["status"]), (3, &"broken history".into()), "{damage}");
        let problem = row["problem"].as_str().unwrap();
        assert!(problem.contains(says), "{damage}: {problem}");
    }
    let world = World::new(400);
    world.sync();
    let mut bytes = std::fs::read(world.database()).unwrap();
    for page in (4_096..bytes.len()).step_by(4_096) {
        bytes[page..page + 64].fill(0xff);
    }
    std::fs::write(world.database(), bytes).unwrap();
    assert_eq!(world.keydrift(&["status"]).run().code, Some(3));
}

#[test]
fn an_organization_that_is_no_longer_configured_is_not_watched() {
    let world = World::new(5);
    world.sync();
    let other = world
        .keydrift(&["status", "--format", "json"])
        .env("KEYDRIFT__ORGANIZATIONS__OTHER__ADMIN_KEY_FILE", "/nowhere")
        .exits(3);
    let rows = other.json();
    assert_eq!(
        (&rows[0]["organization"], &rows[0]["status"]),
        (&"other".into(), &"never synced".into())
    );
    assert_eq!(
        (&rows[1]["organization"], &rows[1]["status"]),
        (&"default".into(), &"not watched".into())
    );
    assert_eq!((&rows[0]["watched"], &rows[1]["watched"]), (&true.into(), &false.into()));
    // Nobody is woken for it: it has no health of its own.
    assert_eq!((&rows[0]["healthy"], &rows[1]["healthy"]), (&false.into(), &true.into()));
    let none = world.keydrift(&["status", "--organization", "none"]).exits(2);
    assert!(none.stderr.contains("there is no organization `none`"), "{none}");
}

#[test]
fn without_a_database_nobody_is_healthy_and_it_says_so() {
    let world = World::new(1);
    let (code, row) = status(&world, "0 * * * *");
    assert_eq!((code, &row["status"]), (3, &"never synced".into()));
    assert_eq!((&row["organization"], &row["healthy"]), (&"default".into(), &false.into()));
    let problem = row["problem"].as_str().unwrap();
    assert!(problem.starts_with("there is no database at "), "{problem}");
    // Nothing was made.
    assert!(!world.database().exists());
    let ran = world.keydrift(&["status"]).exits(3);
    assert!(ran.stdout.contains("default: there is no database at "), "{ran}");
    let ran = world.keydrift(&["status", "--organization", "none"]).exits(2);
    assert!(ran.stderr.contains("there is no organization `none`"), "{ran}");
}

#[test]
fn a_damaged_database_speaks_of_the_organization_asked_for() {
    let world = World::new(1);
    std::fs::write(world.database(), "no database").unwrap();
    let ask = |name: &str| {
        world
            .keydrift(&["status", "--format", "json", "--organization", name])
            .env("KEYDRIFT__ORGANIZATIONS__ACME__ADMIN_KEY_FILE", "/nowhere")
            .env("KEYDRIFT__ORGANIZATIONS__OTHER__ADMIN_KEY_FILE", "/nowhere")
    };
    let rows = ask("acme").exits(3).json();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["organization"], "acme");
    let ran = ask("none").exits(2);
    assert!(ran.stderr.contains("known: acme, other"), "{ran}");
}

fn answers(world: &World, database: &Path) -> Vec<String> {
    let ask = |command: &[&str]| world.keydrift_on(database, command).succeeds().stdout;
    vec![
        ask(&["keys", "--format=ndjson"]),
        ask(&["log", "--format=ndjson"]),
        ask(&["runs", "--format=ndjson"]),
    ]
}

#[test]
fn a_backup_answers_as_the_original_and_is_synced_on() {
    let world = World::new(50);
    world.sync();
    world.organization().with(keydrift::sim::Organization::add);
    world.sync();
    let copy = world.path().join("copy.db");
    let ran = world.keydrift(&["backup", copy.to_str().unwrap()]).succeeds();
    assert!(ran.stdout.contains("2 runs, 51 events, checked"), "{ran}");
    assert_eq!(answers(&world, &copy), answers(&world, &world.database()));
    let mode = std::os::unix::fs::PermissionsExt::mode(&copy.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
    world.keydrift_on(&copy, &["sync"]).succeeds();
    world.check_at(&copy);
    // It never takes the place of another file.
    let before = std::fs::read(&copy).unwrap();
    let ran = world.keydrift(&["backup", copy.to_str().unwrap()]).exits(1);
    assert!(ran.stderr.contains("is there already"), "{ran}");
    assert_eq!(std::fs::read(&copy).unwrap(), before);
    let ran = world.keydrift(&["backup", "nowhere/copy.db"]).exits(1);
    assert!(ran.stderr.contains("cannot be opened"), "{ran}");
}

#[test]
fn backups_made_while_runs_are_recorded_are_each_one_state() {
    let world = World::new(300);
    let started = world.keydrift(&["run"]).env("KEYDRIFT__SCHEDULE__CRON", EACH_SECOND).start();
    until("a run", || {
        world.database().exists()
            && sql::try_rows(&world.database(), "select 1 from current_keys")
                .is_ok_and(|rows| rows.len() == 300)
    });
    for number in 0..4 {
        world.organization().with(|organization| {
            for _ in 0..20 {
                organization.add();
            }
        });
        let copy = world.path().join(format!("copy-{number}.db"));
        world.keydrift(&["backup", copy.to_str().unwrap()]).succeeds();
        oracle::check_consistent(&copy);
    }
    drop(started);
    let left = std::fs::read_dir(world.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("partial"));
    assert_eq!(left.count(), 0);
}
