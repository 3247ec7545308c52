//! Judging a whole inventory, and what is different from what was open before.

use std::collections::{HashMap, HashSet};

use super::rule::Rule;
use super::rules::{Exception, Rules};
use super::{Finding, Happening, OpenFinding, Past};
use crate::clock::Timestamp;
use crate::inventory::{Changes, Column, Key, KeyId, Sent, Snapshot};

/// An organization as a run found it: everything that is judged.
#[derive(Debug, Clone, Copy)]
pub struct Evaluation<'a> {
    pub organization: &'a str,
    pub rules: &'a Rules,
    /// As it was.
    pub before: &'a Snapshot,
    /// What is different now.
    pub changes: &'a Changes,
    pub past: &'a Past,
}

/// What a run opens and closes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// By key and rule.
    pub opened: Vec<Finding>,
    /// Numbers of findings, rising.
    pub closed: Vec<i64>,
    /// What happened once, and is to be remembered from now on, listed or not. By key and rule.
    pub happened: Vec<Finding>,
    /// What of that is over. By key and rule.
    pub over: Vec<(KeyId, Rule)>,
}

/// What is broken now.
struct Judged {
    /// But for what is excepted or off.
    found: Vec<Finding>,
    /// What happened once and is not over, all of it.
    happened: Vec<Finding>,
}

/// A key that is there, and what happened to it.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) key: &'a Key,
    /// As it was before the run.
    pub(super) before: Option<&'a Key>,
    /// Whether an event tells that its last use is another: not what a notice tells of all keys.
    pub(super) use_moved: bool,
    /// Whether we ourselves use it, or did until now: then its use says nothing.
    pub(super) own: bool,
}

/// What judging goes by.
pub(super) struct Judging<'a> {
    pub(super) evaluation: Evaluation<'a>,
    pub(super) now: Timestamp,
    open: HashMap<(Option<&'a KeyId>, Rule), &'a OpenFinding>,
    exceptions: HashMap<&'a str, Vec<&'a Exception>>,
}

impl<'a> Evaluation<'a> {
    /// What opens and what closes at the end of a run, at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Difference {
        let judging = Judging::new(*self, now);
        let mut difference = Difference::default();
        let mut kept: HashSet<i64> = HashSet::new();
        let Judged { found, happened } = judging.judge();
        for finding in found {
            match judging.open(finding.key_id.as_ref(), finding.rule) {
                Some(open) if open.finding == finding => {
                    kept.insert(open.finding_id);
                }
                // Another since, severity or detail is another finding: what is recorded stays as it was.
                Some(_) | None => difference.opened.push(finding),
            }
        }
        let closed = self.past.open.iter().map(|open| open.finding_id);
        difference.closed = closed.filter(|finding_id| !kept.contains(finding_id)).collect();
        difference.closed.sort_unstable();
        difference.opened.sort_unstable_by(|a, b| (&a.key_id, a.rule).cmp(&(&b.key_id, b.rule)));
        self.remember(happened, &mut difference);
        difference
    }

    fn remember(&self, happened: Vec<Finding>, difference: &mut Difference) {
        let mut over: HashSet<&(KeyId, Rule)> = self.past.happened.keys().collect();
        for finding in happened {
            let Some(key_id) = finding.key_id.clone() else { continue };
            let of = (key_id, finding.rule);
            over.remove(&of);
            let known = self.past.happened.get(&of);
            if known.is_none_or(|known| known.finding != finding) {
                difference.happened.push(finding);
            }
        }
        difference.happened.sort_unstable_by(|a, b| (&a.key_id, a.rule).cmp(&(&b.key_id, b.rule)));
        difference.over = over.into_iter().cloned().collect();
        difference.over.sort_unstable();
    }

    /// Everything that is broken at `now`, in no order.
    #[must_use]
    pub fn findings(&self, now: Timestamp) -> Vec<Finding> {
        Judging::new(*self, now).judge().found
    }

    /// Each key that is there after the run.
    fn subjects(&self) -> impl Iterator<Item = Subject<'a>> {
        let Self { before, changes, .. } = *self;
        let own = |id: &KeyId| {
            changes.own_key.as_ref() == Some(id) || before.own_key.as_ref() == Some(id)
        };
        let altered = changes.altered.iter().map(|alteration| &alteration.key.id);
        let touched: HashSet<&KeyId> =
            altered.chain(changes.removed.iter().map(|key| &key.id)).collect();
        let untouched = before.keys.values().filter(move |key| !touched.contains(&key.id));
        let untouched = untouched.map(move |key| Subject {
            key,
            before: Some(key),
            use_moved: false,
            own: own(&key.id),
        });
        let altered = changes.altered.iter().map(move |alteration| {
            let mut told = alteration.changes.iter();
            Subject {
                key: &alteration.key,
                before: before.keys.get(&alteration.key.id),
                use_moved: told.any(|change| change.field == Column::LastUsedAt.name()),
                own: own(&alteration.key.id),
            }
        });
        let appeared = changes.appeared.iter().map(move |appearance| {
            let key = appearance.key();
            Subject { key, before: None, use_moved: false, own: own(&key.id) }
        });
        untouched.chain(altered).chain(appeared)
    }
}

impl<'a> Judging<'a> {
    fn new(evaluation: Evaluation<'a>, now: Timestamp) -> Self {
        let open = evaluation.past.open.iter();
        let open = open.map(|open| ((open.finding.key_id.as_ref(), open.finding.rule), open));
        let mut exceptions: HashMap<&str, Vec<&Exception>> = HashMap::new();
        for exception in &evaluation.rules.exceptions {
            if exception.is_of(evaluation.organization) && exception.is_in_force(now) {
                exceptions.entry(&exception.key_id).or_default().push(exception);
            }
        }
        Self { open: open.collect(), exceptions, evaluation, now }
    }

    fn judge(&self) -> Judged {
        let mut found = Vec::new();
        let wanted = |rule: &Rule| !self.evaluation.rules.disabled.contains(rule);
        let rules: Vec<_> = super::key_rules::KEY_RULES
            .into_iter()
            .filter(|(rule, _)| (wanted(rule) || rule.happens_once()) && self.can_tell(*rule))
            .collect();
        let subjects: Vec<Subject<'_>> = self.evaluation.subjects().collect();
        for subject in &subjects {
            for (rule, broken) in &rules {
                found.extend(broken(self, subject, *rule));
            }
        }
        if wanted(&Rule::SameNameAndOwner) {
            self.same_name_and_owner(&subjects, &mut found);
        }
        if wanted(&Rule::TooManyAdminKeys) {
            found.extend(self.too_many_admin_keys(&subjects));
        }
        // An exception hides what happened, and does not undo it.
        let happened: Vec<Finding> =
            found.iter().filter(|finding| finding.rule.happens_once()).cloned().collect();
        found.retain(|finding| wanted(&finding.rule) && !self.is_excepted(finding));
        Judged { found, happened }
    }

    /// Whether the API sends what the rule goes by. A value that it does not send is no value that is missing.
    fn can_tell(&self, rule: Rule) -> bool {
        let fields = &self.evaluation.changes.fields;
        let sends = |field: &str| matches!(fields.get(field), Some(Sent::Always | Sent::Sometimes));
        match rule {
            Rule::NeverUsed | Rule::Unused => sends(Column::LastUsedAt.name()),
            Rule::NeverExpires => sends(Column::ExpiresAt.name()),
            Rule::NoName => sends(Column::Name.name()),
            Rule::OwnerMissing => {
                let own = [Column::OwnerId.name(), Column::OwnerName.name(), "owner"];
                own.into_iter().any(sends)
            }
            _ => true,
        }
    }

    fn is_excepted(&self, finding: &Finding) -> bool {
        let exceptions = finding.key_id.as_ref().and_then(|id| self.exceptions.get(id.as_str()));
        exceptions.is_some_and(|some| some.iter().any(|exception| exception.covers(finding.rule)))
    }

    pub(super) fn open(&self, key_id: Option<&KeyId>, rule: Rule) -> Option<&'a OpenFinding> {
        self.open.get(&(key_id, rule)).copied()
    }

    /// What happened to a key and is remembered.
    pub(super) fn happened(&self, key_id: &KeyId, rule: Rule) -> Option<&'a Happening> {
        self.evaluation.past.happened.get(&(key_id.clone(), rule))
    }

    /// When a key was made, or else first seen; `None` for one that is new.
    pub(super) fn born(&self, key: &Key) -> Option<Timestamp> {
        key.created_at.or_else(|| self.evaluation.past.first_seen.get(&key.id).copied())
    }

    /// When a state became true that shows no time of its own: when the key was made, if nobody saw it otherwise.
    pub(super) fn state_since(
        &self,
        subject: &Subject<'_>,
        rule: Rule,
        was_so: impl Fn(&Key) -> bool,
    ) -> Timestamp {
        if let Some(open) = self.open(Some(&subject.key.id), rule) {
            return open.finding.since;
        }
        match subject.before {
            Some(before) if !was_so(before) => self.now,
            _ => self.born(subject.key).unwrap_or(self.now).min(self.now),
        }
    }

    pub(super) fn finding(
        rule: Rule,
        key: &Key,
        since: Timestamp,
        detail: impl Into<String>,
    ) -> Finding {
        Finding {
            key_id: Some(key.id.clone()),
            rule,
            severity: rule.severity(),
            since,
            detail: detail.into(),
            memory: None,
        }
    }
}
