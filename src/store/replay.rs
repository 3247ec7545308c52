//! The inventory as it was, by replay of the history.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;

use super::error::Error;
use super::read::Reader;
use super::rows::row;
use crate::clock::Timestamp;
use crate::inventory::{EventKind, Inventory, KeyId, PastEvent, Scope};

row! {
    /// What one event or notice tells of one key.
    #[derive(Debug)]
    struct Step {
        kind: String,
        key_id: String,
        scope: String,
        field: Option<String>,
        old_value: Option<String>,
        new_value: Option<String>,
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

    /// Events and notices of one organization, in the order of recording, up to and with a run.
    async fn replay_one(&mut self, organization: i64, run_id: i64) -> Result<Inventory, Error> {
        let path = self.path.clone();
        // What a notice tells comes after the events of its run.
        let mut steps = sqlx::query_as::<_, Step>(
            "select event as kind, key_id, scope, field, old_value, new_value
             from (
                 select h.run_id, 0 as part, h.event_id as place, h.event, h.key_id, h.scope, h.field,
                        h.old_value, h.new_value
                 from audit_history h
                 where h.organization = (select name from organizations where organization = ?1)
                   and h.run_id <= ?2
                 union all
                 select n.run_id, 1, n.notice_id, 'notice', j.value ->> 0, '', n.field, null,
                        j.value ->> 1
                 from notices n join runs r on r.run_id = n.run_id, json_each(n.changes) j
                 where r.organization = ?1 and n.run_id <= ?2 and n.kind <> 'own_key')
             order by run_id, part, place",
        )
        .bind(organization)
        .bind(run_id)
        .fetch(&mut self.connection);
        let mut inventory = Inventory::default();
        while let Some(step) =
            steps.try_next().await.map_err(|source| Error::from_sqlx(&path, source))?
        {
            let bad = |column| Error::Inconsistent {
                table: "audit",
                column,
                row: format!("of key `{}`", step.key_id),
            };
            let key_id = KeyId::new(&step.key_id).ok_or_else(|| bad("key_id"))?;
            let replayed = if step.kind == "notice" {
                let field = step.field.as_deref().ok_or_else(|| bad("field"))?;
                inventory.adopt(&key_id, field, step.new_value.as_deref())
            } else {
                inventory.apply(&PastEvent {
                    key_id,
                    scope: Scope::parse(&step.scope).ok_or_else(|| bad("scope"))?,
                    kind: EventKind::parse(&step.kind).ok_or_else(|| bad("event"))?,
                    field: step.field,
                    old_value: step.old_value,
                    new_value: step.new_value,
                })
            };
            replayed.map_err(|source| Error::Replay { source })?;
        }
        Ok(inventory)
    }
}
