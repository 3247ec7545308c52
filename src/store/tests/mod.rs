//! The store on real files.

mod append_only;
mod attributions;
mod backup;
mod damage;
mod erasure;
mod evidence;
mod faults;
mod find;
mod findings;
mod history;
mod hostile;
mod locking;
mod notes;
mod queries;
mod retention;
mod runs;
mod shown;
mod upgrade;
mod views;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::clock::Timestamp;
use crate::inventory::tests::{World, id, of_project, project, sighting, world};
use crate::inventory::{Changes, Comparison, KeyId, Outline, SeenProjects, Snapshot};
use crate::run::{Status, Tally, Trigger};

const ORG: &str = "default";
/// When the first run of a test starts. Each starts a minute after the one before and takes a second.
const START: i64 = 1_764_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

fn is_own(redacted: &str) -> bool {
    redacted.ends_with("own")
}

fn run_at(number: i64) -> String {
    at(START + 60 * number + 1).to_string()
}

/// A database in a directory of its own, and who writes it.
struct Books {
    writer: Writer,
    directory: TempDir,
    runs: i64,
    /// Whether its runs find out who did it, more or less.
    attributes: bool,
}

impl Books {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let writer = open_at(&directory.path().join("keydrift.db")).await.unwrap();
        Self { writer, directory, runs: 0, attributes: false }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("keydrift.db")
    }

    async fn reader(&self) -> Reader {
        Reader::open(&self.path()).await.unwrap()
    }

    fn draft(&mut self, organization: &str) -> RunDraft {
        let started_at = START + 60 * self.runs;
        self.runs += 1;
        RunDraft {
            organization: organization.to_owned(),
            trigger: Trigger::Manual,
            started_at: at(started_at),
            finished_at: at(started_at + 1),
            token: self.runs,
            tally: Tally::default(),
            notices: Vec::new(),
            deferred_until: None,
            cut_short: None,
        }
    }

    /// The snapshot of an organization with all keys at hand.
    async fn whole(&mut self, organization: &str) -> Snapshot {
        let (snapshot, _) = self.writer.load_snapshot(organization, &is_own).await.unwrap();
        let ids: Vec<KeyId> = snapshot.outline.ids().collect();
        let keys = self.writer.load_keys(organization, &ids).await.unwrap();
        Snapshot { keys, outline: Outline::default(), ..snapshot }
    }

    async fn comparison(&mut self, organization: &str) -> Comparison<'static> {
        let (snapshot, _) = self.writer.load_snapshot(organization, &is_own).await.unwrap();
        Comparison::new(snapshot, is_own).on(self.writer.scratch())
    }

    /// What a comparison that all lists went into needs to know of the keys.
    async fn resolve(
        &mut self,
        organization: &str,
        comparison: &mut Comparison<'_>,
    ) -> HashSet<KeyId> {
        let wanted = comparison.wanted();
        comparison.resolve(self.writer.load_keys(organization, &wanted).await.unwrap());
        self.writer.load_gone(organization, comparison.appeared()).await.unwrap()
    }

    /// What the world comes to, and the snapshot before.
    async fn compare_all(
        &mut self,
        organization: &str,
        world: &World,
        gone: &[&str],
    ) -> (Changes, Snapshot) {
        let mut comparison = self.comparison(organization).await;
        for (key_id, item) in world {
            comparison.observe(sighting(key_id, item));
        }
        let returning = self.resolve(organization, &mut comparison).await;
        let gone: HashSet<KeyId> = gone.iter().map(|text| id(text)).collect();
        comparison.conclude(&gone, &returning)
    }

    async fn compare(&mut self, organization: &str, world: &World, gone: &[&str]) -> Changes {
        self.compare_all(organization, world, gone).await.0
    }

    /// The same, where some of the keys are in the lists of projects, some in the admin list too, and one of the
    /// lists may not be had: all as the world says.
    async fn sync_projects_as(
        &mut self,
        organization: &str,
        world: &World,
        gone: &[&str],
    ) -> Recorded {
        let mut comparison = self.comparison(organization).await;
        let place = |key_id: &str| key_id.bytes().map(usize::from).sum::<usize>() % 5;
        for (key_id, item) in world.iter().filter(|(key_id, _)| place(key_id) < 3) {
            comparison.observe(sighting(key_id, item));
        }
        let mut seen = Vec::new();
        for (number, name) in ["p1", "p2"].into_iter().enumerate() {
            let project = project(name);
            let keys = world.iter().filter(|(key_id, _)| place(key_id) == 2 + number);
            let keys = keys.map(|(key_id, item)| of_project(&project, key_id, item)).collect();
            let problem = (world.len() % 4 == number).then(|| "x".to_owned());
            if problem.is_none() {
                comparison.observe_project(&project, keys);
            }
            seen.push((project, problem));
        }
        comparison.conclude_projects(SeenProjects::Listed(seen));
        let returning = self.resolve(organization, &mut comparison).await;
        let missing: HashSet<KeyId> = comparison.missing().into_iter().collect();
        let gone = gone.iter().map(|text| id(text)).filter(|id| missing.contains(id)).collect();
        let keys_seen = comparison.keys_seen();
        let changes = comparison.finish(&gone, &returning);
        self.record(organization, keys_seen, &changes).await
    }

    async fn sync_as(&mut self, organization: &str, world: &World, gone: &[&str]) -> Recorded {
        let changes = self.compare(organization, world, gone).await;
        self.record(organization, world.len() as u64, &changes).await
    }

    async fn record(&mut self, organization: &str, keys_seen: u64, changes: &Changes) -> Recorded {
        let mut draft = self.draft(organization);
        draft.tally.keys_seen = keys_seen;
        draft.tally.unconfirmed = changes.unconfirmed.len() as u64;
        let attributed = if self.attributes {
            self.some_attributions(organization, changes, draft.finished_at).await
        } else {
            Attributed::default()
        };
        let outcome = Outcome::Ok { changes, header: None, attributed: &attributed, judge: None };
        self.writer.record_run(&draft, &outcome).await.unwrap()
    }

    async fn sync(&mut self, world: &World, gone: &[&str]) -> Recorded {
        self.sync_as(ORG, world, gone).await
    }

    async fn fail(&mut self, error: &str) -> Recorded {
        let draft = self.draft(ORG);
        let outcome = Outcome::Failed { error, withheld: None };
        self.writer.record_run(&draft, &outcome).await.unwrap()
    }

    async fn keys(&self) -> Vec<KeyRow> {
        let mut rows = Vec::new();
        for removed in [false, true] {
            let filter = KeyFilter { removed, ..KeyFilter::default() };
            self.reader().await.list_keys(&filter, |row| push(&mut rows, row)).await.unwrap();
        }
        rows
    }

    async fn events(&self) -> Vec<EventRow> {
        events(&mut self.reader().await, &EventFilter::default()).await
    }

    async fn runs(&self) -> Vec<RunRow> {
        let mut rows = Vec::new();
        let mut reader = self.reader().await;
        reader.list_runs(None, None, false, |row| push(&mut rows, row)).await.unwrap();
        rows
    }

    async fn number(&mut self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.writer.connection).await.unwrap()
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), String> {
        let done = sqlx::raw_sql(sql).execute(&mut self.writer.connection).await;
        done.map(drop).map_err(|error| error.to_string())
    }

    /// How many rows each table has.
    async fn sizes(&mut self) -> Vec<i64> {
        let mut sizes = Vec::new();
        for sql in [
            "select count(*) from organizations",
            "select count(*) from runs",
            "select count(*) from withheld",
            "select count(*) from owners",
            "select count(*) from keys",
            "select count(*) from key_versions",
            "select count(*) from audit",
            "select count(*) from notices",
            "select count(*) from fields",
        ] {
            sizes.push(self.number(sql).await);
        }
        sizes
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what the lists of the reader call")]
fn push<T>(rows: &mut Vec<T>, row: T) -> Result<(), Error> {
    rows.push(row);
    Ok(())
}

async fn events(reader: &mut Reader, filter: &EventFilter) -> Vec<EventRow> {
    let mut rows = Vec::new();
    reader.list_events(filter, |row| push(&mut rows, row)).await.unwrap();
    rows
}

async fn open_at(path: &Path) -> Result<Writer, Error> {
    Writer::open(path, Duration::ZERO, |_| {}).await
}

fn two_keys() -> World {
    world([
        (
            "key_1",
            json!({"name": "One", "created_at": 1_760_000_000, "redacted_value": "sk-admin...abc"}),
        ),
        (
            "key_2",
            json!({"name": "Two", "created_at": 1_760_000_001, "redacted_value": "sk-admin...def"}),
        ),
    ])
}
