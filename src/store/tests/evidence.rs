//! Random histories as files, and what both verifiers say of them: ours, and the script for those who do not
//! trust ours.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Column as _, Row as _, TypeInfo, ValueRef};

use super::history::steps;
use super::*;
use crate::store::chain::{append_act, load_head};

pub(super) type Row = serde_json::Map<String, serde_json::Value>;

/// The first bad run of each organization's history that is broken; 0 where it is of no run.
pub(super) type Accused = BTreeMap<String, Option<i64>>;

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A directory in memory, where the machine has a place for such.
pub(super) fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

impl Books {
    /// As it would be opened anew, on a file that is there.
    pub(super) async fn reopen(directory: TempDir, runs: i64) -> Self {
        let writer = open_at(&directory.path().join("keydrift.db")).await.unwrap();
        Self { writer, directory, runs, attributes: false }
    }

    pub(super) async fn close(self) -> TempDir {
        self.writer.close().await.unwrap();
        self.directory
    }

    /// Somebody accepts that the history departs from a checkpoint.
    pub(super) async fn act(&mut self, organization: &str) {
        let id = "select organization from organizations where name = ?1";
        let connection = &mut self.writer.connection;
        let id: i64 =
            sqlx::query_scalar(id).bind(organization).fetch_one(&mut *connection).await.unwrap();
        let (mut head, _) = load_head(connection, id).await.unwrap();
        let detail = json!({"reason": "a restore", "checkpoint": {"run": 1}}).to_string();
        let (kind, now) = (crate::audit::ActKind::Accepted, at(START + 60 * self.runs));
        append_act(connection, id, &mut head, kind, now, "root", &detail).await.unwrap();
    }

    pub(super) async fn rename(&mut self, from: &str, to: &str) {
        let now = at(START + 60 * self.runs);
        let renaming = self.writer.rename(from, to, now, "root").await.unwrap();
        assert_eq!(renaming, Renaming::Done, "{from} to {to}");
    }

    /// A history of two organizations, of at least `runs` runs, that is another one for each seed.
    pub(super) async fn live_randomly(&mut self, seed: u8, runs: i64) {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        self.attributes = true;
        let until = self.runs + runs;
        while self.runs < until {
            for step in steps().new_tree(&mut runner).unwrap().current() {
                self.step(step).await;
            }
        }
    }
}

pub(super) async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).foreign_keys(false);
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// What a query gives.
pub(super) async fn query(
    connection: &mut SqliteConnection,
    sql: &str,
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await?;
    let value = |row: &sqlx::sqlite::SqliteRow, at: usize| {
        let raw = row.try_get_raw(at).unwrap();
        match raw.type_info().name() {
            _ if raw.is_null() => serde_json::Value::Null,
            "INTEGER" => row.get_unchecked::<i64, _>(at).into(),
            _ => row.get_unchecked::<String, _>(at).into(),
        }
    };
    let read = |row: &sqlx::sqlite::SqliteRow| {
        row.columns().iter().map(|c| (c.name().to_owned(), value(row, c.ordinal()))).collect()
    };
    Ok(rows.iter().map(read).collect())
}

/// What `keydrift verify` says, as it puts it together.
pub(super) async fn verify(path: &Path) -> Accused {
    let mut reader = Reader::open(path).await.unwrap();
    let known = reader.list_organizations().await.unwrap();
    let damage = reader.find_damage().await.unwrap();
    let verdicts = reader.verify(&|_, _| None).await;
    reader.close().await.unwrap();
    let problem = |verdict: &crate::audit::Verdict| {
        let run = verdict.problem.as_ref().map(|problem| problem.run_id.unwrap_or(0));
        (verdict.organization.clone(), run.or(damage.as_ref().map(|_| 0)))
    };
    match verdicts {
        Err(_) => known.into_iter().map(|name| (name, Some(0))).collect(),
        Ok(verdicts) if verdicts.is_empty() && damage.is_some() => {
            Accused::from([("database".to_owned(), Some(0))])
        }
        Ok(verdicts) => verdicts.iter().map(problem).collect(),
    }
}

/// `docs/verify_keydrift.py`, in one process for many databases.
pub(super) struct Script {
    child: Child,
    asked: ChildStdin,
    said: BufReader<ChildStdout>,
}

const DRIVER: &str = "
import sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import verify_keydrift
for path in sys.stdin:
    print('exit', verify_keydrift.main([path.rstrip('\\n')]), flush=True)
";

impl Script {
    /// `None`, loudly, where there is no Python.
    #[expect(clippy::print_stderr, reason = "nobody may take it for tested")]
    pub(super) fn start() -> Option<Self> {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
        let child = Command::new("python3")
            .args(["-c", DRIVER, docs])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("!!! there is no python3: docs/verify_keydrift.py is NOT TESTED");
            return None;
        };
        let (asked, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, asked, said: BufReader::new(said) })
    }

    pub(super) fn verify(&mut self, path: &Path) -> (Accused, String) {
        writeln!(self.asked, "{}", path.display()).unwrap();
        let (mut accused, mut said) = (Accused::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the script failed");
            said.push_str(&line);
            if let Some(code) = line.strip_prefix("exit ") {
                let broken = accused.values().any(Option::is_some);
                assert_eq!(code.trim(), if broken { "3" } else { "0" }, "{said}");
                return (accused, said);
            }
            if let Some((name, what)) = line.split_once(" broken: ") {
                let run = what.strip_prefix("run ").and_then(|what| what.split_once(": "));
                let run = run.map_or(0, |(run, _)| run.parse().unwrap());
                accused.insert(name.to_owned(), Some(run));
            } else if let Some((name, _)) = line.split_once(" whole: ") {
                accused.insert(name.to_owned(), None);
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        drop(ended);
    }
}

#[test]
fn honest_histories_are_never_accused() {
    let mut script = Script::start();
    for seed in 0..12 {
        let (accused, directory) = block_on(async {
            let mut books = Books::reopen(directory(), 0).await;
            books.live_randomly(seed, 6).await;
            if seed % 2 == 0 {
                books.rename("a", "between").await;
                books.rename("between", "a").await;
            }
            books.live_randomly(seed, 4).await;
            if seed % 3 == 0 {
                books.rename("b", "other").await;
            }
            let accused = verify(&books.path()).await;
            (accused, books.close().await)
        });
        assert!(!accused.is_empty() && accused.values().all(Option::is_none), "{accused:?}");
        if let Some(script) = &mut script {
            let (found, said) = script.verify(&directory.path().join("keydrift.db"));
            assert_eq!(found, accused, "{said}");
        }
    }
}
