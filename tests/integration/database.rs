//! The file: what it may be called, what it may not be, who may use it, and what it promises to others.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keydrift::clock::{Clock as _, SystemClock};
use keydrift::sim::Organization;

use crate::support::sql::Session;
use crate::support::{Keydrift, Ran, World, oracle, sql};

/// Every command that only reads, with arguments that it takes.
const READING: [&[&str]; 5] =
    [&["keys"], &["log"], &["runs"], &["show", "key_"], &["diff", "2026-01-01", "2026-01-02"]];

/// Fails with 1, says these things, and does not panic.
#[track_caller]
fn refused(keydrift: Keydrift, says: &[&str]) -> Ran {
    let ran = keydrift.exits(1);
    assert!(ran.stderr.starts_with("error: "), "{ran}");
    for said in says {
        assert!(ran.stderr.contains(said), "it does not say `{said}`: {ran}");
    }
    let lines = ran.stderr.lines().count();
    assert!((1..=3).contains(&lines), "{lines} lines: {ran}");
    assert_eq!(ran.stdout, "", "{ran}");
    ran
}

/// A file of this content at the place of the database: no command changes it or leaves anything beside it.
#[track_caller]
fn left_alone(world: &World, says: &[&str]) {
    let database = world.database();
    let before = std::fs::read(&database).unwrap();
    refused(world.keydrift(&["sync"]), says);
    for args in READING {
        refused(world.keydrift(args), says);
    }
    assert!(std::fs::read(&database).unwrap() == before, "the file was changed");
}

#[track_caller]
fn nothing_beside(world: &World) {
    let names = std::fs::read_dir(world.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["keys.db"]);
}

#[test]
fn a_database_of_a_newer_keydrift_is_left_alone() {
    let world = World::new(20);
    world.sync();
    let mut newer = Session::open(&world.database());
    newer.run(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (999, 'of the future', true, x'00', 1)",
    );
    newer.close();
    left_alone(
        &world,
        &["was written by a newer keydrift (schema 999", "hint: use the newer keydrift"],
    );
}

#[test]
fn an_older_database_is_read_once_a_sync_has_brought_it_up_to_date() {
    let world = World::new(20);
    std::fs::write(world.database(), "").unwrap();
    let mut older = Session::open(&world.database());
    older.run("pragma application_id = 1801745012");
    older.close();
    let before = std::fs::read(world.database()).unwrap();
    assert!(!before.is_empty());
    for args in READING {
        refused(world.keydrift(args), &["older keydrift", "hint: `keydrift sync`"]);
    }
    assert_eq!(std::fs::read(world.database()).unwrap(), before);
    world.sync();
    world.keydrift(&["keys"]).succeeds();
}

#[test]
fn a_file_that_is_no_database_is_left_as_it_is() {
    let long = "the shopping list\n".repeat(1000);
    for text in ["x", "a text", "SQLite format 3", long.as_str()] {
        let world = World::new(20);
        std::fs::write(world.database(), text).unwrap();
        left_alone(&world, &["is no SQLite database", "hint: name another file"]);
        nothing_beside(&world);
    }
}

#[test]
fn a_database_of_another_program_is_left_as_it_is() {
    for mode in ["delete", "wal"] {
        let world = World::new(20);
        std::fs::write(world.database(), "").unwrap();
        let mut other = Session::open(&world.database());
        other.run(&format!("pragma journal_mode = {mode}"));
        other.run("create table books (title text)");
        other.run("insert into books values ('The Odyssey')");
        other.close();
        left_alone(&world, &["not one of keydrift's", "hint: name another file"]);
        nothing_beside(&world);
        let found = sql::value(&world.database(), "pragma journal_mode");
        assert_eq!(found, mode);
    }
}

/// As it lies there after another program was killed: part of it is in the log only.
#[test]
fn the_log_of_another_program_is_left_as_it_is() {
    let world = World::new(20);
    let origin = world.path().join("origin");
    std::fs::create_dir(&origin).unwrap();
    let file = origin.join("keys.db");
    std::fs::write(&file, "").unwrap();
    let mut other = Session::open(&file);
    other.run("pragma journal_mode = wal");
    other.run("create table books (title text)");
    let names = ["keys.db", "keys.db-wal"];
    for name in names {
        std::fs::copy(origin.join(name), world.path().join(name)).unwrap();
    }
    other.close();
    let read = || names.map(|name| std::fs::read(world.path().join(name)).unwrap());
    let before = read();
    assert!(before.iter().all(|bytes| !bytes.is_empty()));
    refused(world.keydrift(&["sync"]), &["not one of keydrift's"]);
    refused(world.keydrift(&["keys"]), &["not one of keydrift's"]);
    assert!(read() == before);
}

#[test]
fn an_empty_file_is_filled() {
    let world = World::new(20);
    std::fs::write(world.database(), "").unwrap();
    for args in READING {
        refused(world.keydrift(args), &["hint: `keydrift sync`"]);
    }
    assert_eq!(std::fs::read(world.database()).unwrap(), b"");
    world.sync();
}

#[test]
fn a_directory_is_no_database() {
    let world = World::new(20);
    std::fs::create_dir(world.database()).unwrap();
    let says = ["keys.db` cannot be opened", "irectory"];
    refused(world.keydrift(&["sync"]), &says);
    refused(world.keydrift(&["keys"]), &says);
    nothing_beside(&world);
}

#[test]
fn a_directory_that_is_missing_is_said_to_be() {
    let world = World::new(20);
    let database = world.path().join("not/there/keys.db");
    let says = ["not/there/keys.db` cannot be opened", "No such file or directory", "hint: check"];
    refused(world.keydrift_on(&database, &["sync"]), &says);
    refused(world.keydrift_on(&database, &["keys"]), &["there is no database at", "hint: run"]);
    // The default place, on the other hand, is made.
    let home = world.path().join("home");
    let default = Keydrift::new(world.path())
        .env("OPENAI_ADMIN_KEY", world.organization().credential())
        .env("OPENAI_BASE_URL", world.server.base_url())
        .env("HOME", &home);
    default.arg("sync").succeeds();
    world.check_at(&home.join(".local/share/keydrift/keydrift.db"));
}

#[test]
fn without_a_database_there_is_nothing_to_read_and_none_is_made() {
    let world = World::new(20);
    for args in READING {
        refused(
            world.keydrift(args),
            &["there is no database at", "hint: run `keydrift sync` first"],
        );
    }
    assert_eq!(std::fs::read_dir(world.path()).unwrap().count(), 0);
}

#[test]
fn a_database_may_have_any_name() {
    let world = World::new(20);
    let names = [
        "with space.db",
        "quote'd \"twice\" `thrice`.db",
        "ключи-鍵-🔑.db",
        "what?mode=ro&immutable=1",
        "file:here.db?mode=memory",
        "per%20cent%00.db",
        "#hash#.db",
        ":memory:",
        "-dash.db",
        "line\nbreak.db",
        "back\\slash.db",
    ];
    for name in names {
        for database in [world.path().join(name), PathBuf::from(name)] {
            drop(std::fs::remove_file(world.path().join(name)));
            drop(std::fs::remove_file(world.path().join(format!("{name}.checkpoints"))));
            let sync = || {
                Keydrift::new(world.path())
                    .env("OPENAI_ADMIN_KEY", world.organization().credential())
                    .env("OPENAI_BASE_URL", world.server.base_url())
                    .arg("sync")
                    .arg(format!("--database={}", database.display()))
            };
            sync().succeeds();
            let real = world.path().join(name);
            assert!(real.metadata().unwrap().len() > 0, "{name:?} is empty");
            // A copy, because the tests' own SQL takes some names for more than names.
            let copy = world.path().join("copy.db");
            std::fs::copy(&real, &copy).unwrap();
            world.check_at(&copy);
            let keys = world.keydrift_on(&real, &["keys", "--format=ndjson"]).succeeds();
            assert_eq!(keys.stdout.lines().count(), 20, "{name:?}");
        }
    }
}

#[test]
fn a_name_that_is_no_text_is_refused_in_words() {
    let world = World::new(20);
    let database = world.path().join(OsStr::from_bytes(b"keys-\xff.db"));
    refused(world.keydrift_on(&database, &["sync"]), &["UTF-8"]);
}

#[test]
fn a_link_leads_to_the_database() {
    let world = World::new(20);
    let elsewhere = world.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink("elsewhere/real.db", world.database()).unwrap();
    world.sync();
    world.sync();
    assert!(world.database().is_symlink());
    world.check_at(&elsewhere.join("real.db"));
    let runs = sql::integer(&elsewhere.join("real.db"), "select count(*) from run_history");
    assert_eq!(runs, 2);
}

#[test]
fn what_cannot_be_a_database_says_what_can() {
    use std::os::unix::ffi::OsStrExt;

    let world = World::new(1);
    let bytes = [world.path().as_os_str().as_bytes(), b"/\xff.db"].concat();
    let unreadable = Path::new(std::ffi::OsStr::from_bytes(&bytes));
    refused(world.keydrift_on(unreadable, &["sync"]), &["UTF-8 paths only", "--database"]);
    refused(world.keydrift_on(world.path(), &["keys"]), &["is a directory", "hint: name a file"]);
    let fifo = world.path().join("fifo.db");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()));
    for args in [&["keys"], &["sync"]] {
        refused(world.keydrift_on(&fifo, args), &["not a regular file", "hint: name a file"]);
    }
    // Where the default place cannot be made.
    std::fs::write(world.path().join("home"), "").unwrap();
    let sync = crate::support::Keydrift::new(world.path())
        .env("HOME", world.path().join("home"))
        .env("OPENAI_ADMIN_KEY", world.organization().credential())
        .env("OPENAI_BASE_URL", world.server.base_url())
        .arg("sync");
    refused(sync, &["could not create the directory", "hint: create it for the user"]);
}

#[test]
fn a_ring_of_links_is_no_database() {
    let world = World::new(20);
    symlink("keys.db", world.database()).unwrap();
    refused(world.keydrift(&["sync"]), &["keys.db` cannot be opened"]);
    refused(world.keydrift(&["keys"]), &["keys.db` cannot be opened"]);
}

/// Permissions do not bind root: then somebody without any runs the binary.
struct Unprivileged {
    binary: PathBuf,
    is_root: bool,
}

impl Unprivileged {
    const NOBODY: u32 = 65_534;

    fn of(world: &World) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let built = PathBuf::from(env!("CARGO_BIN_EXE_keydrift"));
        if !is_root {
            return Self { binary: built, is_root };
        }
        // Where it was built may be out of reach for others.
        let binary = world.path().join("keydrift");
        std::fs::copy(built, &binary).unwrap();
        set_mode(world.path(), 0o711);
        Self { binary, is_root }
    }

    /// The same command line, run by somebody else.
    fn keydrift(&self, keydrift: &Keydrift) -> Keydrift {
        let mut command = Command::new(&self.binary);
        command.args(keydrift.command.get_args()).env_clear();
        for (name, value) in keydrift.command.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.current_dir(keydrift.command.get_current_dir().unwrap());
        command.stdin(std::process::Stdio::null());
        if self.is_root {
            command.uid(Self::NOBODY).gid(Self::NOBODY);
        }
        Keydrift { command }
    }

    fn give(&self, path: &Path) {
        if self.is_root {
            let nobody = Some(Self::NOBODY);
            std::os::unix::fs::chown(path, nobody, nobody).unwrap();
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_that_cannot_be_written_is_said_to_be() {
    let world = World::new(20);
    let somebody = Unprivileged::of(&world);
    let directory = world.path().join("data");
    std::fs::create_dir(&directory).unwrap();
    somebody.give(&directory);
    let database = directory.join("keys.db");
    let run = |args: &[&str]| somebody.keydrift(&world.keydrift_on(&database, args));
    // Before there is a database …
    set_mode(&directory, 0o500);
    let says = ["keys.db` cannot be written", "hint: make `"];
    refused(run(&["sync"]), &says);
    set_mode(&directory, 0o700);
    run(&["sync"]).succeeds();
    world.check_at(&database);
    // … and when it has become unwritable.
    set_mode(&directory, 0o500);
    let before = std::fs::read(&database).unwrap();
    let ran = run(&["sync"]).exits(1);
    assert!(ran.stderr.contains("cannot be") && ran.stderr.contains("hint: "), "{ran}");
    assert_eq!(std::fs::read(&database).unwrap(), before);
    set_mode(&directory, 0o700);
    run(&["sync"]).succeeds();
    world.check_at(&database);
}

#[test]
fn a_file_that_cannot_be_written_is_said_to_be() {
    let world = World::new(20);
    let somebody = Unprivileged::of(&world);
    let directory = world.path().join("data");
    std::fs::create_dir(&directory).unwrap();
    somebody.give(&directory);
    let database = directory.join("keys.db");
    let run = |args: &[&str]| somebody.keydrift(&world.keydrift_on(&database, args));
    run(&["sync"]).succeeds();
    set_mode(&database, 0o400);
    let before = std::fs::read(&database).unwrap();
    refused(run(&["sync"]), &["keys.db` cannot be written", "hint: make `"]);
    assert_eq!(std::fs::read(&database).unwrap(), before);
    let keys = run(&["keys", "--format=ndjson"]).succeeds();
    assert_eq!(keys.stdout.lines().count(), 20);
    // Nor read.
    set_mode(&database, 0o000);
    refused(run(&["keys"]), &["keys.db` cannot be opened", "ermission denied"]);
    // SQLite's own files were made by the reader, with the mode that the database had.
    for suffix in ["", "-wal", "-shm"] {
        let file = directory.join(format!("keys.db{suffix}"));
        if file.exists() {
            set_mode(&file, 0o600);
        }
    }
    run(&["sync"]).succeeds();
    world.check_at(&database);
}

/// An auditor's user may read the files and write nothing.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
#[test]
fn who_may_read_the_files_and_write_nothing_can_read() {
    let world = World::new(20);
    let somebody = Unprivileged::of(&world);
    if !somebody.is_root {
        println!("skipped: only root can be two users");
        return;
    }
    let directory = world.path().join("data");
    std::fs::create_dir(&directory).unwrap();
    let database = directory.join("keys.db");
    world.keydrift_on(&database, &["sync"]).succeeds();
    set_mode(&directory, 0o755);
    for suffix in ["", "-wal", "-shm"] {
        set_mode(&directory.join(format!("keys.db{suffix}")), 0o644);
    }
    let keys = || somebody.keydrift(&world.keydrift_on(&database, &["keys", "--format=ndjson"]));
    assert_eq!(keys().succeeds().stdout.lines().count(), 20);
    // Another program, when it is done, takes them away.
    sql::rows(&database, "select 1");
    assert!(!directory.join("keys.db-shm").exists());
    refused(
        keys(),
        &["keys.db` cannot be read without the files beside it", "hint: another program took"],
    );
    // Between the runs of a timer there is nothing to take.
    world.keydrift_on(&database, &["sync", "--scheduled"]).succeeds();
    sql::rows(&database, "select 1");
    assert_eq!(keys().succeeds().stdout.lines().count(), 20);
    assert_eq!(sql::value(&database, "pragma journal_mode"), "delete");
    let trigger = "select trigger from runs order by run_id desc limit 1";
    assert_eq!(sql::value(&database, trigger), "schedule");
}

/// Root looks first, by hand, into the directory of a service.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
#[test]
fn what_root_makes_in_the_directory_of_another_user_is_that_users() {
    let world = World::new(20);
    let somebody = Unprivileged::of(&world);
    if !somebody.is_root {
        println!("skipped: only root can be two users");
        return;
    }
    let directory = world.path().join("data");
    std::fs::create_dir(&directory).unwrap();
    somebody.give(&directory);
    let database = directory.join("keys.db");
    world.keydrift_on(&database, &["sync"]).succeeds();
    somebody.keydrift(&world.keydrift_on(&database, &["sync"])).succeeds();
    somebody.keydrift(&world.keydrift_on(&database, &["keys"])).succeeds();
}

#[test]
fn a_damaged_database_is_said_to_be() {
    const PAGE: usize = 4096;
    // Many keys, so that few pages are of tables that are empty.
    let world = World::new(1_500);
    world.sync();
    world.organization().with(|organization| {
        let ids: Vec<String> = organization.ids().map(str::to_owned).collect();
        for id in ids.iter().step_by(3) {
            organization.rename(id, "renamed");
        }
    });
    world.sync();
    let whole = std::fs::read(world.database()).unwrap();
    let pages = whole.len() / PAGE;
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut told, mut condemned) = (0, 0);
    let mut damaged: Vec<Vec<u8>> = Vec::new();
    for _ in 0..12 {
        let mut bytes = whole.clone();
        let at = rng.usize(1..pages) * PAGE;
        let random = rng.bool();
        bytes[at..at + PAGE].fill_with(|| if random { rng.u8(..) } else { 0 });
        damaged.push(bytes);
    }
    // In the middle of a page, in the header behind its first bytes, and cut off.
    for _ in 0..4 {
        let mut bytes = whole.clone();
        let at = rng.usize(PAGE..whole.len() - 300);
        bytes[at..at + 300].fill_with(|| rng.u8(..));
        damaged.push(bytes);
    }
    damaged.push(whole[..pages / 2 * PAGE].to_vec());
    damaged.push(whole[..PAGE].to_vec());
    damaged.push(whole[..PAGE + 100].to_vec());
    damaged.push([&whole[..16], &[0xff; 50], &whole[66..]].concat());
    let cases = damaged.len();
    for bytes in damaged {
        std::fs::write(world.database(), bytes).unwrap();
        // What a sync before has added is not what this is about.
        drop(std::fs::remove_file(world.path().join("keys.db.checkpoints")));
        let commands: [&[&str]; 5] = [&["keys"], &["log"], &["runs"], &["findings"], &["sync"]];
        let ran = commands.map(|args| world.keydrift(args).run());
        for ran in &ran {
            assert!(matches!(ran.code, Some(0 | 1)), "{ran}");
            assert!(!ran.stderr.contains("panicked"), "{ran}");
            assert_eq!(ran.code == Some(1), ran.stderr.contains("error: "), "{ran}");
            if ran.code == Some(1) {
                assert!(ran.stderr.contains("keys.db"), "{ran}");
            }
        }
        let said = ran.iter().any(|ran| ran.stderr.contains("keys.db` is damaged"));
        told += usize::from(said);
        condemned += usize::from(world.keydrift(&["verify"]).run().code != Some(0));
    }
    // `verify` looks everywhere, but for what was damaged where a page holds nothing.
    assert!(condemned * 10 >= cases * 9, "`verify` condemned only {condemned} of {cases}");
    // The others read what they need and no more: where none of them looks (a page of an index, of keys that are as they
    // were), damage goes unseen.
    assert!(told * 2 >= cases, "only {told} of {cases} were told to be damaged");
}

#[test]
fn what_was_recorded_cannot_be_changed_by_accident() {
    let world = World::of(Organization::generate(7, 20).with_audit_logs());
    let sync = || {
        let now = SystemClock.now().unix();
        world.organization().with(|organization| organization.set_now(now));
        let setting = "KEYDRIFT__ORGANIZATIONS__DEFAULT__AUDIT_LOGS";
        world.keydrift(&["sync"]).env(setting, "true").succeeds();
        world.check();
    };
    sync();
    world.organization().with(|organization| {
        organization.set_field_everywhere("tier", &"standard".into());
        organization.add();
    });
    sync();
    let tables = ["audit", "runs", "key_versions", "owners", "notices", "actors", "attributions"];
    let dump = || {
        tables.map(|table| sql::rows(&world.database(), &format!("select rowid, * from {table}")))
    };
    let before = dump();
    for (table, rows) in tables.iter().zip(&before) {
        assert!(!rows.is_empty(), "{table}");
        let column = rows[0].keys().find(|name| *name != "rowid").unwrap();
        let last = *rows[0].keys().collect::<Vec<_>>().last().unwrap();
        let statements = [
            format!("update {table} set {last} = {last}"),
            format!("update {table} set {column} = {column} + 1000"),
            format!("delete from {table}"),
            format!("delete from {table} where rowid = (select max(rowid) from {table})"),
            format!("insert or replace into {table} select * from {table} limit 1"),
            format!("replace into {table} select * from {table} order by rowid desc limit 1"),
            format!("update or replace {table} set rowid = rowid - 1"),
        ];
        for statement in statements {
            match sql::try_rows(&world.database(), &statement) {
                Ok(_) => panic!("`{statement}` was let through"),
                Err(error) => {
                    assert!(error.to_string().contains("append-only"), "{statement}: {error}");
                }
            }
        }
    }
    assert!(dump() == before);
    world.sync();
}

/// Empty where nobody has done anything to a history.
const OF_ACTS: [&str; 8] = [
    "act_history",
    "erased_values",
    "keyframe_keys",
    "keyframe_salts",
    "note_history",
    "notice_salts",
    "attribution_history",
    "attribution_salts",
];

/// Others rely on these names, in this order. More may come after them.
const VIEWS: [(&str, &str); 20] = [
    (
        "current_keys",
        "organization scope key_id name redacted_value project_id project_name owner_type owner_id
         owner_name owner_role created_at last_used_at expires_at other own_key first_seen_at
         last_seen_at owner_project_access project_archived project_archived_at",
    ),
    (
        "all_keys",
        "organization scope key_id name redacted_value project_id project_name owner_type owner_id
         owner_name owner_role created_at last_used_at expires_at other own_key first_seen_at
         last_seen_at removed_at owner_project_access project_archived project_archived_at",
    ),
    (
        "audit_history",
        "event_id run_id observed_at previous_observed_at organization scope key_id key_name event
         field old_value new_value actor_type actor_id actor_email actor_key_id actor_ip_address acted_at
         actor_scopes",
    ),
    (
        "run_history",
        "run_id organization trigger started_at finished_at status keys_seen baseline added restored
         removed used changed unconfirmed skipped pages requests retries notice error digest missing deferred_until",
    ),
    ("key_drift_daily", "day organization added removed used changed keys"),
    (
        "findings",
        "organization key_id rule severity since detail opened_run_id opened_at key_name scope",
    ),
    (
        "finding_history",
        "finding_id organization key_id rule severity since detail opened_run_id opened_at
         closed_run_id closed_at key_name scope",
    ),
    ("findings_daily", "day organization severity opened closed open"),
    (
        "note_history",
        "note_id organization event_id key_id noted_at author text after_run_id",
    ),
    ("chains", "organization origin database_id"),
    ("run_parts", "run_id organization part items digest"),
    ("act_history", "act_id organization origin after_run_id kind acted_at actor detail digest"),
    ("notice_history", "notice_id run_id organization kind field changes"),
    ("audit_salts", "event_id old_salt new_salt"),
    ("notice_salts", "notice_id key_id salt"),
    ("erased_values", "act_id place id key_id side field seal"),
    (
        "keyframe_keys",
        "organization scope key_id name redacted_value project_id project_name owner_type owner_id
         owner_name owner_role created_at last_used_at expires_at other own_key first_seen_at
         last_seen_at removed_at unconfirmed",
    ),
    ("keyframe_salts", "organization key_id salt"),
    (
        "attribution_history",
        "attribution_id run_id organization event_id log_id action acted_at actor_type actor_id
         actor_email actor_key_id actor_ip_address actor_scopes",
    ),
    ("attribution_salts", "attribution_id salt"),
];

#[test]
fn the_views_have_the_promised_columns_with_times_as_text() {
    let world = World::new(120);
    world.sync();
    world.organization().with(|organization| {
        let ids: Vec<String> = organization.ids().map(str::to_owned).collect();
        organization.remove(&ids[5]);
        organization.touch(&ids[6]);
        organization.rename(&ids[7], "renamed");
        organization.add();
    });
    world.sync();
    let views = sql::rows(
        &world.database(),
        "select name from sqlite_schema where type = 'view' order by name",
    );
    let views: Vec<_> = views.iter().map(|view| view["name"].as_str().unwrap()).collect();
    let mut promised: Vec<_> = VIEWS.map(|(view, _)| view).into();
    promised.sort_unstable();
    assert_eq!(views, promised);
    for (view, columns) in VIEWS {
        let found = sql::rows(
            &world.database(),
            &format!("select name from pragma_table_info('{view}') order by cid"),
        );
        let found: Vec<_> = found.iter().map(|column| column["name"].as_str().unwrap()).collect();
        let columns: Vec<_> = columns.split_whitespace().collect();
        assert_eq!(found, columns, "{view}");
        let rows = sql::rows(&world.database(), &format!("select * from {view}"));
        assert_eq!(rows.is_empty(), OF_ACTS.contains(&view), "{view}");
        for (column, value) in rows.iter().flatten() {
            let fits = match column.as_str() {
                name if name.ends_with("_at") || name == "since" => {
                    value.is_null() || is_rfc3339(value)
                }
                "closed_run_id" => value.is_null() || value.is_i64(),
                "day" => chrono::NaiveDate::parse_from_str(value.as_str().unwrap(), "%Y-%m-%d")
                    .is_ok_and(|day| day.to_string() == value.as_str().unwrap()),
                "own_key" => value == 0 || value == 1,
                "other" => value.as_str().is_some_and(|text| {
                    serde_json::from_str::<serde_json::Map<String, sql::Value>>(text).is_ok()
                }),
                "event_id" | "run_id" | "keys_seen" | "baseline" | "restored" | "unconfirmed"
                | "skipped" | "pages" | "requests" | "retries" | "added" | "removed" | "used"
                | "changed" | "keys" | "items" | "notice_id" | "finding_id" | "opened_run_id"
                | "opened" | "closed" | "open" => value.is_i64(),
                _ => value.is_null() || value.is_string(),
            };
            assert!(fits, "{view}.{column} is {value}");
        }
    }
    let used = sql::rows(
        &world.database(),
        "select old_value, new_value from audit_history where event = 'used'",
    );
    assert!(used.iter().all(|event| is_rfc3339(&event["new_value"])), "{used:?}");
    oracle::check_consistent(&world.database());
}

/// With seconds and `Z`, as `2026-11-23T12:29:00Z`.
fn is_rfc3339(value: &sql::Value) -> bool {
    value.as_str().is_some_and(|text| {
        chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%SZ")
            .is_ok_and(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string() == text)
    })
}

#[test]
fn a_file_in_the_place_of_the_lock_is_left_as_it_is() {
    let world = World::new(20);
    let lock = world.path().join("keys.db.lock");
    // The lock file of some package manager, and a link to a file of somebody's.
    std::fs::write(&lock, "[[package]]\nname = \"poetry\"\n").unwrap();
    let refused = |what: &str| {
        let ran = world.keydrift(&["sync"]).exits(1);
        assert!(
            ran.stderr.contains("would be the lock file, but is something else"),
            "{what}: {ran}"
        );
        assert!(!world.database().exists(), "{what}");
    };
    refused("another file");
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), "[[package]]\nname = \"poetry\"\n");
    std::fs::remove_file(&lock).unwrap();
    let precious = world.path().join("precious");
    std::os::unix::fs::symlink(&precious, &lock).unwrap();
    refused("a dangling link");
    assert!(!precious.exists());
    std::fs::write(&precious, "").unwrap();
    refused("a link");
    assert_eq!(std::fs::read(&precious).unwrap(), b"");
    std::fs::remove_file(&lock).unwrap();
    world.sync();
}

#[test]
fn what_the_history_refers_to_cannot_be_deleted() {
    let world = World::new(3);
    world.sync();
    for table in ["organizations", "keys"] {
        let refused = sql::try_rows(&world.database(), &format!("delete from {table}"));
        assert!(refused.unwrap_err().to_string().contains("the history refers to"), "{table}");
    }
    world.check();
}
