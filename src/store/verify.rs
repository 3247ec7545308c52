//! The whole history, read from its beginning by a [`Verifier`].

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;
use sqlx::SqliteConnection;

use super::Reader;
use super::attributed::load_attributions;
use super::error::Error;
use super::evidence::{load_acts, load_erased, load_notices, load_runs, stream_events};
use super::keyframe::{load_keyframe, newest_prunings};
use super::read::{KeyFilter, KeyRow};
use super::versions::{find_hidden, find_misread, find_wrong_numbers, load_versions};
use crate::audit::{ActRecord, Erased, Feed, InventoryRecord, Overdue, Told, Verdict, Verifier};
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
        if lost.is_some() {
            return Ok(lost.map(say));
        }
        let ids: i64 = sqlx::query_scalar("select count(*) from installation")
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))?;
        Ok((ids != 1).then(|| format!("`installation` has {ids} rows, and not one")))
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

/// What a verifier reads beside runs and events.
pub(super) struct Aside {
    pub(super) erased: Erased,
    /// Those that were not read yet.
    pub(super) acts: VecDeque<ActRecord>,
}

/// Loads what there is beside runs and events, and tells the verifier what it has to know before the first run.
pub(super) async fn prepare(
    connection: &mut SqliteConnection,
    verifier: &mut Verifier<'_>,
) -> Result<Aside, sqlx::Error> {
    let erased = load_erased(connection).await?;
    let acts = load_acts(connection).await?;
    for (organization, _) in load_origins(connection).await? {
        let pruning = newest_prunings(&acts).remove(&organization);
        let run_id = pruning.map_or(0, |pruning| pruning.horizons.newest());
        let keyframe = match load_keyframe(connection, &organization, run_id, &erased).await {
            Ok(keyframe) => Some(keyframe),
            // It is this organization alone whose history cannot be held against it.
            Err(sqlx::Error::Decode(_)) => None,
            Err(error) => return Err(error),
        };
        verifier.pruned(&organization, pruning, keyframe);
        let forgotten =
            acts.iter().filter(|act| act.kind == "forgotten" && act.organization == organization);
        let owner_id = |act: &ActRecord| act.detail()["owner_id"].as_str().map(str::to_owned);
        verifier.forgotten(&organization, forgotten.filter_map(owner_id).collect());
    }
    let mut places: BTreeMap<i64, i64> = BTreeMap::new();
    erased.values().flatten().for_each(|value| *places.entry(value.act_id).or_default() += 1);
    verifier.erased(places);
    Ok(Aside { erased, acts: acts.into() })
}

/// Reads the runs behind the place `at` (a run and an event), up to and with `until`, with the acts between
/// them. Gives the place behind them.
pub(super) async fn read_span(
    connection: &mut SqliteConnection,
    verifier: &mut Verifier<'_>,
    aside: &mut Aside,
    mut at: (i64, i64),
    until: i64,
) -> Result<(i64, i64), sqlx::Error> {
    while at.0 < until {
        let runs = load_runs(connection, None, at.0, RUNS, until).await?;
        let Some(last) = runs.last().map(|run| run.run_id) else { break };
        let told = Told {
            notices: load_notices(connection, (at.0, last), &aside.erased).await?,
            attributions: load_attributions(connection, (at.0, last), &aside.erased).await?,
        };
        let span = (at.1 + 1, runs.iter().fold(at.1, |id, run| id.saturating_add(run.events())));
        let versions = load_versions(connection, at.0, &runs).await?;
        let mut feed = Feed::new(verifier, runs, told, &mut aside.acts, Some(versions));
        let each = |event| feed.event(&event);
        stream_events(connection, None, span, &aside.erased, each).await?;
        feed.end();
        at = (last, span.1);
    }
    Ok(at)
}

/// Reads the runs up to and with `until`, and what belongs to them.
pub(super) async fn read_history(
    connection: &mut SqliteConnection,
    verifier: &mut Verifier<'_>,
    until: i64,
) -> Result<(), sqlx::Error> {
    let mut aside = prepare(connection, verifier).await?;
    if until == i64::MAX {
        read_strays(connection, verifier, &aside.erased).await?;
    }
    read_span(connection, verifier, &mut aside, (0, 0), until).await?;
    let mut acts = aside.acts;
    while let Some(act) = acts.pop_front_if(|act| act.after_run_id <= until) {
        verifier.act(act);
    }
    if until < i64::MAX {
        return Ok(());
    }
    for wrong in find_wrong_numbers(connection).await? {
        let good_until = wrong.good_run.zip(wrong.good_time);
        verifier.wrong_number(wrong.organization, wrong.run_id, &wrong.number, good_until);
    }
    for (organization, run_id, event_id) in find_misread(connection).await? {
        verifier.misread(organization, run_id, event_id);
    }
    for (organization, key_id) in find_hidden(connection).await? {
        verifier.hidden(organization, &key_id);
    }
    for (organization, act_id) in find_misplaced(connection).await? {
        verifier.misplaced(&organization, act_id);
    }
    Ok(())
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
             join attributions t on e.place = 'attribution' and t.attribution_id = e.id
             join runs r on r.run_id = t.run_id
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
