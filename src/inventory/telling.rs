//! What is told of a change: an event of the one key, or a notice of the whole list.

use std::collections::BTreeMap;

use super::changes::{Alteration, Notice, NoticeKind, field_changes};
use super::compare::Snapshot;
use super::field::{Column, FieldStates, Sent, field_at, is_below, parent_path, path_of};
use super::key::{Key, KeyId};
use super::replay::FieldChange;
use super::sighting::Sighting;

/// Sorts the changes of each key into events and what only a notice tells.
pub(super) struct Telling<'a> {
    snapshot: &'a Snapshot,
    own_key: Option<&'a KeyId>,
    /// Fields that the API sends for all keys now and did not before, and their notices.
    started: Vec<&'a str>,
    start_notices: BTreeMap<String, Notice>,
    /// Fields that it has just stopped to send.
    stopped: Vec<&'a str>,
    redacted_format: Option<Notice>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        now: &'a FieldStates,
        own_key: Option<&'a KeyId>,
    ) -> Self {
        let before = |field: &str| snapshot.fields.get(field).copied();
        let newly = |state| {
            let fields = now.iter().filter(move |(_, now)| **now == state);
            fields.map(|(field, _)| field.as_str())
        };
        let started: Vec<&str> = newly(Sent::Always)
            .filter(|field| snapshot.exists && has_started(field, &snapshot.fields, now))
            .collect();
        // Of an object that starts, its fields tell.
        let told = |field: &&&str| !started.iter().any(|f| is_below(path_of(f), path_of(field)));
        let notices = started
            .iter()
            .filter(told)
            .map(|field| ((*field).to_owned(), notice(NoticeKind::FieldStarted, field)));
        Self {
            snapshot,
            own_key,
            start_notices: notices.collect(),
            started,
            stopped: newly(Sent::Stopped)
                .filter(|field| before(field) != Some(Sent::Stopped))
                .collect(),
            redacted_format: None,
        }
    }

    /// Whether the redacted values of all `listed` keys that were there before are other ones now. One
    /// key's is alarming, every key's is a change of format; of a single key it cannot be told apart.
    pub(super) fn look_at_format(&mut self, differing: &[Sighting], listed: usize) {
        let field = Column::RedactedValue.name();
        let started = self.started.contains(&field);
        let differs = |sighting: &&Sighting| {
            let before = self.snapshot.keys.get(&sighting.key.id);
            let before = before.and_then(|before| before.shown(Column::RedactedValue));
            (before.is_some() || !started) && before != sighting.key.shown(Column::RedactedValue)
        };
        let all = listed >= 2 && differing.iter().filter(differs).count() == listed;
        if all && !self.stopped.contains(&field) {
            self.redacted_format = Some(notice(NoticeKind::RedactedFormat, field));
        }
    }

    /// `None` if, after all, nothing about the key changed.
    pub(super) fn alter(&mut self, mut sighting: Sighting) -> Option<Alteration> {
        let before = self.snapshot.keys.get(&sighting.key.id)?;
        for field in &self.stopped {
            keep_field(&mut sighting, before, field);
        }
        let mut key = sighting.key;
        self.snapshot.overlook(&mut key);
        if self.redacted_format.is_some() {
            key.scope = before.scope;
        }
        let all = field_changes(before, &key);
        if all.is_empty() {
            return None;
        }
        let own = self.own_key == Some(&key.id);
        let mut changes = Vec::new();
        for change in all {
            if own && change.field == Column::LastUsedAt.name() {
                continue;
            }
            match self.notice_for(&change) {
                Some(notice) => notice.values.push((key.id.clone(), change.new)),
                None => changes.push(change),
            }
        }
        let more_than_use = all_but_use(before) != all_but_use(&key);
        let owner_before = before.owner_id.clone();
        Some(Alteration { key, owner_before, more_than_use, changes })
    }

    fn notice_for(&mut self, change: &FieldChange) -> Option<&mut Notice> {
        let field = change.field.as_str();
        let path = path_of(field);
        let starts = |start: &&str| *start == field || is_below(path, path_of(start));
        if change.old.is_none() && self.started.iter().any(starts) {
            let notices = self.start_notices.entry(field.to_owned());
            return Some(notices.or_insert_with(|| notice(NoticeKind::FieldStarted, field)));
        }
        self.redacted_format.as_mut().filter(|notice| notice.field == field)
    }

    pub(super) fn into_notices(self) -> Vec<Notice> {
        let stopped = self.stopped.iter().map(|field| notice(NoticeKind::FieldStopped, field));
        let started = self.start_notices.into_values();
        started.chain(stopped).chain(self.redacted_format).collect()
    }
}

fn notice(kind: NoticeKind, field: &str) -> Notice {
    Notice { kind, field: field.to_owned(), values: Vec::new() }
}

/// Whether a field that is sent for every key that has its object is news of all keys: not if the object
/// is as new, and only some keys have it.
fn has_started(field: &str, before: &FieldStates, now: &FieldStates) -> bool {
    match before.get(field) {
        Some(Sent::Stopped) => true,
        Some(Sent::Always | Sent::Sometimes) => false,
        None => parent_path(path_of(field)).map(field_at).is_none_or(|object| {
            before.contains_key(object)
                || (now.get(object) == Some(&Sent::Always) && has_started(object, before, now))
        }),
    }
}

fn all_but_use(key: &Key) -> Key {
    Key { last_used_at: None, ..key.clone() }
}

/// Puts the values that `field` has in `before` into a key that it was not sent for.
pub(super) fn keep_field(sighting: &mut Sighting, before: &Key, field: &str) {
    if !sighting.shape.lacks(field) {
        return;
    }
    let path = path_of(field);
    let concerns = |other: &str| other == path || is_below(other, path);
    for column in Column::ALL.into_iter().filter(|column| concerns(column.api_path())) {
        sighting.key.copy_field(before, column);
    }
    for (other, value) in before.other.iter().filter(|(other, _)| concerns(other)) {
        sighting.key.set_other(other, Some(value.clone()));
    }
}
