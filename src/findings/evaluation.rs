//! Judging keys, and what is different from what was open before.
//!
//! A run does not judge every key. What is found of one depends on the key, on what was found before, on the basis
//! ([`Basis::digest`]) and on the time; so that a key which is as it was, on the same basis, is judged again only
//! when it is due: at the first moment at which a rule may come to another answer.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

use super::key_rules::{KEY_RULES, KeyRule};
use super::rule::Rule;
use super::rules::{Exception, Rules};
use super::{Finding, Happening, OpenFinding, Past};
use crate::clock::Timestamp;
use crate::inventory::{Column, FieldStates, Key, KeyId, Sent};

/// By what the keys of an organization are judged, but for the time.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    pub organization: &'a str,
    pub rules: &'a Rules,
    /// How the admin list sends each field.
    pub fields: &'a FieldStates,
    /// The key that we ourselves use, and the one that we used until now: its use says nothing.
    pub own: [Option<&'a KeyId>; 2],
}

/// A key that is there, and what happened to it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub key: &'a Key,
    /// As it was before the run.
    pub before: Option<&'a Key>,
    /// Whether an event tells that its last use is another: not what a notice tells of all keys.
    pub use_moved: bool,
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

/// What became of some keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    pub difference: Difference,
    /// When each of them is to be judged again, in their order. `None`: not by the passing of time.
    pub due: Vec<Option<Timestamp>>,
}

/// What judging some keys goes by.
pub(super) struct Judging<'a> {
    pub(super) basis: Basis<'a>,
    pub(super) past: &'a Past,
    pub(super) now: Timestamp,
    open: HashMap<(Option<&'a KeyId>, Rule), &'a OpenFinding>,
    exceptions: HashMap<&'a str, Vec<&'a Exception>>,
    /// When the key in hand is to be judged again.
    due: Cell<Option<Timestamp>>,
}

impl<'a> Basis<'a> {
    /// Everything but keys and time that judging goes by, told apart by a text. Exceptions as of `now`.
    #[must_use]
    pub fn digest(&self, now: Timestamp) -> String {
        let exceptions: Vec<_> =
            self.exceptions(now).map(|exception| (&exception.key_id, exception.rule)).collect();
        let measures = Rules { exceptions: Vec::new(), ..self.rules.clone() };
        let telling: Vec<Rule> =
            Rule::ALL.into_iter().filter(|rule| self.can_tell(*rule)).collect();
        // Another version may judge otherwise.
        let version = env!("CARGO_PKG_VERSION");
        let text = format!("{version} {measures:?} {exceptions:?} {telling:?}");
        HEXLOWER.encode(&digest(&SHA256, text.as_bytes()).as_ref()[..16])
    }

    /// What opens and closes of what these keys break by themselves, at the end of a run, at `now`. `past` has all
    /// that is known of them.
    #[must_use]
    pub fn judge(&self, subjects: &[Subject<'_>], past: &Past, now: Timestamp) -> Judgement {
        let judging = Judging::new(*self, past, now);
        let rules: Vec<(Rule, KeyRule)> = KEY_RULES
            .into_iter()
            .filter(|(rule, _)| (self.wants(*rule) || rule.happens_once()) && self.can_tell(*rule))
            .collect();
        let mut found = Vec::new();
        let mut due = Vec::with_capacity(subjects.len());
        for subject in subjects {
            due.push(judging.judge(subject, &rules, &mut found));
        }
        // An exception hides what happened, and does not undo it.
        let happened: Vec<Finding> =
            found.iter().filter(|finding| finding.rule.happens_once()).cloned().collect();
        let mut difference = judging.compare(found, |rule| !rule.is_of_the_list());
        judging.remember(happened, &mut difference);
        Judgement { difference, due }
    }

    /// What opens and closes of [`Rule::SameNameAndOwner`]: `keys` are all that share a name and an owner with one
    /// of them, and `past` knows of others that did until now.
    #[must_use]
    pub fn judge_namesakes(&self, keys: &[&Key], past: &Past, now: Timestamp) -> Difference {
        let judging = Judging::new(*self, past, now);
        let mut found = Vec::new();
        if self.wants(Rule::SameNameAndOwner) {
            judging.same_name_and_owner(keys, &mut found);
        }
        judging.compare(found, |rule| rule == Rule::SameNameAndOwner)
    }

    /// What opens and closes of [`Rule::TooManyAdminKeys`]. `began`: when the first one too many was made; `None` if
    /// there are not too many.
    #[must_use]
    pub fn judge_number(
        &self,
        began: Option<Timestamp>,
        past: &Past,
        now: Timestamp,
    ) -> Difference {
        let judging = Judging::new(*self, past, now);
        let found = began.map(|began| judging.too_many_admin_keys(began));
        judging.compare(found.into_iter().collect(), |rule| rule == Rule::TooManyAdminKeys)
    }

    /// Whether so many admin keys are too many.
    #[must_use]
    pub fn are_too_many(&self, admin_keys: usize) -> bool {
        let most = usize::try_from(self.rules.max_admin_keys).unwrap_or(usize::MAX);
        self.wants(Rule::TooManyAdminKeys) && admin_keys > most
    }

    /// Whether the finding says just that.
    #[must_use]
    pub fn tells_the_number(&self, finding: &Finding) -> bool {
        finding.rule == Rule::TooManyAdminKeys && finding.detail == too_many(self.rules)
    }

    /// Whether there is an exception to the rule.
    #[must_use]
    pub fn excepts(&self, rule: Rule, now: Timestamp) -> bool {
        self.exceptions(now).any(|exception| exception.covers(rule))
    }

    /// Those that are in force.
    fn exceptions(self, now: Timestamp) -> impl Iterator<Item = &'a Exception> {
        let exceptions = self.rules.exceptions.iter();
        exceptions.filter(move |it| it.is_of(self.organization) && it.is_in_force(now))
    }

    pub(super) fn wants(&self, rule: Rule) -> bool {
        !self.rules.disabled.contains(&rule)
    }

    fn is_own(&self, id: &KeyId) -> bool {
        self.own.contains(&Some(id))
    }

    /// Whether the API sends what the rule goes by. A value that it does not send is no value that is missing.
    fn can_tell(&self, rule: Rule) -> bool {
        let sends =
            |field: &str| matches!(self.fields.get(field), Some(Sent::Always | Sent::Sometimes));
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
}

impl<'a> Judging<'a> {
    fn new(basis: Basis<'a>, past: &'a Past, now: Timestamp) -> Self {
        let open = past.open.iter();
        let open = open.map(|open| ((open.finding.key_id.as_ref(), open.finding.rule), open));
        let mut exceptions: HashMap<&str, Vec<&Exception>> = HashMap::new();
        for exception in basis.exceptions(now) {
            exceptions.entry(&exception.key_id).or_default().push(exception);
        }
        Self { open: open.collect(), exceptions, basis, past, now, due: Cell::new(None) }
    }

    /// Puts what the key breaks to `found`, and tells when it is due again.
    fn judge(
        &self,
        subject: &Subject<'_>,
        rules: &[(Rule, KeyRule)],
        found: &mut Vec<Finding>,
    ) -> Option<Timestamp> {
        self.due.set(None);
        for (rule, broken) in rules {
            found.extend(broken(self, subject, *rule));
        }
        // From then on it is no namesake of others.
        if let Some(expires_at) = subject.key.expires_at {
            self.reached(expires_at);
        }
        // It may be somebody else's by the next run.
        if self.is_own(subject) { Some(self.now) } else { self.due.get() }
    }

    /// Whether that time has come; if not, the key in hand is due then.
    pub(super) fn reached(&self, at: Timestamp) -> bool {
        if self.now >= at {
            return true;
        }
        self.due.set(Some(self.due.get().map_or(at, |due| due.min(at))));
        false
    }

    /// Whether we ourselves use the key, or did until now: then its use says nothing.
    pub(super) fn is_own(&self, subject: &Subject<'_>) -> bool {
        self.basis.is_own(&subject.key.id)
    }

    /// What is found and not open, and what is open and no longer found, by the rules that are `concerned`.
    fn compare(&self, found: Vec<Finding>, concerned: impl Fn(Rule) -> bool) -> Difference {
        let mut difference = Difference::default();
        let mut kept: HashSet<i64> = HashSet::new();
        for finding in found {
            if !self.basis.wants(finding.rule) || self.is_excepted(&finding) {
                continue;
            }
            match self.open(finding.key_id.as_ref(), finding.rule) {
                Some(open) if open.finding == finding => {
                    kept.insert(open.finding_id);
                }
                // Another since, severity or detail is another finding: what is recorded stays as it was.
                Some(_) | None => difference.opened.push(finding),
            }
        }
        let open = self.past.open.iter().filter(|open| concerned(open.finding.rule));
        let closed = open.map(|open| open.finding_id);
        difference.closed = closed.filter(|finding_id| !kept.contains(finding_id)).collect();
        difference.closed.sort_unstable();
        difference.opened.sort_unstable_by(|a, b| (&a.key_id, a.rule).cmp(&(&b.key_id, b.rule)));
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

    fn is_excepted(&self, finding: &Finding) -> bool {
        let exceptions = finding.key_id.as_ref().and_then(|id| self.exceptions.get(id.as_str()));
        exceptions.is_some_and(|some| some.iter().any(|exception| exception.covers(finding.rule)))
    }

    pub(super) fn open(&self, key_id: Option<&KeyId>, rule: Rule) -> Option<&'a OpenFinding> {
        self.open.get(&(key_id, rule)).copied()
    }

    /// What happened to a key and is remembered.
    pub(super) fn happened(&self, key_id: &KeyId, rule: Rule) -> Option<&'a Happening> {
        if self.past.happened.is_empty() {
            return None;
        }
        self.past.happened.get(&(key_id.clone(), rule))
    }

    /// When a key was made, or else first seen; `None` for one that is new.
    pub(super) fn born(&self, key: &Key) -> Option<Timestamp> {
        key.created_at.or_else(|| self.past.first_seen.get(&key.id).copied())
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
        Finding { key_id: Some(key.id.clone()), ..Finding::new(rule, since, detail) }
    }
}

/// What is said of [`Rule::TooManyAdminKeys`].
pub(super) fn too_many(rules: &Rules) -> String {
    format!("more than {} admin keys", rules.max_admin_keys)
}
