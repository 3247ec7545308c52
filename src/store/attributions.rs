//! Who did it: attributions as they are planned and written, in the transaction of the run that attaches them.

use std::collections::{BTreeSet, HashMap, HashSet};

use data_encoding::HEXLOWER;
use serde_json::json;
use sqlx::SqliteConnection;

use super::Writer;
use super::chain::Salts;
use super::changes::Attachable;
use super::error::Error;
use super::record::Numbers;
use super::rows::row;
use super::snapshot::last_ok_run;
use super::write::{CHUNK, json};
use crate::audit::{AttributionItem, Part, PartDigest, PartHasher, Salt, Sealer};
use crate::clock::Timestamp;
use crate::inventory::{Actor, Attributable, Attribution, EventKind, KeyId};

/// How it is with an audit log that gives nothing: a row in `unavailable`, so that it is said once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The credential does not get it.
    Refused,
    /// It cannot be read, for whatever other reason.
    Failing,
    /// It was asked and had no entry; it may come yet.
    Waiting,
    /// It had none in time, and that was said.
    Empty,
}

impl Silence {
    pub const ALL: [Self; 4] = [Self::Refused, Self::Failing, Self::Waiting, Self::Empty];

    /// How `unavailable` names it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "audit_logs",
            Self::Failing => "audit_logs.failing",
            Self::Waiting => "audit_logs.waiting",
            Self::Empty => "audit_logs.empty",
        }
    }
}

/// What a run found out of who did it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributed {
    pub attributions: Vec<Attribution>,
    /// What is so now, and what is no longer. Of the others, nothing is known.
    pub silences: Vec<(Silence, bool)>,
}

/// What a run needs to know before it asks who did it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unattributed {
    /// When the last `ok` run began.
    pub previous_started_at: Option<Timestamp>,
    /// Events that were observed lately, as far as the log may explain them.
    pub recent: Vec<Attributable>,
    /// What holds of the log, and so was said if it is to be.
    pub silences: Vec<Silence>,
    /// The end of the run that first got no entry, where there never was one.
    pub waiting_since: Option<Timestamp>,
    /// Whether anything that it had is attached to an event.
    pub gave_entries: bool,
}

row! {
    struct Recent {
        event_id: i64,
        key_id: String,
        event: String,
        field: Option<String>,
        after: Option<i64>,
        observed_at: i64,
        attributed: bool,
    }
}

impl Recent {
    fn read(self) -> Option<Attributable> {
        let event = Attributable {
            event_id: Some(self.event_id),
            key_id: KeyId::new(&self.key_id)?,
            kind: EventKind::parse(&self.event)?,
            field: self.field,
            after: Timestamp::from_unix(self.after?)?,
            observed_at: Timestamp::from_unix(self.observed_at)?,
            attributed: self.attributed,
        };
        event.action().is_some().then_some(event)
    }
}

impl Writer {
    /// What there is to ask the audit log about, of events observed at `since` or later.
    pub async fn load_unattributed(
        &mut self,
        organization: &str,
        since: Timestamp,
    ) -> Result<Unattributed, Error> {
        let loaded = load_unattributed(&mut self.connection, organization, since).await;
        loaded.map_err(|source| self.failed(source))
    }

    /// Which entries of the audit log are attached to an event already.
    pub async fn load_attached(
        &mut self,
        organization: &str,
        log_ids: &BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, Error> {
        let rows: Vec<String> = sqlx::query_scalar(
            "select t.log_id from json_each(?2) j
             cross join attributions t on t.log_id = j.value
             join runs r on r.run_id = t.run_id
             join organizations o on o.organization = r.organization and o.name = ?1",
        )
        .bind(organization)
        .bind(json(log_ids))
        .fetch_all(&mut self.connection)
        .await
        .map_err(|source| self.failed(source))?;
        Ok(rows.into_iter().collect())
    }
}

async fn load_unattributed(
    connection: &mut SqliteConnection,
    name: &str,
    since: Timestamp,
) -> Result<Unattributed, sqlx::Error> {
    let organization: Option<i64> =
        sqlx::query_scalar("select organization from organizations where name = ?1")
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(organization) = organization else { return Ok(Unattributed::default()) };
    let previous = last_ok_run(connection, organization).await?;
    let silences: Vec<(String, i64)> = sqlx::query_as(
        "select u.what, r.finished_at from unavailable u join runs r on r.run_id = u.since_run
         where u.organization = ?1",
    )
    .bind(organization)
    .fetch_all(&mut *connection)
    .await?;
    let since_when = |silence: Silence| {
        let row = silences.iter().find(|(what, _)| what == silence.as_str());
        row.and_then(|(_, at)| Timestamp::from_unix(*at))
    };
    let gave_entries: bool =
        sqlx::query_scalar("select exists (select 1 from actors where organization = ?1)")
            .bind(organization)
            .fetch_one(&mut *connection)
            .await?;
    // By the index of everything but `used` events, of which a day can have very many.
    let recent: Vec<Recent> = sqlx::query_as(
        "select a.event_id, k.key_id, a.event, a.field, r.previous_started_at as after,
                r.finished_at as observed_at,
                exists (select 1 from attributions t where t.event_id = a.event_id) as attributed
         from audit a
         join runs r on r.run_id = a.run_id
         join key_versions v on v.version = a.version
         join keys k on k.key = v.key
         where a.event <> 'used' and a.event in ('added', 'removed', 'restored', 'changed')
           and a.event_id > ifnull((select last_event_id from runs where finished_at < ?2
                                    order by finished_at desc, run_id desc limit 1), 0)
           and r.organization = ?1
         order by a.event_id",
    )
    .bind(organization)
    .bind(since.unix())
    .fetch_all(connection)
    .await?;
    Ok(Unattributed {
        previous_started_at: previous.and_then(|(_, at)| Timestamp::from_unix(at)),
        recent: recent.into_iter().filter_map(Recent::read).collect(),
        silences: Silence::ALL.into_iter().filter(|it| since_when(*it).is_some()).collect(),
        waiting_since: since_when(Silence::Waiting),
        gave_entries,
    })
}

/// The columns of one state of an actor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ActorState {
    kind: Option<String>,
    id: Option<String>,
    email: Option<String>,
    key_id: Option<String>,
}

/// What a run attaches, as rows.
#[derive(Default)]
pub(super) struct AttributionRows<'a> {
    actors: Vec<(i64, ActorState, Option<Salt>)>,
    rows: Vec<Row<'a>>,
    silences: &'a [(Silence, bool)],
    pub(super) part: Option<PartDigest>,
}

struct Row<'a> {
    attribution_id: i64,
    event_id: i64,
    actor: i64,
    of: &'a Attribution,
    ip_address: Option<&'a str>,
    scopes: Option<String>,
}

/// The ids of those who acted; an empty one for those without.
pub(super) fn actor_ids(attributed: &Attributed) -> impl Iterator<Item = &str> {
    attributed.attributions.iter().map(|of| id_of(&of.entry.actor))
}

fn id_of(actor: &Actor) -> &str {
    actor.id().map(AsRef::as_ref).unwrap_or_default()
}

/// Works out the rows of attributions, `events` being those of the run. Writes nothing.
pub(super) async fn plan_attributions<'a>(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    events: &[Attachable],
    attributed: &'a Attributed,
    salts: &mut Salts,
) -> Result<AttributionRows<'a>, sqlx::Error> {
    let silences = attributed.silences.as_slice();
    let mut planned = AttributionRows { silences, ..AttributionRows::default() };
    if attributed.attributions.is_empty() {
        return Ok(planned);
    }
    let mut sorted = number_events(events, &attributed.attributions);
    sorted.sort_by_key(|(event_id, of)| (*event_id, of.entry.happened_at, &of.entry.log_id));
    let (mut attribution_id, mut next_actor) = load_numbers(connection).await?;
    let mut actors = load_actors(connection, numbers.organization, attributed).await?;
    let mut hasher = PartHasher::new(Part::Attributions);
    for (event_id, of) in sorted {
        let actor = &of.entry.actor;
        let salt = salts.of(actor.id().map(AsRef::as_ref))?;
        // Of a person who was forgotten, no address is kept again; nor of one without an id, whom nobody could
        // ever forget.
        let is_kept = salt.is_some() && actor.id().is_some();
        let known = |text: &'a Option<std::sync::Arc<str>>| text.as_deref().filter(|_| is_kept);
        let (email, ip_address) = (known(&actor.email), known(&actor.ip_address));
        let state = ActorState {
            kind: actor.shown_type().map(str::to_owned),
            id: actor.id().map(ToString::to_string),
            email: email.map(str::to_owned),
            key_id: actor.key_id.as_deref().map(str::to_owned),
        };
        let scopes = of.entry.scopes.as_ref().map(|scopes| json!(scopes).to_string());
        hasher.attribution(&AttributionItem {
            attribution_id,
            run_id: numbers.run_id,
            event_id,
            log_id: &of.entry.log_id,
            action: of.entry.action.event_type(),
            acted_at: &of.entry.happened_at.to_string(),
            actor_type: state.kind.as_deref(),
            actor_id: state.id.as_deref(),
            actor_email: email,
            actor_key_id: state.key_id.as_deref(),
            actor_ip_address: ip_address,
            actor_scopes: scopes.as_deref(),
            sealer: Sealer { salt, erased: None },
        });
        let actor = *actors.entry(state).or_insert_with_key(|state| {
            planned.actors.push((next_actor, state.clone(), salt));
            next_actor += 1;
            next_actor - 1
        });
        planned.rows.push(Row { attribution_id, event_id, actor, of, ip_address, scopes });
        attribution_id += 1;
    }
    planned.part = hasher.finish();
    Ok(planned)
}

/// Each attribution with the number of its event. The events of the run have theirs only now.
fn number_events<'a>(
    events: &[Attachable],
    attributions: &'a [Attribution],
) -> Vec<(i64, &'a Attribution)> {
    let new = attributions.iter().filter(|of| of.event.event_id.is_none());
    let keys: HashSet<&str> = new.map(|of| of.event.key_id.as_str()).collect();
    let told = events.iter().filter(|event| keys.contains(event.key_id.as_str()));
    let numbers: HashMap<(&str, &str, Option<&str>), i64> = told
        .map(|event| ((event.key_id.as_str(), event.event, event.field.as_deref()), event.event_id))
        .collect();
    let number = |of: &'a Attribution| {
        let event = &of.event;
        let named = (event.key_id.as_str(), event.kind.as_str(), event.field.as_deref());
        Some((event.event_id.or_else(|| numbers.get(&named).copied())?, of))
    };
    attributions.iter().filter_map(number).collect()
}

/// The next numbers of attributions and of actors. The newest ones may be pruned: no number comes twice.
async fn load_numbers(connection: &mut SqliteConnection) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as(
        "select max((select ifnull(max(attribution_id), 0) from attributions),
                    ifnull((select detail ->> 'last_attribution_id' from acts where kind = 'pruned'
                            order by act_id desc limit 1), 0)) + 1,
                (select ifnull(max(actor), 0) from actors) + 1",
    )
    .fetch_one(connection)
    .await
}

/// The states of those who acted that are there already.
async fn load_actors(
    connection: &mut SqliteConnection,
    organization: i64,
    attributed: &Attributed,
) -> Result<HashMap<ActorState, i64>, sqlx::Error> {
    type State = (i64, Option<String>, Option<String>, Option<String>, Option<String>);
    let ids: BTreeSet<&str> = actor_ids(attributed).collect();
    let rows: Vec<State> = sqlx::query_as(
        "select p.actor, p.type, p.id, p.email, p.key_id from json_each(?2) j
         cross join actors p on p.organization = ?1 and ifnull(p.id, '') = j.value",
    )
    .bind(organization)
    .bind(json(&ids))
    .fetch_all(connection)
    .await?;
    let state =
        |(actor, kind, id, email, key_id): State| (ActorState { kind, id, email, key_id }, actor);
    Ok(rows.into_iter().map(state).collect())
}

/// Writes what was planned. The row of the run must be there.
pub(super) async fn write_attributions(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    planned: &AttributionRows<'_>,
) -> Result<(), sqlx::Error> {
    for chunk in planned.actors.chunks(CHUNK) {
        let hex = |salt: &Option<Salt>| salt.map(|salt| HEXLOWER.encode(&salt.0));
        let rows: Vec<_> = chunk
            .iter()
            .map(|(actor, p, salt)| (actor, &p.kind, &p.id, &p.email, &p.key_id, hex(salt)))
            .collect();
        sqlx::query(
            "insert into actors (actor, organization, type, id, email, key_id, salt)
             select value ->> 0, ?2, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
                 unhex(value ->> 5) from json_each(?1)",
        )
        .bind(json(&rows))
        .bind(numbers.organization)
        .execute(&mut *connection)
        .await?;
    }
    for chunk in planned.rows.chunks(CHUNK) {
        let row = |row: &Row<'_>| {
            let entry = &row.of.entry;
            let (action, at) = (entry.action.event_type(), entry.happened_at.unix());
            json!([
                row.attribution_id,
                row.event_id,
                &*entry.log_id,
                action,
                at,
                row.actor,
                row.ip_address,
                row.scopes
            ])
        };
        let rows: Vec<_> = chunk.iter().map(row).collect();
        sqlx::query(
            "insert into attributions (attribution_id, run_id, event_id, log_id, action, acted_at, actor,
                 ip_address, scopes)
             select value ->> 0, ?2, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                 value ->> 6, value ->> 7 from json_each(?1)",
        )
        .bind(json(&rows))
        .bind(numbers.run_id)
        .execute(&mut *connection)
        .await?;
    }
    remember(connection, numbers, planned.silences).await
}

/// What was said of the audit log is said once, until it is no longer so.
async fn remember(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    silences: &[(Silence, bool)],
) -> Result<(), sqlx::Error> {
    for (silence, is_so) in silences {
        let sql = if *is_so {
            "insert into unavailable (organization, what, since_run) values (?1, ?2, ?3)
             on conflict (organization, what) do nothing"
        } else {
            "delete from unavailable where organization = ?1 and what = ?2 and ?3 > 0"
        };
        let remembered = sqlx::query(sql).bind(numbers.organization).bind(silence.as_str());
        remembered.bind(numbers.run_id).execute(&mut *connection).await?;
    }
    Ok(())
}
