//! Runs of several organizations at a time: none waits for another, and the database is used in turns.

use std::time::{Duration, Instant};

use keydrift::sim::{Fault, Matcher, Organization};
use rustix::process::Signal;

use crate::support::started::Started;
use crate::support::two::{Two, pairs};
use crate::support::{Gate, oracle, sql, until};

const EACH_SECOND: &str = "* * * * * *";
const YEARLY: &str = "0 0 1 1 *";

/// Both organizations in the middle of their scans.
fn both_in_hand(two: &Two, started: &Started) -> [Gate; 2] {
    let gates = [&two.acme, &two.globex].map(|server| Gate::before_list(&server.organization(), 2));
    started.signal(Signal::USR1);
    gates.iter().for_each(Gate::is_reached);
    gates
}

fn gates(two: &Two) -> [Gate; 2] {
    [&two.acme, &two.globex].map(|server| Gate::before_list(&server.organization(), 2))
}

fn count(two: &Two, organization: &str) -> i64 {
    if !two.database().exists() {
        return 0;
    }
    let statement =
        format!("select count(*) as runs from run_history where organization = '{organization}'");
    // While the schema is being made there is nothing yet.
    let rows = sql::try_rows(&two.database(), &statement).unwrap_or_default();
    rows.first().and_then(|row| row["runs"].as_i64()).unwrap_or(0)
}

fn errors(two: &Two) -> Vec<String> {
    let statement = "select error from run_history where status = 'failed' order by run_id";
    let rows = sql::rows(&two.database(), statement);
    rows.iter().map(|row| row["error"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_sync_records_each_organization_as_it_ends_and_tells_of_them_in_order() {
    let two = Two::new(120);
    two.keydrift(&["sync"]).succeeds();
    for server in [&two.acme, &two.globex] {
        server.organization().with(Organization::add);
    }
    // The first one of the configuration is the slow one.
    let gate = Gate::before_list(&two.acme.organization(), 1);
    let mut sync = two.keydrift(&["sync"]).start();
    gate.is_reached();
    until("the other one is recorded", || count(&two, "globex") == 2);
    let checkpoints = two.directory.path().join("keys.db.checkpoints");
    let of = |name: &str| {
        let text = std::fs::read_to_string(&checkpoints).unwrap();
        text.matches(&format!("organization {name}\n")).count()
    };
    until("and its checkpoint is kept", || of("globex") == 2);
    assert_eq!((of("acme"), count(&two, "acme")), (1, 1));
    assert!(sync.is_running());
    gate.open();
    let ran = sync.exits(0);
    let position = |what: &str| ran.stdout.find(what).unwrap_or_else(|| panic!("{what}: {ran}"));
    assert!(position("acme: 121 keys, 1 added") < position("globex: 121 keys, 1 added"), "{ran}");
    assert_eq!(ran.stdout.matches(" added ").count(), 2, "{ran}");
    // In the order in which they ended, without a word of clocks.
    assert_eq!(two.statuses()[2..], [("globex", "ok"), ("acme", "ok")].map(pair));
    let notices = "select count(*) from run_history where notice is not null";
    assert_eq!(sql::integer(&two.database(), notices), 0);
    two.check("acme");
    two.check("globex");
}

fn pair((name, status): (&str, &str)) -> (String, String) {
    (name.to_owned(), status.to_owned())
}

#[test]
fn an_api_that_never_answers_fails_its_own_organization_alone() {
    let two = Two::new(20);
    two.acme.organization().fault(Matcher::any(), Fault::Hang);
    two.globex.organization().with(Organization::add);
    let sync = two.keydrift(&["sync", "--exit-code"]).env("KEYDRIFT__API__RUN_DEADLINE", "1500ms");
    let began = Instant::now();
    let sync = sync.start();
    until("the other one is recorded", || count(&two, "globex") == 1);
    assert!(began.elapsed() < Duration::from_millis(1_500), "it waited: {:?}", began.elapsed());
    let ran = sync.exits(4);
    assert!(ran.stderr.contains("could not sync organization `acme`"), "{ran}");
    assert_eq!(two.statuses(), [("globex", "ok"), ("acme", "failed")].map(pair));
    // Nor does a credential that cannot be read.
    two.acme.organization().clear_faults();
    std::fs::remove_file(two.directory.path().join("acme.key")).unwrap();
    let ran = two.keydrift(&["sync"]).exits(4);
    assert!(ran.stderr.contains("could not sync organization `acme`"), "{ran}");
    assert_eq!(two.statuses_behind(2), pairs(&[("acme", "failed"), ("globex", "ok")]));
}

#[test]
fn two_runs_in_hand_when_the_process_is_killed_are_both_recorded_as_interrupted() {
    let two = Two::new(120);
    let gates = gates(&two);
    let sync = two.keydrift(&["sync"]).start();
    gates.iter().for_each(Gate::is_reached);
    let second = two.keydrift(&["sync"]).env("KEYDRIFT__DATABASE__LOCK_TIMEOUT", "0s").exits(1);
    let holder = format!("error: process {} (syncs of `", sync.pid());
    assert!(second.stderr.starts_with(&holder), "{second}");
    assert!(second.stderr.contains("` and `"), "{second}");
    assert!(sync.kill());
    gates.into_iter().for_each(Gate::open);
    let ran = two.keydrift(&["sync", "--organization", "globex"]).succeeds();
    for name in ["acme", "globex"] {
        let told = format!("an earlier run of `{name}` was interrupted");
        assert!(ran.stderr.contains(&told), "{ran}");
    }
    assert_eq!(
        two.statuses_behind(0),
        pairs(&[("acme", "failed"), ("globex", "failed"), ("globex", "ok")])
    );
    for error in errors(&two) {
        assert!(error.starts_with("interrupted: the process ended before the run did"), "{error}");
    }
    let ran = two.keydrift(&["sync"]).succeeds();
    assert!(!ran.stderr.contains("interrupted"), "{ran}");
    two.check("acme");
    two.check("globex");
}

#[test]
fn a_note_of_the_older_form_still_tells_of_a_run_that_was_killed() {
    let two = Two::new(20);
    // As it was written before runs went side by side, byte for byte.
    let mut note = br#"{"pid":1,"run":{"organization":"acme","trigger":"schedule","started_at":1790000000,"token":77,"owed":null,"notices":[],"skipped":0},"owed":[]}"#.to_vec();
    note.resize(64 * 1024, b'\n');
    std::fs::write(two.directory.path().join("keys.db.lock"), note).unwrap();
    let ran = two.keydrift(&["sync", "--organization", "globex"]).succeeds();
    assert!(ran.stderr.contains("an earlier run of `acme` was interrupted"), "{ran}");
    assert_eq!(two.statuses(), [("acme", "failed"), ("globex", "ok")].map(pair));
}

#[test]
fn a_sync_that_is_stopped_records_the_end_of_each_run_in_hand() {
    let two = Two::new(120);
    two.keydrift(&["sync"]).succeeds();
    let gates = gates(&two);
    let sync = two.keydrift(&["sync"]).start();
    gates.iter().for_each(Gate::is_reached);
    sync.signal(Signal::TERM);
    let ran = sync.exits(1);
    gates.into_iter().for_each(Gate::open);
    assert_eq!(ran.stderr.matches("interrupted: stopped by SIGTERM").count(), 2, "{ran}");
    assert_eq!(two.statuses_behind(2), pairs(&[("acme", "failed"), ("globex", "failed")]));
    // Where one is done, that counts.
    let gate = Gate::before_list(&two.globex.organization(), 2);
    let sync = two.keydrift(&["sync"]).start();
    gate.is_reached();
    until("the other one is recorded", || count(&two, "acme") == 3);
    sync.signal(Signal::INT);
    let ran = sync.exits(4);
    gate.open();
    assert!(ran.stdout.contains("acme: 120 keys"), "{ran}");
    assert_eq!(two.statuses()[4..], [("acme", "ok"), ("globex", "failed")].map(pair));
    two.keydrift(&["sync"]).succeeds();
    two.check("acme");
    two.check("globex");
}

#[test]
fn in_the_daemon_a_hanging_organization_holds_up_no_other() {
    let two = Two::new(20);
    two.acme.organization().fault(Matcher::any(), Fault::Hang);
    let daemon = two.keydrift(&["run"]).env("KEYDRIFT__SCHEDULE__CRON", EACH_SECOND).start();
    until("several runs of the other", || count(&two, "globex") >= 3);
    two.globex.organization().with(Organization::add);
    let added = "select count(*) from audit_history where event = 'added'";
    until("its drift is recorded", || sql::integer(&two.database(), added) == 1);
    // Its own run is under way all the time: there is never a second one.
    assert_eq!(count(&two, "acme"), 0);
    let asked = two.acme.organization().requests().len();
    assert_eq!(asked, 1);
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.exits(0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(count(&two, "acme"), 1);
    let error = errors(&two).pop().unwrap();
    assert_eq!(error, "interrupted: stopped by SIGTERM");
    // The slots that passed meanwhile were counted on it.
    let skipped = "select skipped from run_history where organization = 'acme'";
    assert!(sql::integer(&two.database(), skipped) >= 3);
    two.check("globex");
}

#[test]
fn a_daemon_that_is_killed_in_two_runs_finds_both_in_its_next_life() {
    let two = Two::new(120);
    let daemon = two.keydrift(&["run"]).env("KEYDRIFT__SCHEDULE__CRON", YEARLY).start();
    until("the first runs", || count(&two, "acme") == 1 && count(&two, "globex") == 1);
    let gates = both_in_hand(&two, &daemon);
    assert!(daemon.kill());
    gates.into_iter().for_each(Gate::open);
    let daemon = two
        .keydrift(&["run"])
        .env("KEYDRIFT__SCHEDULE__CRON", YEARLY)
        .env("KEYDRIFT__SCHEDULE__RUN_AT_START", "false")
        .start();
    until("both are recorded", || count(&two, "acme") >= 2 && count(&two, "globex") >= 2);
    until("and made up for", || count(&two, "acme") == 3 && count(&two, "globex") == 3);
    daemon.signal(Signal::TERM);
    daemon.exits(0);
    assert_eq!(
        two.statuses_behind(2),
        pairs(&[("acme", "failed"), ("acme", "ok"), ("globex", "failed"), ("globex", "ok")])
    );
    assert_eq!(errors(&two).len(), 2);
    for error in errors(&two) {
        assert!(error.starts_with("interrupted: the process ended before the run did"), "{error}");
    }
    two.check("acme");
    two.check("globex");
}

#[test]
fn between_runs_the_lock_of_a_daemon_is_free_and_while_one_is_under_way_it_is_not() {
    let two = Two::new(120);
    let daemon = two.keydrift(&["run"]).env("KEYDRIFT__SCHEDULE__CRON", YEARLY).start();
    until("the first runs", || count(&two, "acme") == 1 && count(&two, "globex") == 1);
    two.keydrift(&["sync"]).succeeds();
    let gate = Gate::before_list(&two.acme.organization(), 2);
    daemon.signal(Signal::USR1);
    gate.is_reached();
    // The other one has ended: it is the first that holds the lock.
    until("the other is done", || count(&two, "globex") == 3);
    let by_hand = two.keydrift(&["sync"]).env("KEYDRIFT__DATABASE__LOCK_TIMEOUT", "0s").exits(1);
    assert!(by_hand.stderr.contains("(a sync of `acme` since"), "{by_hand}");
    gate.open();
    two.keydrift(&["sync"]).succeeds();
    daemon.signal(Signal::TERM);
    daemon.exits(0);
    two.check("acme");
    two.check("globex");
}

#[test]
fn a_database_that_takes_the_place_of_an_open_one_waits_for_the_runs_on_that() {
    let two = Two::new(120);
    two.keydrift(&["sync"]).succeeds();
    let gate = Gate::before_list(&two.acme.organization(), 2);
    let daemon = two.keydrift(&["run"]).env("KEYDRIFT__SCHEDULE__CRON", YEARLY).start();
    gate.is_reached();
    until("the other one has run", || count(&two, "globex") == 2);
    let aside = two.directory.path().join("aside.db");
    two.keydrift(&["backup", aside.to_str().unwrap()]).succeeds();
    std::fs::rename(&aside, two.database()).unwrap();
    for suffix in ["-wal", "-shm"] {
        let mut name = two.database().into_os_string();
        name.push(suffix);
        std::fs::remove_file(name).ok();
    }
    daemon.signal(Signal::USR1);
    let told = "is another file than the one that runs under way have open";
    until("the other is not run on it", || daemon.stderr().contains(told));
    assert_eq!(count(&two, "globex"), 2);
    gate.open();
    // The run that was under way went into the old file, and so its checkpoint is of nothing in this one.
    until("it is held against the checkpoints then", || {
        daemon.stderr().contains("is older than its checkpoint")
    });
    daemon.signal(Signal::TERM);
    daemon.exits(0);
    assert_eq!(two.statuses_behind(2), pairs(&[("globex", "ok")]));
    oracle::check_consistent(&two.database());
}
