//! How commands end: exit codes, output that nobody reads or that does not fit, terminals.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use keydrift::sim::{Fault, Matcher, Organization};

use crate::support::{History, Keydrift, Ran, World, sql};

/// Two organizations in one configuration, `acme` and `beta`, each with a credential file; and the path of
/// beta's.
pub(super) fn two_organizations() -> (World, std::path::PathBuf) {
    let world = World::of(Organization::generate(1, 5));
    let beta = Organization::generate(2, 3);
    let (acme_key, beta_key) = (world.organization().credential(), beta.credential().to_owned());
    world.organization().host(beta);
    let mut config = format!("[database]\npath = \"{}\"\n", world.database().display());
    for (name, key) in [("acme", acme_key), ("beta", beta_key)] {
        write_private(&world.path().join(format!("{name}.key")), &key);
        let base_url = world.server.base_url();
        let section = format!("[organizations.{name}]\nadmin_key_file = \"{name}.key\"\n");
        config = config + &section + &format!("base_url = \"{base_url}\"\n");
    }
    std::fs::write(world.path().join("keydrift.toml"), config).unwrap();
    let beta = world.path().join("beta.key");
    (world, beta)
}

fn write_private(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The command with that configuration.
pub(super) fn configured(world: &World, args: &[&str]) -> Keydrift {
    world
        .keydrift(args)
        .without_env("OPENAI_ADMIN_KEY")
        .without_env("OPENAI_BASE_URL")
        .env("KEYDRIFT_CONFIG", world.path().join("keydrift.toml"))
        .env("KEYDRIFT__API__MAX_ATTEMPTS", "1")
}

#[test]
fn the_exit_code_of_a_sync_tells_how_it_went() {
    let world = World::new(5);
    // A baseline is no drift.
    world.keydrift(&["sync", "--exit-code"]).exits(0);
    world.keydrift(&["sync", "--exit-code"]).exits(0);
    world.organization().with(Organization::add);
    world.keydrift(&["sync"]).exits(0);
    world.organization().with(Organization::add);
    world.keydrift(&["sync", "--exit-code"]).exits(3);
    world
        .organization()
        .fault(Matcher::any(), Fault::status(500).with_header("retry-after-ms", "0"));
    world.keydrift(&["sync", "--exit-code"]).env("KEYDRIFT__API__MAX_ATTEMPTS", "1").exits(1);
    world.organization().clear_faults();
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-admin-unknown").exits(1);
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-proj-no-admin-key").exits(2);
    world.keydrift(&["sync"]).without_env("OPENAI_ADMIN_KEY").exits(2);
    world.keydrift(&["sync"]).env("OPENAI_BASE_URL", "http://elsewhere.example").exits(2);
    world.keydrift(&["sync", "--organization", "nobody"]).exits(2);
    world.keydrift(&["sync", "--accept", "default"]).exits(1);
}

#[test]
fn one_of_two_organizations_done_is_partly_done() {
    let (world, beta) = two_organizations();
    let last_lines = |ran: &Ran| {
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let start = lines.len() - 2;
        lines[start..]
            .iter()
            .map(|line| line.split(" in ").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let ran = configured(&world, &["sync"]).exits(0);
    assert_eq!(
        last_lines(&ran),
        [
            "acme: 5 keys, 0 added, 0 removed, 0 used, 0 changed",
            "beta: 3 keys, 0 added, 0 removed, 0 used, 0 changed"
        ]
    );
    world.organization().with(Organization::add);
    std::fs::write(&beta, "sk-admin-revoked").unwrap();
    let ran = configured(&world, &["sync", "--exit-code"]).exits(4);
    assert_eq!(
        last_lines(&ran),
        ["acme: 6 keys, 1 added, 0 removed, 0 used, 0 changed", "beta: failed, nothing changed"]
    );
    assert!(ran.stderr.contains("could not sync organization `beta`"), "{ran}");
    std::fs::write(world.path().join("acme.key"), "sk-admin-revoked").unwrap();
    configured(&world, &["sync"]).exits(1);
    configured(&world, &["sync", "--organization", "beta"]).exits(1);
    assert_eq!(sql::integer(&world.database(), "select count(*) from run_history"), 7);
}

#[test]
fn a_sync_ends_with_one_line() {
    let world = World::new(1_204);
    let line = |ran: Ran| ran.stdout.lines().next_back().unwrap().to_owned();
    let first = line(world.keydrift(&["sync"]).succeeds());
    let shape = |line: &str| {
        let (start, rest) = line.split_once(" in ").expect("a duration");
        let (seconds, requests) = rest.split_once(" s (").expect("seconds");
        assert!(seconds.parse::<f64>().is_ok(), "{line}");
        (start.to_owned(), requests.to_owned())
    };
    let counts = "0 added, 0 removed, 0 used, 0 changed";
    let (said, requests) = shape(&first);
    assert_eq!(said, format!("default: 1 204 keys, {counts}"));
    // Thirteen pages and the projects; where both ends meet, one page may be asked for from either side.
    assert!(["14 requests)", "15 requests)"].contains(&requests.as_str()), "{requests}");
    world.organization().with(|organization| {
        let ids: Vec<String> = organization.ids().take(31).map(str::to_owned).collect();
        let (now, last) = (organization.now(), "last_used_at");
        for id in &ids {
            assert!(organization.set_field(id, last, now + 60));
        }
        let gone = organization.ids().nth(40).unwrap().to_owned();
        organization.remove(&gone);
        organization.add();
        organization.add();
    });
    let second = shape(&line(world.keydrift(&["sync"]).succeeds()));
    assert_eq!(second.0, "default: 1 205 keys, 2 added, 1 removed, 31 used, 0 changed");
}

#[test]
fn a_wrong_command_line_is_exit_code_two() {
    let world = History::eventful().world;
    for args in [
        &["nonsense"][..],
        &["keys", "--nonsense"],
        &["keys", "--as-of", "2026-10-02", "--removed"],
        &["keys", "--as-of", "the day before"],
        &["keys", "--stale", "ninety days"],
        &["keys", "--scope", "everything"],
        &["keys", "--format", "xml"],
        &["keys", "--organization", "nobody"],
        &["log", "--since", "tomorrow"],
        &["log", "--until", ""],
        &["log", "--event", "exploded"],
        &["log", "--limit", "-1"],
        &["log", "--follow", "--reverse"],
        &["show"],
        &["diff", "7d"],
        &["diff", "7d", "nonsense"],
        &["sync", "--accept", "nobody"],
        &["runs", "-q", "-v"],
        &["demo", "--serve", "nowhere"],
        &["completions", "cobol"],
        &["config"],
    ] {
        let ran = world.keydrift(args).exits(2);
        assert_eq!(ran.stdout, "", "{ran}");
        assert!(!ran.stderr.is_empty(), "{ran}");
    }
    Keydrift::new(world.path()).exits(2);
}

#[test]
fn help_and_version_are_no_mistakes() {
    let home = tempfile::tempdir().unwrap();
    for args in
        [&["--help"][..], &["-h"], &["--version"], &["log", "--help"], &["config", "check", "-h"]]
    {
        let ran = Keydrift::new(home.path()).args(args).succeeds();
        assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{ran}");
    }
}

#[test]
fn a_completion_script_for_each_shell() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = Keydrift::new(home.path()).args(["completions", shell]).succeeds();
        for command in ["sync", "keys", "log", "show", "diff", "runs", "demo"] {
            assert!(ran.stdout.contains(command), "{shell} does not know {command}");
        }
    }
}

#[test]
fn a_reader_that_leaves_early_is_success() {
    let world = World::new(2_000);
    world.keydrift(&["sync"]).succeeds();
    for args in [
        &["keys"][..],
        &["keys", "--format", "json"],
        &["keys", "--format", "csv"],
        &["log", "--format", "ndjson"],
        &["log"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let mut command = world.keydrift(args).command;
        // Nobody reads from the start …
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    }
    // … or only the beginning.
    let mut child = world.keydrift(&["keys", "--format", "json"]).command;
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    std::io::Read::read_exact(&mut stdout, &mut [0; 100]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &[][..]));
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
    let world = World::new(200);
    world.keydrift(&["sync"]).succeeds();
    for args in [
        &["keys"][..],
        &["keys", "--format", "json"],
        &["keys", "--format", "csv"],
        &["keys", "--format", "ndjson"],
        &["log"],
        &["runs"],
        &["sync"],
        &["show", "keydrift"],
        &["config", "check"],
        &["completions", "zsh"],
    ] {
        let mut command = world.keydrift(args).command;
        let output =
            command.stdout(full.try_clone().unwrap()).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains("error: could not write to standard output"), "{args:?}: {stderr}");
    }
}

#[test]
fn an_empty_listing_is_said_on_standard_error() {
    let world = World::new(0);
    world.keydrift(&["sync"]).succeeds();
    for (args, none) in [
        (&["keys"][..], "no keys match\n"),
        (&["log"], "no events match\n"),
        (&["keys", "--removed"], "no keys match\n"),
    ] {
        let ran = world.keydrift(args).succeeds();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", none));
        let ran = world.keydrift(args).arg("-q").succeeds();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
        let ran = world.keydrift(args).args(["--format", "json"]).succeeds();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("[]\n", ""));
    }
}

#[test]
fn before_the_first_good_sync_nothing_is_known() {
    let world = World::new(3);
    world.keydrift(&["sync"]).env("OPENAI_ADMIN_KEY", "sk-admin-unknown").exits(1);
    for args in [&["keys"][..], &["keys", "--removed"], &["log"]] {
        let ran = world.keydrift(args).succeeds();
        let said = "nothing is known yet: no sync has succeeded so far\n";
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", said));
    }
}

#[test]
fn quiet_leaves_data_warnings_and_errors() {
    let world = World::new(5);
    let ran = world.keydrift(&["sync", "-q"]).succeeds();
    assert_eq!(ran.stderr, "", "{ran}");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran}");
    let ran = world.keydrift(&["sync", "-q"]).env("OPENAI_ADMIN_KEY", "sk-admin-unknown").exits(1);
    assert!(ran.stderr.starts_with("error: could not sync organization `default`\n"), "{ran}");
}

/// What a command prints on a terminal of so many columns. `None` where `script` is not installed.
fn on_terminal(
    world: &World,
    columns: u32,
    args: &str,
    variables: &[(&str, &str)],
) -> Option<String> {
    let keydrift = env!("CARGO_BIN_EXE_keydrift");
    let line = format!(
        "stty cols {columns} rows 50; {keydrift} {args} --database {}",
        world.database().display()
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    command.env_remove("NO_COLOR").env("TERM", "xterm").env("KEYDRIFT_CONFIG", "/dev/null");
    let output = command.envs(variables.iter().copied()).output().ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_terminal_gets_colour_and_tables_that_fit() {
    let world = History::eventful().world;
    for (columns, args) in [(70, "keys"), (80, "log"), (80, "runs"), (100, "keys"), (200, "log")] {
        let Some(shown) = on_terminal(&world, columns, args, &[("NO_COLOR", "1")]) else { return };
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        for line in shown.lines() {
            assert!(line.trim_end().chars().count() <= columns as usize, "{columns}: {line}");
        }
    }
    let Some(shown) = on_terminal(&world, 120, "log", &[]) else { return };
    assert!(shown.contains("\u{1b}[31mremoved\u{1b}[0m"), "{shown:?}");
    let Some(shown) = on_terminal(&world, 120, "log", &[("TERM", "dumb")]) else { return };
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn the_configuration_is_shown_with_its_origins_and_without_secrets() {
    let (world, _) = two_organizations();
    let ran = configured(&world, &["config", "check", "--format", "json"]).succeeds();
    let rows = ran.json();
    let rows = rows.as_array().unwrap();
    let row = |key: &str| {
        rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key}\n{ran}"))
    };
    assert_eq!(row("database.path")["origin"], "--database");
    assert_eq!(row("api.page_size")["origin"], "default");
    assert_eq!(row("api.max_attempts")["origin"], "KEYDRIFT__API__MAX_ATTEMPTS");
    let path = world.path().join("keydrift.toml");
    assert_eq!(row("organizations.acme.base_url")["origin"], format!("{}:5", path.display()));
    assert!(!ran.stdout.contains(&world.organization().credential()));
    for format in ["table", "ndjson", "csv"] {
        let ran = configured(&world, &["config", "check", "--format", format]).succeeds();
        assert!(ran.stdout.contains("organizations.beta.credential"), "{ran}");
    }
}
