//! Who did it, as the provider's own audit log tells it, and which event it explains.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::changes::Changes;
use super::key::KeyId;
use super::replay::EventKind;
use crate::clock::Timestamp;

/// How far the clocks of the log and of the observation may be apart.
pub const SLACK: Duration = Duration::from_mins(5);
/// So long after an event was observed, entries of it are still waited for.
pub const PATIENCE: Duration = Duration::from_hours(24);

/// One entry of the provider's audit log, about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The entry's own id.
    pub log_id: Arc<str>,
    pub action: KeyAction,
    pub key_id: KeyId,
    /// `effective_at`.
    pub happened_at: Timestamp,
    pub actor: Actor,
    /// What the key was given, or was to be given; `None` where the entry does not say.
    pub scopes: Option<Vec<String>>,
}

/// What was done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyAction {
    Created,
    Updated,
    Deleted,
}

impl KeyAction {
    pub const ALL: [Self; 3] = [Self::Created, Self::Updated, Self::Deleted];

    /// The `type` of an entry.
    #[must_use]
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Created => "api_key.created",
            Self::Updated => "api_key.updated",
            Self::Deleted => "api_key.deleted",
        }
    }

    #[must_use]
    pub fn parse(event_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.event_type() == event_type)
    }

    /// Whether it can be what an event of this kind tells.
    #[must_use]
    pub const fn fits(self, kind: EventKind) -> bool {
        matches!(
            (self, kind),
            (Self::Created, EventKind::Added | EventKind::Restored)
                | (Self::Deleted, EventKind::Removed)
                | (Self::Updated, EventKind::Changed)
        )
    }

    /// What may have caused an event, if the log can tell. Owners and projects have fields in their keys, and so
    /// does our own judgement (`scope`): no update of the key changes those.
    #[must_use]
    pub fn behind(kind: EventKind, field: Option<&str>) -> Option<Self> {
        let foreign = ["owner_", "owner.", "project_", "project."];
        let is_own = |field: &str| {
            field != "scope" && !foreign.iter().any(|beginning| field.starts_with(beginning))
        };
        Self::ALL.into_iter().find(|action| {
            action.fits(kind) && (*action != Self::Updated || field.is_some_and(is_own))
        })
    }
}

/// Who acted: a person in a session, or a key with whoever it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Actor {
    /// `session`, `api_key`, or what else the API says.
    pub kind: Option<Arc<str>>,
    pub user_id: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    /// The tracking id of the key that acted.
    pub key_id: Option<Arc<str>>,
    pub service_account_id: Option<Arc<str>>,
    pub ip_address: Option<Arc<str>>,
}

impl Actor {
    /// Whose it was: the user's id, or the service account's.
    #[must_use]
    pub fn id(&self) -> Option<&Arc<str>> {
        self.user_id.as_ref().or(self.service_account_id.as_ref())
    }

    /// What [`Self::id`] is the id of; without one, what the API says.
    #[must_use]
    pub fn shown_type(&self) -> Option<&str> {
        if self.user_id.is_some() {
            Some("user")
        } else if self.service_account_id.is_some() {
            Some("service_account")
        } else {
            self.kind.as_deref()
        }
    }
}

/// An event that an entry of the log may explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributable {
    /// Its number; `None` while its run is not recorded.
    pub event_id: Option<i64>,
    pub key_id: KeyId,
    pub kind: EventKind,
    pub field: Option<String>,
    /// It happened after this, and before it was observed.
    pub after: Timestamp,
    pub observed_at: Timestamp,
    /// Whether an entry is attached to it already.
    pub attributed: bool,
}

impl Attributable {
    /// What may have caused it.
    #[must_use]
    pub fn action(&self) -> Option<KeyAction> {
        KeyAction::behind(self.kind, self.field.as_deref())
    }

    /// How many seconds an entry is outside of the window of observation; `None` if that is too far, or the
    /// entry is of something else.
    fn distance(&self, entry: &AuditEntry) -> Option<i64> {
        if self.key_id != entry.key_id || self.action() != Some(entry.action) {
            return None;
        }
        let (at, slack) = (entry.happened_at.unix(), SLACK.as_secs());
        let early = self.after.unix() - at;
        let late = at - self.observed_at.unix();
        let distance = early.max(late).max(0);
        (distance.unsigned_abs() <= slack).then_some(distance)
    }
}

/// The events of a run that is about to be recorded, as far as the log may explain them.
pub fn attributable(
    changes: &Changes,
    after: Timestamp,
    observed_at: Timestamp,
) -> io::Result<Vec<Attributable>> {
    let event = |key_id: &KeyId, kind, field: Option<&str>| Attributable {
        event_id: None,
        key_id: key_id.clone(),
        kind,
        field: field.map(str::to_owned),
        after,
        observed_at,
        attributed: false,
    };
    let mut events = Vec::new();
    // The log explains no baseline.
    if !changes.appeared.is_baseline() {
        for appearance in changes.appeared.iter() {
            let appearance = appearance?;
            events.push(event(&appearance.key().id, appearance.kind(), None));
        }
    }
    let removed = changes.removed.iter().map(|key| event(&key.id, EventKind::Removed, None));
    let altered = changes.altered.iter().flat_map(|alteration| {
        let key_id = &alteration.key.id;
        alteration.changes.iter().map(|change| event(key_id, change.kind(), Some(&change.field)))
    });
    events.extend(removed.chain(altered));
    events.retain(|event| event.action().is_some());
    Ok(events)
}

/// An entry of the log, and an event that it explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    pub event: Attributable,
    pub entry: AuditEntry,
}

/// Which events the entries explain. Each entry belongs to one observation of its key (to all changes that it
/// tells of): to the one whose window it is in, or else is nearest to; of two that are as near, to the one that
/// lacks an explanation, and then to the earlier one. What is of no such event, or was `attached` before, is
/// left out, and of entries with one id all but the first.
#[must_use]
pub fn attribute(
    events: &[Attributable],
    entries: &[AuditEntry],
    attached: &BTreeSet<String>,
) -> Vec<Attribution> {
    let mut seen: HashSet<&str> = attached.iter().map(String::as_str).collect();
    let mut attributions = Vec::new();
    for entry in entries {
        if !seen.insert(&entry.log_id) {
            continue;
        }
        let near = events.iter().filter_map(|event| {
            let distance = event.distance(entry)?;
            Some(((distance, event.attributed, event.observed_at), event))
        });
        let Some((_, nearest)) = near.min_by_key(|(order, _)| *order) else { continue };
        let of_one = events.iter().filter(|event| {
            (event.after, event.observed_at) == (nearest.after, nearest.observed_at)
                && event.distance(entry).is_some()
        });
        attributions
            .extend(of_one.map(|event| Attribution { event: event.clone(), entry: entry.clone() }));
    }
    attributions
}
