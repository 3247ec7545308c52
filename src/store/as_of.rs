//! The inventory as it was after a run, in one question: which version of each key was in force, whether the
//! key was there, and when it was last used by then.
//!
//! Versions and events rise with the runs, so that "by then" is a number. What it costs depends on the
//! number of keys, not on the length of the history.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use serde_json::Value;

use super::Reader;
use super::error::Error;
use super::rows::{KeyReader, StoredKey};
use crate::clock::Timestamp;
use crate::inventory::Inventory;

/// `?1` is the organization, `?2` the run, `?3` its last event and `?4` its last version. Each row is one
/// JSON array: rows of one column come several times as fast as wide ones. The `+` keeps keys in the order in which
/// they came, which is that of their versions and events in the file.
const KEYS: &str = "
    select json_array(
        json_array(k.key_id, v.scope, v.name, v.redacted_value, v.project_id, v.project_name, w.type,
            w.id, w.name, w.role, v.created_at, null, v.expires_at, v.other, w.other),
        json((select json_array(a.event_id, a.new_value)
         from key_versions b join audit a on a.version = b.version
         where b.key = k.key and b.version <= v.version and a.event_id <= ?3
           and a.event in ('used', 'baseline', 'added', 'restored')
         order by b.version desc, a.event_id desc limit 1)))
    from keys k
    join key_versions v on v.version = (
        select max(version) from key_versions where key = k.key and version <= ?4)
    left join owners w on w.owner = v.owner
    where +k.organization = ?1 and k.first_seen_run <= ?2
      and k.key not in (
        select key from (
            select v.key as key, max(a.event_id), a.event as event
            from audit a join key_versions v on v.version = a.version
            where a.event in ('removed', 'restored') and a.event_id <= ?3
            group by v.key)
        where event = 'removed')";

/// The last use by then: the event that tells of it, and what it says.
type Use = (i64, Value);
/// What notices told of the last use of keys: the last event before them, and the time.
type AdoptedUse = HashMap<String, (i64, Option<String>)>;

impl Reader {
    /// The inventory of an organization after one of its `ok` runs.
    pub(super) async fn load_as_of(
        &mut self,
        organization: i64,
        run_id: i64,
    ) -> Result<Inventory, Error> {
        let adopted = self.load_adopted_use(organization, run_id).await?;
        let path = self.path.clone();
        let failed = |source| Error::from_sqlx(&path, source);
        let (event_id, version): (i64, i64) =
            sqlx::query_as("select last_event_id, last_version from runs where run_id = ?1")
                .bind(run_id)
                .fetch_one(&mut self.connection)
                .await
                .map_err(failed)?;
        let mut rows = sqlx::query_scalar::<_, String>(KEYS)
            .bind(organization)
            .bind(run_id)
            .bind(event_id)
            .bind(version)
            .fetch(&mut self.connection);
        let mut reader = KeyReader::default();
        let mut inventory = Inventory::default();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let key = reader.read(parse(&row, &adopted)?)?;
            inventory.keys.insert(key.id.clone(), key);
        }
        Ok(inventory)
    }

    async fn load_adopted_use(
        &mut self,
        organization: i64,
        run_id: i64,
    ) -> Result<AdoptedUse, Error> {
        let rows: Vec<(String, i64, Option<String>)> = sqlx::query_as(
            "select j.value ->> 0, r.last_event_id, j.value ->> 1
             from notices n join runs r on r.run_id = n.run_id, json_each(n.changes) j
             where r.organization = ?1 and n.run_id <= ?2 and n.field = 'last_used_at'
             order by n.notice_id",
        )
        .bind(organization)
        .bind(run_id)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        Ok(rows.into_iter().map(|(id, event_id, value)| (id, (event_id, value))).collect())
    }
}

fn parse(row: &str, adopted: &AdoptedUse) -> Result<StoredKey, Error> {
    let (mut key, used): (StoredKey, Option<Use>) = serde_json::from_str(row).map_err(|_| {
        Error::Inconsistent { table: "key_versions", column: "other", row: row.to_owned() }
    })?;
    let (event_id, value) = used.unwrap_or_default();
    key.last_used_at = match adopted.get(&key.key_id) {
        Some((last_event_id, value)) if *last_event_id >= event_id => {
            let time = value.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
            time.map(Timestamp::unix)
        }
        // Whoever edits the file may write a time as the view shows it.
        _ => value.as_i64().or_else(|| Some(value.as_str()?.parse::<Timestamp>().ok()?.unix())),
    };
    Ok(key)
}
