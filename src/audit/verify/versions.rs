//! What the past is asked for by, beside the events: the versions of keys, and the numbers that runs give for them.
//!
//! No view shows these, so that only whoever reads the file itself can hold them against the history. They may
//! not say of the past what the history does not.

use std::collections::{BTreeMap, BTreeSet};

use super::{Chain, Problem, Verifier};
use crate::audit::record::{NoticeRecord, RunRecord, VersionRecord};
use crate::inventory::{Key, KeyId, field_changes};

/// Something by which the past is asked for that does not follow from the history.
pub(super) struct WrongIndex {
    pub(super) organization: String,
    pub(super) problem: Problem,
    pub(super) good_until: Option<(i64, String)>,
}

impl Verifier<'_> {
    /// The versions that the current run made, those apart that one of its events shows in full.
    pub fn versions(&mut self, versions: Vec<VersionRecord>) {
        if let Some(current) = self.current.as_mut() {
            current.versions = Some(versions);
        }
    }

    /// A `used` event that is told of another version of its key than the one in force then.
    pub fn misread(&mut self, organization: String, run_id: i64, event_id: i64) {
        let what =
            format!("event {event_id} is told of a version of its key that was not in force");
        let problem = Problem { run_id: Some(run_id), what };
        self.wrong_versions.push(WrongIndex { organization, problem, good_until: None });
    }

    /// A key of which something is stored that no view shows.
    pub fn hidden(&mut self, organization: String, key_id: &str) {
        let what = format!("of key `{key_id}`, a value is stored that cannot be shown");
        let problem = Problem { run_id: None, what };
        self.wrong_versions.push(WrongIndex { organization, problem, good_until: None });
    }

    /// A run of which a number is not what the counts and events of all runs up to it say.
    /// `good_until` is the run before it.
    pub fn wrong_number(
        &mut self,
        organization: String,
        run_id: i64,
        number: &str,
        good_until: Option<(i64, String)>,
    ) {
        let what =
            format!("its `{number}`, by which the past is asked for, is not what its events say");
        let problem = Problem { run_id: Some(run_id), what };
        self.wrong_numbers.push(WrongIndex { organization, problem, good_until });
    }
}

impl Chain {
    /// The keys of which notices tell, as they are before that.
    pub(super) fn before_notices(&self, notices: &[NoticeRecord]) -> BTreeMap<KeyId, Key> {
        let told = notices.iter().filter(|notice| {
            !["own_key", "unconfirmed"].contains(&notice.kind.as_str())
                && notice.field != "last_used_at"
        });
        let ids =
            told.flat_map(|notice| &notice.changes).filter_map(|change| KeyId::new(&change.key_id));
        ids.filter_map(|id| Some((id.clone(), self.replay.present(&id)?.clone()))).collect()
    }

    /// The first version of a run that is not the key as the history tells of it, or that is missing.
    pub(super) fn find_wrong_version(
        &self,
        run: &RunRecord,
        versions: Option<Vec<VersionRecord>>,
        before: BTreeMap<KeyId, Key>,
    ) -> Option<WrongIndex> {
        // The past from before the chain, and that of pruned organizations, is asked of events alone.
        let versions = versions.filter(|_| run.digest.is_some() && self.horizons.newest() == 0)?;
        let wrong = |id: &str, why: &str| {
            let what = format!(
                "key `{id}` as it was then is kept in a way that does not follow from the history: {why}"
            );
            let organization = self.verdict.organization.clone();
            let problem = Problem { run_id: Some(run.run_id), what };
            WrongIndex { organization, problem, good_until: self.verdict.good_until.clone() }
        };
        let mut made = BTreeSet::new();
        for version in versions {
            if version.organization != run.organization {
                return Some(wrong(&version.key_id, "it is of another organization"));
            }
            match version.key.as_ref().map(|key| self.replay.holds_version(key)) {
                Some(Ok(())) => made.insert(version.key_id),
                Some(Err(why)) => return Some(wrong(&version.key_id, &why)),
                None => return Some(wrong(&version.key_id, "it cannot be read")),
            };
        }
        let is_missing = |(id, before): &(KeyId, Key)| {
            let now = self.replay.present(id);
            !made.contains(id.as_str())
                && now.is_some_and(|now| !field_changes(before, now).is_empty())
        };
        let missing = before.into_iter().find(is_missing);
        missing.map(|(id, _)| wrong(id.as_str(), "what changed is missing"))
    }
}
