//! What a verifier has to know of histories that are pruned, and of people who were forgotten.

use std::collections::{BTreeMap, BTreeSet};

use super::{Chain, Problem, Verifier};
use crate::audit::keyframe::{KeyframeRecord, Pruning, keyframe_digest};
use crate::audit::link::PartDigest;
use crate::audit::record::{InventoryRecord, RunRecord};
use crate::audit::replay::Replay;

impl Verifier<'_> {
    /// What the newest act says that pruned an organization, if one did, and what is kept of it (none if it
    /// cannot be read). To be told before the first run.
    pub fn pruned(
        &mut self,
        organization: &str,
        pruning: Option<Pruning>,
        keyframe: Option<Vec<KeyframeRecord>>,
    ) {
        let Some(chain) = self.chains.get_mut(organization) else { return };
        chain.horizons = pruning.map(|pruning| pruning.horizons).unwrap_or_default();
        chain.keyframe = match (pruning, keyframe) {
            (Some(pruning), Some(keyframe)) if keyframe_digest(&keyframe) == pruning.keyframe => {
                Some(Ok(keyframe))
            }
            (Some(_), _) => Some(Err("the keyframe was edited".to_owned())),
            (None, Some(keyframe)) if keyframe.is_empty() => None,
            (None, _) => Some(Err("a keyframe was inserted".to_owned())),
        };
    }

    /// The owners of an organization who were forgotten. To be told before the first run.
    pub fn forgotten(&mut self, organization: &str, owner_ids: BTreeSet<String>) {
        if let Some(chain) = self.chains.get_mut(organization) {
            chain.forgotten.clone_from(&owner_ids);
            chain.replay.forget(owner_ids);
        }
    }

    /// How many erased values name each act. To be told before the first act.
    pub fn erased(&mut self, places: BTreeMap<i64, i64>) {
        self.erased = Some(places);
    }

    /// Wants the inventory after a run of an organization: see [`Self::into_inventory`].
    pub fn want(&mut self, organization: &str, run_id: i64) {
        if let Some(chain) = self.chains.get_mut(organization) {
            chain.wanted = Some((run_id, Vec::new()));
        }
    }

    /// The inventory that was wanted, each key with whether it was unconfirmed; or what does not hold.
    pub fn into_inventory(
        mut self,
        organization: &str,
    ) -> Result<Vec<(InventoryRecord, bool)>, Problem> {
        let none = || Problem { run_id: None, what: "it is not there".to_owned() };
        let chain = self.chains.remove(organization).ok_or_else(none)?;
        match chain.verdict.problem {
            Some(problem) => Err(problem),
            None => Ok(chain.wanted.ok_or_else(none)?.1),
        }
    }

    /// A value that an act of another organization is said to have erased.
    pub fn misplaced(&mut self, organization: &str, act_id: i64) {
        if let Some(chain) = self.chains.get_mut(organization) {
            let what =
                format!("a value is marked as erased by act {act_id}, of another organization");
            chain.fail(None, &what);
        }
    }
}

impl Chain {
    /// The parts of a run, those that are pruned as they are kept beside it; and what is there nonetheless.
    pub(super) fn put_back(
        &self,
        run: &RunRecord,
        found: &[PartDigest],
    ) -> (Vec<PartDigest>, Option<String>) {
        let is_gone = |part: &PartDigest| self.horizons.cover(part.part, run.run_id);
        let inserted = found.iter().find(|part| is_gone(part)).map(|part| {
            let part = part.part.as_str();
            format!("its `{part}` are pruned, and yet some are there: they were inserted")
        });
        let mut parts: Vec<PartDigest> =
            found.iter().filter(|part| !is_gone(part)).copied().collect();
        parts.extend(run.parts.iter().filter(|part| is_gone(part)));
        parts.sort_by_key(|part| part.part);
        (parts, inserted)
    }

    /// Begins the replay at the keyframe, behind its run.
    pub(super) fn resume(&mut self, run: &RunRecord) -> Option<String> {
        if run.run_id != self.horizons.newest() {
            return None;
        }
        match self.keyframe.take()? {
            Err(what) => Some(what),
            Ok(keyframe) => {
                let keys = keyframe.into_iter().map(|key| (key.record, key.unconfirmed));
                let last_ok = Some(run.finished_at.clone());
                self.replay = Replay::resume(keys, last_ok, self.forgotten.clone());
                None
            }
        }
    }

    pub(super) fn keep_wanted(&mut self, run: &RunRecord) {
        let Some((run_id, inventory)) = &mut self.wanted else { return };
        if *run_id == run.run_id {
            *inventory = self.replay.records();
            if self.unchained.is_some() {
                // No history from before the chain tells which keys were unconfirmed.
                for (key, _) in inventory {
                    key.last_seen_at = None;
                }
            }
        }
    }
}
