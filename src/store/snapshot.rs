//! What a run needs to know before it compares.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::TryStreamExt;
use sqlx::SqliteConnection;

use super::Writer;
use super::chain::load_forgotten;
use super::error::Error;
use super::projects::{Source, load_projects};
use super::rows::{KeyReader, StoredKey};
use crate::inventory::{Acceptance, FieldStates, KeyId, Sent, Snapshot};

/// What `sync --accept` found to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub run_id: i64,
    /// Why that run was held or refused.
    pub reason: String,
    pub acceptance: Acceptance,
}

impl Writer {
    /// The snapshot of an organization and its remembered `openai-organization` header.
    pub async fn load_snapshot(
        &mut self,
        organization: &str,
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
        let snapshot = Snapshot {
            keys: self.load_keys(organization).await?,
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
        };
        Ok((snapshot, header))
    }

    async fn load_keys(
        &mut self,
        organization: i64,
    ) -> Result<HashMap<KeyId, crate::inventory::Key>, Error> {
        let path = self.path.clone();
        let mut rows = sqlx::query_as::<_, StoredKey>(
            "select k.key_id, v.scope, v.name, v.redacted_value, v.project_id, v.project_name,
                    w.type as owner_type, w.id as owner_id, w.name as owner_name, w.role as owner_role,
                    v.created_at, k.last_used_at, v.expires_at, v.other, w.other as owner_other
             from keys k
             join key_versions v on v.version = k.version
             left join owners w on w.owner = v.owner
             where k.organization = ?1 and k.removed_run is null",
        )
        .bind(organization)
        .fetch(&mut self.connection);
        let mut reader = KeyReader::default();
        let mut keys = HashMap::new();
        while let Some(row) =
            rows.try_next().await.map_err(|source| Error::from_sqlx(&path, source))?
        {
            let key = reader.read(row)?;
            keys.insert(key.id.clone(), key);
        }
        Ok(keys)
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

    /// Which of `ids` were in the inventory of an organization once and are gone.
    pub async fn load_gone(
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
