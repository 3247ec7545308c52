//! A disk that fills up at any point of a sync: it fails in words, nothing is half-written, and with space
//! the next one goes on.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keydrift::sim::Endpoint;

use crate::support::wreck::{self, Items};
use crate::support::{Keydrift, Ran, World, sql};

/// Runs a sync that finds too little space, and then one that finds enough. Returns whether the first had
/// enough.
#[track_caller]
fn sync_twice(
    world: &World,
    database: &Path,
    before: &Items,
    scarce: impl FnOnce(Keydrift) -> Ran,
    make_space: impl FnOnce(),
) -> bool {
    let runs = wreck::count_runs(database);
    world.organization().clear_requests();
    let ran = scarce(world.keydrift_on(database, &["sync"]));
    let asked = world.organization().count(Endpoint::List) > 0;
    let good = wreck::check(world, database, runs, before);
    match ran.code {
        Some(0) => assert!(good, "{ran}"),
        Some(1) => {
            let told = ["is full", "disk I/O error", "File too large", "No space left on device"];
            assert!(told.iter().any(|told| ran.stderr.contains(told)), "{ran}");
            assert!(!ran.stderr.contains("panicked"), "{ran}");
            let errors = ran.stderr.lines().filter(|line| line.starts_with("error: ")).count();
            assert_eq!(errors, 1, "{ran}");
            assert!(!good || !ran.stderr.contains("nothing was changed"), "{ran}");
        }
        other => panic!("{other:?}: {ran}"),
    }
    make_space();

    let next = world.keydrift_on(database, &["sync"]).succeeds();
    world.check_at(database);
    let statement = format!(
        "select status, trigger, error from run_history where run_id > {runs} order by run_id"
    );
    let mut new = sql::rows(database, &statement);
    assert_eq!(new.pop().expect("a run")["status"], "ok");
    match new.as_slice() {
        [] => assert!(!asked, "a run was lost: {ran}\n{next}"),
        [first] if good => assert_eq!(first["status"], "ok"),
        [first] => {
            assert_eq!(first["status"], "failed");
            assert_eq!(first["trigger"], "manual");
            let error = first["error"].as_str().expect("an error");
            assert!(error.starts_with("the database could not be used: "), "{error}");
            if !next.stderr.is_empty() {
                assert!(next.stderr.contains("could not be recorded then"), "{next}");
            }
        }
        more => panic!("{more:?}"),
    }
    ran.code == Some(0)
}

fn change(world: &World) {
    world.organization().with(|organization| {
        let ids: Vec<String> = organization.ids().map(str::to_owned).collect();
        for id in ids.iter().step_by(2) {
            organization.rename(id, &format!("renamed at {}", organization.now()));
        }
        organization.add();
        organization.advance(60);
    });
}

/// Sizes in steps of pages, from hardly any to plenty.
fn sizes() -> impl Iterator<Item = u64> {
    const PAGE: u64 = 4096;
    std::iter::successors(Some(2), |pages| Some(pages + 1 + pages / 4)).map(|pages| pages * PAGE)
}

/// The same command line in a process whose files can't grow beyond so many bytes.
pub fn with_small_files(keydrift: &Keydrift, bytes: u64) -> Keydrift {
    let mut command = Command::new("sh");
    // In a POSIX shell the unit is 512 bytes. Without the signal, writing fails with an error.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
    command.arg("-c").arg(script);
    command.arg(keydrift.command.get_program()).args(keydrift.command.get_args()).env_clear();
    for (name, value) in keydrift.command.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.current_dir(keydrift.command.get_current_dir().expect("a directory"));
    command.stdin(Stdio::null());
    Keydrift { command }
}

#[test]
fn a_first_sync_whose_files_cannot_grow_leaves_all_or_nothing() {
    let world = World::new(250);
    for bytes in sizes() {
        wreck::forget(&world.database());
        let scarce = |keydrift: Keydrift| with_small_files(&keydrift, bytes).run();
        if sync_twice(&world, &world.database(), &Items::new(), scarce, || {}) {
            assert!(bytes > 100_000, "it was enough at once");
            return;
        }
    }
}

#[test]
fn a_sync_of_changes_whose_files_cannot_grow_leaves_all_or_nothing() {
    let world = World::new(250);
    world.sync();
    for bytes in sizes() {
        let before = wreck::items(&world);
        change(&world);
        let scarce = |keydrift: Keydrift| with_small_files(&keydrift, bytes).run();
        if sync_twice(&world, &world.database(), &before, scarce, || {}) {
            assert!(bytes > 20_000, "it was enough at once");
            return;
        }
    }
}

/// A small disk of our own.
struct Disk(PathBuf);

impl Disk {
    /// Nothing where this is not allowed.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    fn mount(world: &World, bytes: u64) -> Option<Self> {
        let place = world.path().join("disk");
        if !place.exists() {
            std::fs::create_dir(&place).expect("a directory");
        }
        let options = format!("size={bytes}");
        let mounted = mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &place);
        if !mounted {
            println!("skipped: a disk can't be mounted here");
        }
        mounted.then_some(Self(place))
    }

    fn resize(&self, bytes: u64) {
        let options = format!("remount,size={bytes}");
        assert!(mount(&["-o", &options], &self.0), "the disk can't be resized");
    }

    fn database(&self) -> PathBuf {
        self.0.join("keys.db")
    }

    /// Leaves only so many bytes free.
    fn fill(&self, leave: u64) {
        let mut filler = File::create(self.0.join("filler")).expect("a file");
        let mut written = 0;
        while filler.write_all(&[0; 4096]).is_ok() {
            written += 4096;
        }
        filler.set_len(written - leave.min(written)).expect("a smaller file");
    }

    fn clear(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("what fills the disk");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn mount(arguments: &[&str], place: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(place).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn a_first_sync_on_a_disk_that_fills_up_leaves_all_or_nothing() {
    let world = World::new(250);
    for bytes in sizes() {
        let Some(disk) = Disk::mount(&world, bytes) else { return };
        let make_space = || disk.resize(16 << 20);
        let none = Items::new();
        if sync_twice(&world, &disk.database(), &none, Keydrift::run, make_space) {
            assert!(bytes > 100_000, "it was enough at once");
            return;
        }
    }
}

#[test]
fn a_sync_of_changes_on_a_disk_that_fills_up_leaves_all_or_nothing() {
    let world = World::new(250);
    let Some(disk) = Disk::mount(&world, 16 << 20) else { return };
    world.keydrift_on(&disk.database(), &["sync"]).succeeds();
    for free in std::iter::once(0).chain(sizes()) {
        let before = wreck::items(&world);
        change(&world);
        let scarce = |keydrift: Keydrift| {
            disk.fill(free);
            keydrift.run()
        };
        if sync_twice(&world, &disk.database(), &before, scarce, || disk.clear()) {
            assert!(free > 20_000, "it was enough at once");
            return;
        }
    }
}
