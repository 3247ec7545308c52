//! A whole organization judged at once: what judging only some of its keys has to come to.

use std::collections::HashSet;

use crate::clock::Timestamp;
use crate::findings::{Basis, Difference, Finding, Judgement, Past, Rules, Subject};
use crate::inventory::{Changes, Column, Key, KeyId, Scope, Snapshot};

/// An organization as a run found it.
#[derive(Clone, Copy)]
pub(crate) struct Evaluation<'a> {
    pub(crate) organization: &'a str,
    pub(crate) rules: &'a Rules,
    /// As it was: all keys.
    pub(crate) before: &'a Snapshot,
    pub(crate) changes: &'a Changes,
    pub(crate) past: &'a Past,
}

impl Evaluation<'_> {
    /// What opens and what closes at the end of a run, at `now`.
    pub(crate) fn at(&self, now: Timestamp) -> Difference {
        self.judge(self.past, now)
    }

    /// Everything that is broken at `now`, in no order.
    pub(crate) fn findings(&self, now: Timestamp) -> Vec<Finding> {
        let difference = self.judge(self.past, now);
        let closed: HashSet<i64> = difference.closed.iter().copied().collect();
        let open = self.past.open.iter().filter(|open| !closed.contains(&open.finding_id));
        open.map(|open| open.finding.clone()).chain(difference.opened).collect()
    }

    fn judge(&self, past: &Past, now: Timestamp) -> Difference {
        let Self { organization, rules, before, changes, .. } = *self;
        let own = [changes.own_key.as_ref(), before.own_key.as_ref()];
        let basis = Basis { organization, rules, fields: &changes.fields, own };
        let appeared: Vec<Key> = changes.appeared.all().iter().map(|it| it.key().clone()).collect();
        let subjects = self.subjects(&appeared);
        let Judgement { mut difference, .. } = basis.judge(&subjects, past, now);
        let keys: Vec<&Key> = subjects.iter().map(|subject| subject.key).collect();
        let namesakes = basis.judge_namesakes(&keys, past, now);
        let mut born: Vec<Timestamp> = keys
            .iter()
            .filter(|key| key.scope == Scope::Admin)
            .map(|key| {
                let seen = past.first_seen.get(&key.id).copied();
                key.created_at.or(seen).unwrap_or(now)
            })
            .collect();
        born.sort_unstable();
        let most = usize::try_from(rules.max_admin_keys).unwrap();
        let began = born.get(most).copied().filter(|_| basis.are_too_many(born.len()));
        let number = basis.judge_number(began, past, now);
        for more in [namesakes, number] {
            difference.opened.extend(more.opened);
            difference.closed.extend(more.closed);
        }
        difference.closed.sort_unstable();
        difference.closed.dedup();
        difference.opened.sort_unstable_by(|a, b| (&a.key_id, a.rule).cmp(&(&b.key_id, b.rule)));
        difference
    }

    /// Each key that is there after the run.
    fn subjects<'k>(&'k self, appeared: &'k [Key]) -> Vec<Subject<'k>> {
        let Self { before, changes, .. } = *self;
        let altered = changes.altered.iter().map(|alteration| &alteration.key.id);
        let touched: HashSet<&KeyId> =
            altered.chain(changes.removed.iter().map(|key| &key.id)).collect();
        let untouched = before.keys.values().filter(|key| !touched.contains(&key.id));
        let untouched = untouched.map(|key| Subject { key, before: Some(key), use_moved: false });
        let altered = changes.altered.iter().map(|alteration| {
            let mut told = alteration.changes.iter();
            Subject {
                key: &alteration.key,
                before: before.keys.get(&alteration.key.id),
                use_moved: told.any(|change| change.field == Column::LastUsedAt.name()),
            }
        });
        let appeared = appeared.iter().map(|key| Subject { key, before: None, use_moved: false });
        untouched.chain(altered).chain(appeared).collect()
    }
}
