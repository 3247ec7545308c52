//! Rows of the views as lines of JSON, in which evidence leaves the database.

use std::collections::{BTreeMap, HashMap};

use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::{Value, json};

use super::attribution::{AttributionRecord, Explained};
use super::link::{Digest, Part, PartDigest};
use super::record::{
    ActRecord, Erased, ErasedValue, EventRecord, InventoryRecord, NoticeChange, NoticeRecord,
    RunRecord, put_erased,
};
use super::seal::{Salt, Seal};
use crate::inventory::{Key, Scope};

/// A line that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of `{file}` is not what it must be: {why}")]
pub struct Unreadable {
    pub file: String,
    /// From 1.
    pub line: usize,
    pub why: String,
}

/// Reads each line of a file.
pub fn read_lines<'a, T: Deserialize<'a>>(
    file: &str,
    bytes: &'a [u8],
    mut each: impl FnMut(T) -> Result<(), String>,
) -> Result<(), Unreadable> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (number, line) in lines.enumerate() {
        let read =
            serde_json::from_slice(line).map_err(|error| error.to_string()).and_then(&mut each);
        let file = file.to_owned();
        read.map_err(|why| Unreadable { file, line: number + 1, why })?;
    }
    Ok(())
}

/// A row of `chains`.
#[derive(Debug, Clone, Deserialize)]
pub struct ChainLine {
    pub organization: String,
    pub origin: String,
    pub database_id: String,
}

/// A row of `run_history`.
#[derive(Debug, Deserialize)]
pub struct RunLine {
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
    digest: Option<String>,
    missing: Option<String>,
    deferred_until: Option<String>,
}

/// A row of `run_parts`.
#[derive(Debug, Deserialize)]
pub struct PartLine {
    run_id: i64,
    part: String,
    items: u64,
    digest: String,
}

fn digest(text: &str) -> Result<Digest, String> {
    text.parse().map_err(|()| "a digest is 64 hexadecimal digits".to_owned())
}

fn salt(text: Option<&str>) -> Result<Option<Salt>, String> {
    let parse = |text: &str| HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Salt);
    text.map(|text| parse(text).ok_or_else(|| "a salt is 32 hexadecimal digits".to_owned()))
        .transpose()
}

impl PartLine {
    /// The run, and the digest of one of its parts.
    pub fn read(&self) -> Result<(i64, PartDigest), String> {
        let part = Part::parse(&self.part).ok_or_else(|| format!("no part `{}`", self.part))?;
        Ok((self.run_id, PartDigest { part, items: self.items, digest: digest(&self.digest)? }))
    }
}

impl RunLine {
    pub fn read(self, parts: &HashMap<i64, Vec<PartDigest>>) -> Result<RunRecord, String> {
        let mut parts = parts.get(&self.run_id).cloned().unwrap_or_default();
        parts.sort_by_key(|part| part.part);
        Ok(RunRecord {
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
            run_id: self.run_id,
            organization: self.organization,
            trigger: self.trigger,
            started_at: self.started_at,
            finished_at: self.finished_at,
            status: self.status,
            notice: self.notice,
            error: self.error,
            missing: self.missing,
            deferred_until: self.deferred_until,
            digest: self.digest.as_deref().map(digest).transpose()?,
            parts,
        })
    }
}

/// A row of `act_history`.
#[derive(Debug, Deserialize)]
pub struct ActLine {
    act_id: i64,
    organization: String,
    after_run_id: i64,
    kind: String,
    acted_at: String,
    actor: String,
    detail: String,
    digest: String,
}

impl ActLine {
    pub fn read(self) -> Result<ActRecord, String> {
        Ok(ActRecord {
            digest: Some(digest(&self.digest)?),
            act_id: self.act_id,
            organization: self.organization,
            after_run_id: self.after_run_id,
            kind: self.kind,
            acted_at: self.acted_at,
            actor: self.actor,
            detail: self.detail,
        })
    }
}

/// A row of `erased_values`.
#[derive(Debug, Deserialize)]
pub struct ErasedLine {
    act_id: i64,
    place: String,
    id: i64,
    key_id: Option<String>,
    side: Option<String>,
    field: String,
    seal: String,
}

impl ErasedLine {
    pub fn put(self, erased: &mut Erased) -> Result<(), String> {
        let Self { act_id, place, id, key_id, side, field, seal } = self;
        let seal = Seal(digest(&seal)?.0);
        let value = ErasedValue { act_id, key_id, side, field, seal };
        put_erased(erased, (place, id), value);
        Ok(())
    }
}

fn seals(
    erased: Option<&Vec<ErasedValue>>,
    wanted: impl Fn(&ErasedValue) -> bool,
) -> BTreeMap<String, Seal> {
    let values = erased.into_iter().flatten().filter(|value| wanted(value));
    values.map(|value| (value.field.clone(), value.seal)).collect()
}

/// A row of `audit_salts`.
#[derive(Debug, Deserialize)]
pub struct SaltsLine {
    pub event_id: i64,
    old_salt: Option<String>,
    new_salt: Option<String>,
}

impl SaltsLine {
    pub fn read(&self) -> Result<(Option<Salt>, Option<Salt>), String> {
        Ok((salt(self.old_salt.as_deref())?, salt(self.new_salt.as_deref())?))
    }
}

/// A row of `audit_history`.
#[derive(Debug, Deserialize)]
pub struct EventLine {
    pub event_id: i64,
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
}

impl EventLine {
    /// What an attribution of it must fit.
    #[must_use]
    pub fn explained(&self) -> Explained {
        let (organization, event) = (self.organization.clone(), self.event.clone());
        Explained { organization, run_id: self.run_id, event }
    }

    #[must_use]
    pub fn read(self, salts: (Option<Salt>, Option<Salt>), erased: &Erased) -> EventRecord {
        let erased = erased.get(&("event".to_owned(), self.event_id));
        let on = |side: &str| seals(erased, |value| value.side.as_deref() == Some(side));
        EventRecord {
            old_salt: salts.0,
            new_salt: salts.1,
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

/// A row of `notice_salts`.
#[derive(Debug, Deserialize)]
pub struct NoticeSaltLine {
    pub notice_id: i64,
    pub key_id: String,
    salt: Option<String>,
}

/// The salts of notices, by notice and key.
pub type NoticeSalts = HashMap<(i64, String), Salt>;

impl NoticeSaltLine {
    pub fn put(self, salts: &mut NoticeSalts) -> Result<(), String> {
        if let Some(salt) = salt(self.salt.as_deref())? {
            salts.insert((self.notice_id, self.key_id), salt);
        }
        Ok(())
    }
}

/// A row of `notice_history`.
#[derive(Debug, Deserialize)]
pub struct NoticeLine {
    notice_id: i64,
    run_id: i64,
    organization: String,
    kind: String,
    field: String,
    changes: String,
}

impl NoticeLine {
    /// The notice, and whose it is.
    pub fn read(
        self,
        salts: &NoticeSalts,
        erased: &Erased,
    ) -> Result<(String, NoticeRecord), String> {
        let Self { notice_id, run_id, organization, kind, field, changes } = self;
        let changes: Vec<Vec<Value>> =
            serde_json::from_str(&changes).map_err(|error| error.to_string())?;
        let erased = erased.get(&("notice".to_owned(), notice_id));
        let change = |members: Vec<Value>| {
            let text = |at: usize| members.get(at).and_then(Value::as_str).map(str::to_owned);
            let key_id = text(0).ok_or_else(|| "a change names no key".to_owned())?;
            Ok(NoticeChange {
                value: text(1),
                salt: salts.get(&(notice_id, key_id.clone())).copied(),
                erased: seals(erased, |value| value.key_id.as_ref() == Some(&key_id)),
                key_id,
            })
        };
        let changes = changes.into_iter().map(change).collect::<Result<_, String>>()?;
        Ok((organization, NoticeRecord { notice_id, run_id, kind, field, changes }))
    }
}

/// A row of `attribution_salts`.
#[derive(Debug, Deserialize)]
pub struct AttributionSaltLine {
    attribution_id: i64,
    salt: Option<String>,
}

/// The salts of attributions, by their ids.
pub type AttributionSalts = HashMap<i64, Salt>;

impl AttributionSaltLine {
    pub fn put(self, salts: &mut AttributionSalts) -> Result<(), String> {
        if let Some(salt) = salt(self.salt.as_deref())? {
            salts.insert(self.attribution_id, salt);
        }
        Ok(())
    }
}

/// A row of `attribution_history`.
#[derive(Debug, Deserialize)]
pub struct AttributionLine {
    attribution_id: i64,
    run_id: i64,
    organization: String,
    event_id: i64,
    log_id: String,
    action: String,
    acted_at: String,
    actor_type: Option<String>,
    actor_id: Option<String>,
    actor_email: Option<String>,
    actor_key_id: Option<String>,
    actor_ip_address: Option<String>,
    actor_scopes: Option<String>,
}

impl AttributionLine {
    /// The attribution, and whose it is; `events` are those that it may be of.
    #[must_use]
    pub fn read(
        self,
        salts: &AttributionSalts,
        erased: &Erased,
        events: &HashMap<i64, Explained>,
    ) -> (String, AttributionRecord) {
        let erased = erased.get(&("attribution".to_owned(), self.attribution_id));
        let record = AttributionRecord {
            salt: salts.get(&self.attribution_id).copied(),
            erased: seals(erased, |_| true),
            explains: events.get(&self.event_id).cloned(),
            attribution_id: self.attribution_id,
            run_id: self.run_id,
            event_id: self.event_id,
            log_id: self.log_id,
            action: self.action,
            acted_at: self.acted_at,
            actor_type: self.actor_type,
            actor_id: self.actor_id,
            actor_email: self.actor_email,
            actor_key_id: self.actor_key_id,
            actor_ip_address: self.actor_ip_address,
            actor_scopes: self.actor_scopes,
        };
        (self.organization, record)
    }
}

/// A row of `all_keys`.
#[derive(Debug, Deserialize)]
pub struct InventoryLine {
    pub organization: String,
    scope: String,
    pub key_id: String,
    name: Option<String>,
    redacted_value: Option<String>,
    project_id: Option<String>,
    project_name: Option<String>,
    owner_type: Option<String>,
    owner_id: Option<String>,
    owner_name: Option<String>,
    owner_role: Option<String>,
    created_at: Option<String>,
    last_used_at: Option<String>,
    expires_at: Option<String>,
    other: String,
    own_key: i64,
    first_seen_at: String,
    last_seen_at: Option<String>,
    removed_at: Option<String>,
    /// In evidence packs: missing then, and not believed gone.
    #[serde(default)]
    pub unconfirmed: i64,
}

impl InventoryLine {
    pub fn read(self) -> Result<InventoryRecord, String> {
        let bad = |what: &str| format!("{what} of key `{}`", self.key_id);
        let other: Value = serde_json::from_str(&self.other).map_err(|_| bad("`other`"))?;
        let json = json!({
            "key_id": self.key_id, "name": self.name, "redacted_value": self.redacted_value,
            "project_id": self.project_id, "project_name": self.project_name,
            "owner_type": self.owner_type, "owner_id": self.owner_id,
            "owner_name": self.owner_name, "owner_role": self.owner_role,
            "created_at": self.created_at, "last_used_at": self.last_used_at,
            "expires_at": self.expires_at, "other": other,
        });
        let scope = Scope::parse(&self.scope).ok_or_else(|| bad("`scope`"))?;
        let key = Key::from_json(scope, &json.to_string()).map_err(|error| bad(&error.field))?;
        if !matches!((self.own_key, self.unconfirmed), (0 | 1, 0 | 1)) {
            return Err(bad("`own_key` or `unconfirmed`"));
        }
        Ok(InventoryRecord {
            key,
            own_key: self.own_key == 1,
            first_seen_at: self.first_seen_at,
            last_seen_at: self.last_seen_at,
            removed_at: self.removed_at,
        })
    }

    /// The line that [`InventoryLine::read`] reads. Where a replay begins, it has to say which keys are
    /// unconfirmed.
    #[must_use]
    pub fn write(
        organization: &str,
        record: &InventoryRecord,
        unconfirmed: Option<bool>,
    ) -> String {
        let mut line = record.key.to_json();
        let other = line["other"].take().to_string();
        line["organization"] = organization.into();
        line["scope"] = record.key.scope.as_str().into();
        line["other"] = other.into();
        line["own_key"] = i64::from(record.own_key).into();
        line["first_seen_at"] = record.first_seen_at.as_str().into();
        line["last_seen_at"] = record.last_seen_at.as_deref().into();
        line["removed_at"] = record.removed_at.as_deref().into();
        if let Some(unconfirmed) = unconfirmed {
            line["unconfirmed"] = i64::from(unconfirmed).into();
        }
        line.to_string()
    }
}
