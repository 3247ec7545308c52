//! What the past is asked for by, for a verifier: see [`super::as_of`].

use futures_util::TryStreamExt;
use sqlx::SqliteConnection;

use super::rows::{KeyReader, StoredKey, row};
use crate::audit::{RunRecord, VersionRecord};
use crate::clock::Timestamp;

/// What a baseline, an addition or a return shows in full is read with that event.
const VERSIONS: &str = "
    select v.version as number, o.name as organization, json_array(k.key_id, v.scope, v.name, v.redacted_value,
           v.project_id, v.project_name, w.type, w.id, w.name, w.role, v.created_at, null, v.expires_at,
           v.other, w.other) as key, k.key_id
    from key_versions v join keys k on k.key = v.key
    join organizations o on o.organization = k.organization
    left join owners w on w.owner = v.owner
    where v.version > ?1 and v.version <= ?2
      and not exists (select 1 from audit a
                      where a.version = v.version and a.event in ('baseline', 'added', 'restored'))
    order by v.version";

row! {
    struct Version {
        number: i64,
        organization: String,
        key_id: String,
        key: String,
    }
}

/// The versions of keys that some runs made, which follow the run `after`.
pub(super) async fn load_versions(
    connection: &mut SqliteConnection,
    after: i64,
    runs: &[RunRecord],
) -> Result<Vec<VersionRecord>, sqlx::Error> {
    let last = runs.last().map_or(after, |run| run.run_id);
    // What is no number here is told of by `find_wrong_numbers`.
    let ends: Vec<(i64, i64)> = sqlx::query_as(
        "select run_id, ifnull(last_version, 0) from runs where run_id >= ?1 and run_id <= ?2 order by run_id",
    )
    .bind(after)
    .bind(last)
    .fetch_all(&mut *connection)
    .await?;
    let before = ends.first().filter(|(run_id, _)| *run_id == after).map_or(0, |(_, end)| *end);
    let until = ends.last().map_or(before, |(_, end)| *end);
    let mut ends = ends.into_iter().filter(|(run_id, _)| *run_id > after).peekable();
    let mut keys = KeyReader::default();
    let mut versions = Vec::new();
    let mut rows =
        sqlx::query_as::<_, Version>(VERSIONS).bind(before).bind(until).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        while ends.next_if(|(_, end)| *end < row.number).is_some() {}
        let stored = serde_json::from_str::<StoredKey>(&row.key).ok();
        versions.push(VersionRecord {
            run_id: ends.peek().map_or(last, |(run_id, _)| *run_id),
            organization: row.organization,
            key_id: row.key_id,
            key: stored.and_then(|stored| keys.read(stored).ok()),
        });
    }
    Ok(versions)
}

row! {
    /// A number that a run gives, by the name of its column, and the run before it.
    pub(super) struct WrongNumber {
        pub(super) organization: String,
        pub(super) run_id: i64,
        pub(super) number: String,
        pub(super) good_run: Option<i64>,
        pub(super) good_time: Option<String>,
    }
}

/// Values that no view shows as they are: times that cannot be, and texts with something behind their end. The
/// organization, and the key.
pub(super) async fn find_hidden(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "with hidden as (
             select key from keys where last_used_at not between ?1 and ?2
             union
             select key from key_versions
             where created_at not between ?1 and ?2 or expires_at not between ?1 and ?2
                or instr(cast(other as blob), x'00') > 0
             union
             select v.key from owners w join key_versions v on v.owner = w.owner
             where instr(cast(w.other as blob), x'00') > 0
             union
             select v.key from audit a join key_versions v on v.version = a.version
             where a.event <> 'changed'
               and (typeof(a.old_value) = 'integer' and a.old_value not between ?1 and ?2
                    or typeof(a.new_value) = 'integer' and a.new_value not between ?1 and ?2))
         select o.name, k.key_id from hidden h join keys k on k.key = h.key
         join organizations o on o.organization = k.organization order by k.key",
    )
    .bind(Timestamp::MIN.unix())
    .bind(Timestamp::MAX.unix())
    .fetch_all(connection)
    .await
}

/// `used` events that are told of another version of the key than the one in force: what is asked of the past
/// takes them for older or newer than they are. The organization, the run and the event.
pub(super) async fn find_misread(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, i64, i64)>, sqlx::Error> {
    sqlx::query_as(
        "select o.name, r.run_id, a.event_id
         from audit a join runs r on r.run_id = a.run_id
         join key_versions v on v.version = a.version
         join organizations o on o.organization = r.organization
         where a.event = 'used' and r.digest is not null
           and not exists (select 1 from acts c
                           where c.organization = r.organization and c.kind = 'pruned')
           and a.version <> (select max(b.version) from key_versions b
                             where b.key = v.key and b.version <= r.last_version)
         order by a.event_id",
    )
    .fetch_all(connection)
    .await
}

/// Numbers that runs give for what there was by then, where the counts and events of all runs say another.
pub(super) async fn find_wrong_numbers(
    connection: &mut SqliteConnection,
) -> Result<Vec<WrongNumber>, sqlx::Error> {
    sqlx::query_as(
        "with spans as (
             select run_id, organization, last_version,
                    ifnull(lag(last_version) over (order by run_id), 0) as before
             from runs),
         sums as (
             select run_id, last_event_id, keys_after,
                    sum(baseline + added + restored + removed + used + changed)
                        over (order by run_id) as events,
                    sum(baseline + added + restored - removed)
                        over (partition by organization order by run_id) as keys
             from runs),
         wrong as (
             select run_id, 'last_version' as number from spans
             where last_version is null or last_version < before
             union
             select s.run_id, 'last_version' from audit a join spans s on s.run_id = a.run_id
             where a.event in ('baseline', 'added', 'restored', 'changed')
               and (a.version > s.last_version or a.version <= s.before)
             union
             -- Where something was pruned, the newest versions may be gone.
             select run_id, 'last_version' from spans
             where last_version > ifnull((select max(version) from key_versions), 0)
               and not exists (select 1 from acts where kind = 'pruned')
             union
             select run_id, 'last_event_id' from sums where last_event_id <> events
             union
             select run_id, 'keys_after' from sums where keys_after <> keys)
         select o.name as organization, w.run_id, w.number, p.run_id as good_run,
                strftime('%Y-%m-%dT%H:%M:%SZ', p.finished_at, 'unixepoch') as good_time
         from wrong w join runs r on r.run_id = w.run_id
         join organizations o on o.organization = r.organization
         left join runs p on p.run_id = (
             select max(run_id) from runs b
             where b.organization = r.organization and b.run_id < r.run_id)
         order by w.run_id",
    )
    .fetch_all(connection)
    .await
}
