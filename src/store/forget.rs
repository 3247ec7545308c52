//! Forgetting a person: names and addresses are erased for good, their seals stay, and the act is a link of
//! the chain.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

use super::Writer;
use super::adopt::chain_on;
use super::attributed::{erase_actor, find_in_attributions};
use super::chain::{append_act, load_forgotten};
use super::error::Error;
use super::evidence::{load_acts, load_erased, load_notices, stream_events, unreadable};
use super::guards::{self, FORGETTING};
use super::keyframe::{load_keyframe, newest_prunings};
use crate::audit::{
    ActKind, Content, ERASED, Erased, EventRecord, Placed, Salt, Seal, Sealer, is_personal,
};
use crate::clock::Timestamp;

/// What came of a request to forget somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgetting {
    /// So many values were erased.
    Done { places: u64 },
    /// It was done before.
    Before,
    /// Nobody of this id was ever seen, as an owner or as who did something.
    Unknown,
}

/// A person, by an id in one organization.
pub(super) struct Person<'a> {
    pub(super) organization: i64,
    name: &'a str,
    pub(super) owner_id: &'a str,
    /// `None`: nothing is sealed that could be erased.
    salt: Option<Salt>,
}

/// A value that goes, and the seal that stays.
pub(super) struct Place {
    /// `event`, `notice`, `keyframe` or `attribution`.
    pub(super) table: &'static str,
    pub(super) id: i64,
    pub(super) key_id: Option<String>,
    pub(super) side: Option<&'static str>,
    pub(super) field: String,
    pub(super) seal: Seal,
}

impl Writer {
    /// Erases what is known of a person in an organization, in one transaction. The bytes in the files are
    /// gone after [`Writer::scrub`].
    pub async fn forget(
        &mut self,
        organization: &str,
        owner_id: &str,
        now: Timestamp,
        actor: &str,
    ) -> Result<Forgetting, Error> {
        let forgotten = self.forget_in_transaction(organization, owner_id, now, actor).await;
        match forgotten {
            Ok(forgotten) => Ok(forgotten),
            Err(source) => {
                let error = self.failed(source);
                self.reconnect().await;
                Err(error)
            }
        }
    }

    async fn forget_in_transaction(
        &mut self,
        name: &str,
        owner_id: &str,
        now: Timestamp,
        actor: &str,
    ) -> Result<Forgetting, sqlx::Error> {
        sqlx::raw_sql("pragma secure_delete = on").execute(&mut self.connection).await?;
        let mut transaction = self.connection.begin_with("begin immediate").await?;
        let known: Option<(i64, Option<Vec<u8>>)> = sqlx::query_as(
            "select w.organization, max(w.salt) from (
                 select organization, id, salt from owners
                 union all select organization, id, salt from actors) w
             join organizations o on o.organization = w.organization
             where o.name = ?1 and w.id = ?2 and w.id <> '' group by 1",
        )
        .bind(name)
        .bind(owner_id)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some((organization, salt)) = known else { return Ok(Forgetting::Unknown) };
        if load_forgotten(&mut transaction, organization).await?.contains_key(owner_id) {
            return Ok(Forgetting::Before);
        }
        let mut head = chain_on(&mut transaction, organization, now).await?;
        let salt = salt.and_then(|salt| salt.try_into().ok()).map(Salt);
        let person = Person { organization, name, owner_id, salt };
        let erased = load_erased(&mut transaction).await?;
        let mut places = find_in_events(&mut transaction, &person, &erased).await?;
        places.extend(find_in_notices(&mut transaction, &person, &erased).await?);
        places.extend(find_in_keyframe(&mut transaction, &person, &erased).await?);
        places.extend(find_in_attributions(&mut transaction, &person, &erased).await?);
        let detail = json!({ "owner_id": owner_id, "places": places.len() }).to_string();
        let kind = ActKind::Forgotten;
        let act_id =
            append_act(&mut transaction, organization, &mut head, kind, now, actor, &detail)
                .await?;
        guards::lift(&mut transaction, &FORGETTING).await?;
        for place in &places {
            keep_seal(&mut transaction, act_id, place).await?;
        }
        erase_in_events(&mut transaction, &places).await?;
        erase_in_notices(&mut transaction, &places).await?;
        erase_owner(&mut transaction, &person).await?;
        erase_actor(&mut transaction, &person).await?;
        guards::put_back(&mut transaction, &FORGETTING).await?;
        transaction.commit().await?;
        Ok(Forgetting::Done { places: places.len() as u64 })
    }
}

/// Values in events: whole keys of the person's, and either side of a change.
async fn find_in_events(
    connection: &mut SqliteConnection,
    person: &Person<'_>,
    erased: &Erased,
) -> Result<Vec<Place>, sqlx::Error> {
    // A changed key may have been the person's before: its next version too.
    let ids: Vec<i64> = sqlx::query_scalar(
        "with theirs as (
             select v.key, v.version from owners w join key_versions v on v.owner = w.owner
             where w.organization = ?1 and w.id = ?2)
         select a.event_id from audit a
         where a.event <> 'used' and a.version in (
             select version from theirs
             union select (select min(n.version) from key_versions n
                           where n.key = t.key and n.version > t.version) from theirs t)
         order by a.event_id",
    )
    .bind(person.organization)
    .bind(person.owner_id)
    .fetch_all(&mut *connection)
    .await?;
    let mut places = Vec::new();
    for id in ids {
        let each = |event| places.extend(person.places_in(&event));
        stream_events(connection, None, (id, id), erased, each).await?;
    }
    Ok(places)
}

impl Person<'_> {
    pub(super) fn is_theirs(&self, salt: Option<Salt>) -> bool {
        salt.is_some() && salt == self.salt
    }

    fn places_in(&self, event: &EventRecord) -> Vec<Place> {
        let place = |side, (field, seal)| Place {
            table: "event",
            id: event.event_id,
            key_id: None,
            side: Some(side),
            field,
            seal,
        };
        event.with_event(|shown| {
            let seals = |placed: Placed<'_>, salt| {
                if self.is_theirs(salt) {
                    placed.seals(event.field.as_deref())
                } else {
                    <_>::default()
                }
            };
            let old = seals(shown.old, event.old_salt).into_iter().map(|seal| place("old", seal));
            let new = seals(shown.new, event.new_salt).into_iter().map(|seal| place("new", seal));
            old.chain(new).collect()
        })
    }
}

async fn find_in_notices(
    connection: &mut SqliteConnection,
    person: &Person<'_>,
    erased: &Erased,
) -> Result<Vec<Place>, sqlx::Error> {
    let runs: Vec<i64> = sqlx::query_scalar(
        "select distinct n.run_id from notices n, json_each(n.changes) j
         join owners w on w.owner = j.value ->> 2
         where w.organization = ?1 and w.id = ?2 order by 1",
    )
    .bind(person.organization)
    .bind(person.owner_id)
    .fetch_all(&mut *connection)
    .await?;
    let mut places = Vec::new();
    for run_id in runs {
        for (_, notice) in load_notices(connection, (run_id - 1, run_id), erased).await? {
            for change in notice.changes.iter().filter(|change| person.is_theirs(change.salt)) {
                let sealer = Sealer { salt: change.salt, erased: Some(&change.erased) };
                let value = change.value.as_deref().map_or(Value::Null, Value::from);
                places.extend(sealer.seal(&notice.field, &value).map(|seal| Place {
                    table: "notice",
                    id: notice.notice_id,
                    key_id: Some(change.key_id.clone()),
                    side: None,
                    field: notice.field.clone(),
                    seal,
                }));
            }
        }
    }
    Ok(places)
}

async fn find_in_keyframe(
    connection: &mut SqliteConnection,
    person: &Person<'_>,
    erased: &Erased,
) -> Result<Vec<Place>, sqlx::Error> {
    let prunings = newest_prunings(&load_acts(connection).await?);
    let Some(pruning) = prunings.get(person.name) else { return Ok(Vec::new()) };
    let run_id = pruning.horizons.newest();
    let mut places = Vec::new();
    for key in load_keyframe(connection, person.name, run_id, erased).await? {
        if !person.is_theirs(key.salt) {
            continue;
        }
        let json = key.record.key.to_json();
        let seals = Placed { content: Content::Json(&json), sealer: key.sealer() }.seals(None);
        places.extend(seals.into_iter().map(|(field, seal)| Place {
            table: "keyframe",
            id: run_id,
            key_id: Some(key.record.key.id.to_string()),
            side: None,
            field,
            seal,
        }));
    }
    Ok(places)
}

async fn keep_seal(
    connection: &mut SqliteConnection,
    act_id: i64,
    place: &Place,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into erased (act_id, place, id, key_id, side, field, seal)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(act_id)
    .bind(place.table)
    .bind(place.id)
    .bind(&place.key_id)
    .bind(place.side)
    .bind(&place.field)
    .bind(&place.seal.0[..])
    .execute(connection)
    .await
    .map(drop)
}

/// Whole keys are composed from the rows of owners: only changes hold values of their own.
async fn erase_in_events(
    connection: &mut SqliteConnection,
    places: &[Place],
) -> Result<(), sqlx::Error> {
    for place in places.iter().filter(|place| place.table == "event") {
        sqlx::query(
            "update audit set old_value = iif(?2 = 'old', ?3, old_value),
                 new_value = iif(?2 = 'new', ?3, new_value)
             where event_id = ?1 and event = 'changed'",
        )
        .bind(place.id)
        .bind(place.side)
        .bind(ERASED)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn erase_in_notices(
    connection: &mut SqliteConnection,
    places: &[Place],
) -> Result<(), sqlx::Error> {
    let mut keys_of: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
    for place in places.iter().filter(|place| place.table == "notice") {
        keys_of.entry(place.id).or_default().extend(place.key_id.as_deref());
    }
    for (notice_id, keys) in keys_of {
        let changes: String =
            sqlx::query_scalar("select changes from notices where notice_id = ?1")
                .bind(notice_id)
                .fetch_one(&mut *connection)
                .await?;
        let mut changes: Vec<Vec<Value>> =
            serde_json::from_str(&changes).map_err(|_| unreadable("a notice"))?;
        for change in &mut changes {
            let is_theirs =
                change.first().and_then(Value::as_str).is_some_and(|key_id| keys.contains(key_id));
            if let Some(value) = change.get_mut(1).filter(|_| is_theirs) {
                *value = Value::from(ERASED);
            }
        }
        sqlx::query("update notices set changes = ?2 where notice_id = ?1")
            .bind(notice_id)
            .bind(json!(changes).to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn erase_owner(
    connection: &mut SqliteConnection,
    person: &Person<'_>,
) -> Result<(), sqlx::Error> {
    let rows: Vec<(i64, Option<String>)> =
        sqlx::query_as("select owner, other from owners where organization = ?1 and id = ?2")
            .bind(person.organization)
            .bind(person.owner_id)
            .fetch_all(&mut *connection)
            .await?;
    for (owner, other) in rows {
        let other = other.map(|other| {
            let mut members: serde_json::Map<String, Value> =
                serde_json::from_str(&other).unwrap_or_default();
            let personal = members.iter_mut().filter(|(path, _)| is_personal(path));
            personal.for_each(|(_, value)| *value = Value::from(ERASED));
            Value::Object(members).to_string()
        });
        sqlx::query(
            "update owners set name = iif(name is null, null, ?2), other = ?3, salt = null where owner = ?1",
        )
        .bind(owner)
        .bind(ERASED)
        .bind(other)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
