//! Findings: keys that break a rule today, and since when.
//!
//! Everything here is pure: the keys, what was open before and the time are handed in. A run that took in a whole
//! listing judges every key of which the answer may be another, and what opened and closed is recorded with the run. Where rules
//! come from is [`crate::config`]'s business, where findings are kept is [`crate::store`]'s.

mod evaluation;
mod key_rules;
mod list_rules;
mod rule;
mod rules;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;

pub use evaluation::{Basis, Difference, Judgement, Subject};
pub use rule::{Rule, Severity};
pub use rules::{Exception, Rules};

use crate::clock::Timestamp;
use crate::inventory::KeyId;

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `None`: the organization as a whole breaks it.
    pub key_id: Option<KeyId>,
    pub rule: Rule,
    pub severity: Severity,
    /// When it became true, which may be long before anybody noticed.
    pub since: Timestamp,
    /// One line for people, of ids and times alone: names and addresses of people never get here.
    pub detail: String,
    /// What the rule has to know later: the last use before it went back.
    pub memory: Option<Timestamp>,
}

impl Finding {
    /// Of no key, with the severity of its rule.
    fn new(rule: Rule, since: Timestamp, detail: impl Into<String>) -> Self {
        let (severity, detail) = (rule.severity(), detail.into());
        Self { key_id: None, rule, severity, since, detail, memory: None }
    }
}

/// A finding that no run has closed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFinding {
    pub finding_id: i64,
    pub finding: Finding,
    /// The end of the run that opened it.
    pub opened_at: Timestamp,
}

/// Something that happened once, as a run found it. It is remembered whether or not it is listed, so that the end of
/// an exception brings it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    pub finding: Finding,
    /// The end of the run that noticed.
    pub noticed_at: Timestamp,
}

/// What the rules need to know of the past, beside the snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    pub open: Vec<OpenFinding>,
    /// What happened once and is not over yet: of each key, the newest by each rule of that sort.
    pub happened: HashMap<(KeyId, Rule), Happening>,
    /// When keys were first seen whose creation the API does not tell. One that is not here is new.
    pub first_seen: HashMap<KeyId, Timestamp>,
}
