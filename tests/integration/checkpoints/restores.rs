//! Backups that are restored more than once, and checkpoints that somebody put into the file.

use std::fs;

use super::*;

fn syncs(world: &World, times: usize) {
    for _ in 0..times {
        world.sync();
    }
}

fn accept(world: &World) -> Ran {
    world.keydrift(&["checkpoint", "accept", "--reason", "restored"]).run()
}

#[track_caller]
fn is_whole(world: &World) {
    let verified = verify(world, &[]);
    assert_eq!(verified.code, Some(0), "{verified}");
}

#[test]
fn the_same_backup_may_be_restored_twice() {
    let world = World::new(3);
    syncs(&world, 4);
    let backup = copy(&world, "backup.db");
    syncs(&world, 3);
    for later in [1, 1, 5, 2] {
        restore(&world, &backup);
        let accepted = accept(&world);
        assert_eq!(accepted.code, Some(0), "{accepted}");
        is_whole(&world);
        for _ in 0..later {
            let ran = world.keydrift(&["sync"]).succeeds();
            assert_eq!(ran.stderr, "");
            is_whole(&world);
        }
    }
    // In the end the last branch alone is left: 4 runs, an act, 2 runs.
    let rows = verify(&world, &["--format=json"]).json();
    assert_eq!(rows[0]["checkpoints"], 7);
    // Links that are the same to the second are the same.
    assert!(rows[0]["abandoned"].as_u64().unwrap() >= 3, "{rows}");
    assert_eq!(accept(&world).code, Some(1), "there is nothing left to accept");
}

#[test]
fn an_older_backup_may_be_restored_after_a_newer_one() {
    let world = World::new(3);
    syncs(&world, 2);
    let oldest = copy(&world, "oldest.db");
    syncs(&world, 2);
    let older = copy(&world, "older.db");
    syncs(&world, 3);
    for backup in [&older, &oldest, &older] {
        restore(&world, backup);
        world.keydrift(&["sync"]).exits(1);
        assert_eq!(accept(&world).code, Some(0));
        world.sync();
        is_whole(&world);
    }
}

#[test]
fn a_disagreement_from_before_the_last_one_that_agrees_can_be_accepted() {
    let world = World::new(3);
    syncs(&world, 2);
    let backup = copy(&world, "backup.db");
    syncs(&world, 2);
    let text = fs::read_to_string(file(&world)).unwrap();
    restore(&world, &backup);
    fs::remove_file(file(&world)).unwrap();
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-admin-wrong").exits(1);
    syncs(&world, 4);
    // Those of the lost runs 3 and 4 turn up again.
    let new = fs::read_to_string(file(&world)).unwrap();
    fs::write(file(&world), text + &new).unwrap();
    assert_eq!(verify(&world, &[]).code, Some(3));
    assert_eq!(accept(&world).code, Some(0));
    is_whole(&world);
    world.sync();
    is_whole(&world);
}

#[test]
fn a_copy_of_an_old_checkpoint_at_the_end_hides_nothing() {
    let world = World::new(3);
    syncs(&world, 4);
    let backup = copy(&world, "backup.db");
    syncs(&world, 3);
    let old = blocks(&world)[3].clone();
    restore(&world, &backup);
    let text = fs::read_to_string(file(&world)).unwrap();
    fs::write(file(&world), text + &old).unwrap();
    let ran = world.keydrift(&["sync"]).exits(1);
    assert!(ran.stderr.contains("is older than its checkpoint"), "{ran}");
    world.keydrift(&["status"]).exits(3);
}

#[test]
fn an_unsigned_checkpoint_hides_no_signed_one() {
    let world = World::new(3);
    let key = world.path().join("acme").display().to_string();
    world.keydrift(&["checkpoint", "keygen", &key, "--name", "acme"]).succeeds();
    let keydrift =
        |args: &[&str]| keydrift_on(&world, &[("KEYDRIFT__CHECKPOINT__KEY_FILE", &key)], args);
    for _ in 0..2 {
        keydrift(&["sync"]).succeeds();
    }
    let backup = copy(&world, "backup.db");
    keydrift(&["sync"]).succeeds();
    restore(&world, &backup);
    let aside = world.path().join("aside");
    fs::rename(file(&world), &aside).unwrap();
    // Another run 3, and 4, as whoever has no key can make them.
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-admin-wrong").exits(1);
    world.sync();
    let unsigned = fs::read_to_string(file(&world)).unwrap();
    for times in [1, 400] {
        let text = fs::read_to_string(&aside).unwrap() + &unsigned.repeat(times);
        fs::write(file(&world), text).unwrap();
        let ran = keydrift(&["sync"]).exits(1);
        assert!(ran.stderr.contains("is another one: run 3 of `default`"), "{ran}");
        keydrift(&["status"]).exits(3);
    }
    let accepted = keydrift(&["checkpoint", "accept", "--reason", "mine"]).succeeds();
    assert!(accepted.stdout.contains("the checkpoint of run 3,"), "{accepted}");
    keydrift(&["sync"]).succeeds();
    is_whole(&world);
}

#[test]
fn an_acceptance_that_a_crash_kept_from_its_checkpoint_gets_it_from_the_next_writer() {
    for runs in [0, 4] {
        let world = World::new(3);
        world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-admin-wrong").exits(1);
        if runs == 0 {
            // All checkpoints that there are will be given up.
            fs::remove_file(file(&world)).unwrap();
        }
        syncs(&world, runs);
        let backup = copy(&world, "backup.db");
        syncs(&world, 3);
        let before = fs::read(file(&world)).unwrap();
        restore(&world, &backup);
        assert_eq!(accept(&world).code, Some(0));
        fs::write(file(&world), &before).unwrap();
        world.keydrift(&["status"]).run();
        let again = accept(&world);
        assert_eq!(again.code, Some(1), "{again}");
        assert!(again.stderr.contains("nothing to accept"), "{again}");
        fs::write(file(&world), &before).unwrap();
        let ran = world.keydrift(&["sync"]).succeeds();
        let told = "1 checkpoint had not been written; that is done now\n";
        assert!(ran.stderr.starts_with(told), "{ran}");
        is_whole(&world);
        assert_eq!(world.keydrift(&["sync"]).succeeds().stderr, "");
        assert_eq!(sql::integer(&world.database(), "select count(*) from act_history"), 1);
        let acts = blocks(&world).iter().filter(|block| block.contains("\nact ")).count();
        assert_eq!(acts, 1);
        let status = world.keydrift(&["status"]).run();
        assert!(!status.stdout.contains("broken"), "{status}");
    }
}

#[test]
fn a_checkpoint_file_that_went_away_is_missed() {
    let world = World::new(3);
    syncs(&world, 3);
    for emptied in [true, false] {
        if emptied {
            fs::write(file(&world), "").unwrap();
        } else {
            fs::remove_file(file(&world)).unwrap();
        }
        let ran = world.keydrift(&["sync"]).succeeds();
        assert!(ran.stderr.contains("no checkpoint of `default`"), "{ran}");
        assert_eq!(world.keydrift(&["sync"]).succeeds().stderr, "");
        is_whole(&world);
    }
}

#[test]
fn status_tells_of_a_file_that_can_be_none() {
    let world = World::new(3);
    world.sync();
    let known = file(&world);
    let told = |path: &std::path::Path| {
        let ran = world.keydrift(&["status"]).env("KEYDRIFT__CHECKPOINT__PATH", path).succeeds();
        said(&world, &ran.stdout).lines().skip(2).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(told(&known), "healthy");
    let link = world.path().join("link");
    std::os::unix::fs::symlink(&known, &link).unwrap();
    let begins = "default: no checkpoint can be made: the ";
    let linked = told(&link);
    assert!(linked.starts_with(begins) && linked.ends_with("\nhealthy"), "{linked}");
    assert!(linked.contains("checkpoint file `DIR/link`: it is a symbolic link\n"), "{linked}");
    let pipe = world.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let piped = told(&pipe);
    assert!(piped.contains("`DIR/pipe`: it is not a regular file\n"), "{piped}");
    let missing = told(&world.path().join("none/checkpoints"));
    let expected = "directory of the checkpoint file, `DIR/none`, is missing\n";
    assert!(missing.contains(expected), "{missing}");
    assert!(told(world.path()).contains("it is not a regular file"));
    // One that is only not there yet is made by the next run.
    assert_eq!(told(&world.path().join("new")), "healthy");
}

#[test]
fn one_run_with_two_checkpoints_is_not_good_until_itself() {
    let world = World::new(3);
    syncs(&world, 3);
    let third = blocks(&world)[2].clone();
    let digest = value(&third, "digest");
    for other in ["00", "ff"] {
        let forged = third.replace(digest, &other.repeat(32));
        fs::write(world.path().join("forged"), forged).unwrap();
        let verified = verify(&world, &["--checkpoints", "forged"]);
        assert_eq!(verified.code, Some(3), "{verified}");
        assert!(verified.stdout.contains("run 3: a checkpoint has another digest"), "{verified}");
        assert!(verified.stdout.contains("good until run 2,"), "{verified}");
    }
}
