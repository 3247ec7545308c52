//! What is to be judged, and by which measure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::rule::Rule;
use crate::clock::Timestamp;

/// The thresholds of the rules, which of them are off, and for which keys some are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// From creation on.
    pub never_used: Duration,
    /// From the last use on.
    pub unused: Duration,
    pub admin_key_age: Duration,
    /// `None`: projects' keys may be of any age.
    pub project_key_age: Option<Duration>,
    pub expires_within: Duration,
    /// After as much of it a use is a key that woke up.
    pub silence: Duration,
    /// How long what happened once ([`Rule::WokeUp`], [`Rule::UseWentBack`]) stays open after it was noticed.
    pub stay_open: Duration,
    pub max_admin_keys: u64,
    pub disabled: BTreeSet<Rule>,
    pub exceptions: Vec<Exception>,
}

/// A key that may break a rule for a while, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    pub key_id: String,
    /// `None`: all rules.
    pub rule: Option<Rule>,
    /// `None`: of every organization.
    pub organization: Option<String>,
    pub reason: String,
    /// From then on it no longer counts.
    pub until: Timestamp,
    /// Where it stands.
    pub origin: String,
}

const DAY: Duration = Duration::from_hours(24);

impl Default for Rules {
    fn default() -> Self {
        let days = |days: u32| DAY.saturating_mul(days);
        Self {
            never_used: days(90),
            unused: days(90),
            admin_key_age: days(90),
            project_key_age: None,
            expires_within: days(14),
            silence: days(90),
            stay_open: days(30),
            max_admin_keys: 10,
            disabled: BTreeSet::new(),
            exceptions: Vec::new(),
        }
    }
}

impl Exception {
    /// Whether it counts.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Whether it is about keys of this organization.
    #[must_use]
    pub fn is_of(&self, organization: &str) -> bool {
        self.organization.as_deref().is_none_or(|name| name == organization)
    }

    pub(super) fn covers(&self, rule: Rule) -> bool {
        self.rule.is_none_or(|covered| covered == rule)
    }
}

/// ``key_abc: old until 2027-01-01T00:00:00Z: moved by then``
impl std::fmt::Display for Exception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key_id, rule, organization, reason, until, origin: _ } = self;
        if let Some(organization) = organization {
            write!(f, "{organization}/")?;
        }
        let rule = rule.map_or("all rules", Rule::as_str);
        write!(f, "{key_id}: {rule} until {until}: {reason}")
    }
}
