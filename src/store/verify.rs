//! The whole history, read from its beginning by a [`Verifier`].

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;
use sqlx::SqliteConnection;

use super::Reader;
use super::error::Error;
use super::evidence::{load_acts, load_erased, load_notices, load_runs, stream_events};
use super::keyframe::{load_keyframe, newest_prunings};
use super::read::{KeyFilter, KeyRow};
use crate::audit::{
    ActRecord, EventRecord, InventoryRecord, NoticeRecord, Overdue, RunRecord, Verdict, Verifier,
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
            Ok(said) if said == ["ok"] => Ok(None),
            Ok(said) => Ok(Some(said.join("; "))),
            Err(Error::Corrupt { source, .. }) => Ok(Some(source.to_string())),
            Err(error) => Err(error),
        }
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
        let origins =
            load_origins(&mut self.connection).await.map_err(|source| self.failed(source))?;
        let mut verifier = Verifier::new(origins, overdue);
        let read = read_history(&mut self.connection, &mut verifier, i64::MAX).await;
        read.map_err(|source| self.failed(source))?;
        self.read_inventory(&mut verifier).await?;
        Ok(verifier.finish())
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

/// The names of the organizations, and those under which their chains began.
pub(super) async fn load_origins(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as("select name, ifnull(origin, '') from organizations order by name")
        .fetch_all(connection)
        .await
}

/// Reads the runs up to and with `until`, and what belongs to them.
pub(super) async fn read_history(
    connection: &mut SqliteConnection,
    verifier: &mut Verifier<'_>,
    until: i64,
) -> Result<(), sqlx::Error> {
    let erased = load_erased(connection).await?;
    let acts = load_acts(connection).await?;
    for (organization, _) in load_origins(connection).await? {
        let pruning = newest_prunings(&acts).remove(&organization);
        let run_id = pruning.map_or(0, |pruning| pruning.horizons.newest());
        let keyframe = load_keyframe(connection, &organization, run_id, &erased).await?;
        verifier.pruned(&organization, pruning, keyframe);
        let forgotten =
            acts.iter().filter(|act| act.kind == "forgotten" && act.organization == organization);
        let owner_id = |act: &ActRecord| act.detail()["owner_id"].as_str().map(str::to_owned);
        verifier.forgotten(&organization, forgotten.filter_map(owner_id).collect());
    }
    let mut places: BTreeMap<i64, i64> = BTreeMap::new();
    erased.values().flatten().for_each(|value| *places.entry(value.act_id).or_default() += 1);
    verifier.erased(places);
    let mut acts: VecDeque<ActRecord> = acts.into();
    let (mut run_id, mut event_id) = (0, 0);
    while run_id < until {
        let mut runs = load_runs(connection, None, run_id, RUNS).await?;
        runs.retain(|run| run.run_id <= until);
        let Some(last) = runs.last().map(|run| run.run_id) else { break };
        let told = load_notices(connection, (run_id, last), &erased).await?;
        let span = (event_id + 1, runs.iter().fold(event_id, |id, run| id + run.events()));
        let mut feed =
            Feed { verifier, runs: runs.into(), told: told.into(), acts: &mut acts, until: None };
        feed.begin_next();
        let each = |event| feed.event(&event);
        stream_events(connection, None, span, &erased, each).await?;
        feed.end();
        (run_id, event_id) = (last, span.1);
    }
    while let Some(act) = acts.pop_front_if(|act| act.after_run_id <= until) {
        verifier.act(act);
    }
    if until < i64::MAX {
        return Ok(());
    }
    for (organization, act_id) in find_misplaced(connection).await? {
        verifier.misplaced(&organization, act_id);
    }
    // What belongs to no run.
    let rest = (event_id + 1, i64::MAX);
    stream_events(connection, None, rest, &erased, |event| verifier.stray_event(&event)).await?;
    for (organization, notice) in load_notices(connection, (run_id, i64::MAX), &erased).await? {
        verifier.stray_notice(&organization, &notice);
    }
    Ok(())
}

/// Erased values of one organization that name an act of another.
async fn find_misplaced(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as(
        "with placed as (
             select e.act_id, r.organization from erased e
             join audit a on e.place = 'event' and a.event_id = e.id join runs r on r.run_id = a.run_id
             union
             select e.act_id, r.organization from erased e
             join notices n on e.place = 'notice' and n.notice_id = e.id join runs r on r.run_id = n.run_id
             union
             select e.act_id, r.organization from erased e
             join runs r on e.place = 'keyframe' and r.run_id = e.id)
         select o.name, p.act_id from placed p
         join organizations o on o.organization = p.organization
         join acts a on a.act_id = p.act_id
         where a.organization <> p.organization",
    )
    .fetch_all(connection)
    .await
}

/// Gives a verifier each run with what belongs to it, while events come in by their ids.
struct Feed<'f, 'v> {
    verifier: &'f mut Verifier<'v>,
    runs: VecDeque<RunRecord>,
    told: VecDeque<(String, NoticeRecord)>,
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
        while let Some((organization, notice)) =
            self.told.pop_front_if(|(_, notice)| notice.run_id <= run_id)
        {
            if notice.run_id == run_id {
                self.verifier.notice(notice);
            } else {
                self.verifier.stray_notice(&organization, &notice);
            }
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
pub(super) fn into_record(row: KeyRow) -> Option<InventoryRecord> {
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
        last_seen_at: (!row.last_seen_at.is_empty()).then_some(row.last_seen_at),
        removed_at: row.removed_at,
    })
}
