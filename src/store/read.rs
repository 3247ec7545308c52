//! Questions to the database. Each answer is one consistent state of it, whatever is written meanwhile.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use sqlx::{Connection, SqliteConnection};

use super::error::Error;
use super::notes::{NOTES_COLUMN, UNEXPLAINED};
use super::open;
use super::rows::row;
use crate::clock::Timestamp;
use crate::inventory::{EventKind, Scope};

/// A connection that can only read.
#[derive(Debug)]
pub struct Reader {
    pub(super) connection: SqliteConnection,
    pub(super) path: PathBuf,
}

row! {
    /// A row of the view `all_keys`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeyRow {
        pub organization: String,
        pub scope: String,
        pub key_id: String,
        pub name: Option<String>,
        pub redacted_value: Option<String>,
        pub project_id: Option<String>,
        pub project_name: Option<String>,
        pub owner_type: Option<String>,
        pub owner_id: Option<String>,
        pub owner_name: Option<String>,
        pub owner_role: Option<String>,
        pub created_at: Option<String>,
        pub last_used_at: Option<String>,
        pub expires_at: Option<String>,
        pub other: String,
        pub own_key: i64,
        pub first_seen_at: String,
        pub last_seen_at: String,
        pub removed_at: Option<String>,
        pub owner_project_access: Option<String>,
        pub project_archived: Option<i64>,
        pub project_archived_at: Option<String>,
    }
}

/// Which keys to list. Nothing set: all that are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFilter {
    pub organization: Option<String>,
    /// Keys that are gone, instead of those that are there.
    pub removed: bool,
    pub scope: Option<Scope>,
    /// The owner's id or name.
    pub owner: Option<String>,
    /// The project's id or name.
    pub project: Option<String>,
    /// Only keys not used since then, and created before.
    pub unused_since: Option<Timestamp>,
}

row! {
    /// A row of the view `audit_history`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct EventRow {
        pub event_id: i64,
        pub run_id: i64,
        pub observed_at: String,
        pub previous_observed_at: Option<String>,
        pub organization: String,
        pub scope: String,
        pub key_id: String,
        pub key_name: Option<String>,
        pub event: String,
        pub field: Option<String>,
        pub old_value: Option<String>,
        pub new_value: Option<String>,
        // Who did it, where that is known.
        pub actor_type: Option<String>,
        pub actor_id: Option<String>,
        pub actor_email: Option<String>,
        pub actor_key_id: Option<String>,
        pub actor_ip_address: Option<String>,
        pub acted_at: Option<String>,
        pub actor_scopes: Option<String>,
        // The notes on it, a JSON array.
        pub notes: String,
        // How many entries of the audit log explain it.
        pub entries: i64,
    }
}

/// Which events to list. Nothing set: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub organization: Option<String>,
    /// Observed then or later.
    pub since: Option<Timestamp>,
    /// Observed earlier than then.
    pub until: Option<Timestamp>,
    pub key_id: Option<String>,
    pub kinds: Vec<EventKind>,
    /// Only those that nothing explains.
    pub unexplained: bool,
    /// Recorded after the event with this id.
    pub after: Option<i64>,
    /// The newest so many.
    pub limit: Option<u32>,
    /// Newest first.
    pub reverse: bool,
}

row! {
    /// A row of the view `run_history`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RunRow {
        pub run_id: i64,
        pub organization: String,
        pub trigger: String,
        pub started_at: String,
        pub finished_at: String,
        pub status: String,
        pub keys_seen: i64,
        pub baseline: i64,
        pub added: i64,
        pub restored: i64,
        pub removed: i64,
        pub used: i64,
        pub changed: i64,
        pub unconfirmed: i64,
        pub skipped: i64,
        pub pages: i64,
        pub requests: i64,
        pub retries: i64,
        pub notice: Option<String>,
        pub error: Option<String>,
        pub digest: Option<String>,
        pub missing: Option<String>,
        pub deferred_until: Option<String>,
    }
}

/// The question for events. Fixed texts put together: no part of them comes from outside.
pub(super) fn events_sql(filter: &EventFilter) -> String {
    let order = if filter.reverse { "desc" } else { "asc" };
    let among = among(filter, order);
    let unexplained = if filter.unexplained { UNEXPLAINED } else { "" };
    format!(
        "{EVENT_COLUMNS}, {NOTES_COLUMN}, {ENTRIES_COLUMN} from audit_history
         where {among} and (?3 is null or organization = ?3) and (?4 is null or key_id = ?4)
           and (?5 is null or event in (select value from json_each(?5)))
           {unexplained} order by event_id {order} limit ?6"
    )
}

/// Leads straight to the events that can be among those asked for, of ids above ?1 up to ?2: a long history is
/// not searched from end to end. They come in the order of their ids, and nothing waits to be sorted.
fn among(filter: &EventFilter, order: &str) -> String {
    if filter.key_id.is_some() {
        return among_these(OF_KEY);
    }
    if filter.kinds.is_empty() || filter.kinds.contains(&EventKind::Used) {
        // Most events are uses: any that is looked at is likely to be one.
        return "event_id > ?1 and event_id <= ?2".to_owned();
    }
    // No more of a kind than are asked for, where nothing else is asked.
    let only = filter.organization.is_none() && !filter.unexplained;
    let limit = if only { "?6" } else { "-1" };
    let of_kind = |kind: &EventKind| {
        // The index is one of rare events, and has to be told that this is one.
        format!(
            "select event_id from (
                 select event_id from audit
                 where event = '{}' and event <> 'used' and event_id > ?1 and event_id <= ?2
                 order by event_id {order} limit {limit})",
            kind.as_str()
        )
    };
    among_these(&filter.kinds.iter().map(of_kind).collect::<Vec<_>>().join(" union all "))
}

fn among_these(ids: &str) -> String {
    format!("event_id in ({ids})")
}

/// The events of a key, which its versions lead to.
const OF_KEY: &str = "
    select a.event_id from organizations o
    cross join keys k on k.organization = o.organization and k.key_id = ?4
    cross join key_versions v on v.key = k.key
    cross join audit a on a.version = v.version
    where a.event_id > ?1 and a.event_id <= ?2";

/// The view's own part of an event.
const EVENT_COLUMNS: &str =
    "select event_id, run_id, observed_at, previous_observed_at, organization, scope, key_id, key_name,
            event, field, old_value, new_value, actor_type, actor_id, actor_email, actor_key_id,
            actor_ip_address, acted_at, actor_scopes";
const ENTRIES_COLUMN: &str =
    "(select count(*) from attributions t where t.event_id = audit_history.event_id) as entries";

impl Reader {
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let connection = open::for_reading(path).await?;
        Ok(Self { connection, path: path.to_owned() })
    }

    pub async fn close(self) -> Result<(), Error> {
        let Self { connection, path } = self;
        connection.close().await.map_err(|source| Error::from_sqlx(&path, source))
    }

    /// Gives back what it has cached, for a connection that is kept open and seldom asked.
    pub async fn rest(&mut self) -> Result<(), Error> {
        let shrunk = sqlx::raw_sql("pragma shrink_memory").execute(&mut self.connection).await;
        shrunk.map(drop).map_err(|source| self.failed(source))
    }

    pub(super) fn failed(&self, source: sqlx::Error) -> Error {
        Error::from_sqlx(&self.path, source)
    }

    /// The names of all organizations that the database knows, sorted.
    pub async fn list_organizations(&mut self) -> Result<Vec<String>, Error> {
        sqlx::query_scalar("select name from organizations order by name")
            .fetch_all(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))
    }

    /// Calls `each` with the keys that `filter` lets through, by organization, creation and id.
    pub async fn list_keys<E: From<Error>>(
        &mut self,
        filter: &KeyFilter,
        each: impl FnMut(KeyRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.fetch_keys(filter, Some(filter.removed), each).await
    }

    /// One key, there or gone.
    pub(super) async fn load_key(
        &mut self,
        organization: &str,
        key_id: &str,
    ) -> Result<Option<KeyRow>, Error> {
        sqlx::query_as(
            "select organization, scope, key_id, name, redacted_value, project_id, project_name,
                    owner_type, owner_id, owner_name, owner_role, created_at, last_used_at, expires_at,
                    other, own_key, first_seen_at, last_seen_at, removed_at,
                    owner_project_access, project_archived, project_archived_at
             from all_keys where organization = ?1 and key_id = ?2",
        )
        .bind(organization)
        .bind(key_id)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))
    }

    /// The same, where `removed` may be open.
    pub(super) async fn fetch_keys<E: From<Error>>(
        &mut self,
        filter: &KeyFilter,
        removed: Option<bool>,
        mut each: impl FnMut(KeyRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.path.clone();
        let mut rows = sqlx::query_as::<_, KeyRow>(
            "select organization, scope, key_id, name, redacted_value, project_id, project_name,
                    owner_type, owner_id, owner_name, owner_role, created_at, last_used_at, expires_at,
                    other, own_key, first_seen_at, last_seen_at, removed_at,
                    owner_project_access, project_archived, project_archived_at
             from all_keys
             where (?1 is null or (removed_at is not null) = ?1)
               and (?2 is null or organization = ?2)
               and (?3 is null or scope = ?3)
               and (?4 is null or owner_id = ?4 or owner_name = ?4)
               and (?5 is null or coalesce(last_used_at, created_at, first_seen_at) < ?5)
               and (?6 is null or project_id = ?6 or project_name = ?6)
             order by organization, created_at, key_id",
        )
        .bind(removed)
        .bind(&filter.organization)
        .bind(filter.scope.map(Scope::as_str))
        .bind(&filter.owner)
        .bind(filter.unused_since.map(|time| time.to_string()))
        .bind(&filter.project)
        .fetch(&mut self.connection);
        let failed = |source| E::from(Error::from_sqlx(&path, source));
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            each(row)?;
        }
        Ok(())
    }

    /// Calls `each` with the events that `filter` lets through, oldest first unless reversed.
    pub async fn list_events<E: From<Error>>(
        &mut self,
        filter: &EventFilter,
        mut each: impl FnMut(EventRow) -> Result<(), E>,
    ) -> Result<(), E> {
        if filter.limit.is_some() && !filter.reverse {
            // The newest ones, and yet oldest first: no more of them than were asked for.
            let mut newest = Vec::new();
            let reversed = EventFilter { reverse: true, ..filter.clone() };
            self.fetch_events(&reversed, |row| {
                newest.push(row);
                Ok::<_, E>(())
            })
            .await?;
            return newest.into_iter().rev().try_for_each(each);
        }
        self.fetch_events(filter, &mut each).await
    }

    async fn fetch_events<E: From<Error>>(
        &mut self,
        filter: &EventFilter,
        mut each: impl FnMut(EventRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let (after, last) = self.event_ids(filter).await?;
        let kinds: Vec<&str> = filter.kinds.iter().map(|kind| kind.as_str()).collect();
        let kinds = (!kinds.is_empty()).then(|| serde_json::json!(kinds).to_string());
        let path = self.path.clone();
        let mut rows = sqlx::query_as::<_, EventRow>(sqlx::AssertSqlSafe(events_sql(filter)))
            .bind(after)
            .bind(last)
            .bind(&filter.organization)
            .bind(&filter.key_id)
            .bind(kinds)
            .bind(filter.limit.map_or(-1, i64::from))
            .fetch(&mut self.connection);
        let failed = |source| E::from(Error::from_sqlx(&path, source));
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            each(row)?;
        }
        Ok(())
    }

    /// One event.
    pub async fn load_event(&mut self, event_id: i64) -> Result<Option<EventRow>, Error> {
        // Fixed texts put together: no part of them comes from outside.
        let sql = format!(
            "{EVENT_COLUMNS}, {NOTES_COLUMN}, {ENTRIES_COLUMN} from audit_history where event_id = ?1"
        );
        sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(event_id)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))
    }

    /// Runs never finish before the one before them, so that a span of time is a span of event ids: all
    /// above the first number, up to the second.
    async fn event_ids(&mut self, filter: &EventFilter) -> Result<(i64, i64), Error> {
        let (since, until): (i64, i64) = sqlx::query_as(
            "select ifnull((select last_event_id from runs where finished_at < ?1
                            order by finished_at desc, run_id desc limit 1), 0),
                    ifnull((select last_event_id from runs where finished_at < ?2
                            order by finished_at desc, run_id desc limit 1), 0)",
        )
        .bind(filter.since.unwrap_or(Timestamp::MIN).unix())
        .bind(filter.until.map_or(i64::MAX, Timestamp::unix))
        .fetch_one(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        Ok((since.max(filter.after.unwrap_or(0)), until))
    }

    /// How many keys the last snapshot of an organization has. `None` if there was no run.
    pub async fn count_keys(&mut self, organization: &str) -> Result<Option<u64>, Error> {
        let keys: Option<i64> = sqlx::query_scalar(
            "select r.keys_after from runs r join organizations o on o.organization = r.organization
             where o.name = ?1 order by r.run_id desc limit 1",
        )
        .bind(organization)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        Ok(keys.and_then(|keys| u64::try_from(keys).ok()))
    }

    /// The id of the newest event; 0 if there is none.
    pub async fn last_event_id(&mut self) -> Result<i64, Error> {
        sqlx::query_scalar("select ifnull(max(event_id), 0) from audit")
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))
    }

    /// Calls `each` with the runs of an organization (or all), the newest `limit`, oldest first unless
    /// reversed.
    pub async fn list_runs<E: From<Error>>(
        &mut self,
        organization: Option<&str>,
        limit: Option<u32>,
        reverse: bool,
        each: impl FnMut(RunRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rows: Vec<RunRow> = sqlx::query_as(
            "select run_id, organization, trigger, started_at, finished_at, status, keys_seen,
                    baseline, added, restored, removed, used, changed, unconfirmed, skipped, pages,
                    requests, retries, notice, error, digest, missing,
                    deferred_until
             from run_history where ?1 is null or organization = ?1
             order by run_id desc limit ?2",
        )
        .bind(organization)
        .bind(limit.map_or(-1, i64::from))
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        if !reverse {
            rows.reverse();
        }
        rows.into_iter().try_for_each(each)
    }
}
