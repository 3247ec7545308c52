//! Writing down a run: all of it in one transaction, or nothing.

use std::collections::{BTreeSet, HashMap};

use sqlx::{Connection, SqliteConnection};

use super::Writer;
use super::error::Error;
use super::lock::{Owed, RunNote};
use super::rows::{OwnerState, own_other};
use super::snapshot::ids_json;
use crate::clock::Timestamp;
use crate::inventory::{
    Alteration, Appearance, Changes, Column, EventKind, FieldChange, Key, KeyId, Notice,
};
use crate::run::{EventCounts, Status, Tally, Trigger};

/// Rows that go into one statement: enough to make its cost vanish, few enough to keep the text small.
const CHUNK: usize = 2_000;

/// What there is to record of a run, however it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDraft {
    pub organization: String,
    pub trigger: Trigger,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// A random number that names the run.
    pub token: i64,
    pub tally: Tally,
    /// What is worth knowing and no drift.
    pub notices: Vec<String>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome<'a> {
    Ok {
        changes: &'a Changes,
        header: Option<&'a str>,
    },
    Failed {
        error: &'a str,
        withheld: Option<&'a Withholding>,
    },
    Held {
        error: &'a str,
        withheld: &'a Withholding,
    },
}

/// What a held or refused run leaves to be accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withholding {
    pub missing: Vec<KeyId>,
    /// The `openai-organization` header (or none) of answers that seemed to be another organization's.
    pub stranger: Option<Option<String>>,
}

/// A run as it stands in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub run_id: i64,
    pub finished_at: Timestamp,
    pub counts: EventCounts,
    /// Keys in the inventory after the run.
    pub keys_after: u64,
    pub notice: Option<String>,
}

/// Where the numbering of this run's rows begins.
struct Numbers {
    organization: i64,
    run_id: i64,
    event_id: i64,
    notice_id: i64,
    key: i64,
    version: i64,
    owner: i64,
    keys_present: i64,
    last_finished_at: i64,
    previous: Option<(i64, i64)>,
}

impl Writer {
    /// Notes that a run begins, so that it is known of if this process is killed.
    pub fn begin_run(&mut self, note: &RunNote) -> Result<(), Error> {
        self.lock.write_note(Some(note))
    }

    /// Records a run in one transaction. On an error nothing is written, and the run stays owed.
    pub async fn record_run(
        &mut self,
        draft: &RunDraft,
        outcome: &Outcome<'_>,
    ) -> Result<Recorded, Error> {
        let recorded = self
            .record(draft, outcome)
            .await
            .map_err(|source| self.failed(source))?;
        // The run stands. If we die here, the note's token tells the next writer so.
        self.lock.write_note(None)?;
        Ok(recorded)
    }

    /// Leaves a note of a run whose row could not be written, for the next writer to record.
    pub fn owe_run(&mut self, draft: &RunDraft, status: Status, error: &str) -> Result<(), Error> {
        const LONGEST_CHARS: usize = 500;
        let note = RunNote {
            organization: draft.organization.clone(),
            trigger: draft.trigger,
            started_at: draft.started_at.unix(),
            token: draft.token,
            owed: Some(Owed {
                status,
                finished_at: draft.finished_at.unix(),
                tally: draft.tally,
                error: error.chars().take(LONGEST_CHARS).collect(),
            }),
        };
        self.lock.write_note(Some(&note))
    }

    /// Records the run that an earlier process left without an end, if there is one: with the end it
    /// owed, or as interrupted.
    pub async fn settle_run(&mut self, now: Timestamp) -> Result<Option<RunNote>, Error> {
        let Some(note) = self.lock.leftover() else {
            self.lock.write_note(None)?;
            return Ok(None);
        };
        let known: i64 = sqlx::query_scalar("select count(*) from runs where token = ?1")
            .bind(note.token)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| self.failed(source))?;
        if known > 0 {
            // It was killed after its transaction, before the note was cleared.
            self.lock.write_note(None)?;
            return Ok(None);
        }
        let started_at = Timestamp::from_unix(note.started_at).unwrap_or(now);
        let owed = note.owed.clone().unwrap_or_else(|| Owed {
            status: Status::Failed,
            finished_at: started_at.unix(),
            tally: Tally::default(),
            error: format!("interrupted: the process ended before the run did (found at {now})"),
        });
        let draft = RunDraft {
            organization: note.organization.clone(),
            trigger: note.trigger,
            started_at,
            finished_at: Timestamp::from_unix(owed.finished_at).unwrap_or(now),
            token: note.token,
            tally: owed.tally,
            notices: Vec::new(),
        };
        let withheld = Withholding::default();
        let outcome = match owed.status {
            Status::Held => Outcome::Held {
                error: &owed.error,
                withheld: &withheld,
            },
            Status::Ok | Status::Failed => Outcome::Failed {
                error: &owed.error,
                withheld: None,
            },
        };
        self.record_run(&draft, &outcome).await?;
        Ok(Some(note))
    }

    async fn record(
        &mut self,
        draft: &RunDraft,
        outcome: &Outcome<'_>,
    ) -> Result<Recorded, sqlx::Error> {
        // Immediate: a deferred transaction that turns into a writing one fails at once when somebody
        // else writes, whatever the busy timeout says.
        let mut transaction = self.connection.begin_with("begin immediate").await?;
        let mut numbers = number(&mut transaction, &draft.organization).await?;
        let mut counts = EventCounts::default();
        if let Outcome::Ok { changes, .. } = outcome {
            counts = write_changes(&mut transaction, &mut numbers, changes).await?;
        }
        let recorded = write_run(&mut transaction, &numbers, draft, outcome, counts).await?;
        match outcome {
            Outcome::Ok { changes, header } => {
                write_organization(&mut transaction, &numbers, changes, *header).await?;
            }
            Outcome::Failed { withheld, .. } => {
                write_withheld(&mut transaction, numbers.run_id, *withheld).await?;
            }
            Outcome::Held { withheld, .. } => {
                write_withheld(&mut transaction, numbers.run_id, Some(withheld)).await?;
            }
        }
        // With `synchronous = full` the run is on the disk when this returns.
        transaction.commit().await?;
        Ok(recorded)
    }
}

async fn number(
    connection: &mut SqliteConnection,
    organization: &str,
) -> Result<Numbers, sqlx::Error> {
    sqlx::query("insert into organizations (name) values (?1) on conflict (name) do nothing")
        .bind(organization)
        .execute(&mut *connection)
        .await?;
    let organization: i64 =
        sqlx::query_scalar("select organization from organizations where name = ?1")
            .bind(organization)
            .fetch_one(&mut *connection)
            .await?;
    type Row = (i64, i64, i64, i64, i64, i64, i64, Option<i64>);
    let row: Row = sqlx::query_as(
        "select (select ifnull(max(run_id), 0) from runs) + 1,
                (select ifnull(max(event_id), 0) from audit) + 1,
                (select ifnull(max(notice_id), 0) from notices) + 1,
                (select ifnull(max(key), 0) from keys) + 1,
                (select ifnull(max(version), 0) from key_versions) + 1,
                (select ifnull(max(owner), 0) from owners) + 1,
                ifnull((select keys_after from runs where organization = ?1
                        order by run_id desc limit 1), 0),
                (select finished_at from runs order by run_id desc limit 1)",
    )
    .bind(organization)
    .fetch_one(&mut *connection)
    .await?;
    let previous: Option<(i64, i64)> = sqlx::query_as(
        "select run_id, started_at from runs
         where organization = ?1 and status = 'ok' order by run_id desc limit 1",
    )
    .bind(organization)
    .fetch_optional(connection)
    .await?;
    let (run_id, event_id, notice_id, key, version, owner, keys_present, last_finished_at) = row;
    let last_finished_at = last_finished_at.unwrap_or(i64::MIN);
    Ok(Numbers {
        organization,
        run_id,
        event_id,
        notice_id,
        key,
        version,
        owner,
        keys_present,
        last_finished_at,
        previous,
    })
}

async fn write_run(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    draft: &RunDraft,
    outcome: &Outcome<'_>,
    counts: EventCounts,
) -> Result<Recorded, sqlx::Error> {
    let (status, error) = match outcome {
        Outcome::Ok { .. } => (Status::Ok, None),
        Outcome::Failed { error, .. } => (Status::Failed, Some(*error)),
        Outcome::Held { error, .. } => (Status::Held, Some(*error)),
    };
    let mut notices = draft.notices.clone();
    let latest = numbers.last_finished_at.max(draft.started_at.unix());
    let finished_at = Timestamp::from_unix(latest).unwrap_or(draft.finished_at);
    let finished_at = finished_at.max(draft.finished_at);
    if finished_at > draft.finished_at {
        let seconds = finished_at.unix() - draft.finished_at.unix();
        notices.push(format!(
            "the clock went back by {seconds} s; the time of the run before is kept"
        ));
    }
    let notice = (!notices.is_empty()).then(|| notices.join("; "));
    let appeared = counts.baseline + counts.added + counts.restored;
    let keys_after = u64::try_from(numbers.keys_present).unwrap_or(0) + appeared - counts.removed;
    let tally = draft.tally;
    sqlx::query(
        "insert into runs (run_id, organization, token, trigger, started_at, finished_at, status,
             previous_started_at, keys_seen, keys_after, baseline, added, restored, removed, used,
             changed, unconfirmed, skipped, pages, requests, retries, last_event_id, notice, error)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
             ?20, ?21, ?22, ?23, ?24)",
    )
    .bind(numbers.run_id)
    .bind(numbers.organization)
    .bind(draft.token)
    .bind(draft.trigger.as_str())
    .bind(draft.started_at.unix())
    .bind(finished_at.unix())
    .bind(status.as_str())
    .bind(numbers.previous.map(|(_, started_at)| started_at))
    .bind(integer(tally.keys_seen))
    .bind(integer(keys_after))
    .bind(integer(counts.baseline))
    .bind(integer(counts.added))
    .bind(integer(counts.restored))
    .bind(integer(counts.removed))
    .bind(integer(counts.used))
    .bind(integer(counts.changed))
    .bind(integer(tally.unconfirmed))
    .bind(integer(tally.skipped))
    .bind(integer(tally.pages))
    .bind(integer(tally.requests))
    .bind(integer(tally.retries))
    .bind(numbers.event_id - 1)
    .bind(&notice)
    .bind(error)
    .execute(connection)
    .await?;
    Ok(Recorded {
        run_id: numbers.run_id,
        finished_at,
        counts,
        keys_after,
        notice,
    })
}

/// SQLite's integers are signed. No count comes near the limit.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

async fn write_withheld(
    connection: &mut SqliteConnection,
    run_id: i64,
    withheld: Option<&Withholding>,
) -> Result<(), sqlx::Error> {
    let Some(withheld) = withheld else {
        return Ok(());
    };
    sqlx::query("insert into withheld (run_id, missing, stranger, header) values (?1, ?2, ?3, ?4)")
        .bind(run_id)
        .bind(ids_json(&withheld.missing))
        .bind(withheld.stranger.is_some())
        .bind(withheld.stranger.as_ref().and_then(Option::as_ref))
        .execute(connection)
        .await?;
    Ok(())
}

/// What is remembered of the organization as a whole. Writes nothing if it is as it was.
async fn write_organization(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    changes: &Changes,
    header: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update organizations set header = ifnull(?2, header), own_key = j.key
         from (select (select key from keys where organization = ?1 and key_id = ?3) as key) j
         where organization = ?1 and (header is not ifnull(?2, header) or own_key is not j.key)",
    )
    .bind(numbers.organization)
    .bind(header)
    .bind(changes.own_key.as_ref().map(KeyId::as_str))
    .execute(&mut *connection)
    .await?;
    let fields: Vec<(&str, &str)> = changes
        .fields
        .iter()
        .map(|(field, sent)| (field.as_str(), sent.as_str()))
        .collect();
    let fields = json(&fields);
    sqlx::query(
        "insert into fields (organization, field, sent)
         select ?1, value ->> 0, value ->> 1 from json_each(?2) where true
         on conflict (organization, field) do update set sent = excluded.sent
         where sent <> excluded.sent",
    )
    .bind(numbers.organization)
    .bind(&fields)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "delete from fields where organization = ?1
         and field not in (select value ->> 0 from json_each(?2))",
    )
    .bind(numbers.organization)
    .bind(&fields)
    .execute(connection)
    .await?;
    Ok(())
}

/// Rows of texts and numbers as one bound value, which SQLite takes apart faster than many bound ones.
fn json(rows: &impl serde::Serialize) -> String {
    // Rows of texts and numbers can always be written.
    serde_json::to_string(rows).unwrap_or_default()
}

/// A row of the table `keys` as it was before the run.
#[derive(Clone, Copy)]
struct Stored {
    key: i64,
    version: i64,
    last_used_at: Option<i64>,
}

/// Everything that a run adds and changes, as rows.
#[derive(Default)]
struct Rows<'a> {
    owners: Vec<(i64, i64, OwnerState)>,
    new_keys: Vec<(i64, &'a str, i64, Option<i64>)>,
    moved_keys: Vec<(i64, i64, Option<i64>)>,
    versions: Vec<VersionRow<'a>>,
    events: Vec<EventRow<'a>>,
    counts: EventCounts,
}

#[derive(serde::Serialize)]
struct VersionRow<'a> {
    version: i64,
    key: i64,
    scope: &'a str,
    name: Option<&'a str>,
    redacted_value: Option<&'a str>,
    project_id: Option<&'a str>,
    project_name: Option<&'a str>,
    owner: Option<i64>,
    created_at: Option<i64>,
    expires_at: Option<i64>,
    other: Option<String>,
}

#[derive(serde::Serialize)]
struct EventRow<'a> {
    event_id: i64,
    version: i64,
    event: &'static str,
    field: Option<&'a str>,
    old: Value<'a>,
    new: Value<'a>,
}

/// What stands in the columns of any type.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Time(Option<i64>),
    Text(&'a str),
}

async fn write_changes(
    connection: &mut SqliteConnection,
    numbers: &mut Numbers,
    changes: &Changes,
) -> Result<EventCounts, sqlx::Error> {
    let returning = changes
        .appeared
        .iter()
        .filter_map(|appearance| match appearance {
            Appearance::Restored(key) => Some(&key.id),
            Appearance::Baseline(_) | Appearance::Added(_) => None,
        });
    let altered = changes.altered.iter().map(|alteration| &alteration.key.id);
    let known = ids_json(returning.chain(altered).chain(&changes.removed));
    let stored = load_stored(connection, numbers.organization, known).await?;
    let mut owners = load_owners(connection, numbers.organization, changes).await?;
    let mut rows = Rows::default();
    for appearance in &changes.appeared {
        rows.appear(numbers, &mut owners, &stored, appearance)?;
    }
    for alteration in &changes.altered {
        rows.alter(numbers, &mut owners, &stored, alteration)?;
    }
    for key_id in &changes.removed {
        let row = stored
            .get(key_id.as_str())
            .ok_or(sqlx::Error::RowNotFound)?;
        let old = Value::Time(row.last_used_at);
        rows.event(
            numbers,
            row.version,
            EventKind::Removed,
            None,
            old,
            Value::Time(None),
        );
    }
    write_rows(connection, numbers, &rows).await?;
    write_absences(connection, numbers, changes).await?;
    write_notices(connection, numbers, &changes.notices).await?;
    Ok(rows.counts)
}

async fn load_stored(
    connection: &mut SqliteConnection,
    organization: i64,
    ids: String,
) -> Result<HashMap<String, Stored>, sqlx::Error> {
    let rows: Vec<(String, i64, i64, Option<i64>)> = sqlx::query_as(
        "select k.key_id, k.key, k.version, k.last_used_at from json_each(?2) j
         join keys k on k.organization = ?1 and k.key_id = j.value",
    )
    .bind(organization)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let stored = rows.into_iter().map(|(id, key, version, last_used_at)| {
        (
            id,
            Stored {
                key,
                version,
                last_used_at,
            },
        )
    });
    Ok(stored.collect())
}

/// The states of owners that the changed keys may refer to.
async fn load_owners(
    connection: &mut SqliteConnection,
    organization: i64,
    changes: &Changes,
) -> Result<HashMap<OwnerState, i64>, sqlx::Error> {
    let altered = changes
        .altered
        .iter()
        .filter(|alteration| alteration.more_than_use);
    let appeared = changes.appeared.iter().map(Appearance::key);
    let keys = appeared.chain(altered.map(|alteration| &alteration.key));
    let ids: BTreeSet<&str> = keys
        .map(|key| key.owner_id.as_deref().unwrap_or_default())
        .collect();
    type Row = (
        i64,
        Option<String>,
        Option<String>,
        Option<String>,
        Option<String>,
        Option<String>,
    );
    let rows: Vec<Row> = sqlx::query_as(
        "select w.owner, w.type, w.id, w.name, w.role, w.other from json_each(?2) j
         join owners w on w.organization = ?1 and ifnull(w.id, '') = j.value",
    )
    .bind(organization)
    .bind(json(&ids))
    .fetch_all(connection)
    .await?;
    let shared = |text: Option<String>| text.map(std::sync::Arc::from);
    let state = |(owner, kind, id, name, role, other): Row| {
        let (kind, id, name, role) = (shared(kind), shared(id), shared(name), shared(role));
        (
            OwnerState {
                kind,
                id,
                name,
                role,
                other,
            },
            owner,
        )
    };
    Ok(rows.into_iter().map(state).collect())
}

impl<'a> Rows<'a> {
    fn appear(
        &mut self,
        numbers: &mut Numbers,
        owners: &mut HashMap<OwnerState, i64>,
        stored: &HashMap<String, Stored>,
        appearance: &'a Appearance,
    ) -> Result<(), sqlx::Error> {
        let key = appearance.key();
        let last_used_at = key.last_used_at.map(Timestamp::unix);
        let kind = match appearance {
            Appearance::Baseline(_) => EventKind::Baseline,
            Appearance::Added(_) => EventKind::Added,
            Appearance::Restored(_) => EventKind::Restored,
        };
        let version = if kind == EventKind::Restored {
            let row = stored
                .get(key.id.as_str())
                .ok_or(sqlx::Error::RowNotFound)?;
            let version = self.version(numbers, owners, row.key, key);
            self.moved_keys.push((row.key, version, last_used_at));
            version
        } else {
            let row = numbers.key;
            numbers.key += 1;
            let version = self.version(numbers, owners, row, key);
            self.new_keys
                .push((row, key.id.as_str(), version, last_used_at));
            version
        };
        self.event(
            numbers,
            version,
            kind,
            None,
            Value::Time(None),
            Value::Time(last_used_at),
        );
        Ok(())
    }

    fn alter(
        &mut self,
        numbers: &mut Numbers,
        owners: &mut HashMap<OwnerState, i64>,
        stored: &HashMap<String, Stored>,
        alteration: &'a Alteration,
    ) -> Result<(), sqlx::Error> {
        let Alteration {
            key,
            more_than_use,
            changes,
        } = alteration;
        let row = stored
            .get(key.id.as_str())
            .ok_or(sqlx::Error::RowNotFound)?;
        let version = if *more_than_use {
            self.version(numbers, owners, row.key, key)
        } else {
            row.version
        };
        self.moved_keys
            .push((row.key, version, key.last_used_at.map(Timestamp::unix)));
        for change in changes {
            let field = Some(change.field.as_str()).filter(|_| change.kind() == EventKind::Changed);
            let (old, new) = (shown(change, &change.old), shown(change, &change.new));
            self.event(numbers, version, change.kind(), field, old, new);
        }
        Ok(())
    }

    fn version(
        &mut self,
        numbers: &mut Numbers,
        owners: &mut HashMap<OwnerState, i64>,
        row: i64,
        key: &'a Key,
    ) -> i64 {
        let owner = OwnerState::of(key).map(|state| {
            *owners.entry(state).or_insert_with_key(|state| {
                let owner = numbers.owner;
                numbers.owner += 1;
                self.owners
                    .push((owner, numbers.organization, state.clone()));
                owner
            })
        });
        let version = numbers.version;
        numbers.version += 1;
        self.versions.push(VersionRow {
            version,
            key: row,
            scope: key.scope.as_str(),
            name: key.name.as_deref(),
            redacted_value: key.redacted_value.as_deref(),
            project_id: key.project_id.as_deref(),
            project_name: key.project_name.as_deref(),
            owner,
            created_at: key.created_at.map(Timestamp::unix),
            expires_at: key.expires_at.map(Timestamp::unix),
            other: own_other(key),
        });
        version
    }

    fn event(
        &mut self,
        numbers: &mut Numbers,
        version: i64,
        kind: EventKind,
        field: Option<&'a str>,
        old: Value<'a>,
        new: Value<'a>,
    ) {
        let count = match kind {
            EventKind::Baseline => &mut self.counts.baseline,
            EventKind::Added => &mut self.counts.added,
            EventKind::Removed => &mut self.counts.removed,
            EventKind::Restored => &mut self.counts.restored,
            EventKind::Used => &mut self.counts.used,
            EventKind::Changed => &mut self.counts.changed,
        };
        *count += 1;
        let event_id = numbers.event_id;
        numbers.event_id += 1;
        self.events.push(EventRow {
            event_id,
            version,
            event: kind.as_str(),
            field,
            old,
            new,
        });
    }
}

/// A value of an event as it is stored: times of `used` events as numbers.
fn shown<'a>(change: &FieldChange, value: &'a Option<String>) -> Value<'a> {
    let Some(text) = value.as_deref() else {
        return Value::Time(None);
    };
    if change.field == Column::LastUsedAt.name()
        && let Ok(time) = text.parse::<Timestamp>()
    {
        return Value::Time(Some(time.unix()));
    }
    Value::Text(text)
}

async fn write_rows(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    rows: &Rows<'_>,
) -> Result<(), sqlx::Error> {
    for chunk in rows.owners.chunks(CHUNK) {
        let owners: Vec<_> = chunk
            .iter()
            .map(|(row, organization, w)| {
                (
                    row,
                    organization,
                    &w.kind,
                    &w.id,
                    &w.name,
                    &w.role,
                    &w.other,
                )
            })
            .collect();
        let sql = "insert into owners (owner, organization, type, id, name, role, other)
             select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                 value ->> 6 from json_each(?1)";
        sqlx::query(sql)
            .bind(json(&owners))
            .execute(&mut *connection)
            .await?;
    }
    for chunk in rows.new_keys.chunks(CHUNK) {
        let sql =
            "insert into keys (key, organization, key_id, version, last_used_at, first_seen_run)
             select value ->> 0, ?2, value ->> 1, value ->> 2, value ->> 3, ?3 from json_each(?1)";
        let insert = sqlx::query(sql)
            .bind(json(&chunk))
            .bind(numbers.organization);
        insert
            .bind(numbers.run_id)
            .execute(&mut *connection)
            .await?;
    }
    for chunk in rows.moved_keys.chunks(CHUNK) {
        let sql = "update keys set version = j.version, last_used_at = j.last_used_at,
                 last_seen_run = null, removed_run = null
             from (select value ->> 0 as key, value ->> 1 as version, value ->> 2 as last_used_at
                   from json_each(?1)) j
             where keys.key = j.key";
        sqlx::query(sql)
            .bind(json(&chunk))
            .execute(&mut *connection)
            .await?;
    }
    for chunk in rows.versions.chunks(CHUNK) {
        let sql = "insert into key_versions (version, key, scope, name, redacted_value, project_id,
                 project_name, owner, created_at, expires_at, other)
             select value ->> 'version', value ->> 'key', value ->> 'scope', value ->> 'name',
                 value ->> 'redacted_value', value ->> 'project_id', value ->> 'project_name',
                 value ->> 'owner', value ->> 'created_at', value ->> 'expires_at', value ->> 'other'
             from json_each(?1)";
        sqlx::query(sql)
            .bind(json(&chunk))
            .execute(&mut *connection)
            .await?;
    }
    for chunk in rows.events.chunks(CHUNK) {
        let sql =
            "insert into audit (event_id, run_id, version, event, field, old_value, new_value)
             select value ->> 'event_id', ?2, value ->> 'version', value ->> 'event',
                 value ->> 'field', value ->> 'old', value ->> 'new' from json_each(?1)";
        let insert = sqlx::query(sql).bind(json(&chunk)).bind(numbers.run_id);
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Keys that are gone, and keys that were not seen and yet are not believed gone.
async fn write_absences(
    connection: &mut SqliteConnection,
    numbers: &Numbers,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    let last_seen = numbers.previous.map(|(run_id, _)| run_id);
    if !changes.removed.is_empty() {
        sqlx::query(
            "update keys set removed_run = ?3, last_seen_run = ifnull(last_seen_run, ?4)
             where organization = ?1 and key_id in (select value from json_each(?2))",
        )
        .bind(numbers.organization)
        .bind(ids_json(&changes.removed))
        .bind(numbers.run_id)
        .bind(last_seen)
        .execute(&mut *connection)
        .await?;
    }
    let unconfirmed = ids_json(&changes.unconfirmed);
    // Seen again.
    sqlx::query(
        "update keys set last_seen_run = null
         where organization = ?1 and last_seen_run is not null and removed_run is null
         and key_id not in (select value from json_each(?2))",
    )
    .bind(numbers.organization)
    .bind(&unconfirmed)
    .execute(&mut *connection)
    .await?;
    if !changes.unconfirmed.is_empty() {
        sqlx::query(
            "update keys set last_seen_run = ?3
             where organization = ?1 and last_seen_run is null
             and key_id in (select value from json_each(?2))",
        )
        .bind(numbers.organization)
        .bind(&unconfirmed)
        .bind(last_seen)
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn write_notices(
    connection: &mut SqliteConnection,
    numbers: &mut Numbers,
    notices: &[Notice],
) -> Result<(), sqlx::Error> {
    for notice in notices {
        let values: Vec<(&str, &Option<String>)> = notice
            .values
            .iter()
            .map(|(key_id, value)| (key_id.as_str(), value))
            .collect();
        sqlx::query(
            "insert into notices (notice_id, run_id, kind, field, changes)
             values (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(numbers.notice_id)
        .bind(numbers.run_id)
        .bind(notice.kind.as_str())
        .bind(&notice.field)
        .bind(json(&values))
        .execute(&mut *connection)
        .await?;
        numbers.notice_id += 1;
    }
    Ok(())
}
