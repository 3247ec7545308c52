//! `keydrift organization rename`: another name, and the same history.

mod packs;

use std::path::Path;
use std::process::Command;

use crate::support::two::{Two, pairs};
use crate::support::{Gate, Keydrift, Ran, oracle, sql, until};
use keydrift::sim::Organization;
use rustix::process::Signal;

/// Replaces a name in the configuration.
fn configure(two: &Two, from: &str, to: &str) {
    let text = std::fs::read_to_string(two.configuration()).unwrap();
    let section = format!("[organizations.{from}]");
    assert!(text.contains(&section), "{text}");
    let text = text.replace(&section, &format!("[organizations.{to}]"));
    std::fs::write(two.configuration(), text).unwrap();
}

fn rename(two: &Two, from: &str, to: &str) -> Keydrift {
    two.keydrift(&["organization", "rename", from, to])
}

/// What the script says of a database; loudly nothing, where there is no Python.
#[expect(clippy::print_stderr, reason = "nobody may take it for tested")]
fn script(database: &Path) -> Option<(i32, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_keydrift.py");
    let checkpoints = format!("{}.checkpoints", database.display());
    let mut command = Command::new("python3");
    command.arg("-B").arg(script).arg(database).args(["--checkpoints", &checkpoints]);
    let Ok(output) = command.output() else {
        eprintln!("!!! there is no python3: docs/verify_keydrift.py is NOT TESTED");
        return None;
    };
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    Some((output.status.code().unwrap(), said))
}

#[track_caller]
fn is_whole(two: &Two, names: &[&str]) -> Ran {
    let ran = two.keydrift(&["verify"]).succeeds();
    oracle::check_consistent(&two.database());
    if let Some((code, said)) = script(&two.database()) {
        assert_eq!(code, 0, "{said}");
        for name in names {
            assert!(said.contains(&format!("{name} whole: ")), "{said}");
        }
    }
    ran
}

#[track_caller]
fn is_broken(two: &Two, words: &str, theirs: &str) {
    let ran = two.keydrift(&["verify"]).exits(3);
    assert!(ran.stdout.contains(words), "{ran}");
    if let Some((code, said)) = script(&two.database()) {
        assert_eq!(code, 3, "{said}");
        assert!(said.contains(theirs), "{said}");
    }
}

#[test]
fn the_whole_past_is_shown_under_the_new_name_and_goes_on() {
    let two = Two::new(30);
    two.keydrift(&["sync"]).succeeds();
    two.acme.organization().with(Organization::add);
    two.keydrift(&["sync"]).succeeds();
    let ran = rename(&two, "acme", "initech").succeeds();
    assert_eq!(ran.stdout, "`acme` is called `initech` now, and so is all of its past\n");
    assert!(ran.stderr.starts_with("warning: `acme` is still configured"), "{ran}");
    configure(&two, "acme", "initech");
    two.acme.organization().with(Organization::add);
    let ran = two.keydrift(&["sync"]).succeeds();
    assert!(ran.stdout.contains("initech: 32 keys, 1 added"), "{ran}");
    for view in ["run_history", "audit_history", "all_keys", "act_history", "chains"] {
        let of = |name: &str| {
            let count = format!("select count(*) from {view} where organization = '{name}'");
            sql::integer(&two.database(), &count)
        };
        assert!(of("initech") > 0, "{view}");
        assert_eq!(of("acme"), 0, "{view}");
    }
    let of = |args: &[&str]| two.keydrift(args).succeeds().json().as_array().unwrap().len();
    assert_eq!(of(&["log", "--organization", "initech", "--format=json"]), 32);
    assert_eq!(of(&["runs", "--organization", "initech", "--format=json"]), 3);
    assert_eq!(of(&["keys", "--organization", "initech", "--as-of=now", "--format=json"]), 32);
    let none = two.keydrift(&["log", "--organization", "acme"]).exits(2);
    assert!(none.stderr.contains("hint: known: globex, initech"), "{none}");
    // All checkpoints are held against it: those from before have the name of then.
    let ran = is_whole(&two, &["globex", "initech"]);
    assert!(ran.stdout.contains("initech: 4 checkpoints agree"), "{ran}");
    assert!(ran.stdout.contains("renamed `acme` to `initech`"), "{ran}");
    let status = two.keydrift(&["status", "--format=json"]).succeeds().json();
    let names: Vec<_> = status.as_array().unwrap().iter().map(|row| &row["organization"]).collect();
    assert_eq!(names, ["globex", "initech"]);
    assert!(status.as_array().unwrap().iter().all(|row| row["watched"] == true), "{status}");
}

#[test]
fn it_may_be_renamed_again_and_back() {
    let two = Two::new(5);
    two.keydrift(&["sync"]).succeeds();
    let mut name = "acme";
    for next in ["initech", "hooli", "acme", "umbrella"] {
        rename(&two, name, next).succeeds();
        configure(&two, name, next);
        two.acme.organization().with(Organization::add);
        two.keydrift(&["sync"]).succeeds();
        is_whole(&two, &["globex", next]);
        name = next;
    }
    // Twice in a row, before any run.
    rename(&two, "umbrella", "hooli").succeeds();
    rename(&two, "hooli", "acme").succeeds();
    is_whole(&two, &["globex", "acme"]);
    configure(&two, "umbrella", "acme");
    two.keydrift(&["sync"]).succeeds();
    two.check("acme");
    two.check("globex");
}

#[test]
fn mistakes_change_nothing_and_say_what_to_do() {
    let two = Two::new(3);
    let mistake = |from: &str, to: &str| {
        let ran = rename(&two, from, to).exits(2);
        assert_eq!(ran.stdout, "", "{ran}");
        ran.stderr
    };
    rename(&two, "acme", "initech").exits(1);
    two.keydrift(&["sync"]).succeeds();
    insta::assert_snapshot!(mistake("initech", "hooli"), @r"
    error: there is no organization `initech`
    hint: known: acme, globex
    ");
    insta::assert_snapshot!(mistake("acme", "globex"), @r"
    error: there is an organization `globex` already
    hint: choose a name that none has or had: two histories never become one
    ");
    insta::assert_snapshot!(mistake("acme", "Acme Ltd"), @r"
    error: `Acme Ltd` cannot be the name of an organization
    hint: use small letters, digits, `_` and `-`, up to 63, with a letter or digit first
    ");
    insta::assert_snapshot!(mistake("acme", "acme"), @r"
    error: `acme` and `acme` are the same name
    hint: name the organization, and then the name that it is to get
    ");
    let acts = "select count(*) from act_history";
    assert_eq!(sql::integer(&two.database(), acts), 0);
    rename(&two, "acme", "initech").succeeds();
    rename(&two, "initech", "hooli").succeeds();
    insta::assert_snapshot!(mistake("acme", "umbrella"), @r"
    error: `acme` was renamed before: it is called `hooli` now
    hint: `keydrift organization rename hooli umbrella` gives it another name
    ");
    // Neither the name under which it began nor one in between goes to another organization.
    for former in ["acme", "initech"] {
        let said = mistake("globex", former);
        let expected = format!(
            "error: `{former}` was the name of the organization that is called `hooli` now"
        );
        assert!(said.starts_with(&expected), "{said}");
    }
    assert_eq!(sql::integer(&two.database(), acts), 2);
    is_whole(&two, &["globex", "hooli"]);
}

#[test]
fn a_configuration_with_the_old_name_begins_no_second_history() {
    let two = Two::new(20);
    two.keydrift(&["sync"]).succeeds();
    rename(&two, "acme", "initech").succeeds();
    let ran = two.keydrift(&["sync"]).exits(4);
    insta::assert_snapshot!(ran.stderr, @r"
    error: could not sync organization `acme`
      caused by: the organization `acme` was renamed: it is called `initech` now
    hint: rename `[organizations.acme]` to `[organizations.initech]` in the configuration; another organization needs a name that none had before
    ");
    two.keydrift(&["sync", "--organization", "acme"]).exits(1);
    let status = two.keydrift(&["status"]).exits(3);
    assert!(status.stdout.contains("acme: it was renamed: it is called `initech` now"), "{status}");
    // Nor does a daemon, which goes on with the others.
    let daemon = two.keydrift(&["run"]).env("KEYDRIFT__SCHEDULE__CRON", "* * * * * *").start();
    let good = "select count(*) from run_history where organization = 'globex' and status = 'ok'";
    until("runs of the other", || sql::integer(&two.database(), good) >= 4);
    assert!(daemon.stderr().contains("was renamed: it is called `initech` now"));
    configure(&two, "acme", "initech");
    daemon.signal(Signal::HUP);
    let again = "select count(*) from run_history
                 where organization = 'initech' and status = 'ok' and run_id > 3";
    until("it goes on under the new name", || sql::integer(&two.database(), again) >= 1);
    daemon.signal(Signal::TERM);
    daemon.exits(0);
    let baselines = "select count(*) from audit_history where event = 'baseline'";
    assert_eq!(sql::integer(&two.database(), baselines), 40);
    is_whole(&two, &["globex", "initech"]);
    two.check("initech");
}

#[test]
fn a_run_that_was_killed_before_is_recorded_before_and_one_that_turns_up_later_finds_its_history() {
    let two = Two::new(120);
    two.keydrift(&["sync"]).succeeds();
    let gate = Gate::before_list(&two.acme.organization(), 2);
    let sync = two.keydrift(&["sync", "--organization", "acme"]).start();
    gate.is_reached();
    sync.kill();
    gate.open();
    let ran = rename(&two, "acme", "initech").succeeds();
    assert!(ran.stderr.contains("an earlier run of `acme` had no end yet"), "{ran}");
    assert_eq!(two.statuses_behind(2), pairs(&[("initech", "failed")]));
    // As a daemon owes it that could not write the database before it was renamed.
    let mut note = br#"{"pid":1,"runs":[{"organization":"acme","trigger":"schedule","started_at":1790000000,"token":77,"owed":null}],"owed":[]}"#.to_vec();
    note.resize(64 * 1024, b'\n');
    std::fs::write(two.directory.path().join("keys.db.lock"), note).unwrap();
    two.keydrift(&["sync", "--organization", "globex"]).succeeds();
    assert_eq!(two.statuses_behind(3), pairs(&[("initech", "failed"), ("globex", "ok")]));
    is_whole(&two, &["globex", "initech"]);
}

#[test]
fn a_name_that_was_edited_and_a_rename_that_was_dropped_are_found_by_both() {
    let two = Two::new(5);
    two.keydrift(&["sync"]).succeeds();
    rename(&two, "acme", "initech").succeeds();
    let database = two.database();
    for trigger in ["acts_no_delete", "acts_no_update"] {
        sql::rows(&database, &format!("drop trigger {trigger}"));
    }
    std::fs::remove_file(format!("{}.checkpoints", database.display())).unwrap();
    std::fs::write(format!("{}.checkpoints", database.display()), "").unwrap();
    let call = |name: &str, origin: &str| {
        let edit = format!("update organizations set name = '{name}' where origin = '{origin}'");
        sql::rows(&database, &edit);
    };
    call("hooli", "acme");
    is_broken(
        &two,
        "hooli: broken: it is called `hooli`, and its history leads to the name `initech`\n  good until run ",
        "hooli broken: its history names it `initech`; good until run ",
    );
    call("acme", "acme");
    is_broken(
        &two,
        "acme: broken: it is called `acme`",
        "acme broken: its history names it `initech`",
    );
    call("initech", "acme");
    is_whole(&two, &["globex", "initech"]);
    // One that was never renamed.
    call("umbrella", "globex");
    is_broken(
        &two,
        "umbrella: broken: it is called `umbrella`, and its history leads to the name `globex`",
        "umbrella broken: its history names it `globex`",
    );
    call("globex", "globex");
    sql::rows(&database, "create table kept as select * from acts");
    sql::rows(&database, "delete from acts");
    is_broken(
        &two,
        "initech: broken: it is called `initech`, and its history leads to the name `acme`",
        "initech broken: its history names it `acme`",
    );
    sql::rows(&database, "insert into acts select * from kept");
    sql::rows(&database, "update acts set detail = replace(detail, 'initech', 'hooli')");
    is_broken(
        &two,
        "act 1 was edited, or the link before it",
        "act 1, or the link before it, was edited",
    );
}

#[test]
fn a_backup_from_before_is_restored_under_the_name_of_then() {
    let two = Two::new(5);
    two.keydrift(&["sync"]).succeeds();
    let backup = two.directory.path().join("backup.db");
    two.keydrift(&["backup", backup.to_str().unwrap()]).succeeds();
    rename(&two, "acme", "initech").succeeds();
    configure(&two, "acme", "initech");
    two.keydrift(&["sync", "--organization", "initech"]).succeeds();
    std::fs::copy(&backup, two.database()).unwrap();
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", two.database().display())).ok();
    }
    let refused = two.keydrift(&["sync"]).exits(1);
    assert!(refused.stderr.contains("is older than its checkpoint"), "{refused}");
    rename(&two, "acme", "initech").exits(1);
    let accept = |name: &str| {
        let args = ["checkpoint", "accept", "--reason", "restored", "--organization", name];
        two.keydrift(&args)
    };
    let unknown = accept("initech").exits(2);
    assert!(unknown.stderr.contains("hint: known: acme, globex"), "{unknown}");
    accept("acme").succeeds();
    // And then it is renamed once more.
    rename(&two, "acme", "initech").succeeds();
    two.keydrift(&["sync"]).succeeds();
    let ran = is_whole(&two, &["globex", "initech"]);
    assert!(ran.stdout.contains("initech: 2 checkpoints given up"), "{ran}");
    // Under its new name it is found, too.
    let nothing = accept("initech").exits(1);
    assert!(nothing.stderr.contains("there is nothing to accept"), "{nothing}");
}
