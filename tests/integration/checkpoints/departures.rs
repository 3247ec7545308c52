//! A database that is not the one that was left: each case has its own message.

use std::fs;

use keydrift::audit::{Digest, Part, PartDigest, RunHeader};

use super::*;

/// The error of a sync, and that it is told by whoever reads, too.
#[track_caller]
fn refused(world: &World) -> String {
    let before = fs::read(world.database()).unwrap_or_default();
    let ran = world.keydrift(&["sync"]).exits(1);
    let runs = world.database().metadata().map_or(0, |file| file.len());
    assert_eq!(before.len() as u64, runs, "it was written to");
    let status = world.keydrift(&["status", "--format=json"]).exits(3).json();
    assert_eq!(status[0]["status"], "broken history");
    let problem = status[0]["problem"].as_str().unwrap();
    let first = ran.stderr.lines().next().unwrap().trim_start_matches("error: ");
    assert_eq!(problem, format!("the history is broken: {first}"));
    if !before.is_empty() {
        let read = world.keydrift(&["keys"]).succeeds();
        assert!(read.stderr.starts_with(&format!("warning: {first}\n")), "{read}");
    }
    said(world, &ran.stderr)
}

#[test]
fn a_database_that_is_missing_or_empty_is_never_begun_anew() {
    let world = World::new(3);
    world.sync();
    fs::remove_file(world.database()).unwrap();
    let expected = refused(&world);
    insta::assert_snapshot!(expected, @"
    error: the database `DIR/keys.db` is missing: `DIR/keys.db.checkpoints` has a checkpoint of run 1 of `default` of TIME
    hint: bring it back, or restore a backup; to begin a new history, move `DIR/keys.db.checkpoints` away
    ");
    assert!(!world.database().exists());
    let accepted = world.keydrift(&["checkpoint", "accept", "--reason", "why not"]).exits(1);
    assert_eq!(said(&world, &accepted.stderr), expected);
    fs::write(world.database(), "").unwrap();
    assert_eq!(said(&world, &world.keydrift(&["sync"]).exits(1).stderr), expected);
    for is_empty in [true, false] {
        assert_eq!(refused(&world), expected);
        let verified = verify(&world, &["--format=json"]);
        assert_eq!(verified.code, Some(3), "{verified}");
        let rows = verified.json();
        assert_eq!(
            (&rows[0]["organization"], &rows[0]["verdict"]),
            (&"default".into(), &"broken".into())
        );
        assert!(rows[0]["problem"].as_str().unwrap().contains("is missing"), "{verified}");
        if is_empty {
            fs::remove_file(world.database()).unwrap();
        }
    }
    fs::write(world.database(), "").unwrap();
    let daemon = daemon(&world).exits(1);
    assert!(daemon.stderr.contains("is missing"), "{daemon}");
    fs::remove_file(file(&world)).unwrap();
    world.sync();
}

#[test]
fn an_older_database_is_refused_until_it_is_accepted_which_shows_for_ever() {
    let world = World::new(3);
    world.sync();
    let older = copy(&world, "older.db");
    world.sync();
    world.sync();
    restore(&world, &older);
    insta::assert_snapshot!(refused(&world), @"
    error: the database `DIR/keys.db` is older than its checkpoint: it ends with run 1, and `DIR/keys.db.checkpoints` has run 3 of `default` of TIME
    hint: keep a copy of it; bring the right one back, or, if a backup was restored on purpose, run `keydrift checkpoint accept --reason TEXT`
    ");
    let verified = verify(&world, &["--format=json"]);
    assert_eq!(verified.code, Some(3), "{verified}");
    let verified = verified.json();
    assert_eq!(verified[0]["first_bad_run_id"], 2);
    assert_eq!(verified[0]["problem"], "a checkpoint has run 2, and the history does not");

    let accept = |reason: &str| world.keydrift(&["checkpoint", "accept", "--reason", reason]);
    accept(" ").exits(2);
    let accepted = accept("the disk failed").succeeds();
    insta::assert_snapshot!(said(&world, &accepted.stdout), @"default: accepted that it departs from the checkpoint of run 3, TIME");
    let newest = blocks(&world).pop().unwrap();
    assert_eq!((value(&newest, "run"), value(&newest, "act")), ("1", "1"));
    insta::assert_snapshot!(said(&world, &accept("again").exits(1).stderr), @"
    error: there is nothing to accept: the database departs from no checkpoint in `DIR/keys.db.checkpoints`
    hint: `keydrift verify` tells what else may be wrong
    ");
    for _ in 0..3 {
        world.sync();
        let verified = verify(&world, &[]);
        assert_eq!(verified.code, Some(0), "{verified}");
        let told = "accepted that it departs from an earlier checkpoint: the disk failed\n";
        assert!(verified.stdout.contains(told), "{verified}");
        let told = "2 checkpoints given up when a restored database was accepted\n";
        assert!(verified.stdout.contains(told), "{verified}");
    }
    let act = sql::rows(&world.database(), "select * from act_history").remove(0);
    let detail: serde_json::Value = serde_json::from_str(act["detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail["reason"], "the disk failed");
    assert_eq!(detail["checkpoint"]["run"], 3);
    assert_eq!(detail["since"]["run"], 1);
    // What came after the act is not covered by it.
    restore(&world, &older);
    assert_eq!(verify(&world, &[]).code, Some(3));
}

#[test]
fn a_database_in_which_the_run_is_another_one_is_forked() {
    let world = World::new(3);
    world.sync();
    let older = copy(&world, "older.db");
    world.sync();
    restore(&world, &older);
    let aside = world.path().join("aside");
    fs::rename(file(&world), &aside).unwrap();
    // Another run with the same number.
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-admin-wrong").exits(1);
    world.sync();
    fs::rename(&aside, file(&world)).unwrap();
    insta::assert_snapshot!(refused(&world), @"
    error: the history in the database `DIR/keys.db` is another one: run 2 of `default` is not the one that `DIR/keys.db.checkpoints` has a checkpoint of
    hint: keep a copy of it; bring the right one back, or, if a backup was restored on purpose, run `keydrift checkpoint accept --reason TEXT`
    ");
    let verified = verify(&world, &[]);
    assert_eq!(verified.code, Some(3), "{verified}");
    let told =
        "run 2: a checkpoint has another digest of run 2: it was replaced\n  good until run 1,";
    assert!(verified.stdout.contains(told), "{verified}");
    world.keydrift(&["checkpoint", "accept", "--reason", "restored"]).succeeds();
    world.sync();
    let verified = verify(&world, &[]);
    assert_eq!(verified.code, Some(0), "{verified}");
    assert!(verified.stdout.contains("1 checkpoint given up"), "{verified}");
}

#[test]
fn a_database_that_goes_on_without_the_run_was_truncated() {
    let world = World::new(3);
    let of = |name: &str| {
        let section = format!("KEYDRIFT__ORGANIZATIONS__{name}__BASE_URL");
        let (url, key) = (world.server.base_url(), world.organization().credential());
        keydrift_on(&world, &[(&section, &url), ("OPENAI_ADMIN_KEY", &key)], &["sync"])
    };
    of("ACME").succeeds();
    let older = copy(&world, "older.db");
    of("ACME").succeeds();
    restore(&world, &older);
    let aside = world.path().join("aside");
    fs::rename(file(&world), &aside).unwrap();
    of("OTHER").succeeds();
    fs::rename(&aside, file(&world)).unwrap();
    let ran = of("ACME").exits(1);
    insta::assert_snapshot!(said(&world, &ran.stderr), @"
    error: the database `DIR/keys.db` was truncated: it goes on to run 2, but without run 2 of `acme`, of which `DIR/keys.db.checkpoints` has a checkpoint
    hint: keep a copy of it; bring the right one back, or, if a backup was restored on purpose, run `keydrift checkpoint accept --reason TEXT`
    ");
    world.keydrift(&["checkpoint", "accept", "--reason", "restored"]).succeeds();
    of("ACME").succeeds();
    assert_eq!(verify(&world, &[]).code, Some(0));
}

#[test]
fn an_organization_that_is_gone_from_the_database_is_found() {
    let world = World::new(3);
    world.sync();
    let only = fs::read_to_string(file(&world)).unwrap();
    fs::write(file(&world), only.replace("organization default", "organization gone")).unwrap();
    let verified = verify(&world, &["--format=json"]);
    assert_eq!(verified.code, Some(3), "{verified}");
    let rows = verified.json();
    let gone = rows.as_array().unwrap().iter().find(|row| row["organization"] == "gone").unwrap();
    assert_eq!(gone["verdict"], "broken");
}

/// What somebody does who can write the database, and knows all but the signing key: edits a run, and chains
/// all runs anew.
fn rewrite(world: &World) {
    let database = world.database();
    sql::rows(&database, "drop trigger runs_no_update");
    sql::rows(&database, "update runs set requests = requests + 7 where run_id = 2");
    let mut previous: Option<Digest> = None;
    for run in sql::rows(&database, "select * from run_history order by run_id") {
        let text = |name: &str| run[name].as_str();
        let id = run["run_id"].as_i64().unwrap();
        let parts = format!("select part, items, digest from run_parts where run_id = {id}");
        let mut parts: Vec<PartDigest> = sql::rows(&database, &parts)
            .iter()
            .map(|part| PartDigest {
                part: Part::parse(part["part"].as_str().unwrap()).unwrap(),
                items: part["items"].as_u64().unwrap(),
                digest: part["digest"].as_str().unwrap().parse().unwrap(),
            })
            .collect();
        parts.sort_by_key(|part| part.part);
        let counts = [
            "keys_seen",
            "baseline",
            "added",
            "restored",
            "removed",
            "used",
            "changed",
            "unconfirmed",
            "skipped",
            "pages",
            "requests",
            "retries",
        ];
        let header = RunHeader {
            origin: "default",
            run_id: id,
            trigger: text("trigger").unwrap(),
            started_at: text("started_at").unwrap(),
            finished_at: text("finished_at").unwrap(),
            status: text("status").unwrap(),
            counts: counts.map(|name| run[name].as_i64().unwrap()),
            notice: text("notice"),
            error: text("error"),
            missing: text("missing"),
            deferred_until: text("deferred_until"),
        };
        let digest = header.digest(previous, &parts);
        sql::rows(&database, &format!("update runs set digest = x'{digest}' where run_id = {id}"));
        previous = Some(digest);
    }
}

#[test]
fn a_history_that_was_edited_and_chained_anew_is_found_by_its_checkpoints_alone() {
    let world = World::new(3);
    for _ in 0..4 {
        world.sync();
    }
    rewrite(&world);
    let aside = world.path().join("aside");
    fs::rename(file(&world), &aside).unwrap();
    let blind = verify(&world, &[]);
    assert_eq!(blind.code, Some(0), "the attack is not complete: {blind}");
    assert!(blind.stdout.contains("no checkpoint to hold it against"), "{blind}");
    let seen = verify(&world, &["--checkpoints", "aside", "--format=json"]);
    assert_eq!(seen.code, Some(3), "{seen}");
    let seen = seen.json();
    assert_eq!(seen[0]["first_bad_run_id"], 2);
    assert_eq!(seen[0]["checkpoints"], 1);
    fs::rename(&aside, file(&world)).unwrap();
    let refused = world.keydrift(&["sync"]).exits(1);
    assert!(refused.stderr.contains("is another one: run 4 of `default`"), "{refused}");
}
