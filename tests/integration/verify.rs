//! `keydrift verify`, and the script for those who do not trust it. What is damaged in every way is tried in
//! `src/store/tests/damage.rs`; here it is the programs as people run them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::support::{History, sql};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_keydrift.py");
const SECOND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_signatures.py");

/// What the script says; `None`, loudly, where there is no Python.
fn script(arguments: &[&str]) -> Option<(i32, String)> {
    output(Command::new("python3").arg("-B").arg(SCRIPT).args(arguments))
}

#[expect(clippy::print_stderr, reason = "nobody may take it for tested")]
fn output(command: &mut Command) -> Option<(i32, String)> {
    let Ok(output) = command.output() else {
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
                 notice_salts erased_values all_keys attribution_history attribution_salts";
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
    ask(&format!("{}\n", checkpoint(&id, 9, &digest)), None, 3, "default broken: run 9: ");
    // Whoever has not the key says nothing that counts.
    ask(&stranger.sign(&other), Some(&signer), 0, "1 checkpoints do not count");
    let forged = signer.sign(&good).replace(&digest, &"0".repeat(64));
    ask(&forged, Some(&signer), 3, "is not its own");
    ask(
        &format!("{}\n", checkpoint("another", 3, &"0".repeat(64))),
        None,
        0,
        "1 checkpoints do not count",
    );
}

#[test]
fn the_script_is_short_and_needs_nothing_but_python() {
    let standard = [
        "argparse",
        "base64",
        "bisect",
        "collections",
        "datetime",
        "hashlib",
        "hmac",
        "itertools",
        "json",
        "math",
        "pathlib",
        "re",
        "runpy",
        "sqlite3",
        "struct",
        "sys",
    ];
    for file in [SCRIPT, SECOND] {
        let script = std::fs::read_to_string(file).unwrap();
        let lines = script.lines().count();
        assert!(lines < 250, "{file}: {lines} lines");
        let longest = script.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(120), "{file}: {longest:?} columns");
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
}

/// The script in a directory of its own, run where a file of the same name as its second half lies.
#[test]
fn alone_it_verifies_a_history_and_refuses_what_it_cannot_check() {
    let history = History::eventful();
    let database = history.world.database();
    let database = database.to_str().unwrap();
    let (alone, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let script = alone.path().join("verify_keydrift.py");
    std::fs::copy(SCRIPT, &script).unwrap();
    std::fs::write(elsewhere.path().join("verify_signatures.py"), "raise SystemExit(0)\n").unwrap();
    let says = |arguments: &[&str], code: i32, words: &str| {
        let mut command = Command::new("python3");
        command.arg(&script).args(arguments).current_dir(elsewhere.path());
        let Some((exit, said)) = output(&mut command) else { return };
        assert_eq!(exit, code, "{said}");
        assert!(said.contains(words), "{said}");
        if code == 0 {
            assert!(said.contains("NOT checked"), "{said}");
        }
    };
    says(&[database], 0, "default whole: runs 1 to 7, 14 events\n");
    says(&[database, "--checkpoints", database], 2, "NOT checked");
    says(&[database, "--public-key", &Signer::new(7).vkey()], 2, "NOT checked");
    says(&["--checkpoints"], 2, "NOT checked");
    says(&[elsewhere.path().to_str().unwrap()], 2, "NOT checked");
    says(&[], 2, "NOT checked");
    // With it, and without a trace.
    std::fs::copy(SECOND, alone.path().join("verify_signatures.py")).unwrap();
    let mut command = Command::new("python3");
    command.arg(&script).arg(database).current_dir(elsewhere.path());
    let Some((exit, said)) = output(&mut command) else { return };
    assert!(exit == 0 && said.starts_with("no checkpoints\n"), "{said}");
    assert_eq!(std::fs::read_dir(alone.path()).unwrap().count(), 2);
}

/// What both programs say of a history and a file of checkpoints: the code, and the first bad run.
struct Both<'h> {
    history: &'h History,
    keys: Vec<String>,
}

impl Both<'_> {
    #[track_caller]
    fn say(&self, content: &[u8], code: i32, words: &str) {
        let database = self.history.world.database();
        let file = database.with_extension("given");
        std::fs::write(&file, content).unwrap();
        let mut arguments = vec!["--checkpoints", file.to_str().unwrap()];
        arguments.extend(self.keys.iter().flat_map(|key| ["--public-key", key]));
        let shown = String::from_utf8_lossy(content);
        let ran = self.history.world.keydrift(&[&["verify"], &arguments[..]].concat()).run();
        assert_eq!(ran.code, Some(code), "{shown}\n{ran}");
        let Some((exit, said)) = script(&[&[database.to_str().unwrap()], &arguments[..]].concat())
        else {
            return;
        };
        assert_eq!(exit, code, "{shown}\n{said}\n{ran}");
        assert!(said.contains(words), "{shown}\n{said}");
        let bad = |text: &str| {
            let run = text.split("broken: run ").nth(1)?.split(": ").next()?.to_owned();
            Some(run)
        };
        assert_eq!(bad(&said), bad(&ran.stdout), "{shown}\n{said}\n{ran}");
    }
}

#[test]
fn both_pass_over_what_is_no_checkpoint_and_count_it() {
    let history = History::eventful();
    let text =
        |query: &str| sql::value(&history.world.database(), query).as_str().unwrap().to_owned();
    let id = text("select database_id from chains");
    let digest = text("select digest from run_history where run_id = 3");
    let good = checkpoint(&id, 3, &digest) + "\n";
    let bad = checkpoint(&id, 3, &"0".repeat(64)) + "\n";
    let both = Both { history: &history, keys: Vec::new() };
    both.say(good.as_bytes(), 0, "signatures of checkpoints were not checked");
    both.say(bad.as_bytes(), 3, "default broken: run 3: ");
    let passed = "1 checkpoints could not be read and were passed over";
    // Cut off by a full disk, in the end and before others.
    for cut in [30, 60, 100, bad.len() - 2] {
        both.say(&bad.as_bytes()[..cut], 0, passed);
        both.say((bad[..cut].to_owned() + "\n" + &good).as_bytes(), 0, passed);
        both.say((good.clone() + &bad[..cut] + "\n" + &bad).as_bytes(), 3, passed);
    }
    for noise in
        [&b"\xff\xfe\x00 noise\n"[..], b"\x80", b"keydrift checkpoint v2\nrun 3\n\n", b"\n\n\r\n"]
    {
        both.say(&[good.as_bytes(), noise].concat(), 0, passed);
        both.say(&[noise, b"\n", bad.as_bytes()].concat(), 3, passed);
    }
    both.say(
        &bad.replace("run 3", "run 3\u{fffd}").replace('\u{fffd}', "").into_bytes(),
        3,
        "run 3",
    );
    let mut bytes = bad.clone().into_bytes();
    let place = bad.find("default").unwrap();
    bytes[place] = 0xff;
    both.say(&bytes, 0, passed);
    // A text that is not the one text for what it says.
    for (from, to) in [
        ("run 3", "run  3"),
        ("run 3", "run 03"),
        ("run 3", "run +3"),
        ("run 3", "run 3\nact x"),
        ("run 3", "run 3\nact 01"),
        ("run 3", "run 99999999999999999999"),
        ("run 3", "run \u{663}"),
        ("run 3\n", "run 3\nkey x\n"),
        ("organization ", "organization\t"),
        ("000000", "00000A"),
        ("00000", "0000"),
        ("T08", " 08"),
        ("Z\n", "+00:00\n"),
        ("2026-10-07", "2026-02-30"),
        ("2026-10-07", "0000-10-07"),
        ("08:00:00Z", "08:00:60Z"),
        ("08:00:00Z", "08:00:00.5Z"),
        ("\n", "\r\n"),
        ("default\n", "default\r\n"),
        ("keydrift checkpoint", "keydrift  checkpoint"),
    ] {
        both.say(bad.replace(from, to).as_bytes(), 0, "could not be read and were passed over");
    }
    let long = bad.replace("organization default", &format!("organization {}", "x".repeat(4096)));
    both.say(long.as_bytes(), 0, passed);
    // No run has this act: whether it is one is for both to say alike.
    both.say(bad.replace("run 3\n", "run 3\nact 7\n").as_bytes(), 3, "default broken: run 3: ");
}

#[test]
fn both_miss_a_history_of_which_nothing_but_checkpoints_is_left() {
    for also in ["", "delete from installation"] {
        let history = History::eventful();
        let database = history.world.database();
        let text = |query: &str| sql::value(&database, query).as_str().unwrap().to_owned();
        let id = text("select database_id from chains");
        let digest = text("select digest from run_history where run_id = 3");
        let good = checkpoint(&id, 3, &digest) + "\n";
        let objects = "select name, type from sqlite_schema where type in ('table', 'trigger') \
                       and name not like 'sqlite_%'";
        let objects = sql::rows(&database, objects);
        let names = |kind: &str| {
            let of_kind = objects.iter().filter(|object| object["type"] == kind);
            of_kind.map(|object| object["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for trigger in names("trigger") {
            sql::rows(&database, &format!("drop trigger \"{trigger}\""));
        }
        for table in names("table")
            .iter()
            .filter(|name| *name != "installation" && !name.contains("migration"))
        {
            sql::rows(&database, &format!("pragma foreign_keys = off; delete from \"{table}\""));
        }
        if !also.is_empty() {
            sql::rows(&database, also);
        }
        let file = database.with_extension("given");
        std::fs::write(&file, &good).unwrap();
        let arguments = ["--checkpoints", file.to_str().unwrap()];
        history.world.keydrift(&[&["verify"], &arguments[..]].concat()).exits(3);
        script_says(
            &[&[database.to_str().unwrap()], &arguments[..]].concat(),
            3,
            "default broken: ",
        );
    }
}

#[test]
fn both_read_signatures_alike() {
    let history = History::eventful();
    let text =
        |query: &str| sql::value(&history.world.database(), query).as_str().unwrap().to_owned();
    let id = text("select database_id from chains");
    let digest = text("select digest from run_history where run_id = 3");
    let (good, bad) = (checkpoint(&id, 3, &digest), checkpoint(&id, 5, &"0".repeat(64)));
    let (signer, stranger) = (Signer::new(7), Signer::new(8));
    let both = Both { history: &history, keys: vec![signer.vkey()] };
    // Signing was switched on later: an unsigned note does not take the lines of the next one.
    let later = format!("{bad}\n{}", signer.sign(&good));
    both.say(later.as_bytes(), 0, "1 checkpoints do not count: they have no signature");
    both.say(format!("{bad}\n\n{}", signer.sign(&good)).as_bytes(), 0, "default whole");
    both.say(format!("{good}\n{}", signer.sign(&bad)).as_bytes(), 3, "default broken: run 5: ");
    both.say(stranger.sign(&bad).as_bytes(), 0, "default whole");
    // Anybody can write of an organization that never was.
    let unknown = good.replace("organization default", "organization nobody");
    both.say(format!("{unknown}\n").as_bytes(), 0, "default whole");
    both.say(signer.sign(&unknown).as_bytes(), 3, "nobody broken: ");
    let note = signer.sign(&bad);
    let line = note.lines().last().filter(|line| !line.is_empty());
    let line = line.unwrap_or_else(|| note.trim_end().lines().last().unwrap()).to_owned();
    let with = |line: &str| format!("{bad}\n{line}\n\n");
    both.say(with(&line).as_bytes(), 3, "default broken: run 5: ");
    // Other lines beside it, and what is no signature at all.
    let unknown = format!("\u{2014} somebody {}", BASE64.encode(&[9; 68]));
    both.say(with(&format!("{unknown}\n{line}")).as_bytes(), 3, "default broken: run 5: ");
    both.say(with(&format!("{}\n{line}", "\u{2014} x y")).as_bytes(), 0, "passed over");
    both.say(with(&format!("{unknown}\n").repeat(16)).as_bytes(), 0, "default whole");
    both.say(with(&(format!("{unknown}\n").repeat(16) + &line)).as_bytes(), 0, "passed over");
    let encoded = line.rsplit(' ').next().unwrap();
    let bytes = BASE64.decode(encoded.as_bytes()).unwrap();
    let long = BASE64.encode(&[&bytes[..], b"xyz"].concat());
    both.say(with(&line.replace(encoded, &long)).as_bytes(), 3, "names a key");
    for odd in [
        encoded.trim_end_matches('=').to_owned(),
        format!("{encoded}="),
        format!("{encoded} "),
        encoded.replacen('=', "\u{e9}", 1),
        BASE64.encode(&bytes[..20]),
        String::new(),
        // The last character before the padding has bits that must be zero.
        format!("{}/=", &encoded[..encoded.len() - 2]),
        encoded.replacen(|c: char| c.is_ascii_alphabetic(), "-", 1),
    ] {
        both.say(with(&line.replace(encoded, &odd)).as_bytes(), 0, "passed over");
    }
    // A key that cannot be used is no key.
    let key = signer.vkey();
    for odd in
        [key.replace("test+", "test+0"), key[..key.len() - 1].to_owned(), "x".to_owned(), key + "A"]
    {
        Both { history: &history, keys: vec![odd] }.say(good.as_bytes(), 2, "is no public key");
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
        if statements.starts_with("drop view act") || statements.starts_with("drop table") {
            script_says(&[database.to_str().unwrap()], 3, "broken: ");
        }
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
