//! What is told of a change: an event of the one key, or a notice of the whole list.

use std::collections::BTreeMap;

use super::changes::{Alteration, Notice, NoticeKind, field_changes};
use super::compare::Snapshot;
use super::field::{Column, FieldStates, Sent, field_at, is_below, parent_path, path_of};
use super::key::{Key, KeyId};
use super::replay::FieldChange;
use super::sighting::Sighting;

/// Which list tells of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Admin,
    /// A project's, whatever the admin list says beside it.
    Project,
}

/// A key that is not as it was.
#[derive(Debug)]
pub(super) struct Differing {
    pub(super) sighting: Sighting,
    pub(super) source: Source,
    /// What the admin list alone says of a key that a project's list tells of for the first time.
    pub(super) admin: Option<Key>,
}

impl Differing {
    pub(super) const fn of(sighting: Sighting, source: Source) -> Self {
        Self { sighting, source, admin: None }
    }
}

/// Sorts the changes of each key into events and what only a notice tells.
pub(super) struct Telling<'a> {
    snapshot: &'a Snapshot,
    own_key: Option<&'a KeyId>,
    sources: [Fields<'a>; 2],
    start_notices: BTreeMap<String, Notice>,
    learned: BTreeMap<String, Notice>,
}

/// What is new in how one source sends its fields.
#[derive(Default)]
struct Fields<'a> {
    /// Fields that it sends for all keys now and did not before.
    started: Vec<&'a str>,
    /// Fields that it has just stopped to send.
    stopped: Vec<&'a str>,
    redacted_format: Option<Notice>,
}

impl<'a> Fields<'a> {
    /// `is_known`: whether there was a list of this source before.
    fn new(before: &'a FieldStates, now: &'a FieldStates, is_known: bool) -> Self {
        let newly = |state| {
            let fields = now.iter().filter(move |(_, now)| **now == state);
            fields.map(|(field, _)| field.as_str())
        };
        Self {
            started: newly(Sent::Always)
                .filter(|field| is_known && has_started(field, before, now))
                .collect(),
            stopped: newly(Sent::Stopped)
                .filter(|field| before.get(*field) != Some(&Sent::Stopped))
                .collect(),
            redacted_format: None,
        }
    }

    fn starts(&self, field: &str) -> bool {
        let path = path_of(field);
        self.started.iter().any(|start| *start == field || is_below(path, path_of(start)))
    }
}

impl<'a> Telling<'a> {
    /// `now` are the fields of the admin list, and those of the projects' lists.
    pub(super) fn new(
        snapshot: &'a Snapshot,
        now: [&'a FieldStates; 2],
        own_key: Option<&'a KeyId>,
    ) -> Self {
        let [admin, project] = now;
        let projects_known = snapshot.exists && !snapshot.project_fields.is_empty();
        let sources = [
            Fields::new(&snapshot.fields, admin, snapshot.exists),
            Fields::new(&snapshot.project_fields, project, projects_known),
        ];
        let mut start_notices = BTreeMap::new();
        for Fields { started, .. } in &sources {
            // Of an object that starts, its fields tell.
            let told =
                |field: &&&str| !started.iter().any(|f| is_below(path_of(f), path_of(field)));
            let notices = started
                .iter()
                .filter(told)
                .map(|field| ((*field).to_owned(), notice(NoticeKind::FieldStarted, field)));
            start_notices.extend(notices);
        }
        Self { snapshot, own_key, sources, start_notices, learned: BTreeMap::new() }
    }

    /// Whether the redacted values of all keys that were there before, so many of each source, are other ones
    /// now. One key's is alarming, every key's is a change of format; of a single key it cannot be told apart.
    pub(super) fn look_at_format(&mut self, differing: &[Differing], listed: [usize; 2]) {
        let field = Column::RedactedValue.name();
        for (source, listed) in [Source::Admin, Source::Project].into_iter().zip(listed) {
            let fields = &mut self.sources[source as usize];
            let started = fields.started.contains(&field);
            let differs = |Differing { sighting, .. }: &&Differing| {
                let before = self.snapshot.keys.get(&sighting.key.id);
                let before = before.and_then(|before| before.shown(Column::RedactedValue));
                (before.is_some() || !started)
                    && before != sighting.key.shown(Column::RedactedValue)
            };
            let of_source = differing.iter().filter(|differing| differing.source == source);
            // What is told for the first time was not in another format before.
            let is_new = of_source.clone().any(|differing| differing.admin.is_some());
            let all = listed >= 2 && !is_new && of_source.filter(differs).count() == listed;
            if all && !fields.stopped.contains(&field) {
                fields.redacted_format = Some(notice(NoticeKind::RedactedFormat, field));
            }
        }
    }

    /// `None` if, after all, nothing about the key changed.
    pub(super) fn alter(&mut self, differing: Differing) -> Option<Alteration> {
        let Differing { mut sighting, source, admin } = differing;
        let before = self.snapshot.keys.get(&sighting.key.id)?;
        let fields = &self.sources[source as usize];
        for field in &fields.stopped {
            keep_field(&mut sighting, before, field);
        }
        let mut key = sighting.key;
        self.snapshot.overlook(&mut key);
        if source == Source::Admin && fields.redacted_format.is_some() {
            key.scope = before.scope;
        }
        // When it was used, either list may know better.
        let seen = admin.map(|admin| Key { last_used_at: key.last_used_at, ..admin });
        let all = field_changes(before, seen.as_ref().unwrap_or(&key));
        let learned = seen.map(|seen| field_changes(&seen, &key)).unwrap_or_default();
        if all.is_empty() && learned.is_empty() {
            return None;
        }
        let own = self.own_key == Some(&key.id);
        let mut changes = Vec::new();
        for change in all {
            if own && change.field == Column::LastUsedAt.name() {
                continue;
            }
            match self.notice_for(&change, source) {
                Some(notice) => notice.values.push((key.id.clone(), change.new)),
                None => changes.push(change),
            }
        }
        for FieldChange { field, new, .. } in learned {
            let notices = self.learned.entry(field.clone());
            let notice = notices.or_insert_with(|| notice(NoticeKind::ProjectLearned, &field));
            notice.values.push((key.id.clone(), new));
        }
        let more_than_use = all_but_use(before) != all_but_use(&key);
        let owner_before = before.owner_id.clone();
        Some(Alteration { key, owner_before, more_than_use, changes })
    }

    fn notice_for(&mut self, change: &FieldChange, source: Source) -> Option<&mut Notice> {
        let field = change.field.as_str();
        let [admin, project] = &self.sources;
        // The lists of projects leave to the admin list what they do not say.
        let starts = admin.starts(field) || (source == Source::Project && project.starts(field));
        if change.old.is_none() && starts {
            let notices = self.start_notices.entry(field.to_owned());
            return Some(notices.or_insert_with(|| notice(NoticeKind::FieldStarted, field)));
        }
        let format = self.sources[source as usize].redacted_format.as_mut();
        format.filter(|notice| notice.field == field)
    }

    pub(super) fn into_notices(self) -> Vec<Notice> {
        let mut notices: Vec<Notice> = self.start_notices.into_values().collect();
        for Fields { stopped, redacted_format, .. } in self.sources {
            notices.extend(stopped.iter().map(|field| notice(NoticeKind::FieldStopped, field)));
            notices.extend(redacted_format);
        }
        notices.extend(self.learned.into_values());
        notices
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
