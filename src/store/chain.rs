//! The chain as it is written: each run becomes a link inside its own transaction.

use std::collections::{BTreeMap, HashMap};

use ring::rand::{SecureRandom, SystemRandom};
use sqlx::SqliteConnection;

use super::write::json;
use crate::audit::{
    Act, ActKind, Content, Digest, Event, NoticeItem, Part, PartDigest, PartHasher, Placed, Salt,
    Sealer,
};
use crate::clock::Timestamp;

/// Where an organization's next link goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) origin: String,
    pub(super) previous: Option<Digest>,
    /// The organization's newest run; 0 if there is none.
    pub(super) run_id: i64,
}

/// The end of an organization's chain. A history from before there was a chain is to be adopted first.
pub(super) async fn load_head(
    connection: &mut SqliteConnection,
    organization: i64,
) -> Result<(Head, bool), sqlx::Error> {
    let origin: Option<String> =
        sqlx::query_scalar("select origin from organizations where organization = ?1")
            .bind(organization)
            .fetch_one(&mut *connection)
            .await?;
    let run: Option<(i64, Option<Vec<u8>>)> = sqlx::query_as(
        "select run_id, digest from runs where organization = ?1 order by run_id desc limit 1",
    )
    .bind(organization)
    .fetch_optional(&mut *connection)
    .await?;
    let (run_id, run_digest) = run.unwrap_or_default();
    let act: Option<Vec<u8>> = sqlx::query_scalar(
        "select digest from acts where organization = ?1 and after_run_id = ?2
         order by act_id desc limit 1",
    )
    .bind(organization)
    .bind(run_id)
    .fetch_optional(&mut *connection)
    .await?;
    let previous = act.or(run_digest).as_deref().and_then(Digest::from_slice);
    let is_unchained = run_id > 0 && previous.is_none();
    Ok((Head { origin: origin.unwrap_or_default(), previous, run_id }, is_unchained))
}

/// Appends an act as a link behind `head`, and moves `head` on.
pub(super) async fn append_act(
    connection: &mut SqliteConnection,
    organization: i64,
    head: &mut Head,
    kind: ActKind,
    acted_at: Timestamp,
    actor: &str,
    detail: &str,
) -> Result<i64, sqlx::Error> {
    let act_id: i64 = sqlx::query_scalar("select ifnull(max(act_id), 0) + 1 from acts")
        .fetch_one(&mut *connection)
        .await?;
    let digest = Act {
        origin: &head.origin,
        act_id,
        after_run_id: head.run_id,
        kind: kind.as_str(),
        acted_at: &acted_at.to_string(),
        actor,
        detail,
    }
    .digest(head.previous);
    sqlx::query(
        "insert into acts (act_id, organization, after_run_id, kind, acted_at, actor, detail, digest)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(act_id)
    .bind(organization)
    .bind(head.run_id)
    .bind(kind.as_str())
    .bind(acted_at.unix())
    .bind(actor)
    .bind(detail)
    .bind(&digest.0[..])
    .execute(connection)
    .await?;
    head.previous = Some(digest);
    Ok(act_id)
}

/// Writes the digests of a run's parts.
pub(super) async fn write_parts(
    connection: &mut SqliteConnection,
    run_id: i64,
    parts: &[PartDigest],
) -> Result<(), sqlx::Error> {
    for PartDigest { part, items, digest } in parts {
        sqlx::query("insert into parts (run_id, part, items, digest) values (?1, ?2, ?3, ?4)")
            .bind(run_id)
            .bind(part.as_str())
            .bind(i64::try_from(*items).unwrap_or(i64::MAX))
            .bind(&digest.0[..])
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Hashes what a run tells, as it is told.
#[derive(Debug)]
pub(super) struct Witness {
    run_id: i64,
    observed_at: String,
    previous_observed_at: Option<String>,
    events: PartHasher,
    used: PartHasher,
    notices: PartHasher,
}

/// What an event tells of a key.
pub(super) struct Told<'a> {
    pub(super) event_id: i64,
    pub(super) scope: &'a str,
    pub(super) key_id: &'a str,
    pub(super) key_name: Option<&'a str>,
    pub(super) event: &'a str,
    pub(super) field: Option<&'a str>,
    pub(super) old: Placed<'a>,
    pub(super) new: Placed<'a>,
}

impl Witness {
    pub(super) fn new(
        run_id: i64,
        observed_at: Timestamp,
        previous_observed_at: Option<Timestamp>,
    ) -> Self {
        Self {
            run_id,
            observed_at: observed_at.to_string(),
            previous_observed_at: previous_observed_at.map(|time| time.to_string()),
            events: PartHasher::new(Part::Events),
            used: PartHasher::new(Part::Used),
            notices: PartHasher::new(Part::Notices),
        }
    }

    pub(super) fn event(&mut self, told: &Told<'_>) {
        let event = Event {
            event_id: told.event_id,
            run_id: self.run_id,
            observed_at: &self.observed_at,
            previous_observed_at: self
                .previous_observed_at
                .as_deref()
                .filter(|_| told.event != "baseline"),
            scope: told.scope,
            key_id: told.key_id,
            key_name: told.key_name,
            event: told.event,
            field: told.field,
            old: told.old,
            new: told.new,
        };
        match Part::of_event(told.event) {
            Part::Used => self.used.event(&event),
            _ => self.events.event(&event),
        }
    }

    pub(super) fn notice(
        &mut self,
        notice_id: i64,
        kind: &str,
        field: &str,
        changes: &[(&str, Option<&str>, Sealer<'_>)],
    ) {
        self.notices.notice(&NoticeItem { notice_id, run_id: self.run_id, kind, field, changes });
    }

    pub(super) fn finish(self) -> Vec<PartDigest> {
        [self.events, self.used, self.notices].into_iter().filter_map(PartHasher::finish).collect()
    }
}

/// One side of an event.
pub(super) fn placed(content: Content<'_>, salt: Option<Salt>) -> Placed<'_> {
    Placed { content, sealer: Sealer { salt, erased: None } }
}

/// The salts of an organization's owners and of those who acted, by their ids; without an id they share one.
#[derive(Debug)]
pub(super) struct Salts {
    /// `None`: forgotten.
    known: HashMap<String, Option<Salt>>,
    random: SystemRandom,
}

impl Salts {
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        organization: i64,
        owner_ids: &impl serde::Serialize,
    ) -> Result<Self, sqlx::Error> {
        let forgotten = load_forgotten(connection, organization).await?;
        let known = forgotten.into_keys().map(|id| (id, None)).collect();
        let mut salts = Self { known, random: SystemRandom::new() };
        salts.learn(connection, organization, owner_ids).await?;
        Ok(salts)
    }

    /// Looks up more of them, before any of these is asked for.
    pub(super) async fn learn(
        &mut self,
        connection: &mut SqliteConnection,
        organization: i64,
        owner_ids: &impl serde::Serialize,
    ) -> Result<(), sqlx::Error> {
        let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
            "select j.value, coalesce(
                 (select max(w.salt) from owners w
                  where w.organization = ?1 and ifnull(w.id, '') = j.value),
                 (select max(p.salt) from actors p
                  where p.organization = ?1 and ifnull(p.id, '') = j.value)) as salt
             from json_each(?2) j where salt is not null",
        )
        .bind(organization)
        .bind(json(owner_ids))
        .fetch_all(&mut *connection)
        .await?;
        for (id, salt) in rows {
            // Who was forgotten stays it.
            self.known.entry(id).or_insert_with(|| salt.try_into().ok().map(Salt));
        }
        Ok(())
    }

    /// The salt of an owner; a new one for a new owner, none for one who was forgotten.
    pub(super) fn of(&mut self, owner_id: Option<&str>) -> Result<Option<Salt>, sqlx::Error> {
        let owner_id = owner_id.unwrap_or_default();
        if let Some(salt) = self.known.get(owner_id) {
            return Ok(*salt);
        }
        let mut bytes = [0; 16];
        let filled = self.random.fill(&mut bytes);
        filled.map_err(|_| {
            sqlx::Error::Io(std::io::Error::other("the system gives no random numbers"))
        })?;
        let salt = Some(Salt(bytes));
        self.known.insert(owner_id.to_owned(), salt);
        Ok(salt)
    }
}

/// The owners of an organization who were forgotten, and the acts that did it.
pub(super) async fn load_forgotten(
    connection: &mut SqliteConnection,
    organization: i64,
) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select detail ->> 'owner_id', act_id from acts
         where organization = ?1 and kind = 'forgotten'",
    )
    .bind(organization)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}
