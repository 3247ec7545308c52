//! The inventory as it was.

use std::collections::BTreeMap;

use super::error::Error;
use super::read::Reader;
use super::rows::row;
use crate::clock::Timestamp;
use crate::inventory::Inventory;

row! {
    /// The value that a key has in a field since a notice, without an event.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Adoption {
        pub organization: String,
        pub kind: String,
        pub field: String,
        pub key_id: String,
        pub value: Option<String>,
    }
}

impl Reader {
    /// The inventory of each organization as of a time. An organization of which
    /// nothing was known then is left out; if that is all of them, an error says since when there is
    /// a history.
    pub async fn replay(
        &mut self,
        organization: Option<&str>,
        as_of: Timestamp,
    ) -> Result<BTreeMap<String, Inventory>, Error> {
        // One state of the file: it may be pruned meanwhile.
        let begun = sqlx::raw_sql("begin").execute(&mut self.connection).await;
        begun.map_err(|source| self.failed(source))?;
        let inventories = self.replay_all(organization, as_of).await;
        let ended = sqlx::raw_sql("rollback").execute(&mut self.connection).await;
        ended.map_err(|source| self.failed(source))?;
        inventories
    }

    async fn replay_all(
        &mut self,
        organization: Option<&str>,
        as_of: Timestamp,
    ) -> Result<BTreeMap<String, Inventory>, Error> {
        let states: Vec<(i64, String, i64)> = sqlx::query_as(
            "select o.organization, o.name, max(r.run_id) from runs r
             join organizations o on o.organization = r.organization
             where r.status = 'ok' and r.finished_at <= ?1 and (?2 is null or o.name = ?2)
             group by o.organization",
        )
        .bind(as_of.unix())
        .bind(organization)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        if states.is_empty()
            && let Some(first) = self.first_ok_run(organization).await?
        {
            return Err(Error::BeforeHistory { first });
        }
        let mut inventories = BTreeMap::new();
        for (id, name, run_id) in states {
            // From before the chain, and of what is pruned, nothing vouches for more than the events.
            let is_indexed =
                self.is_chained(id).await? && self.load_horizon(&name).await?.is_none();
            let inventory = if is_indexed {
                self.load_as_of(id, run_id).await?
            } else {
                self.replay_one(id, &name, run_id).await?
            };
            inventories.insert(name, inventory);
        }
        Ok(inventories)
    }

    /// Whether an organization has been in the chain from its beginning.
    async fn is_chained(&mut self, organization: i64) -> Result<bool, Error> {
        sqlx::query_scalar(
            "select not exists (select 1 from runs where organization = ?1 and digest is null)",
        )
        .bind(organization)
        .fetch_one(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))
    }

    /// Whether a run has succeeded, so that there is an inventory.
    pub async fn is_anything_known(&mut self, organization: Option<&str>) -> Result<bool, Error> {
        Ok(self.first_ok_run(organization).await?.is_some())
    }

    async fn first_ok_run(
        &mut self,
        organization: Option<&str>,
    ) -> Result<Option<Timestamp>, Error> {
        let first: Option<i64> = sqlx::query_scalar(
            "select min(r.finished_at) from runs r
             join organizations o on o.organization = r.organization
             where r.status = 'ok' and (?1 is null or o.name = ?1)",
        )
        .bind(organization)
        .fetch_one(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        Ok(first.and_then(Timestamp::from_unix))
    }

    /// What notices told of keys after the state as of one time, up to that as of another; in the order
    /// of recording.
    pub async fn list_adoptions(
        &mut self,
        organization: Option<&str>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Adoption>, Error> {
        sqlx::query_as(
            "select o.name as organization, n.kind, n.field, j.value ->> 0 as key_id,
                    j.value ->> 1 as value
             from notices n join runs r on r.run_id = n.run_id
             join organizations o on o.organization = r.organization, json_each(n.changes) j
             where (?1 is null or o.name = ?1) and n.kind not in ('own_key', 'unconfirmed')
               and r.finished_at > ?2 and r.finished_at <= ?3
             order by n.notice_id",
        )
        .bind(organization)
        .bind(from.unix())
        .bind(to.unix())
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))
    }
}
