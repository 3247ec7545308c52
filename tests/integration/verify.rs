//! `keydrift verify`, and the script for those who do not trust it. What is damaged in every way is tried in
//! `src/store/tests/damage.rs`; here it is the programs as people run them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::support::{History, sql};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_keydrift.py");

#[expect(clippy::print_stderr, reason = "nobody may take it for tested")]
/// What the script says; `None`, loudly, where there is no Python.
fn script(arguments: &[&str]) -> Option<(i32, String)> {
    let Ok(output) = Command::new("python3").arg("-B").arg(SCRIPT).args(arguments).output() else {
        eprintln!("!!! there is no python3: docs/verify_keydrift.py is NOT TESTED");
        return None;
    };
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    Some((output.status.code().unwrap(), said))
}

#[track_caller]
fn script_says(arguments: &[&str], code: i32, words: &str) {
    if let Some((exit, said)) = script(arguments) {
        assert_eq!(exit, code, "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn both_say_whole_of_an_honest_history_and_both_name_the_run_that_was_edited() {
    let history = History::eventful();
    let database = history.world.database();
    let path = database.to_str().unwrap();
    let verify = || history.world.keydrift(&["verify"]);
    assert!(verify().succeeds().stdout.contains("whole and unedited"));
    script_says(&[path], 0, "default whole: runs 1 to 7, 14 events\n");

    let edit =
        "drop trigger runs_no_update; update runs set requests = requests + 1 where run_id = 5";
    for statement in edit.split(';') {
        sql::rows(&database, statement);
    }
    let ran = verify().exits(3);
    assert!(ran.stdout.contains("default: broken: run 5: "), "{ran}");
    assert!(ran.stdout.contains("good until run 4, 2026-10-04T08:00:00Z"), "{ran}");
    script_says(&[path], 3, "default broken: run 5: ");
    script_says(&[path], 3, "good until run 4 (2026-10-04T08:00:00Z)");

    // Nothing is left that anything could be said of, but for rows that nobody sees.
    for statement in ["drop trigger organizations_no_delete", "delete from organizations"] {
        let statement = format!("pragma foreign_keys = off; {statement}");
        sql::rows(&database, &statement);
    }
    assert!(verify().exits(3).stdout.contains("database: broken"));
    script_says(&[path], 3, "database broken: ");
    script_says(&["/nowhere/keys.db"], 2, "cannot be read");
}

/// The views as files, as an evidence pack has them.
fn export(database: &Path, directory: &Path) {
    let views = "chains run_history run_parts act_history audit_history audit_salts notice_history \
                 notice_salts erased_values all_keys";
    for view in views.split_whitespace() {
        let mut lines = String::new();
        for row in sql::rows(database, &format!("select * from {view} order by 1")) {
            writeln!(lines, "{}", serde_json::Value::from(row)).unwrap();
        }
        std::fs::write(directory.join(view).with_extension("ndjson"), lines).unwrap();
    }
}

#[test]
fn the_script_reads_files_of_the_views_as_well() {
    let history = History::eventful();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    export(&history.world.database(), directory.path());
    script_says(&[path], 0, "default whole: runs 1 to 7, 14 events\n");
    let events: PathBuf = directory.path().join("audit_history.ndjson");
    let edited = std::fs::read_to_string(&events).unwrap().replace("ci deploy (eu)", "ci deploy");
    std::fs::write(&events, edited).unwrap();
    script_says(&[path], 3, "default broken: run 2: ");
}

/// Somebody who signs checkpoints.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn key_id(&self) -> [u8; 4] {
        let mut bytes = b"keydrift-test\n\x01".to_vec();
        bytes.extend_from_slice(self.0.public_key().as_ref());
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        digest.as_ref()[..4].try_into().unwrap()
    }

    fn vkey(&self) -> String {
        let mut key = vec![1];
        key.extend_from_slice(self.0.public_key().as_ref());
        format!("keydrift-test+{}+{}", HEXLOWER.encode(&self.key_id()), BASE64.encode(&key))
    }

    fn sign(&self, text: &str) -> String {
        let mut signature = self.key_id().to_vec();
        signature.extend_from_slice(self.0.sign(text.as_bytes()).as_ref());
        format!("{text}\n\u{2014} keydrift-test {}\n\n", BASE64.encode(&signature))
    }
}

fn checkpoint(database: &str, run: i64, digest: &str) -> String {
    format!(
        "keydrift checkpoint v1\ndatabase {database}\norganization default\nrun {run}\n\
         digest {digest}\ntime 2026-10-07T08:00:00Z\n"
    )
}

#[test]
fn the_script_holds_a_history_against_checkpoints_and_checks_their_signatures() {
    let history = History::eventful();
    let database = history.world.database();
    let text = |query: &str| sql::value(&database, query).as_str().unwrap().to_owned();
    let id = text("select database_id from chains");
    let digest = text("select digest from run_history where run_id = 3");
    let (signer, stranger) = (Signer::new(7), Signer::new(8));
    let file = database.with_extension("checkpoints");
    let ask = |content: &str, key: Option<&Signer>, code: i32, words: &str| {
        std::fs::write(&file, content).unwrap();
        let mut arguments =
            vec![database.to_str().unwrap(), "--checkpoints", file.to_str().unwrap()];
        let vkey = key.map(Signer::vkey);
        arguments.extend(vkey.iter().flat_map(|vkey| ["--public-key", vkey.as_str()]));
        script_says(&arguments, code, words);
    };
    let good = checkpoint(&id, 3, &digest);
    let other = checkpoint(&id, 3, &"0".repeat(64));
    ask(&signer.sign(&good), None, 0, "signatures of checkpoints were not checked");
    ask(&format!("{good}\n{good}\n"), None, 0, "default whole");
    ask(&signer.sign(&good), Some(&signer), 0, "default whole");
    ask(&signer.sign(&other), Some(&signer), 3, "default broken: run 3: ");
    ask(&checkpoint(&id, 9, &digest), None, 3, "default broken: run 9: ");
    // Whoever has not the key says nothing that counts.
    ask(&stranger.sign(&other), Some(&signer), 0, "1 checkpoints do not count");
    let forged = signer.sign(&good).replace(&digest, &"0".repeat(64));
    ask(&forged, Some(&signer), 3, "is not its own");
    ask(&checkpoint("another", 3, &"0".repeat(64)), None, 0, "1 checkpoints do not count");
}

#[test]
fn the_script_is_short_and_needs_nothing_but_python() {
    let script = std::fs::read_to_string(SCRIPT).unwrap();
    let lines = script.lines().count();
    assert!(lines < 250, "{lines} lines");
    let standard = [
        "argparse",
        "base64",
        "collections",
        "hashlib",
        "hmac",
        "json",
        "math",
        "pathlib",
        "re",
        "sqlite3",
        "struct",
        "sys",
    ];
    let imports: Vec<&str> = script
        .lines()
        .filter(|line| line.trim_start().starts_with("import ") || line.contains(" import "))
        .collect();
    let [line] = imports.as_slice() else { panic!("{imports:?}") };
    let modules = line.strip_prefix("import ").expect("no names of a module");
    for module in modules.split(", ") {
        assert!(standard.contains(&module), "{module}");
    }
}

/// What shows the history may be edited as well as the history.
#[test]
fn a_schema_that_was_edited_is_damage_and_a_missing_guard_is_said() {
    let history = History::eventful();
    let database = history.world.database();
    let aside = history.world.path().join("aside.db");
    sql::rows(&database, "pragma wal_checkpoint(truncate)");
    std::fs::copy(&database, &aside).unwrap();
    for (statements, words) in [
        (
            "drop view act_history",
            "default: broken: the schema of the database was edited: the view `act_history` is missing",
        ),
        (
            "drop table acts",
            "default: broken: the schema of the database was edited: the table `acts` is missing",
        ),
        ("drop table organizations", "database: broken: it cannot be read: "),
        ("delete from installation", "database: broken: it cannot be read: "),
        (
            "drop view current_keys; create view current_keys as select 1 as key_id",
            "default: broken: the schema of the database was edited: the view `current_keys`",
        ),
        (
            "create trigger lying after insert on runs begin select 1; end",
            "default: broken: the schema of the database was edited: the trigger `lying`",
        ),
    ] {
        std::fs::copy(&aside, &database).unwrap();
        let guards = "select name from sqlite_schema where type = 'trigger'
                      and tbl_name in ('acts', 'organizations', 'installation')";
        for name in sql::rows(&database, guards) {
            sql::rows(&database, &format!("drop trigger {}", name["name"].as_str().unwrap()));
        }
        let edits: Vec<&str> = if statements.contains("begin") {
            vec![statements]
        } else {
            statements.split(';').collect()
        };
        for statement in edits {
            sql::rows(&database, &format!("pragma foreign_keys = off; {statement}"));
        }
        let ran = history.world.keydrift(&["verify"]).exits(3);
        assert!(ran.stdout.contains(words), "{statements}: {ran}");
    }
    std::fs::copy(&aside, &database).unwrap();
    sql::rows(&database, "drop trigger runs_no_update");
    sql::rows(&database, "create view mine as select * from keys");
    sql::rows(&database, "create index mine_too on runs (pages)");
    let ran = history.world.keydrift(&["verify"]).succeeds();
    assert!(ran.stdout.contains("whole and unedited"), "{ran}");
    assert!(ran.stderr.contains("are missing from the database: runs_no_update"), "{ran}");
    assert!(!ran.stderr.contains("`mine"), "{ran}");
}
