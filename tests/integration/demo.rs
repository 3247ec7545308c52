//! `keydrift demo`: the first thing that somebody new sees.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Keydrift, Ran, Running, oracle, sql};

/// A command line with nothing at all in the environment but where temporary files go.
fn bare(directory: &Path) -> Keydrift {
    Keydrift::new(directory).without_env("HOME")
}

/// The path that follows `database: `.
#[track_caller]
fn database_of(stdout: &str) -> PathBuf {
    let line = stdout.lines().find_map(|line| line.strip_prefix("database: "));
    let path = PathBuf::from(line.unwrap_or_else(|| panic!("no path\n{stdout}")));
    assert!(
        path.is_absolute() && path.extension().is_some_and(|end| end == "db"),
        "{}",
        path.display()
    );
    path
}

fn demo(directory: &Path) -> (Ran, PathBuf) {
    let ran = bare(directory).arg("demo").succeeds();
    let database = database_of(&ran.stdout);
    (ran, database)
}

#[test]
fn the_demo_needs_nothing_and_tells_of_everything() {
    let directory = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let (ran, database) = demo(directory.path());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(ran.stderr, "");
    assert_eq!(database.parent(), Some(directory.path()));
    oracle::check_consistent(&database);
    for event in ["baseline", "added", "removed", "restored", "used", "changed"] {
        let query = format!("select count(*) from audit_history where event = '{event}'");
        assert!(sql::integer(&database, &query) > 0, "no event is `{event}`");
        assert!(ran.stdout.contains(event), "{event} is not told\n{ran}");
    }
    for status in ["ok", "failed", "held"] {
        let query = format!("select count(*) from run_history where status = '{status}'");
        assert!(sql::integer(&database, &query) > 0, "no run is `{status}`");
        let told = ran.stdout.lines().any(|line| line.trim_start().starts_with(status));
        assert!(told, "{status} is not told\n{ran}");
    }
    assert!(ran.stdout.contains("notice: the API now sends `tier`"), "{ran}");
    for (what, query) in [
        ("added", "select count(*) from audit_history where event = 'added' and scope = 'project'"),
        (
            "without access",
            "select count(*) from current_keys where owner_project_access = 'inactive'",
        ),
        ("archived", "select count(*) from current_keys where project_archived = 1"),
    ] {
        assert!(sql::integer(&database, query) > 0, "no project's key is {what}");
    }
    assert_eq!(sql::integer(&database, "select count(*) from run_history"), 15);
    // A fortnight, up to now.
    let span = "select unixepoch(max(finished_at)) - unixepoch(min(finished_at)) from run_history";
    assert_eq!(sql::integer(&database, span), 14 * 86_400);
}

#[test]
fn its_queries_answer() {
    let directory = tempfile::tempdir().unwrap();
    let (ran, database) = demo(directory.path());
    let queries: Vec<&str> = ran
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("sqlite3 -box "))
        .map(|line| {
            let (path, query) = line.split_once(" \"").expect("a query in quotes");
            assert_eq!(Path::new(path), database);
            query.strip_suffix('"').expect("a query in quotes")
        })
        .collect();
    assert_eq!(queries.len(), 3, "{ran}");
    for query in &queries {
        assert!(!sql::rows(&database, query).is_empty(), "{query} has no answer");
    }
    // And as they stand, where there is a `sqlite3`.
    let there = std::process::Command::new("sqlite3").arg("--version").output();
    for line in ran.stdout.lines().filter(|line| line.starts_with("sqlite3 ")) {
        if there.is_ok() {
            let output = std::process::Command::new("sh").args(["-c", line]).output().unwrap();
            assert!(output.status.success() && !output.stdout.is_empty(), "{line}: {output:?}");
        }
    }
    // The last line names this program as it was called.
    let runs = ran.stdout.lines().next_back().unwrap();
    let output = std::process::Command::new("sh").args(["-c", runs]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("held"), "{runs}: {output:?}");
}

#[test]
fn a_path_with_blanks_is_quoted_for_the_shell() {
    let directory = tempfile::tempdir().unwrap();
    let blank = directory.path().join("it's a directory");
    std::fs::create_dir(&blank).unwrap();
    let ran = bare(&blank).arg("demo").succeeds();
    let runs = ran.stdout.lines().next_back().unwrap();
    let output = std::process::Command::new("sh").args(["-c", runs]).output().unwrap();
    assert!(output.status.success(), "{runs}: {output:?}");
}

#[test]
fn it_reads_no_configuration_and_leaves_the_real_database_alone() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("broken.toml");
    std::fs::write(&broken, "[this is no configuration").unwrap();
    let real = directory.path().join("real.db");
    let home = directory.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let ran = bare(directory.path())
        .env("KEYDRIFT_CONFIG", &broken)
        .env("KEYDRIFT__DATABASE__PATH", &real)
        .env("KEYDRIFT__API__PAGE_SIZE", "nonsense")
        .env("OPENAI_ADMIN_KEY", "sk-admin-of-a-real-organization")
        .env("OPENAI_ADMIN_KEY_FILE", "/nowhere")
        .env("OPENAI_BASE_URL", "https://api.example")
        .env("HOME", &home)
        .env("STATE_DIRECTORY", &home)
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("http_proxy", "http://127.0.0.1:9")
        .arg("demo")
        .arg("--config")
        .arg(&broken)
        .arg("--database")
        .arg(&real)
        .succeeds();
    let database = database_of(&ran.stdout);
    assert_ne!(database, real);
    assert!(!real.exists());
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
    assert!(!ran.stdout.contains("sk-admin-of-a-real-organization"));
}

#[test]
fn each_demo_has_a_database_of_its_own_and_the_same_story() {
    let directory = tempfile::tempdir().unwrap();
    let ((first, one), (second, other)) = (demo(directory.path()), demo(directory.path()));
    assert_ne!(one, other);
    let story = |ran: &Ran| {
        let lines = ran.stdout.lines().take_while(|line| !line.contains("keydrift keys"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(story(&first), story(&second));
    let ids = "select group_concat(key_id) from (select key_id from all_keys order by key_id)";
    assert_eq!(sql::value(&one, ids), sql::value(&other, ids));
}

#[test]
fn a_served_demo_can_be_tried_with_what_it_prints() {
    let directory = tempfile::tempdir().unwrap();
    let keydrift = bare(directory.path())
        // In the way of who tries it: unset by what is printed.
        .env("OPENAI_ADMIN_KEY_FILE", "/nowhere")
        .args(["demo", "--serve", "127.0.0.1:0"]);
    let mut demo = Running::start(keydrift);
    demo.wait_for(|line| line.contains("Ctrl-C ends it"));
    let said = demo.seen.join("\n");
    assert!(said.contains("unset OPENAI_ADMIN_KEY_FILE\n"), "{said}");
    let exports: Vec<(String, String)> = said
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect();
    assert!(exports.len() >= 3, "{said}");
    let keydrift = |args: &[&str]| {
        let command = bare(directory.path()).args(args);
        exports.iter().fold(command, |command, (name, value)| command.env(name, value)).succeeds()
    };
    let ran = keydrift(&["sync"]);
    // Something may have happened meanwhile.
    let told =
        ran.stdout.lines().any(|line| line.starts_with("default: ") && line.contains(" keys, "));
    assert!(told, "{ran}");
    let keys = keydrift(&["keys", "--format", "json"]).json();
    assert!(keys.as_array().unwrap().len() >= 18, "{keys}");
    assert!(keydrift(&["log"]).stdout.contains("payments, production"));
    let runs = keydrift(&["runs", "--format", "json"]).json();
    assert_eq!(runs.as_array().unwrap().len(), 16);
    demo.interrupt();
    let (code, _) = demo.end();
    assert_eq!(code, Some(0));
    // The database stays, the API does not.
    oracle::check_consistent(&database_of(&said));
    let command = bare(directory.path()).arg("sync").env("KEYDRIFT__API__MAX_ATTEMPTS", "1");
    exports.iter().fold(command, |command, (name, value)| command.env(name, value)).exits(1);
}

#[test]
fn it_listens_on_loopback_alone() {
    let directory = tempfile::tempdir().unwrap();
    for elsewhere in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let ran = bare(directory.path()).args(["demo", "--serve", elsewhere]).exits(2);
        assert_eq!(ran.stdout, "", "{ran}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_temporary_directory_that_is_not_there_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let ran =
        bare(directory.path()).env("TMPDIR", directory.path().join("gone")).arg("demo").exits(1);
    assert!(ran.stderr.starts_with("error: "), "{ran}");
    assert!(ran.stderr.lines().count() <= 3, "{ran}");
}
