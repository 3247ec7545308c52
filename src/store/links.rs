//! The links of each chain by their places: what checkpoints are made of, and held against.

use sqlx::{Connection, SqliteConnection};

use super::adopt::chain_on;
use super::chain::append_act;
use super::error::Error;
use super::{Reader, Writer};
use crate::audit::{Acceptance, ActKind, ActRecord, Digest, Place};
use crate::clock::Timestamp;

/// A link as it stands in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLink {
    pub place: Place,
    pub digest: Digest,
    pub time: Timestamp,
}

/// An organization whose history departs from a checkpoint, which somebody accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedLink {
    /// The name under which its chain began.
    pub origin: String,
    /// JSON.
    pub detail: String,
}

/// Questions about links.
#[derive(Debug)]
pub struct Links<'a> {
    connection: &'a mut SqliteConnection,
    path: &'a std::path::Path,
}

type Row = (i64, Option<i64>, Vec<u8>, i64);

impl Reader {
    pub fn links(&mut self) -> Links<'_> {
        Links { connection: &mut self.connection, path: &self.path }
    }
}

impl Writer {
    pub fn links(&mut self) -> Links<'_> {
        Links { connection: &mut self.connection, path: &self.path }
    }

    /// Records, in one transaction, that the history of each organization was taken for good although it
    /// departs from a checkpoint. Never earlier than `now`, and than the last run.
    pub async fn accept_links(
        &mut self,
        accepted: &[AcceptedLink],
        now: Timestamp,
        actor: &str,
    ) -> Result<(), Error> {
        let recorded = self.append_accepted(accepted, now, actor).await;
        recorded.map_err(|source| self.failed(source))
    }

    async fn append_accepted(
        &mut self,
        accepted: &[AcceptedLink],
        now: Timestamp,
        actor: &str,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin_with("begin immediate").await?;
        let acted_at = time_of_act(&mut transaction, now).await?;
        for AcceptedLink { origin, detail } in accepted {
            // An organization of which the database does not know (any more).
            sqlx::query(
                "insert into organizations (name, origin) select ?1, ?1
                 where not exists (select 1 from organizations where origin = ?1)",
            )
            .bind(origin)
            .execute(&mut *transaction)
            .await?;
            let organization: i64 =
                sqlx::query_scalar("select organization from organizations where origin = ?1")
                    .bind(origin)
                    .fetch_one(&mut *transaction)
                    .await?;
            let mut head = chain_on(&mut transaction, organization, acted_at).await?;
            let kind = ActKind::Accepted;
            append_act(&mut transaction, organization, &mut head, kind, acted_at, actor, detail)
                .await?;
        }
        transaction.commit().await
    }
}

/// When somebody acts: never before what is recorded already.
pub(super) async fn time_of_act(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Timestamp, sqlx::Error> {
    let latest: i64 = sqlx::query_scalar(
        "select max(ifnull((select max(finished_at) from runs), ?1),
                    ifnull((select max(acted_at) from acts), ?1), ?1)",
    )
    .bind(now.unix())
    .fetch_one(connection)
    .await?;
    Ok(Timestamp::from_unix(latest).unwrap_or(now))
}

impl Links<'_> {
    /// The random id of the database.
    pub async fn database_id(&mut self) -> Result<String, Error> {
        let id = sqlx::query_scalar("select id from installation").fetch_one(&mut *self.connection);
        id.await.map_err(|source| Error::from_sqlx(self.path, source))
    }

    /// The newest run and the newest act of all organizations.
    pub async fn end(&mut self) -> Result<(i64, i64), Error> {
        sqlx::query_as(
            "select ifnull((select max(run_id) from runs), 0), ifnull((select max(act_id) from acts), 0)",
        )
        .fetch_one(&mut *self.connection)
        .await
        .map_err(|source| Error::from_sqlx(self.path, source))
    }

    /// The names under which the chains began.
    pub async fn origins(&mut self) -> Result<Vec<String>, Error> {
        sqlx::query_scalar(
            "select origin from organizations where origin is not null order by name",
        )
        .fetch_all(&mut *self.connection)
        .await
        .map_err(|source| Error::from_sqlx(self.path, source))
    }

    /// The link of an organization at a place: `None` if there is none, or none with a digest.
    pub async fn find(&mut self, origin: &str, place: Place) -> Result<Option<ChainLink>, Error> {
        let sql = match place.act_id {
            None => {
                "select run_id, null, digest, finished_at from runs
                 where run_id = ?2 and digest is not null and ?3 is null
                   and organization in (select organization from organizations where origin = ?1)"
            }
            Some(_) => {
                "select after_run_id, act_id, digest, acted_at from acts
                 where after_run_id = ?2 and act_id = ?3
                   and organization in (select organization from organizations where origin = ?1)"
            }
        };
        let query = sqlx::query_as(sql).bind(origin).bind(place.run_id).bind(place.act_id);
        let row: Result<Option<Row>, _> = query.fetch_optional(&mut *self.connection).await;
        let row = row.map_err(|source| Error::from_sqlx(self.path, source))?;
        row.map(read).transpose()
    }

    /// The newest link of an organization.
    pub async fn head(&mut self, origin: &str) -> Result<Option<ChainLink>, Error> {
        let rows: Result<Vec<Row>, _> = sqlx::query_as(
            "with mine as (select organization from organizations where origin = ?1)
             select * from (select run_id, null, digest, finished_at from runs
                 where organization in mine and digest is not null order by run_id desc limit 1)
             union all
             select * from (select after_run_id, act_id, digest, acted_at from acts
                 where organization in mine order by after_run_id desc, act_id desc limit 1)",
        )
        .bind(origin)
        .fetch_all(&mut *self.connection)
        .await;
        let rows = rows.map_err(|source| Error::from_sqlx(self.path, source))?;
        let links = rows.into_iter().map(read);
        let links = links.collect::<Result<Vec<ChainLink>, Error>>()?;
        Ok(links.into_iter().max_by_key(|link| link.place))
    }

    /// The links of an organization behind `place`, oldest first.
    pub async fn after(&mut self, origin: &str, place: Place) -> Result<Vec<ChainLink>, Error> {
        self.between(origin, place, Place { run_id: i64::MAX, act_id: Some(i64::MAX) }).await
    }

    /// Those behind `since`, up to and with `until`.
    pub async fn between(
        &mut self,
        origin: &str,
        since: Place,
        until: Place,
    ) -> Result<Vec<ChainLink>, Error> {
        let rows: Result<Vec<Row>, _> = sqlx::query_as(
            "with mine as (select organization from organizations where origin = ?1)
             select run_id, null, digest, finished_at from runs
             where run_id > ?2 and run_id <= ?4 and organization in mine and digest is not null
             union all
             select after_run_id, act_id, digest, acted_at from acts
             where organization in mine and (after_run_id, act_id) > (?2, ?3)
               and (after_run_id, act_id) <= (?4, ?5)
             order by 1, 2",
        )
        .bind(origin)
        .bind(since.run_id)
        .bind(since.act_id.unwrap_or(0))
        .bind(until.run_id)
        .bind(until.act_id.unwrap_or(0))
        .fetch_all(&mut *self.connection)
        .await;
        let rows = rows.map_err(|source| Error::from_sqlx(self.path, source))?;
        rows.into_iter().map(read).collect()
    }

    /// What was accepted, each with the name under which the organization's chain began.
    pub async fn accepted(&mut self) -> Result<Vec<(String, Acceptance)>, Error> {
        type Row = (String, i64, String, i64, String, String, String, String);
        let rows: Result<Vec<Row>, _> = sqlx::query_as(
            "select origin, act_id, organization, after_run_id, kind, acted_at, actor, detail
             from act_history where kind = 'accepted' and origin is not null",
        )
        .fetch_all(&mut *self.connection)
        .await;
        let rows = rows.map_err(|source| Error::from_sqlx(self.path, source))?;
        let read = |row: Row| {
            let (origin, act_id, organization, after_run_id, kind, acted_at, actor, detail) = row;
            let digest = None;
            let act = ActRecord {
                act_id,
                organization,
                after_run_id,
                kind,
                acted_at,
                actor,
                detail,
                digest,
            };
            Acceptance::of(&act).map(|accepted| (origin, accepted))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

fn read((run_id, act_id, digest, time): Row) -> Result<ChainLink, Error> {
    let inconsistent = |column| Error::Inconsistent {
        table: if act_id.is_some() { "acts" } else { "runs" },
        column,
        row: act_id.unwrap_or(run_id).to_string(),
    };
    Ok(ChainLink {
        place: Place { run_id, act_id },
        digest: Digest::from_slice(&digest).ok_or_else(|| inconsistent("digest"))?,
        time: Timestamp::from_unix(time).ok_or_else(|| inconsistent("finished_at"))?,
    })
}
