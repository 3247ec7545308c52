//! The rules that only the whole list shows to be broken.

use std::collections::HashMap;

use super::Finding;
use super::evaluation::{Judging, Subject};
use super::rule::Rule;
use crate::clock::Timestamp;
use crate::inventory::{Key, Scope, is_erased};
use crate::output::harmless;

/// Where keys of one name and owner stand for each other.
type Place<'a> = (Scope, Option<&'a str>, &'a str, &'a str);

/// Most names are of one key alone.
enum Namesakes<'a> {
    One(&'a Key),
    Several(Vec<&'a Key>),
}

fn place(key: &Key) -> Option<Place<'_>> {
    let name = key.name.as_deref().filter(|name| !name.trim().is_empty())?;
    let owner_name = key.owner_name.as_deref().filter(|name| !is_erased(Some(name)));
    let owner = key.owner_id.as_deref().or(owner_name)?;
    Some((key.scope, key.project_id.as_deref(), owner, name))
}

impl<'a> Judging<'a> {
    /// Live keys that have a newer one of the same name and owner beside them: a rotation that is not finished.
    pub(super) fn same_name_and_owner(&self, subjects: &[Subject<'a>], found: &mut Vec<Finding>) {
        let is_live = |key: &&Key| key.expires_at.is_none_or(|at| self.now < at);
        let mut places: HashMap<Place<'a>, Namesakes<'a>> = HashMap::new();
        for key in subjects.iter().map(|subject| subject.key).filter(is_live) {
            let Some(place) = place(key) else { continue };
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
        let newest = format!("`{}`", harmless(newest.id.as_str()));
        for pair in keys.windows(2) {
            let (key, next) = (pair[0], pair[1]);
            let detail = format!("{newest} is newer, with the same name and owner");
            // When both were there.
            let both = self.born(next).map(|born| self.born(key).map_or(born, |own| own.max(born)));
            let since = self.since(Some(key), Rule::SameNameAndOwner, &detail, both);
            found.push(Self::finding(Rule::SameNameAndOwner, key, since, detail));
        }
    }

    /// That the organization has more admin keys than it should.
    pub(super) fn too_many_admin_keys(&self, subjects: &[Subject<'a>]) -> Option<Finding> {
        let most = self.evaluation.rules.max_admin_keys;
        let admin = subjects.iter().filter(|subject| subject.key.scope == Scope::Admin);
        let mut born: Vec<Timestamp> =
            admin.map(|subject| self.born(subject.key).unwrap_or(self.now)).collect();
        let at = usize::try_from(most).ok().filter(|most| born.len() > *most)?;
        let (_, first_too_many, _) = born.select_nth_unstable(at);
        let detail = format!("more than {most} admin keys");
        let rule = Rule::TooManyAdminKeys;
        let since = self.since(None, rule, &detail, Some(*first_too_many));
        let severity = rule.severity();
        Some(Finding { key_id: None, rule, severity, since, detail, memory: None })
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

impl<'a> Namesakes<'a> {
    fn add(&mut self, key: &'a Key) {
        match self {
            Self::One(one) => *self = Self::Several(vec![one, key]),
            Self::Several(several) => several.push(key),
        }
    }
}
