//! The whole history, read from its beginning by a [`Verifier`].

use std::collections::VecDeque;

use serde_json::json;
use sqlx::SqliteConnection;

use super::Reader;
use super::error::Error;
use super::evidence::{load_acts, load_erased, load_notices, load_runs, stream_events};
use super::read::{KeyFilter, KeyRow};
use crate::audit::{
    ActRecord, Erased, EventRecord, InventoryRecord, NoticeRecord, Overdue, RunRecord, Verdict,
    Verifier,
};
use crate::inventory::{Key, Scope};

/// Runs that are read at once.
const RUNS: i64 = 1_000;

impl Reader {
    /// Whether the file as such is sound; if not, what `SQLite` says of it.
    pub async fn find_damage(&mut self) -> Result<Option<String>, Error> {
        let checked: Result<Vec<String>, sqlx::Error> =
            sqlx::query_scalar("pragma integrity_check(1)").fetch_all(&mut self.connection).await;
        match checked.map_err(|source| self.failed(source)) {
            Ok(said) if said == ["ok"] => self.find_lost_row().await,
            Ok(said) => Ok(Some(said.join("; "))),
            Err(Error::Corrupt { source, .. }) => Ok(Some(source.to_string())),
            Err(error) => Err(error),
        }
    }

    /// A row that refers to one that is not there: the views may show neither.
    async fn find_lost_row(&mut self) -> Result<Option<String>, Error> {
        let lost: Option<(String, String)> =
            sqlx::query_as("select \"table\", parent from pragma_foreign_key_check limit 1")
                .fetch_optional(&mut self.connection)
                .await
                .map_err(|source| self.failed(source))?;
        let say = |(table, parent)| format!("`{table}` refers to a row of `{parent}` that is lost");
        Ok(lost.map(say))
    }

    /// Reads the history of all organizations, and says of each how far it holds.
    pub async fn verify(&mut self, overdue: &Overdue<'_>) -> Result<Vec<Verdict>, Error> {
        let path = self.path.clone();
        let failed = |source| Error::from_sqlx(&path, source);
        // One state of the file from the beginning to the end.
        sqlx::raw_sql("begin").execute(&mut self.connection).await.map_err(failed)?;
        let verified = self.read_all(overdue).await;
        let ended = sqlx::raw_sql("rollback").execute(&mut self.connection).await;
        let verdicts = verified?;
        ended.map_err(failed)?;
        Ok(verdicts)
    }

    async fn read_all(&mut self, overdue: &Overdue<'_>) -> Result<Vec<Verdict>, Error> {
        let origins: Result<Vec<(String, Option<String>)>, sqlx::Error> =
            sqlx::query_as("select name, origin from organizations order by name")
                .fetch_all(&mut self.connection)
                .await;
        let origins = origins.map_err(|source| self.failed(source))?;
        let origins = origins.into_iter().map(|(name, origin)| (name, origin.unwrap_or_default()));
        let mut verifier = Verifier::new(origins, overdue);
        self.read_history(&mut verifier).await.map_err(|source| self.failed(source))?;
        self.read_inventory(&mut verifier).await?;
        Ok(verifier.finish())
    }

    async fn read_history(&mut self, verifier: &mut Verifier<'_>) -> Result<(), sqlx::Error> {
        let erased = load_erased(&mut self.connection).await?;
        let mut acts: VecDeque<ActRecord> = load_acts(&mut self.connection).await?.into();
        read_strays(&mut self.connection, verifier, &erased).await?;
        let (mut run_id, mut event_id) = (0, 0);
        loop {
            let runs = load_runs(&mut self.connection, None, run_id, RUNS, i64::MAX).await?;
            let Some(last) = runs.last().map(|run| run.run_id) else { break };
            let told = load_notices(&mut self.connection, (run_id, last), &erased).await?;
            let span = (event_id + 1, runs.iter().fold(event_id, |id, run| id + run.events()));
            let mut feed = Feed {
                verifier,
                runs: runs.into(),
                told: told.into_iter().map(|(_, notice)| notice).collect(),
                acts: &mut acts,
                until: None,
            };
            feed.begin_next();
            let each = |event| feed.event(&event);
            stream_events(&mut self.connection, None, span, &erased, each).await?;
            feed.end();
            (run_id, event_id) = (last, span.1);
        }
        for act in acts {
            verifier.act(act);
        }
        Ok(())
    }

    async fn read_inventory(&mut self, verifier: &mut Verifier<'_>) -> Result<(), Error> {
        self.fetch_keys(&KeyFilter::default(), None, |row| {
            let organization = row.organization.clone();
            let key_id = row.key_id.clone();
            let record = into_record(row).ok_or_else(|| format!("key `{key_id}`"));
            verifier.inventory(&organization, record);
            Ok::<_, Error>(())
        })
        .await
    }
}

/// What is numbered before or behind all that there may be. First, so that it is known at its run.
async fn read_strays(
    connection: &mut SqliteConnection,
    verifier: &mut Verifier<'_>,
    erased: &Erased,
) -> Result<(), sqlx::Error> {
    for run in load_runs(connection, None, i64::MIN, -1, 0).await? {
        verifier.stray_run(&run);
    }
    let last: i64 = sqlx::query_scalar(
        "select ifnull(sum(baseline + added + restored + removed + used + changed), 0)
         from run_history where run_id > 0",
    )
    .fetch_one(&mut *connection)
    .await?;
    for span in [(i64::MIN, 0), (last.saturating_add(1), i64::MAX)] {
        let each = |event| verifier.stray_event(&event);
        stream_events(connection, None, span, erased, each).await?;
    }
    Ok(())
}

/// Gives a verifier each run with what belongs to it, while events come in by their ids.
struct Feed<'f, 'v> {
    verifier: &'f mut Verifier<'v>,
    runs: VecDeque<RunRecord>,
    told: VecDeque<NoticeRecord>,
    acts: &'f mut VecDeque<ActRecord>,
    /// The last event that may be the current run's.
    until: Option<i64>,
}

impl Feed<'_, '_> {
    fn event(&mut self, event: &EventRecord) {
        while self.until.is_some_and(|until| event.event_id > until) {
            self.verifier.end_run();
            self.begin_next();
        }
        self.verifier.event(event);
    }

    fn begin_next(&mut self) {
        let Some(run) = self.runs.pop_front() else {
            self.until = None;
            return;
        };
        let run_id = run.run_id;
        while let Some(act) = self.acts.pop_front_if(|act| act.after_run_id < run_id) {
            self.verifier.act(act);
        }
        self.until = Some(self.verifier.begin_run(run));
        while let Some(notice) = self.told.pop_front_if(|notice| notice.run_id <= run_id) {
            self.verifier.notice(notice);
        }
    }

    fn end(mut self) {
        while self.until.is_some() {
            self.verifier.end_run();
            self.begin_next();
        }
    }
}

/// `None` if a value is not what its column must hold.
fn into_record(row: KeyRow) -> Option<InventoryRecord> {
    let other: serde_json::Value = serde_json::from_str(&row.other).ok()?;
    let json = json!({
        "key_id": row.key_id, "name": row.name, "redacted_value": row.redacted_value,
        "project_id": row.project_id, "project_name": row.project_name,
        "owner_type": row.owner_type, "owner_id": row.owner_id, "owner_name": row.owner_name,
        "owner_role": row.owner_role, "created_at": row.created_at,
        "last_used_at": row.last_used_at, "expires_at": row.expires_at, "other": other,
    });
    Some(InventoryRecord {
        key: Key::from_json(Scope::parse(&row.scope)?, &json.to_string()).ok()?,
        own_key: row.own_key == 1,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
        removed_at: row.removed_at,
    })
}
