//! Attributions: who did what an event tells, as a part of the run that attached it.

use std::collections::BTreeMap;

use super::bytes::Bytes;
use super::link::PartHasher;
use super::seal::{Salt, Seal, Sealer};
use crate::inventory::{EventKind, KeyAction};

/// The columns that hold an address of a person, as erased values name them.
pub const ACTOR_EMAIL: &str = "actor_email";
pub const ACTOR_IP_ADDRESS: &str = "actor_ip_address";

/// One attribution, by the columns of `attribution_history` (the organization apart, which the run's header
/// has).
#[derive(Debug, Clone, Copy)]
pub struct AttributionItem<'a> {
    pub attribution_id: i64,
    pub run_id: i64,
    pub event_id: i64,
    pub log_id: &'a str,
    pub action: &'a str,
    pub acted_at: &'a str,
    pub actor_type: Option<&'a str>,
    pub actor_id: Option<&'a str>,
    pub actor_email: Option<&'a str>,
    pub actor_key_id: Option<&'a str>,
    pub actor_ip_address: Option<&'a str>,
    /// JSON, as the view shows it.
    pub actor_scopes: Option<&'a str>,
    pub sealer: Sealer<'a>,
}

impl AttributionItem<'_> {
    pub(super) fn write(&self, into: &mut Bytes) {
        into.list(12);
        into.integer(self.attribution_id);
        into.integer(self.run_id);
        into.integer(self.event_id);
        into.text(self.log_id);
        into.text(self.action);
        into.text(self.acted_at);
        into.optional(self.actor_type);
        into.optional(self.actor_id);
        self.sealer.write_address(into, ACTOR_EMAIL, self.actor_email);
        into.optional(self.actor_key_id);
        self.sealer.write_address(into, ACTOR_IP_ADDRESS, self.actor_ip_address);
        into.optional(self.actor_scopes);
    }

    /// The seal of each address in it, by column.
    fn seals(&self) -> Vec<(&'static str, Seal)> {
        let columns = [(ACTOR_EMAIL, self.actor_email), (ACTOR_IP_ADDRESS, self.actor_ip_address)];
        let seal = |(column, text): (&'static str, Option<&str>)| {
            Some((column, self.sealer.seal_address(column, text?)?))
        };
        columns.into_iter().filter_map(seal).collect()
    }
}

/// An attribution as the views show it, with what its addresses are sealed with, and what it explains.
#[derive(Debug, Clone)]
pub struct AttributionRecord {
    pub attribution_id: i64,
    pub run_id: i64,
    pub event_id: i64,
    pub log_id: String,
    pub action: String,
    pub acted_at: String,
    pub actor_type: Option<String>,
    pub actor_id: Option<String>,
    pub actor_email: Option<String>,
    pub actor_key_id: Option<String>,
    pub actor_ip_address: Option<String>,
    pub actor_scopes: Option<String>,
    pub salt: Option<Salt>,
    pub erased: BTreeMap<String, Seal>,
    /// Where its event is there.
    pub explains: Option<Explained>,
}

/// What an attribution must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    pub organization: String,
    /// The run that observed the event.
    pub run_id: i64,
    pub event: String,
}

impl AttributionRecord {
    /// Calls `with` with the attribution as it enters a digest.
    pub fn with_item<R>(&self, with: impl FnOnce(&AttributionItem<'_>) -> R) -> R {
        with(&AttributionItem {
            attribution_id: self.attribution_id,
            run_id: self.run_id,
            event_id: self.event_id,
            log_id: &self.log_id,
            action: &self.action,
            acted_at: &self.acted_at,
            actor_type: self.actor_type.as_deref(),
            actor_id: self.actor_id.as_deref(),
            actor_email: self.actor_email.as_deref(),
            actor_key_id: self.actor_key_id.as_deref(),
            actor_ip_address: self.actor_ip_address.as_deref(),
            actor_scopes: self.actor_scopes.as_deref(),
            sealer: Sealer { salt: self.salt, erased: Some(&self.erased) },
        })
    }

    /// The seal of each address in it, by column.
    #[must_use]
    pub fn seals(&self) -> Vec<(&'static str, Seal)> {
        let mut seals = Vec::new();
        self.with_item(|item| seals = item.seals());
        seals
    }

    /// Why it cannot be an attribution of the event that it names, in a run of this organization. Events up to
    /// `unread` need not be there.
    pub(crate) fn misfit(&self, organization: &str, unread: i64) -> Option<String> {
        let (id, event_id) = (self.attribution_id, self.event_id);
        let Some(event) = &self.explains else {
            let is_unread = (1..=unread).contains(&event_id);
            return (!is_unread)
                .then(|| format!("attribution {id} is of event {event_id}, which is not there"));
        };
        let fits = |action: KeyAction| {
            EventKind::parse(&event.event).is_some_and(|kind| action.fits(kind))
        };
        if event.organization != organization {
            Some(format!("attribution {id} is of an event of `{}`", event.organization))
        } else if event.run_id > self.run_id {
            Some(format!("attribution {id} is of event {event_id}, which is later"))
        } else if !KeyAction::parse(&self.action).is_some_and(fits) {
            Some(format!("attribution {id} does not fit event {event_id}"))
        } else {
            None
        }
    }
}

impl PartHasher {
    pub fn attribution(&mut self, attribution: &AttributionItem<'_>) {
        self.item(|bytes| attribution.write(bytes));
    }
}
