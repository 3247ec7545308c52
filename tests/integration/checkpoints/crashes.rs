//! What only a crash, or a file that cannot be written, can cause: mended, and said.

use std::fs;

use super::*;
use crate::full_disk::with_small_files;

#[test]
fn a_checkpoint_that_a_crash_kept_from_being_written_is_written_by_the_next_run() {
    let world = World::new(3);
    world.sync();
    let one = fs::read(file(&world)).unwrap();
    world.sync();
    world.sync();
    let three = fs::read(file(&world)).unwrap();
    fs::write(file(&world), &one).unwrap();
    let ran = world.keydrift(&["sync"]).succeeds();
    assert_eq!(ran.stderr, "2 checkpoints had not been written; that is done now\n");
    assert!(fs::read(file(&world)).unwrap().starts_with(&three), "they are the same as before");
    assert_eq!(blocks(&world).len(), 4);
    assert_eq!(world.keydrift(&["sync"]).succeeds().stderr, "");
}

#[test]
fn a_checkpoint_that_a_crash_cut_off_is_written_anew() {
    let world = World::new(3);
    world.sync();
    let one = fs::read(file(&world)).unwrap();
    world.sync();
    let two = fs::read(file(&world)).unwrap();
    let mut runs = 2;
    for cut in (one.len()..=two.len()).step_by(9) {
        fs::write(file(&world), &two[..cut]).unwrap();
        let ran = world.keydrift(&["sync"]).succeeds();
        runs += 1;
        let is_whole = cut == one.len() || cut == two.len();
        assert_eq!(ran.stderr.contains("cut off"), !is_whole, "{cut}: {ran}");
        let verified = verify(&world, &["--format=json"]);
        assert_eq!(verified.code, Some(0), "{cut}: {verified}");
        assert_eq!(verified.json()[0]["checkpoints"], runs, "{cut}");
    }
}

#[test]
fn a_file_that_cannot_be_written_fails_no_run_and_is_made_up_for() {
    let world = World::new(3);
    let directory = world.path().join("elsewhere");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("checkpoints");
    let path = path.to_str().unwrap();
    let sync = || world.keydrift(&["sync"]).env("KEYDRIFT__CHECKPOINT__PATH", path);
    sync().succeeds();
    let away = world.path().join("away");
    fs::rename(&directory, &away).unwrap();
    let ran = sync().succeeds();
    assert!(ran.stderr.contains("WARN"), "{ran}");
    assert!(ran.stderr.contains("no checkpoint was made; the next run tries again"), "{ran}");
    sync().succeeds();
    fs::rename(&away, &directory).unwrap();
    let status = world.keydrift(&["status"]).env("KEYDRIFT__CHECKPOINT__PATH", path).succeeds();
    let told = "default: 2 links of the history have no checkpoint\n  the checkpoint file could not be written";
    assert!(status.stdout.contains(told), "{status}");
    let ran = sync().succeeds();
    assert_eq!(ran.stderr, "2 checkpoints had not been written; that is done now\n");
    let verified = world.keydrift(&["verify", "--checkpoints", path]).succeeds();
    assert!(verified.stdout.contains("4 checkpoints agree"), "{verified}");
}

#[test]
fn a_file_that_cannot_grow_fails_no_run() {
    const LIMIT: usize = 1 << 20;
    let world = World::new(3);
    world.sync();
    // Full, but for a few bytes: the note is cut off.
    let known = fs::read_to_string(file(&world)).unwrap();
    let filler = "\n".repeat(LIMIT - known.len() - 100);
    fs::write(file(&world), known + &filler).unwrap();
    let ran = with_small_files(&world.keydrift(&["sync"]), LIMIT as u64).succeeds();
    assert!(ran.stderr.contains("no checkpoint was made"), "{ran}");
    assert_eq!(file(&world).metadata().unwrap().len(), LIMIT as u64);
    let ran = world.keydrift(&["sync"]).succeeds();
    let told = "a checkpoint had been cut off, and 1 checkpoint not written; that is done now\n";
    assert_eq!(ran.stderr, told);
    assert_eq!(verify(&world, &[]).code, Some(0));
}

#[test]
fn a_link_in_the_place_of_the_file_is_not_followed() {
    let world = World::new(3);
    let target = world.path().join("target");
    fs::write(&target, "mine").unwrap();
    std::os::unix::fs::symlink(&target, file(&world)).unwrap();
    let ran = world.keydrift(&["sync"]).succeeds();
    assert!(ran.stderr.contains("the checkpoint file cannot be read"), "{ran}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    world.keydrift(&["keys"]).succeeds();
    let verified = verify(&world, &[]);
    assert!(verified.stderr.contains("was left aside"), "{verified}");
}
