//! Traps in the crates that we build on, held shut where no other test does it.

use std::process::Stdio;

use keydrift::sim::{Fault, Matcher};

use crate::support::{World, sql};

/// reqwest takes proxies from the environment unless it is told not to, and would send them the
/// credential where the address is plain HTTP.
#[test]
fn proxies_of_the_environment_are_not_used() {
    let world = World::new(20);
    let nobody = "http://127.0.0.1:1";
    let mut sync = world.keydrift(&["sync"]).env("KEYDRIFT__API__MAX_ATTEMPTS", "1");
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        sync = sync.env(variable, nobody);
    }
    sync.succeeds();
    world.check();
}

/// From 3.7.0 to 3.51.2, two connections that write and checkpoint at the same moment can corrupt a
/// database in WAL mode.
#[test]
fn the_bundled_sqlite_is_past_the_corruption_of_logs() {
    let world = World::new(1);
    world.sync();
    let version = sql::value(&world.database(), "select sqlite_version()");
    let parts: Vec<u32> =
        version.as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert!(parts >= vec![3, 51, 3], "{version}");
}

/// The connections of `sync` leave the file in WAL mode, and the log cut back.
#[test]
fn the_log_does_not_outlive_a_sync() {
    let world = World::new(250);
    world.sync();
    assert_eq!(sql::value(&world.database(), "pragma journal_mode"), "wal");
    let log = world.path().join("keys.db-wal");
    assert_eq!(log.metadata().map_or(0, |log| log.len()), 0);
}

/// tracing-subscriber tells of a line that it could not write by a macro that panics.
#[test]
fn a_log_that_cannot_be_written_is_not_the_end_of_a_run() {
    for args in [&["sync"][..], &["sync", "-vvv"], &["demo", "-v"]] {
        let world = World::new(20);
        world
            .organization()
            .fault(Matcher::list().first(1), Fault::status(503).with_header("retry-after-ms", "1"));
        let mut keydrift = world.keydrift(args);
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = keydrift.command.stdout(Stdio::null()).stderr(full).status().unwrap();
        assert_eq!(ended.code(), Some(0), "{args:?}");
    }
}
