//! The rules that only the whole list shows to be broken.

use std::collections::HashMap;

use super::Finding;
use super::evaluation::{Basis, Judging, too_many};
use super::rule::Rule;
use crate::clock::Timestamp;
use crate::inventory::{Key, KeyId, Namesake};
use crate::output::harmless;

/// Most names are of one key alone.
enum Namesakes<'a> {
    One(&'a Key),
    Several(Vec<&'a Key>),
}

impl Judging<'_> {
    /// Live keys that have a newer one of the same name and owner beside them: a rotation that is not finished.
    pub(super) fn same_name_and_owner(&self, keys: &[&Key], found: &mut Vec<Finding>) {
        let is_live = |key: &&Key| key.expires_at.is_none_or(|at| self.now < at);
        let mut places: HashMap<Namesake<'_>, Namesakes<'_>> = HashMap::new();
        for key in keys.iter().copied().filter(is_live) {
            let Some(place) = key.namesake() else { continue };
            let entry = places.entry(place);
            entry.and_modify(|namesakes| namesakes.add(key)).or_insert(Namesakes::One(key));
        }
        for namesakes in places.into_values() {
            if let Namesakes::Several(keys) = namesakes {
                self.judge_namesakes(keys, found);
            }
        }
    }

    fn judge_namesakes(&self, mut keys: Vec<&Key>, found: &mut Vec<Finding>) {
        // Those of which it is not known count as the oldest.
        keys.sort_unstable_by_key(|key| (key.created_at, &key.id));
        let Some(newest) = keys.last() else { return };
        let detail = newer(&newest.id);
        for pair in keys.windows(2) {
            let (key, next) = (pair[0], pair[1]);
            // When both were there.
            let both = self.born(next).map(|born| self.born(key).map_or(born, |own| own.max(born)));
            let since = self.since(Some(key), Rule::SameNameAndOwner, &detail, both);
            found.push(Self::finding(Rule::SameNameAndOwner, key, since, detail.clone()));
        }
    }

    /// That the organization has more admin keys than it should, since the first one too many was made.
    pub(super) fn too_many_admin_keys(&self, began: Timestamp) -> Finding {
        let detail = too_many(self.basis.rules);
        let rule = Rule::TooManyAdminKeys;
        let since = self.since(None, rule, &detail, Some(began));
        Finding::new(rule, since, detail)
    }

    /// Since when: as it was said before, if the same was said.
    fn since(
        &self,
        key: Option<&Key>,
        rule: Rule,
        detail: &str,
        began: Option<Timestamp>,
    ) -> Timestamp {
        let open = self.open(key.map(|key| &key.id), rule);
        match open.filter(|open| open.finding.detail == detail) {
            Some(open) => open.finding.since,
            None => began.unwrap_or(self.now).min(self.now),
        }
    }
}

impl Basis<'_> {
    /// What opens of [`Rule::SameNameAndOwner`] where all keys of one name and owner are new. `born`: when each was
    /// made, or first seen, with the newest at last. A finding for each but this one, without the id of its key.
    #[must_use]
    pub fn judge_new_namesakes(
        &self,
        born: &[Timestamp],
        newest: &KeyId,
        now: Timestamp,
    ) -> Vec<Finding> {
        let rule = Rule::SameNameAndOwner;
        if !self.wants(rule) {
            return Vec::new();
        }
        let detail = newer(newest);
        let both = born.windows(2).map(|pair| pair[0].max(pair[1]).min(now));
        both.map(|since| Finding::new(rule, since, detail.as_str())).collect()
    }
}

fn newer(newest: &KeyId) -> String {
    format!("`{}` is newer, with the same name and owner", harmless(newest.as_str()))
}

impl<'a> Namesakes<'a> {
    fn add(&mut self, key: &'a Key) {
        match self {
            Self::One(one) => *self = Self::Several(vec![one, key]),
            Self::Several(several) => several.push(key),
        }
    }
}
