//! The history as the views show it, in the order of recording: what digests are computed from.

use std::collections::{BTreeMap, HashMap};

use data_encoding::HEXLOWER;
use futures_util::TryStreamExt;
use sqlx::SqliteConnection;

use super::rows::row;
use crate::audit::{
    ActRecord, Digest, Erased, ErasedValue, EventRecord, NoticeChange, NoticeRecord, Part,
    PartDigest, RunRecord, Salt, Seal, put_erased,
};

/// A row that is not what it must be.
pub(super) fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} is not what it must be").into())
}

/// What is no digest fits nothing either.
fn parse_digest(text: &str) -> Digest {
    text.parse().unwrap_or(Digest([0; 32]))
}

/// What is no salt seals nothing.
pub(super) fn parse_salt(text: Option<&str>) -> Option<Salt> {
    let bytes = HEXLOWER.decode(text?.as_bytes()).ok()?;
    bytes.try_into().ok().map(Salt)
}

row! {
    #[expect(clippy::struct_field_names, reason = "they are columns of a view")]
    struct Run {
        run_id: i64,
        organization: String,
        trigger: String,
        started_at: String,
        finished_at: String,
        status: String,
        keys_seen: i64,
        baseline: i64,
        added: i64,
        restored: i64,
        removed: i64,
        used: i64,
        changed: i64,
        unconfirmed: i64,
        skipped: i64,
        pages: i64,
        requests: i64,
        retries: i64,
        notice: Option<String>,
        error: Option<String>,
        missing: Option<String>,
        deferred_until: Option<String>,
        digest: Option<String>,
    }
}

impl Run {
    fn into_record(self, parts: Vec<PartDigest>) -> RunRecord {
        RunRecord {
            run_id: self.run_id,
            organization: self.organization,
            trigger: self.trigger,
            started_at: self.started_at,
            finished_at: self.finished_at,
            status: self.status,
            counts: [
                self.keys_seen,
                self.baseline,
                self.added,
                self.restored,
                self.removed,
                self.used,
                self.changed,
                self.unconfirmed,
                self.skipped,
                self.pages,
                self.requests,
                self.retries,
            ],
            notice: self.notice,
            error: self.error,
            missing: self.missing,
            deferred_until: self.deferred_until,
            digest: self.digest.as_deref().map(parse_digest),
            parts,
        }
    }
}

/// Runs after `after` and up to `last`, at most `limit`, of one organization or all.
pub(super) async fn load_runs(
    connection: &mut SqliteConnection,
    organization: Option<&str>,
    after: i64,
    limit: i64,
    last: i64,
) -> Result<Vec<RunRecord>, sqlx::Error> {
    let runs: Vec<Run> = sqlx::query_as(
        "select run_id, organization, trigger, started_at, finished_at, status, keys_seen, baseline,
                added, restored, removed, used, changed, unconfirmed, skipped, pages, requests, retries,
                notice, error, missing, deferred_until, digest
         from run_history
         where run_id > ?1 and run_id <= ?4 and (?2 is null or organization = ?2)
         order by run_id limit ?3",
    )
    .bind(after)
    .bind(organization)
    .bind(limit)
    .bind(last)
    .fetch_all(&mut *connection)
    .await?;
    let last = runs.last().map_or(after, |run| run.run_id);
    let rows: Vec<(i64, String, i64, String)> = sqlx::query_as(
        "select run_id, part, items, digest from run_parts where run_id > ?1 and run_id <= ?2",
    )
    .bind(after)
    .bind(last)
    .fetch_all(connection)
    .await?;
    let mut parts: HashMap<i64, Vec<PartDigest>> = HashMap::new();
    for (run_id, part, items, digest) in rows {
        // What is none of a run's parts fits none.
        let part = Part::parse(&part).unwrap_or(Part::Adopted);
        let (items, digest) = (u64::try_from(items).unwrap_or(0), parse_digest(&digest));
        parts.entry(run_id).or_default().push(PartDigest { part, items, digest });
    }
    let take = |run: Run| {
        let mut parts = parts.remove(&run.run_id).unwrap_or_default();
        parts.sort_by_key(|part| part.part);
        run.into_record(parts)
    };
    Ok(runs.into_iter().map(take).collect())
}

row! {
    #[expect(clippy::struct_field_names, reason = "they are columns of a view")]
    struct Event {
        event_id: i64,
        run_id: i64,
        observed_at: String,
        previous_observed_at: Option<String>,
        organization: String,
        scope: String,
        key_id: String,
        key_name: Option<String>,
        event: String,
        field: Option<String>,
        old_value: Option<String>,
        new_value: Option<String>,
        old_salt: Option<String>,
        new_salt: Option<String>,
    }
}

impl Event {
    fn into_record(self, erased: &Erased) -> EventRecord {
        let erased = erased.get(&("event".to_owned(), self.event_id));
        let on = |side: &str| seals(erased, |value| value.side.as_deref() == Some(side));
        EventRecord {
            old_salt: parse_salt(self.old_salt.as_deref()),
            new_salt: parse_salt(self.new_salt.as_deref()),
            old_erased: on("old"),
            new_erased: on("new"),
            event_id: self.event_id,
            run_id: self.run_id,
            observed_at: self.observed_at,
            previous_observed_at: self.previous_observed_at,
            organization: self.organization,
            scope: self.scope,
            key_id: self.key_id,
            key_name: self.key_name,
            event: self.event,
            field: self.field,
            old_value: self.old_value,
            new_value: self.new_value,
        }
    }
}

pub(super) fn seals(
    erased: Option<&Vec<ErasedValue>>,
    wanted: impl Fn(&ErasedValue) -> bool,
) -> BTreeMap<String, Seal> {
    let values = erased.into_iter().flatten().filter(|value| wanted(value));
    values.map(|value| (value.field.clone(), value.seal)).collect()
}

/// Calls `each` with the events from `first` to `last`, of one organization or all. One whose values are not
/// texts is of no kind that there is.
pub(super) async fn stream_events(
    connection: &mut SqliteConnection,
    organization: Option<&str>,
    (first, last): (i64, i64),
    erased: &Erased,
    mut each: impl FnMut(EventRecord),
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query_as::<_, Event>(
        "select e.event_id, e.run_id, e.observed_at, e.previous_observed_at, e.organization, e.scope,
                e.key_id, e.key_name, iif(typeof(e.old_value) in ('text', 'null')
                    and typeof(e.new_value) in ('text', 'null'), e.event, 'unreadable') as event,
                e.field, cast(e.old_value as text) as old_value, cast(e.new_value as text) as new_value,
                s.old_salt, s.new_salt
         from audit_history e left join audit_salts s on s.event_id = e.event_id
         where e.event_id >= ?1 and e.event_id <= ?2 and (?3 is null or e.organization = ?3)
         order by e.event_id",
    )
    .bind(first)
    .bind(last)
    .bind(organization)
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        each(row.into_record(erased));
    }
    Ok(())
}

row! {
    #[expect(clippy::struct_field_names, reason = "they are columns of a view")]
    struct Notice {
        notice_id: i64,
        run_id: i64,
        organization: String,
        kind: String,
        field: String,
        changes: String,
    }
}

/// The notices of the runs after `after`, up to and with `last`, each with its organization.
pub(super) async fn load_notices(
    connection: &mut SqliteConnection,
    (after, last): (i64, i64),
    erased: &Erased,
) -> Result<Vec<(String, NoticeRecord)>, sqlx::Error> {
    let rows: Vec<Notice> = sqlx::query_as(
        "select notice_id, run_id, organization, kind, field, changes from notice_history
         where run_id > ?1 and run_id <= ?2 order by run_id, notice_id",
    )
    .bind(after)
    .bind(last)
    .fetch_all(&mut *connection)
    .await?;
    let salts: Vec<(i64, String, Option<String>)> = sqlx::query_as(
        "select s.notice_id, s.key_id, s.salt from notice_salts s
         join notices n on n.notice_id = s.notice_id where n.run_id > ?1 and n.run_id <= ?2",
    )
    .bind(after)
    .bind(last)
    .fetch_all(connection)
    .await?;
    let mut salt_of: HashMap<(i64, String), Option<String>> = HashMap::new();
    for (notice_id, key_id, salt) in salts {
        salt_of.insert((notice_id, key_id), salt);
    }
    let read = |row: Notice| {
        let values: Vec<Vec<serde_json::Value>> =
            serde_json::from_str(&row.changes).map_err(|_| unreadable("a notice"))?;
        let erased = erased.get(&("notice".to_owned(), row.notice_id));
        let change = |members: Vec<serde_json::Value>| {
            let text = |at: usize| members.get(at).and_then(|member| member.as_str());
            let key_id = text(0).ok_or_else(|| unreadable("a notice"))?.to_owned();
            let salt = salt_of.get(&(row.notice_id, key_id.clone())).cloned().flatten();
            Ok(NoticeChange {
                value: text(1).map(str::to_owned),
                salt: parse_salt(salt.as_deref()),
                erased: seals(erased, |value| value.key_id.as_ref() == Some(&key_id)),
                key_id,
            })
        };
        let changes = values.into_iter().map(change).collect::<Result<_, sqlx::Error>>()?;
        let Notice { notice_id, run_id, kind, field, organization, .. } = row;
        Ok((organization, NoticeRecord { notice_id, run_id, kind, field, changes }))
    };
    rows.into_iter().map(read).collect()
}

row! {
    #[expect(clippy::struct_field_names, reason = "they are columns of a view")]
    struct Act {
        act_id: i64,
        organization: String,
        after_run_id: i64,
        kind: String,
        acted_at: String,
        actor: String,
        detail: String,
        digest: Option<String>,
    }
}

/// All acts, in the order of their organizations' chains.
pub(super) async fn load_acts(
    connection: &mut SqliteConnection,
) -> Result<Vec<ActRecord>, sqlx::Error> {
    let rows: Vec<Act> = sqlx::query_as(
        "select act_id, organization, after_run_id, kind, acted_at, actor, detail, digest
         from act_history order by after_run_id, act_id",
    )
    .fetch_all(connection)
    .await?;
    let read = |row: Act| {
        let digest = row.digest.as_deref().map(parse_digest);
        let Act { act_id, organization, after_run_id, kind, acted_at, actor, detail, .. } = row;
        ActRecord { act_id, organization, after_run_id, kind, acted_at, actor, detail, digest }
    };
    Ok(rows.into_iter().map(read).collect())
}

/// The seals of what was erased, by where it was.
pub(super) async fn load_erased(connection: &mut SqliteConnection) -> Result<Erased, sqlx::Error> {
    type Row = (i64, String, i64, Option<String>, Option<String>, String, String);
    let rows: Vec<Row> =
        sqlx::query_as("select act_id, place, id, key_id, side, field, seal from erased_values")
            .fetch_all(connection)
            .await?;
    let mut erased = Erased::new();
    for (act_id, place, id, key_id, side, field, seal) in rows {
        let value = ErasedValue { act_id, key_id, side, field, seal: Seal(parse_digest(&seal).0) };
        put_erased(&mut erased, (place, id), value);
    }
    Ok(erased)
}
