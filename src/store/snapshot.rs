//! What a run needs to know before it compares.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;

use serde::de::DeserializeOwned;
use sqlx::SqliteConnection;

use super::Writer;
use super::chain::load_forgotten;
use super::error::Error;
use super::projects::{Source, load_projects};
use super::rows::{KeyReader, StoredKey};
use super::scratch::Scratch;
use super::write::{CHUNK, json};
use crate::clock::Timestamp;
use crate::inventory::{
    Acceptance, FieldStates, Key, KeyId, Medium, Outline, Sent, Snapshot, boundaries,
};

/// What `sync --accept` found to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub run_id: i64,
    /// Why that run was held or refused.
    pub reason: String,
    pub acceptance: Acceptance,
}

/// How many keys are read with one statement.
const ROWS_AT_ONCE: i64 = 1_000;

/// An outline makes room for so many keys at the most before it has seen them.
const MOST_EXPECTED: usize = 2_000_000;

/// A key as [`StoredKey`] has it, as one JSON array: of many rows, text is handed over faster than rows are.
macro_rules! key_as_json {
    () => {
        "json_group_array(json_array(k.key, json_array(k.key_id, v.scope, v.name, v.redacted_value, v.project_id,
             v.project_name, w.type, w.id, w.name, w.role, v.created_at, k.last_used_at, v.expires_at,
             v.other, w.other)))"
    };
}

/// The next keys of an organization after a row, and the last of these rows. `+`: not by the index of ids, which would
/// have to be sorted for each part.
const LOAD_KEYS: &str = concat!(
    "select max(k.key), ",
    key_as_json!(),
    " from (select key, key_id, version, last_used_at from keys
            where key > ?2 and +organization = ?1 and removed_run is null order by key limit ?3) k
     join key_versions v on v.version = k.version
     left join owners w on w.owner = v.owner"
);

/// The same with the ages of those that the admin list should hold, and their rows. What a project's list told of, it
/// may not hold; nor can anybody say where a key without an age stands in it.
const LOAD_AGES: &str = "select max(key), json_group_array(json_array(age, key)) from (
        select k.key, iif(v.scope = 'project' and v.project_id is not null, 0, ifnull(v.created_at, 0)) as age
        from organizations o
        cross join keys k on k.key > ?2 and +k.organization = o.organization and k.removed_run is null
        cross join key_versions v on v.version = k.version
        where o.name = ?1 order by k.key limit ?3)";

/// How many of them are read with one statement.
const AGES_AT_ONCE: i64 = 10_000;

const LOAD_KEYS_BY_ID: &str = concat!(
    "select ",
    key_as_json!(),
    " from json_each(?2) j
     cross join keys k on k.organization = ?1 and k.key_id = j.value
     join key_versions v on v.version = k.version
     left join owners w on w.owner = v.owner
     where k.removed_run is null"
);

fn read_rows<T: DeserializeOwned>(json: &str, column: &'static str) -> Result<Vec<T>, Error> {
    serde_json::from_str(json).map_err(|_| {
        let row = "one of the inventory".to_owned();
        Error::Inconsistent { table: "key_versions", column, row }
    })
}

impl Writer {
    /// The snapshot of an organization, its keys in outline, and its remembered `openai-organization` header.
    /// `is_own` tells from a redacted value whether it is that of the credential in use.
    pub async fn load_snapshot(
        &mut self,
        organization: &str,
        is_own: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<(Snapshot, Option<String>), Error> {
        let row: Option<(i64, Option<String>, Option<String>)> = sqlx::query_as(
            "select o.organization, o.header, k.key_id
             from organizations o left join keys k on k.key = o.own_key where o.name = ?1",
        )
        .bind(organization)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|source| Error::from_sqlx(&self.path, source))?;
        let Some((organization, header, own_key)) = row else {
            return Ok((Snapshot::default(), None));
        };
        let last_run = last_ok_run(&mut self.connection, organization).await;
        let last_run = last_run.map_err(|source| self.failed(source))?.map(|(run_id, _)| run_id);
        let projects = load_projects(&mut self.connection, organization).await;
        let mut snapshot = Snapshot {
            own_key: own_key.as_deref().and_then(KeyId::new),
            fields: self.load_fields(Source::Admin, organization).await?,
            project_fields: self.load_fields(Source::Projects, organization).await?,
            projects: projects.map_err(|source| self.failed(source))?,
            unconfirmed: self.load_unconfirmed(organization).await?,
            exists: last_run.is_some(),
            last_run,
            forgotten: load_forgotten(&mut self.connection, organization)
                .await
                .map_err(|source| self.failed(source))?
                .into_keys()
                .collect(),
            ..Snapshot::default()
        };
        snapshot.outline = self.load_outline(organization, &snapshot, is_own).await?;
        Ok((snapshot, header))
    }

    /// Keys of the snapshot of an organization that the admin list should still hold, from the oldest to the newest,
    /// about so many from each other, with the times when they were made: they are there long before the snapshot.
    pub async fn load_boundaries(
        &mut self,
        organization: &str,
        every: usize,
    ) -> Result<Vec<(KeyId, Timestamp)>, Error> {
        // Ages and rows. Where one does not fit, there is another to begin at.
        let mut keys: Vec<(u32, u32)> = Vec::new();
        let mut after = 0;
        loop {
            let (last, some): (Option<i64>, String) = sqlx::query_as(LOAD_AGES)
                .bind(organization)
                .bind(after)
                .bind(AGES_AT_ONCE)
                .fetch_one(&mut self.connection)
                .await
                .map_err(|source| self.failed(source))?;
            let some: Vec<(i64, i64)> = read_rows(&some, "created_at")?;
            let fit = |(age, row)| Some((u32::try_from(age).ok()?, u32::try_from(row).ok()?));
            keys.extend(some.into_iter().filter(|(age, _)| *age > 0).filter_map(fit));
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        keys.sort_unstable();
        let places = boundaries(keys.iter().map(|(age, _)| age), every);
        let some: Vec<u32> = places.iter().map(|place| keys[*place].1).collect();
        let ids: Vec<String> = sqlx::query_scalar(
            "select k.key_id from json_each(?1) j cross join keys k on k.key = j.value order by j.id",
        )
        .bind(json(&some))
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let ages = places.iter().map(|place| Timestamp::from_unix(keys[*place].0.into()));
        Ok(ids.iter().zip(ages).filter_map(|(id, at)| Some((KeyId::new(id)?, at?))).collect())
    }

    async fn load_outline(
        &mut self,
        organization: i64,
        snapshot: &Snapshot,
        is_own: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Outline, Error> {
        let keys: Option<i64> = sqlx::query_scalar("select keys_after from runs where run_id = ?1")
            .bind(snapshot.last_run)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))?;
        // So that the outline need not grow. A number that cannot be true costs no more than that.
        let keys = keys.and_then(|keys| usize::try_from(keys).ok()).unwrap_or(0).min(MOST_EXPECTED);
        let mut outline = Outline::new(keys, &snapshot.fields, &snapshot.project_fields);
        let mut reader = KeyReader::default();
        let mut rows = self.load_some_keys(organization, 0).await?;
        while let (Some(last), some) = rows {
            // The next ones are read while these are looked at.
            let (next, added) = tokio::join!(self.load_some_keys(organization, last), async {
                for (_, row) in read_rows::<(i64, StoredKey)>(&some, "name")? {
                    let key = reader.read(row)?;
                    let is_own = snapshot.own_key.as_ref() == Some(&key.id)
                        || key.redacted_value.as_deref().is_some_and(is_own);
                    outline.add(&key, &snapshot.projects, is_own);
                }
                Ok::<_, Error>(())
            });
            added?;
            rows = next?;
        }
        Ok(outline)
    }

    /// The next keys after a row, as JSON, and the last of their rows if there are any.
    async fn load_some_keys(
        &mut self,
        organization: i64,
        after: i64,
    ) -> Result<(Option<i64>, String), Error> {
        sqlx::query_as(LOAD_KEYS)
            .bind(organization)
            .bind(after)
            .bind(ROWS_AT_ONCE)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))
    }

    /// Those of the keys that are in the inventory of an organization, as the last `ok` run left them.
    pub async fn load_keys(
        &mut self,
        organization: &str,
        ids: &[KeyId],
    ) -> Result<HashMap<KeyId, Key>, Error> {
        let number: Option<i64> =
            sqlx::query_scalar("select organization from organizations where name = ?1")
                .bind(organization)
                .fetch_optional(&mut self.connection)
                .await
                .map_err(|source| self.failed(source))?;
        let Some(number) = number else { return Ok(HashMap::new()) };
        let keys = load_keys(&mut self.connection, number, ids).await;
        let keys = keys.map_err(|source| self.failed(source))?;
        Ok(keys.into_iter().map(|(id, (_, key))| (id, key)).collect())
    }

    async fn load_unconfirmed(&mut self, organization: i64) -> Result<BTreeSet<KeyId>, Error> {
        let ids: Vec<String> = sqlx::query_scalar(
            "select key_id from keys
             where organization = ?1 and last_seen_run is not null and removed_run is null",
        )
        .bind(organization)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        Ok(ids.iter().filter_map(|id| KeyId::new(id)).collect())
    }

    pub(super) async fn load_fields(
        &mut self,
        source: Source,
        organization: i64,
    ) -> Result<FieldStates, Error> {
        let rows: Vec<(String, String)> = sqlx::query_as(source.select())
            .bind(organization)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))?;
        let parse = |(field, sent): (String, String)| match Sent::parse(&sent) {
            Some(sent) => Ok((field, sent)),
            None => Err(Error::Inconsistent { table: source.table(), column: "sent", row: field }),
        };
        rows.into_iter().map(parse).collect()
    }

    /// Space for what a run sets aside.
    #[must_use]
    pub fn scratch(&self) -> Box<dyn Medium> {
        Box::new(Scratch::beside(&self.path))
    }

    /// Which of `ids` were in the inventory of an organization once and are gone.
    pub async fn load_gone(
        &mut self,
        organization: &str,
        ids: impl Iterator<Item = io::Result<KeyId>>,
    ) -> Result<HashSet<KeyId>, Error> {
        let has_keys: bool = sqlx::query_scalar(
            "select exists (
                 select 1 from organizations o join keys k on k.organization = o.organization
                 where o.name = ?1)",
        )
        .bind(organization)
        .fetch_one(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let mut gone = HashSet::new();
        if !has_keys {
            return Ok(gone);
        }
        let mut ids = ids;
        loop {
            let some: Vec<KeyId> = ids
                .by_ref()
                .take(CHUNK)
                .collect::<io::Result<_>>()
                .map_err(|source| self.failed(source.into()))?;
            if some.is_empty() {
                return Ok(gone);
            }
            gone.extend(self.load_gone_of(organization, &some).await?);
        }
    }

    async fn load_gone_of(
        &mut self,
        organization: &str,
        ids: &[KeyId],
    ) -> Result<HashSet<KeyId>, Error> {
        let rows: Vec<String> = sqlx::query_scalar(
            "select k.key_id from organizations o
             cross join json_each(?2) j
             cross join keys k on k.organization = o.organization and k.key_id = j.value
             where o.name = ?1 and k.removed_run is not null",
        )
        .bind(organization)
        .bind(ids_json(ids))
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        Ok(rows.iter().filter_map(|id| KeyId::new(id)).collect())
    }

    /// What the newest held or refused run since the last `ok` run recorded, if there is one.
    pub async fn load_accepted(&mut self, organization: &str) -> Result<Option<Accepted>, Error> {
        type Row = (i64, Option<String>, String, bool, Option<String>);
        let row: Option<Row> = sqlx::query_as(
            "select r.run_id, r.error, h.missing, h.stranger, h.header
             from withheld h
             join runs r on r.run_id = h.run_id
             join organizations o on o.organization = r.organization
             where o.name = ?1 and not exists (
                 select 1 from runs n
                 where n.organization = r.organization and n.status = 'ok' and n.run_id > r.run_id)
             order by r.run_id desc limit 1",
        )
        .bind(organization)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        let Some((run_id, reason, missing, stranger, header)) = row else {
            return Ok(None);
        };
        let missing: Vec<String> = serde_json::from_str(&missing).map_err(|_| {
            Error::Inconsistent { table: "withheld", column: "missing", row: run_id.to_string() }
        })?;
        let acceptance = Acceptance {
            missing: missing.iter().filter_map(|id| KeyId::new(id)).collect(),
            stranger: stranger.then_some(header),
        };
        Ok(Some(Accepted { run_id, reason: reason.unwrap_or_default(), acceptance }))
    }
}

/// Those of the keys that are in the inventory, with their rows.
pub(super) async fn load_keys(
    connection: &mut SqliteConnection,
    organization: i64,
    ids: &[KeyId],
) -> Result<HashMap<KeyId, (i64, Key)>, sqlx::Error> {
    let mut reader = KeyReader::default();
    let mut keys = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK) {
        let rows: String = sqlx::query_scalar(LOAD_KEYS_BY_ID)
            .bind(organization)
            .bind(ids_json(ids))
            .fetch_one(&mut *connection)
            .await?;
        let rows: Vec<(i64, StoredKey)> = read_rows(&rows, "name").map_err(Error::into_sqlx)?;
        for (number, row) in rows {
            let key = reader.read(row).map_err(Error::into_sqlx)?;
            keys.insert(key.id.clone(), (number, key));
        }
    }
    Ok(keys)
}

/// A list of ids as one bound value.
pub(super) fn ids_json<'a>(ids: impl IntoIterator<Item = &'a KeyId>) -> String {
    let ids: Vec<&str> = ids.into_iter().map(KeyId::as_str).collect();
    // A list of strings can always be written.
    serde_json::to_string(&ids).unwrap_or_default()
}

/// Number and start of the last `ok` run.
pub(super) async fn last_ok_run(
    connection: &mut SqliteConnection,
    organization: i64,
) -> Result<Option<(i64, i64)>, sqlx::Error> {
    sqlx::query_as(
        "select run_id, started_at from runs
         where organization = ?1 and status = 'ok' order by run_id desc limit 1",
    )
    .bind(organization)
    .fetch_optional(connection)
    .await
}
