//! What there is to read of a history: rows of the views, with what a digest needs beside them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::item::{Content, Event, NoticeItem, Placed};
use super::link::{Act, Digest, Part, PartDigest, RunHeader};
use super::seal::{Salt, Seal, Sealer};
use crate::inventory::{EventKind, Key, KeyId, PastEvent, Scope};

/// A run as the views show it.
#[derive(Debug, Clone)]
pub struct RunRecord {
    pub run_id: i64,
    pub organization: String,
    pub trigger: String,
    pub started_at: String,
    pub finished_at: String,
    pub status: String,
    /// As in [`RunHeader`].
    pub counts: [i64; 12],
    pub notice: Option<String>,
    pub error: Option<String>,
    pub missing: Option<String>,
    pub deferred_until: Option<String>,
    pub digest: Option<Digest>,
    /// As they are kept beside the run.
    pub parts: Vec<PartDigest>,
}

impl RunRecord {
    /// The run as a link of the chain that began under `origin`.
    #[must_use]
    pub fn header<'a>(&'a self, origin: &'a str) -> RunHeader<'a> {
        RunHeader {
            origin,
            run_id: self.run_id,
            trigger: &self.trigger,
            started_at: &self.started_at,
            finished_at: &self.finished_at,
            status: &self.status,
            counts: self.counts,
            notice: self.notice.as_deref(),
            error: self.error.as_deref(),
            missing: self.missing.as_deref(),
            deferred_until: self.deferred_until.as_deref(),
        }
    }

    /// How many events the header says that it has.
    #[must_use]
    pub fn events(&self) -> i64 {
        self.counts[1..=6].iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How many items the header says that a part has.
    pub(super) fn said(&self, part: Part) -> i64 {
        match part {
            Part::Events => self.events() - self.counts[5],
            Part::Used => self.counts[5],
            Part::Notices | Part::Attributions | Part::Adopted => 0,
        }
    }
}

/// An event as the views show it, with what its personal values are sealed with.
#[derive(Debug, Clone)]
pub struct EventRecord {
    pub event_id: i64,
    pub run_id: i64,
    pub observed_at: String,
    pub previous_observed_at: Option<String>,
    pub organization: String,
    pub scope: String,
    pub key_id: String,
    pub key_name: Option<String>,
    pub event: String,
    pub field: Option<String>,
    pub old_value: Option<String>,
    pub new_value: Option<String>,
    pub old_salt: Option<Salt>,
    pub new_salt: Option<Salt>,
    pub old_erased: BTreeMap<String, Seal>,
    pub new_erased: BTreeMap<String, Seal>,
}

impl EventRecord {
    /// Calls `with` with the event as it enters a digest.
    pub fn with_event<R>(&self, with: impl FnOnce(&Event<'_>) -> R) -> R {
        let whole = !matches!(self.event.as_str(), "used" | "changed");
        let parse = |text: &Option<String>| {
            let json = text.as_deref().filter(|_| whole)?;
            serde_json::from_str::<Value>(json).ok()
        };
        let (old_json, new_json) = (parse(&self.old_value), parse(&self.new_value));
        with(&Event {
            event_id: self.event_id,
            run_id: self.run_id,
            observed_at: &self.observed_at,
            previous_observed_at: self.previous_observed_at.as_deref(),
            scope: &self.scope,
            key_id: &self.key_id,
            key_name: self.key_name.as_deref(),
            event: &self.event,
            field: self.field.as_deref(),
            old: place(
                old_json.as_ref(),
                self.old_value.as_deref(),
                self.old_salt,
                &self.old_erased,
            ),
            new: place(
                new_json.as_ref(),
                self.new_value.as_deref(),
                self.new_salt,
                &self.new_erased,
            ),
        })
    }

    pub(super) fn past(&self) -> Option<PastEvent> {
        Some(PastEvent {
            key_id: KeyId::new(&self.key_id)?,
            scope: Scope::parse(&self.scope)?,
            kind: EventKind::parse(&self.event)?,
            field: self.field.clone(),
            old_value: self.old_value.clone(),
            new_value: self.new_value.clone(),
        })
    }
}

fn place<'a>(
    json: Option<&'a Value>,
    text: Option<&'a str>,
    salt: Option<Salt>,
    erased: &'a BTreeMap<String, Seal>,
) -> Placed<'a> {
    let content = match (json, text) {
        (Some(json), _) => Content::Json(json),
        (None, Some(text)) => Content::Text(text),
        (None, None) => Content::Nothing,
    };
    Placed { content, sealer: Sealer { salt, erased: Some(erased) } }
}

/// A notice as the views show it.
#[derive(Debug, Clone)]
pub struct NoticeRecord {
    pub notice_id: i64,
    pub run_id: i64,
    pub kind: String,
    pub field: String,
    pub changes: Vec<NoticeChange>,
}

/// What a notice says of one key.
#[derive(Debug, Clone)]
pub struct NoticeChange {
    pub key_id: String,
    pub value: Option<String>,
    pub salt: Option<Salt>,
    pub erased: BTreeMap<String, Seal>,
}

impl NoticeRecord {
    /// Calls `with` with the notice as it enters a digest.
    pub fn with_item<R>(&self, with: impl FnOnce(&NoticeItem<'_>) -> R) -> R {
        let changes: Vec<_> = self
            .changes
            .iter()
            .map(|NoticeChange { key_id, value, salt, erased }| {
                let sealer = Sealer { salt: *salt, erased: Some(erased) };
                (key_id.as_str(), value.as_deref(), sealer)
            })
            .collect();
        with(&NoticeItem {
            notice_id: self.notice_id,
            run_id: self.run_id,
            kind: &self.kind,
            field: &self.field,
            changes: &changes,
        })
    }
}

/// An act as the views show it.
#[derive(Debug, Clone)]
pub struct ActRecord {
    pub act_id: i64,
    pub organization: String,
    pub after_run_id: i64,
    pub kind: String,
    pub acted_at: String,
    pub actor: String,
    pub detail: String,
    pub digest: Option<Digest>,
}

impl ActRecord {
    pub(super) fn link<'a>(&'a self, origin: &'a str) -> Act<'a> {
        Act {
            origin,
            act_id: self.act_id,
            after_run_id: self.after_run_id,
            kind: &self.kind,
            acted_at: &self.acted_at,
            actor: &self.actor,
            detail: &self.detail,
        }
    }

    /// A member of the detail.
    #[must_use]
    pub fn detail(&self) -> Value {
        serde_json::from_str(&self.detail).unwrap_or_default()
    }
}

/// A row of `all_keys`.
#[derive(Debug, Clone)]
pub struct InventoryRecord {
    pub key: crate::inventory::Key,
    pub own_key: bool,
    pub first_seen_at: String,
    /// `None`: not known, from before there was a chain.
    pub last_seen_at: Option<String>,
    pub removed_at: Option<String>,
}

/// Personal values that were erased, by where they were.
pub type Erased = HashMap<(String, i64), Vec<ErasedValue>>;

/// One of them.
#[derive(Debug, Clone)]
pub struct ErasedValue {
    pub act_id: i64,
    pub key_id: Option<String>,
    pub side: Option<String>,
    pub field: String,
    pub seal: Seal,
}

impl ErasedValue {
    /// Whether it says where it was as its place wants it: by the side of an event, by the key in a notice or a
    /// keyframe, and by neither in an attribution.
    fn fits(&self, place: &str) -> bool {
        match (place, self.side.as_deref(), &self.key_id) {
            ("event", Some("old" | "new"), None)
            | ("notice" | "keyframe", None, Some(_))
            | ("attribution", None, None) => true,
            (_, _, _) => false,
        }
    }
}

/// Keeps a value where it was. Of one that does not say it as its place wants it, nobody takes the seal.
pub fn put_erased(erased: &mut Erased, (place, id): (String, i64), value: ErasedValue) {
    let place = if value.fits(&place) { place } else { String::new() };
    erased.entry((place, id)).or_default().push(value);
}

/// A key as a run found it, for whoever asks for the past.
#[derive(Debug, Clone)]
pub struct VersionRecord {
    /// The run that made it.
    pub run_id: i64,
    pub organization: String,
    pub key_id: String,
    /// None if it cannot be read. Its last use is not kept here.
    pub key: Option<Key>,
}
