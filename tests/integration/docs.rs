//! The documents say what is so: commands, queries, columns, exit codes, links.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keydrift::clock::{Clock, SystemClock};
use keydrift::run::Status;
use keydrift::sim::Organization;

use crate::support::{History, Keydrift, World, sql};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

const DOCUMENTS: [&str; 14] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/audit-log.md",
    "docs/configuration.md",
    "docs/findings.md",
    "docs/logging.md",
    "docs/monitoring.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/queries.md",
    "docs/schema.md",
    "migrations/README.md",
];

/// The code blocks of one language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let after = document.split(&fence).skip(1);
    after.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// The database of a demo.
fn demo(directory: &Path) -> PathBuf {
    let ran = Keydrift::new(directory).arg("demo").succeeds();
    let path =
        ran.stdout.lines().find_map(|line| line.strip_prefix("database: ").map(PathBuf::from));
    path.unwrap_or_else(|| panic!("no database\n{ran}"))
}

#[test]
fn every_query_runs_against_the_demo() {
    let directory = tempfile::tempdir().unwrap();
    let database = demo(directory.path());
    let key = sql::value(&database, "select min(key_id) from current_keys");
    let tail = sql::value(&database, "select min(substr(redacted_value, -4)) from current_keys");
    // What these ask is not in the story of the demo.
    let without_answer = ["where days > 2", "where acted_at is not null"];
    for document in ["README.md", "docs/queries.md"] {
        let queries = blocks(&read(document), "sql");
        assert!(queries.len() >= 3, "{document}");
        for query in queries {
            // Without these, SQLite before 3.44 answers null.
            assert!(!query.contains("%F") && !query.contains("%T"), "{document}: {query}");
            // Examples of an id and of the end of a value.
            let asked = query
                .replace("key_abc", key.as_str().unwrap())
                .replace("wxyz", tail.as_str().unwrap())
                .replace("2026-10-01", "1970-01-01")
                .replace("2027-01-01", "9999-01-01");
            let rows = sql::rows(&database, &asked);
            let has_answer = !without_answer.iter().any(|part| query.contains(part));
            assert_eq!(!rows.is_empty(), has_answer, "{document}: {asked}");
        }
    }
}

#[test]
fn every_command_line_of_the_readme_works() {
    let directory = tempfile::tempdir().unwrap();
    let database = demo(directory.path());
    // As if keydrift had been used for a month: nothing is known of a week ago otherwise.
    let history = History::of(Organization::generate(7, 12));
    let past = SystemClock.now().saturating_sub(Duration::from_hours(30 * 24));
    assert_eq!(history.sync(&past.to_string()), Status::Ok);
    let world = history.world;
    std::fs::remove_file(&database).unwrap();
    let mut tried = BTreeSet::new();
    for block in blocks(&read("README.md"), "sh") {
        for line in block.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let Some(at) = line.find("keydrift ") else { continue };
            let words: Vec<&str> = line[at..].split_whitespace().skip(1).collect();
            tried.insert(words[0].to_owned());
            if words.contains(&"--serve") {
                // Tried by the tests of the demo.
                continue;
            }
            world.keydrift(&words).succeeds();
        }
    }
    let expected = [
        "backup", "config", "demo", "diff", "doctor", "evidence", "findings", "keys", "log",
        "runs", "show", "status", "sync", "verify",
    ];
    assert_eq!(tried.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn the_readme_begins_with_how_to_run_and_to_test_it() {
    let readme = read("README.md");
    let first = blocks(&readme, "sh").swap_remove(0);
    assert_eq!(first, "cargo run --release -- demo\ncargo test\n");
    assert!(readme.starts_with("# keydrift\n\n```sh\ncargo run"));
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let home = tempfile::tempdir().unwrap();
    let help = Keydrift::new(home.path()).arg("--help").succeeds().stdout;
    let readme = read("README.md").replace('`', "");
    let codes: Vec<&str> =
        help.lines().skip_while(|line| *line != "Exit codes:").skip(1).take(5).collect();
    assert_eq!(codes.len(), 5);
    for line in codes {
        let (code, means) = line.trim().split_once("  ").expect("a code and what it means");
        assert!(readme.contains(&format!("| {code} | {means} |")), "{code}: {means}");
    }
}

#[test]
fn every_command_is_in_the_readme_or_the_changelog() {
    let home = tempfile::tempdir().unwrap();
    let help = Keydrift::new(home.path()).arg("--help").succeeds().stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= 9, "{help}");
    let known = read("README.md") + &read("CHANGELOG.md");
    for command in commands {
        assert!(
            known.contains(&format!("keydrift {command}"))
                || known.contains(&format!("`{command}`")),
            "`{command}` is not described"
        );
    }
}

#[test]
fn the_schema_lists_every_column_of_every_view() {
    let world = World::new(1);
    world.sync();
    let document = read("docs/schema.md");
    let views = sql::rows(&world.database(), "select name from sqlite_schema where type = 'view'");
    assert_eq!(views.len(), 20);
    for view in views {
        let view = view["name"].as_str().unwrap();
        let section = document.split(&format!("\n## `{view}`\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("no section `{view}`"));
        let section = section.split("\n## ").next().unwrap();
        let described: Vec<&str> = section
            .lines()
            .skip_while(|line| *line != "| column | is |")
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .flat_map(|line| line.split('|').nth(1).unwrap().split(','))
            .map(|name| name.trim().trim_matches('`'))
            .collect();
        let query = format!("select name from pragma_table_info('{view}')");
        let columns = sql::rows(&world.database(), &query);
        let columns: Vec<&str> = columns.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(described, columns, "{view}");
    }
    let tables = "select name from sqlite_schema where type = 'table'
        and name not like 'sqlite%' and name not like '\\_sqlx%' escape '\\'";
    for table in sql::rows(&world.database(), tables) {
        let table = table["name"].as_str().unwrap();
        assert!(document.contains(&format!("\n| `{table}` | ")), "{table} is not described");
    }
}

#[test]
fn every_kind_of_line_and_every_metric_is_documented() {
    let logging = read("docs/logging.md");
    for (name, id) in keydrift::telemetry::message::ALL {
        assert!(logging.contains(&format!("| `{id}` | ")), "{name}");
    }
    let metrics = keydrift::metrics::Metrics::new().unwrap();
    metrics.watch("acme");
    let health = keydrift::store::Health {
        last_success_at: keydrift::clock::Timestamp::from_unix(1),
        next_expiry_at: keydrift::clock::Timestamp::from_unix(2),
        ..keydrift::store::Health::default()
    };
    metrics.show("acme", &health);
    let rendered = metrics.render().unwrap();
    let monitoring = read("docs/monitoring.md");
    for name in rendered.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = name.split(' ').next().unwrap();
        assert!(monitoring.contains(&format!("| `{name}` | ")), "{name}");
    }
    // What dashboard and alerts ask for exists.
    for file in ["deploy/grafana/keydrift.json", "deploy/prometheus/keydrift.rules.yml"] {
        let text = read(file);
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: BTreeSet<&str> = names.filter(|word| word.starts_with("keydrift_")).collect();
        assert!(names.len() >= 5, "{file}");
        for name in names {
            let name = name.trim_end_matches("_bucket");
            assert!(monitoring.contains(&format!("| `{name}` | ")), "{file}: {name}");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        let directory = root().join(document).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !link.starts_with("http") && !path.is_empty() {
                assert!(directory.join(path).exists(), "{document}: {link}");
            }
        }
    }
}

#[test]
fn documents_are_of_this_project_alone() {
    for document in DOCUMENTS {
        let text = read(document);
        // In pieces, so that this file passes too.
        for foreign in [concat!("..", "/shared"), concat!("/", "work/"), "/tmp/", "/root/"] {
            assert!(!text.contains(foreign), "{document} mentions {foreign}");
        }
    }
}

#[test]
fn licences_are_there() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("license = \"MIT OR Apache-2.0\""));
    assert!(read("LICENSE-MIT").contains("the keydrift developers"));
    assert!(read("LICENSE-APACHE").contains("Version 2.0, January 2004"));
}
