//! Beyond a horizon the history is thrown away: the past is replayed from the inventory that is kept there.

use futures_util::TryStreamExt;

use super::chain::load_forgotten;
use super::error::Error;
use super::evidence::load_acts;
use super::keyframe::{load_keyframe, newest_prunings};
use super::read::Reader;
use super::rows::row;
use crate::audit::{Erased, Horizons};
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

/// Up to where the history of an organization is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// The newest run of which something is gone: what was before it is not known.
    pub run_id: i64,
    /// When the newest run ended of which `used` events are gone.
    pub used: Option<Timestamp>,
    /// The same of all other events and the notices.
    pub events: Option<Timestamp>,
}

impl Reader {
    /// Up to where the history of an organization is thrown away, if it is.
    pub async fn load_horizon(&mut self, organization: &str) -> Result<Option<Horizon>, Error> {
        let acts = load_acts(&mut self.connection).await.map_err(|source| self.failed(source))?;
        let Some(pruning) = newest_prunings(&acts).remove(organization) else { return Ok(None) };
        let Horizons { used, events } = pruning.horizons;
        let ends: (Option<i64>, Option<i64>) = sqlx::query_as(
            "select (select finished_at from runs where run_id = ?1),
                    (select finished_at from runs where run_id = ?2)",
        )
        .bind(used)
        .bind(events)
        .fetch_one(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        Ok(Some(Horizon {
            run_id: pruning.horizons.newest(),
            used: ends.0.and_then(Timestamp::from_unix),
            events: ends.1.and_then(Timestamp::from_unix),
        }))
    }

    /// What is known of a person who was forgotten is not told because somebody else has the same name.
    async fn overlook(
        &mut self,
        organization: i64,
        inventory: &mut Inventory,
    ) -> Result<(), Error> {
        let forgotten = load_forgotten(&mut self.connection, organization).await;
        let forgotten = forgotten.map_err(|source| self.failed(source))?;
        for key in inventory.keys.values_mut() {
            if key.owner_id.as_deref().is_some_and(|owner_id| forgotten.contains_key(owner_id)) {
                key.erase_personal();
            }
        }
        Ok(())
    }

    /// The inventory that is kept of an organization at its horizon.
    async fn load_kept(&mut self, organization: &str) -> Result<Inventory, Error> {
        let path = self.path.clone();
        let failed = |source| Error::from_sqlx(&path, source);
        let loaded = load_keyframe(&mut self.connection, organization, 0, &Erased::new()).await;
        let present = loaded.map_err(failed)?.into_iter().map(|key| key.record);
        let present = present.filter(|record| record.removed_at.is_none());
        Ok(Inventory { keys: present.map(|record| (record.key.id.clone(), record.key)).collect() })
    }

    /// Events and notices of one organization, in the order of recording, up to and with a run; from the
    /// beginning, or from the horizon on. What a notice tells comes after the events of its run.
    pub(super) async fn replay_one(
        &mut self,
        organization: i64,
        name: &str,
        run_id: i64,
    ) -> Result<Inventory, Error> {
        let (after, mut inventory) = match self.load_horizon(name).await? {
            Some(horizon) if run_id < horizon.run_id => {
                let since = horizon.used.max(horizon.events).unwrap_or(Timestamp::MIN);
                return Err(Error::NotKept { organization: name.to_owned(), since });
            }
            Some(horizon) => (horizon.run_id, self.load_kept(name).await?),
            None => (0, Inventory::default()),
        };
        let notices = self.load_notices(organization, (after, run_id)).await?;
        let mut notices = notices.into_iter().peekable();
        let path = self.path.clone();
        let mut steps = sqlx::query_as::<_, Step>(
            "select run_id, event, key_id, scope, field, old_value, new_value
             from audit_history
             where organization = (select name from organizations where organization = ?1)
               and event_id > ifnull((select last_event_id from runs where run_id = ?3), 0)
               and event_id <= (select last_event_id from runs where run_id = ?2)
             order by event_id",
        )
        .bind(organization)
        .bind(run_id)
        .bind(after)
        .fetch(&mut self.connection);
        while let Some(step) =
            steps.try_next().await.map_err(|source| Error::from_sqlx(&path, source))?
        {
            while let Some(notice) = notices.next_if(|notice| notice.run_id < step.run_id) {
                notice.adopt(&mut inventory)?;
            }
            inventory.apply(&step.into_event()?).map_err(|source| Error::Replay { source })?;
        }
        notices.try_for_each(|notice| notice.adopt(&mut inventory))?;
        drop(steps);
        self.overlook(organization, &mut inventory).await?;
        Ok(inventory)
    }

    async fn load_notices(
        &mut self,
        organization: i64,
        (after, run_id): (i64, i64),
    ) -> Result<Vec<NoticeStep>, Error> {
        sqlx::query_as(
            "select n.run_id, n.field, j.value ->> 0 as key_id, j.value ->> 1 as value
             from notices n join runs r on r.run_id = n.run_id, json_each(n.changes) j
             where r.organization = ?1 and n.run_id > ?3 and n.run_id <= ?2
               and n.kind not in ('own_key', 'unconfirmed')
             order by n.notice_id",
        )
        .bind(organization)
        .bind(run_id)
        .bind(after)
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
