//! What an evidence pack has of the database: the views of a period as lines of JSON, and where it begins.

use std::collections::{BTreeSet, VecDeque};

use sqlx::SqliteConnection;

use super::Reader;
use super::error::Error;
use super::evidence::load_acts;
use super::keyframe::newest_prunings;
use super::verify::{Aside, load_origins, prepare, read_span};
use crate::audit::lines::InventoryLine;
use crate::audit::{ActRecord, Inventories, Overdue, Start, Verdict, Verifier};
use crate::clock::Timestamp;

/// A period of the history, as files.
#[derive(Debug)]
pub struct Period {
    pub start: Start,
    /// Of each organization, what of the period holds.
    pub verdicts: Vec<Verdict>,
    /// Names and contents.
    pub files: Vec<(&'static str, String)>,
}

/// Rows that belong to runs after the first number, up to and with the second.
const OF_RUNS: [(&str, &str); 6] = [
    (
        "run_history.ndjson",
        "select json_object('run_id', run_id, 'organization', organization, 'trigger', trigger,
             'started_at', started_at, 'finished_at', finished_at, 'status', status,
             'keys_seen', keys_seen, 'baseline', baseline, 'added', added, 'restored', restored,
             'removed', removed, 'used', used, 'changed', changed, 'unconfirmed', unconfirmed,
             'skipped', skipped, 'pages', pages, 'requests', requests, 'retries', retries,
             'notice', notice, 'error', error, 'digest', digest, 'missing', missing,
             'deferred_until', deferred_until)
         from run_history where run_id > ?1 and run_id <= ?2 order by run_id",
    ),
    (
        "run_parts.ndjson",
        "select json_object('run_id', run_id, 'organization', organization, 'part', part,
             'items', items, 'digest', digest)
         from run_parts where run_id > ?1 and run_id <= ?2 order by run_id, part",
    ),
    (
        "notice_history.ndjson",
        "select json_object('notice_id', notice_id, 'run_id', run_id, 'organization', organization,
             'kind', kind, 'field', field, 'changes', changes)
         from notice_history where run_id > ?1 and run_id <= ?2 order by notice_id",
    ),
    (
        "notice_salts.ndjson",
        "select json_object('notice_id', s.notice_id, 'key_id', s.key_id, 'salt', s.salt)
         from notice_salts s join notices n on n.notice_id = s.notice_id
         where n.run_id > ?1 and n.run_id <= ?2 order by s.notice_id, s.key_id",
    ),
    (
        "attribution_history.ndjson",
        "select json_object('attribution_id', attribution_id, 'run_id', run_id,
             'organization', organization, 'event_id', event_id, 'log_id', log_id, 'action', action,
             'acted_at', acted_at, 'actor_type', actor_type, 'actor_id', actor_id,
             'actor_email', actor_email, 'actor_key_id', actor_key_id,
             'actor_ip_address', actor_ip_address, 'actor_scopes', actor_scopes)
         from attribution_history where run_id > ?1 and run_id <= ?2 order by attribution_id",
    ),
    (
        "attribution_salts.ndjson",
        "select json_object('attribution_id', s.attribution_id, 'salt', s.salt)
         from attribution_salts s join attributions t on t.attribution_id = s.attribution_id
         where t.run_id > ?1 and t.run_id <= ?2 and s.salt is not null order by s.attribution_id",
    ),
];

/// Rows that belong to events after the first number, up to and with the second.
const OF_EVENTS: [(&str, &str); 2] = [
    (
        "audit_salts.ndjson",
        "select json_object('event_id', event_id, 'old_salt', old_salt, 'new_salt', new_salt)
         from audit_salts
         where event_id > ?1 and event_id <= ?2 and coalesce(old_salt, new_salt) is not null
         order by event_id",
    ),
    (
        "audit_history.ndjson",
        "select json_object('event_id', event_id, 'run_id', run_id, 'observed_at', observed_at,
             'previous_observed_at', previous_observed_at, 'organization', organization,
             'scope', scope, 'key_id', key_id, 'key_name', key_name, 'event', event, 'field', field,
             'old_value', old_value, 'new_value', new_value)
         from audit_history where event_id > ?1 and event_id <= ?2 order by event_id",
    ),
];

impl Reader {
    /// The history between the states as of two times, and both states. Whatever does not hold up to its
    /// end is in the verdicts.
    pub async fn load_period(
        &mut self,
        from: Timestamp,
        to: Timestamp,
        overdue: &Overdue<'_>,
    ) -> Result<Period, Error> {
        let path = self.path.clone();
        let failed = |source| Error::from_sqlx(&path, source);
        sqlx::raw_sql("begin").execute(&mut self.connection).await.map_err(failed)?;
        let loaded = load(&mut self.connection, from, to, overdue).await;
        let loaded = loaded.map_err(|failure| match failure {
            Failure::Sqlx(source) => failed(source),
            Failure::NotKept { organization, since } => Error::NotKept { organization, since },
        });
        let ended = sqlx::raw_sql("rollback").execute(&mut self.connection).await;
        let period = loaded?;
        ended.map_err(failed)?;
        Ok(period)
    }
}

async fn load(
    connection: &mut SqliteConnection,
    from: Timestamp,
    to: Timestamp,
    overdue: &Overdue<'_>,
) -> Result<Period, Failure> {
    let origins = load_origins(connection).await?;
    let mut verifier = Verifier::new(origins, overdue);
    let mut aside = prepare(connection, &mut verifier).await?;
    let until = last_run(connection, from).await?;
    refuse_pruned(connection, &aside, until).await?;
    let at = read_span(connection, &mut verifier, &mut aside, (0, 0), until).await?;
    feed_acts(&mut verifier, &mut aside.acts, until, from);
    // Of what was there before the chain, only all of it together has a digest.
    let (mut start, before, pending) = if verifier.is_unchained() {
        refuse_before_chain(connection).await?;
        (verifier.beginning(), Inventories::new(), load_acts(connection).await?.into())
    } else {
        let (start, before) = verifier.pause();
        (start, before, aside.acts.clone())
    };
    let pending: BTreeSet<i64> = pending.iter().map(|act| act.act_id).collect();
    verifier.begin_coverage();
    let until = last_run(connection, to).await?;
    let at = read_span(connection, &mut verifier, &mut aside, at, until).await?;
    feed_acts(&mut verifier, &mut aside.acts, until, to);
    let left: BTreeSet<i64> = aside.acts.iter().map(|act| act.act_id).collect();
    verifier.end_coverage(to);
    verifier.end_names(&mut start, &aside.acts);
    let (_, after) = verifier.pause();
    let mut files = vec![
        ("keys_before.ndjson", inventory_lines(&before, true)),
        ("all_keys.ndjson", inventory_lines(&after, false)),
        ("chains.ndjson", lines(connection, CHAINS, (0, 0)).await?),
        ("erased_values.ndjson", lines(connection, ERASED, (0, 0)).await?),
        ("act_history.ndjson", act_lines(connection, &(&pending - &left)).await?),
    ];
    for (name, sql) in OF_RUNS {
        files.push((name, lines(connection, sql, (start.run_id, at.0)).await?));
    }
    for (name, sql) in OF_EVENTS {
        files.push((name, lines(connection, sql, (start.event_id, at.1)).await?));
    }
    Ok(Period { start, verdicts: verifier.verdicts(), files })
}

/// What is no longer kept is no evidence.
async fn refuse_pruned(
    connection: &mut SqliteConnection,
    aside: &Aside,
    until: i64,
) -> Result<(), Failure> {
    let acts: Vec<ActRecord> = aside.acts.iter().cloned().collect();
    for (organization, pruning) in newest_prunings(&acts) {
        let run_id = pruning.horizons.newest();
        if until < run_id {
            let since: Option<i64> =
                sqlx::query_scalar("select finished_at from runs where run_id = ?1")
                    .bind(run_id)
                    .fetch_optional(&mut *connection)
                    .await?;
            let since = since.and_then(Timestamp::from_unix).unwrap_or(Timestamp::MIN);
            return Err(Failure::NotKept { organization, since });
        }
    }
    Ok(())
}

/// Of what was there before the chain, only all of it together is evidence: if any is pruned, none is.
async fn refuse_before_chain(connection: &mut SqliteConnection) -> Result<(), Failure> {
    let acts = load_acts(connection).await?;
    let Some((organization, _)) = newest_prunings(&acts).pop_first() else { return Ok(()) };
    let last: Option<i64> =
        sqlx::query_scalar("select max(finished_at) from runs where digest is null")
            .fetch_one(&mut *connection)
            .await?;
    let since = last.and_then(Timestamp::from_unix).unwrap_or(Timestamp::MIN);
    Err(Failure::NotKept { organization, since })
}

/// Why a period could not be loaded.
enum Failure {
    Sqlx(sqlx::Error),
    NotKept { organization: String, since: Timestamp },
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error)
    }
}

const CHAINS: &str = "select json_object('organization', organization, 'origin', origin,
         'database_id', database_id)
     from chains where ?1 = ?2 order by organization";
const ERASED: &str =
    "select json_object('act_id', act_id, 'place', place, 'id', id, 'key_id', key_id,
         'side', side, 'field', field, 'seal', seal)
     from erased_values where ?1 = ?2 order by act_id, place, id, key_id, side, field";

/// The acts behind the run `until` that were done by `to`, the end of each chain.
fn feed_acts(
    verifier: &mut Verifier<'_>,
    acts: &mut VecDeque<ActRecord>,
    until: i64,
    to: Timestamp,
) {
    let to = to.to_string();
    let mut closed: BTreeSet<String> = BTreeSet::new();
    let mut left = VecDeque::new();
    for act in acts.drain(..) {
        let is_within = act.after_run_id <= until && act.acted_at <= to;
        if is_within && !closed.contains(&act.organization) {
            verifier.act(act);
        } else {
            closed.insert(act.organization.clone());
            left.push_back(act);
        }
    }
    *acts = left;
}

/// The last run that had ended by a time; 0 if there was none.
async fn last_run(connection: &mut SqliteConnection, at: Timestamp) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select ifnull(max(run_id), 0) from runs where finished_at <= ?1")
        .bind(at.unix())
        .fetch_one(connection)
        .await
}

async fn lines(
    connection: &mut SqliteConnection,
    sql: &'static str,
    (after, last): (i64, i64),
) -> Result<String, sqlx::Error> {
    let rows: Vec<String> =
        sqlx::query_scalar(sql).bind(after).bind(last).fetch_all(connection).await?;
    Ok(joined(rows))
}

fn joined(lines: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

async fn act_lines(
    connection: &mut SqliteConnection,
    wanted: &BTreeSet<i64>,
) -> Result<String, sqlx::Error> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select act_id, json_object('act_id', act_id, 'organization', organization, 'origin', origin,
             'after_run_id', after_run_id, 'kind', kind, 'acted_at', acted_at, 'actor', actor,
             'detail', detail, 'digest', digest)
         from act_history order by after_run_id, act_id",
    )
    .fetch_all(connection)
    .await?;
    Ok(joined(rows.into_iter().filter(|(id, _)| wanted.contains(id)).map(|(_, line)| line)))
}

fn inventory_lines(inventories: &Inventories, is_beginning: bool) -> String {
    let lines = inventories.iter().flat_map(|(name, records)| {
        records.iter().map(move |(record, unconfirmed)| {
            InventoryLine::write(name, record, is_beginning.then_some(*unconfirmed))
        })
    });
    joined(lines)
}
