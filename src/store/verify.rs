//! The whole history, read from its beginning by a [`Verifier`].

use std::collections::VecDeque;

use serde_json::json;
use sqlx::SqliteConnection;

use super::Reader;
use super::error::Error;
use super::evidence::{load_acts, load_erased, load_notices, load_runs, stream_events};
use super::read::{KeyFilter, KeyRow};
use crate::audit::{ActRecord, Erased, Feed, InventoryRecord, Overdue, Verdict, Verifier};
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
        let (run_id, event_id) =
            read_span(&mut self.connection, verifier, &erased, &mut acts, (0, 0), i64::MAX).await?;
        // What belongs to no run.
        let rest = (event_id + 1, i64::MAX);
        let each = |event| verifier.stray_event(&event);
        stream_events(&mut self.connection, None, rest, &erased, each).await?;
        for (organization, notice) in
            load_notices(&mut self.connection, (run_id, i64::MAX), &erased).await?
        {
            verifier.stray_notice(&organization, &notice);
        }
        acts.into_iter().for_each(|act| verifier.act(act));
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

/// Reads the runs behind the place `at` (a run and an event), up to and with `until`, with the acts between
/// them. Gives the place behind them.
pub(super) async fn read_span(
    connection: &mut SqliteConnection,
    verifier: &mut Verifier<'_>,
    erased: &Erased,
    acts: &mut VecDeque<ActRecord>,
    mut at: (i64, i64),
    until: i64,
) -> Result<(i64, i64), sqlx::Error> {
    loop {
        let mut runs = load_runs(connection, None, at.0, RUNS).await?;
        runs.retain(|run| run.run_id <= until);
        let Some(last) = runs.last().map(|run| run.run_id) else { return Ok(at) };
        let told = load_notices(connection, (at.0, last), erased).await?;
        let span = (at.1 + 1, runs.iter().fold(at.1, |id, run| id.saturating_add(run.events())));
        let mut feed = Feed::new(verifier, runs, told, acts);
        let each = |event| feed.event(&event);
        stream_events(connection, None, span, erased, each).await?;
        feed.end();
        at = (last, span.1);
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
        last_seen_at: Some(row.last_seen_at),
        removed_at: row.removed_at,
    })
}
