//! The inventory as it was, by replay of the history.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;

use super::error::Error;
use super::read::Reader;
use super::rows::row;
use crate::clock::Timestamp;
use crate::inventory::{EventKind, Inventory, KeyId, PastEvent, Scope};

row! {
    /// What one event tells of one key.
    #[derive(Debug)]
    struct Step {
        run_id: i64,
        event: String,
        key_id: String,
        scope: String,
        field: Option<String>,
        old_value: Option<String>,
        new_value: Option<String>,
    }
}

row! {
    /// What one notice tells of one key.
    #[derive(Debug)]
    struct NoticeStep {
        run_id: i64,
        field: String,
        key_id: String,
        value: Option<String>,
    }
}

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
    /// The inventory of each organization as of a time, by replay of the history. An organization of which
    /// nothing was known then is left out; if that is all of them, an error says since when there is
    /// a history.
    pub async fn replay(
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
            inventories.insert(name, self.replay_one(id, run_id).await?);
        }
        Ok(inventories)
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

    /// Events and notices of one organization, in the order of recording, up to and with a run. What a
    /// notice tells comes after the events of its run.
    async fn replay_one(&mut self, organization: i64, run_id: i64) -> Result<Inventory, Error> {
        let mut notices = self.load_notices(organization, run_id).await?.into_iter().peekable();
        let path = self.path.clone();
        let mut steps = sqlx::query_as::<_, Step>(
            "select run_id, event, key_id, scope, field, old_value, new_value
             from audit_history
             where organization = (select name from organizations where organization = ?1)
               and event_id <= (select last_event_id from runs where run_id = ?2)
             order by event_id",
        )
        .bind(organization)
        .bind(run_id)
        .fetch(&mut self.connection);
        let mut inventory = Inventory::default();
        while let Some(step) =
            steps.try_next().await.map_err(|source| Error::from_sqlx(&path, source))?
        {
            while let Some(notice) = notices.next_if(|notice| notice.run_id < step.run_id) {
                notice.adopt(&mut inventory)?;
            }
            inventory.apply(&step.into_event()?).map_err(|source| Error::Replay { source })?;
        }
        notices.try_for_each(|notice| notice.adopt(&mut inventory))?;
        Ok(inventory)
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

    async fn load_notices(
        &mut self,
        organization: i64,
        run_id: i64,
    ) -> Result<Vec<NoticeStep>, Error> {
        sqlx::query_as(
            "select n.run_id, n.field, j.value ->> 0 as key_id, j.value ->> 1 as value
             from notices n join runs r on r.run_id = n.run_id, json_each(n.changes) j
             where r.organization = ?1 and n.run_id <= ?2 and n.kind not in ('own_key', 'unconfirmed')
             order by n.notice_id",
        )
        .bind(organization)
        .bind(run_id)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))
    }
}

impl Step {
    fn into_event(self) -> Result<PastEvent, Error> {
        let bad = |column| Error::Inconsistent {
            table: "audit",
            column,
            row: format!("of key `{}`", self.key_id),
        };
        Ok(PastEvent {
            key_id: KeyId::new(&self.key_id).ok_or_else(|| bad("key_id"))?,
            scope: Scope::parse(&self.scope).ok_or_else(|| bad("scope"))?,
            kind: EventKind::parse(&self.event).ok_or_else(|| bad("event"))?,
            field: self.field,
            old_value: self.old_value,
            new_value: self.new_value,
        })
    }
}

impl NoticeStep {
    fn adopt(self, inventory: &mut Inventory) -> Result<(), Error> {
        let bad = || Error::Inconsistent {
            table: "notices",
            column: "changes",
            row: format!("of run {}", self.run_id),
        };
        let key_id = KeyId::new(&self.key_id).ok_or_else(bad)?;
        let adopted = inventory.adopt(&key_id, &self.field, self.value.as_deref());
        adopted.map_err(|source| Error::Replay { source })
    }
}
