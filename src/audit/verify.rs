//! Reads a history from its beginning and says how far it holds.
//!
//! Three things are held against each other: the chain (each link's digest, computed anew from what the views
//! show), the replay (each event must follow from the ones before it), and the inventory (it must be what the
//! replay leads to). The first thing that does not hold ends the reading of its organization.

mod attribution;
mod chain;
mod retention;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

use super::attribution::AttributionRecord;
use super::keyframe::{Horizons, KeyframeRecord};
use super::link::{Digest, Link, Part, PartHasher};
use super::record::{
    ActRecord, EventRecord, InventoryRecord, NoticeRecord, RunRecord, VersionRecord,
};
use super::replay::Replay;
use crate::clock::Timestamp;
use crate::inventory::KeyId;
use versions::WrongIndex;

/// The first thing of an organization's history that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The first bad run; none where it is not of any run.
    pub run_id: Option<i64>,
    pub what: String,
}

/// A time in which no run succeeded, longer than the schedule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// What came of reading one organization's history.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub organization: String,
    /// The name under which its chain began.
    pub origin: String,
    pub runs: u64,
    pub events: u64,
    /// Number and end of the first and the last run.
    pub first: Option<(i64, String)>,
    pub last: Option<(i64, String)>,
    /// The first run that is a link of the chain.
    pub chained_from: Option<i64>,
    /// The newest link and its digest.
    pub head: Option<(Link, Digest)>,
    pub gaps: Vec<Gap>,
    /// Whether something from before the chain is pruned, so that it cannot be held against what was adopted.
    pub adopted_unchecked: bool,
    pub acts: Vec<ActRecord>,
    pub problem: Option<Problem>,
    /// The last run up to which everything holds.
    pub good_until: Option<(i64, String)>,
}

impl Verdict {
    /// Of a history that could not be read at all.
    #[must_use]
    pub fn unread(organization: &str, why: &str) -> Self {
        Self::broken(organization, &format!("it cannot be read: {why}"))
    }

    /// Of a history of which nothing is good.
    #[must_use]
    pub fn broken(organization: &str, what: &str) -> Self {
        let problem = Problem { run_id: None, what: what.to_owned() };
        let mut chain = Chain::new(organization.to_owned(), organization.to_owned());
        chain.verdict.problem = Some(problem);
        chain.verdict
    }
}

/// Where a history is taken up that is not read from its beginning.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Start {
    /// The last run and the last event before it, of any organization.
    pub run_id: i64,
    pub event_id: i64,
    /// By the name of the organization.
    pub chains: BTreeMap<String, StartOfChain>,
}

/// The same of one organization.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct StartOfChain {
    /// The digest of the last link before, if there was one.
    pub digest: Option<String>,
    /// When the last `ok` run before ended.
    pub last_ok_at: Option<String>,
    /// The ids of owners who were forgotten, before or since.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub forgotten: BTreeSet<String>,
    /// What it was called there, if it had been renamed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it was called at the end, if it has been renamed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_after: Option<String>,
}

/// By the name of the organization, each key with whether it was missing then and not believed gone.
pub type Inventories = BTreeMap<String, Vec<(InventoryRecord, bool)>>;

/// Says until when the next success must have come, if an organization has a schedule.
pub type Overdue<'a> = dyn Fn(&str, Timestamp) -> Option<Timestamp> + Send + Sync + 'a;

/// Takes in a history in the order of its runs: for each [`Verifier::begin_run`], its events and notices,
/// [`Verifier::end_run`], then the acts behind it; in the end the inventory.
pub struct Verifier<'a> {
    chains: BTreeMap<String, Chain>,
    overdue: &'a Overdue<'a>,
    next_run_id: i64,
    last_event_id: i64,
    current: Option<Current>,
    /// How many erased values name each act.
    erased: Option<BTreeMap<i64, i64>>,
    /// What the past is asked for by, where it is not what the history says: by organization.
    wrong_numbers: Vec<WrongIndex>,
    wrong_versions: Vec<WrongIndex>,
}

impl std::fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("next_run_id", &self.next_run_id).finish_non_exhaustive()
    }
}

/// The run that is being read.
struct Current {
    run: RunRecord,
    horizons: Horizons,
    next_event_id: i64,
    hashers: [PartHasher; Part::ALL.len()],
    /// What is wrong with an event.
    problem: Option<String>,
    notices: Vec<NoticeRecord>,
    attributions: Vec<AttributionRecord>,
    /// The versions of keys that it made, where they are read as well.
    versions: Option<Vec<VersionRecord>>,
}

/// One organization on the way.
struct Chain {
    verdict: Verdict,
    /// What the history so far says that it is called, and what it must say in the end.
    named: String,
    called: String,
    head: Option<Digest>,
    /// The newest run that was read; 0 if there was none yet.
    last_run_id: i64,
    /// Runs up to here may be before it, and were not read.
    resumed_after: i64,
    replay: Replay,
    /// Events up to here may be before what is read, or pruned.
    unread_until: i64,
    /// Runs from before the chain, until they are adopted.
    unchained: Option<PartHasher>,
    last_success: Option<Timestamp>,
    checked: BTreeSet<KeyId>,
    forgotten: BTreeSet<String>,
    horizons: Horizons,
    /// Where the replay begins, if not with the first run; or what is wrong there.
    keyframe: Option<Result<Vec<KeyframeRecord>, String>>,
    /// The run after which the inventory is wanted, and what it was.
    wanted: Option<(i64, Vec<(InventoryRecord, bool)>)>,
    /// What was inserted without a place in the chain, by its run.
    strays: BTreeMap<i64, String>,
    /// What is wrong with a version of a key that the newest run made.
    wrong_version: Option<WrongIndex>,
}

impl<'a> Verifier<'a> {
    /// `organizations` are the names, and those under which their chains began.
    pub fn new(
        organizations: impl IntoIterator<Item = (String, String)>,
        overdue: &'a Overdue<'a>,
    ) -> Self {
        let chain = |(name, origin): (String, String)| (name.clone(), Chain::new(name, origin));
        Self {
            chains: organizations.into_iter().map(chain).collect(),
            overdue,
            next_run_id: 1,
            last_event_id: 0,
            current: None,
            erased: Some(BTreeMap::new()),
            wrong_numbers: Vec::new(),
            wrong_versions: Vec::new(),
        }
    }

    /// Takes up a history where `start` says, with the inventories of then.
    pub fn resume(mut self, start: &Start, mut inventories: Inventories) -> Result<Self, String> {
        // Of values that were erased, only those of the period are known.
        self.erased = None;
        self.next_run_id = start.run_id.saturating_add(1);
        self.last_event_id = start.event_id;
        let (before, last_event_id) = (start.run_id, start.event_id);
        for (name, start) in &start.chains {
            let chain = self.chains.get_mut(name).ok_or_else(|| format!("no chain of `{name}`"))?;
            let digest = start.digest.as_deref().map(str::parse).transpose();
            chain.head = digest.map_err(|()| format!("the digest of `{name}` cannot be read"))?;
            chain.resumed_after = before;
            if chain.head.is_some() {
                // Only a link renames: before the first one it has the name under which it began.
                chain.named.clone_from(start.name.as_ref().unwrap_or(&chain.verdict.origin));
            }
            chain.called = start.name_after.clone().unwrap_or_else(|| name.clone());
            chain.unread_until = last_event_id;
            chain.last_success = start.last_ok_at.as_deref().and_then(|at| at.parse().ok());
            let inventory = inventories.remove(name).unwrap_or_default();
            // All others were seen by the last run that succeeded.
            let is_late = |record: &InventoryRecord| {
                record.last_seen_at.is_some() && record.last_seen_at != start.last_ok_at
            };
            let odd = inventory.iter().find(|(record, unconfirmed)| {
                !unconfirmed && record.removed_at.is_none() && is_late(record)
            });
            if let Some((record, _)) = odd {
                return Err(format!("key `{}` was not seen at `last_ok_at`", record.key.id));
            }
            let forgotten = start.forgotten.clone();
            chain.forgotten.clone_from(&forgotten);
            chain.replay = Replay::resume(inventory, start.last_ok_at.clone(), forgotten);
        }
        Ok(self)
    }

    /// Where somebody else may take up all of the history: at its beginning.
    #[must_use]
    pub fn beginning(&self) -> Start {
        let forgotten = self.chains.iter().filter(|(_, chain)| !chain.forgotten.is_empty());
        let chains = forgotten.map(|(name, chain)| {
            let forgotten = chain.forgotten.clone();
            (name.clone(), StartOfChain { forgotten, ..StartOfChain::default() })
        });
        Start { chains: chains.collect(), ..Start::default() }
    }

    /// Where somebody else may take up the history, and the inventories there.
    #[must_use]
    pub fn pause(&self) -> (Start, Inventories) {
        let chains = self.chains.iter().map(|(name, chain)| {
            let start = StartOfChain {
                digest: chain.head.map(|digest| digest.to_string()),
                last_ok_at: chain.replay.last_ok().map(str::to_owned),
                forgotten: chain.forgotten.clone(),
                name: Some(chain.named.clone()).filter(|named| *named != chain.verdict.origin),
                name_after: None,
            };
            (name.clone(), start)
        });
        let start = Start {
            run_id: self.next_run_id - 1,
            event_id: self.last_event_id,
            chains: chains.collect(),
        };
        let inventory = |(name, chain): (&String, &Chain)| (name.clone(), chain.replay.records());
        (start, self.chains.iter().map(inventory).collect())
    }

    /// Ends a period of a history here, for somebody who does not see what follows: tells them in `start` what
    /// each organization is called here, and holds its name against the renames among the acts that follow.
    pub fn end_names<'r>(
        &mut self,
        start: &mut Start,
        later: impl IntoIterator<Item = &'r ActRecord>,
    ) {
        for (name, chain) in self.chains.iter().filter(|(name, chain)| chain.named != **name) {
            let of_chain = start.chains.entry(name.clone()).or_default();
            of_chain.name_after = Some(chain.named.clone());
        }
        for act in later {
            if let Some(chain) = self.chains.get_mut(&act.organization) {
                chain.rename(act);
            }
        }
        self.chains.values_mut().for_each(Chain::check_name);
    }

    /// Lets coverage begin here.
    pub fn begin_coverage(&mut self) {
        for chain in self.chains.values_mut() {
            (chain.verdict.first, chain.verdict.last) = (None, None);
            chain.verdict.gaps.clear();
        }
    }

    /// Lets coverage end here: where a success is overdue by now, that is a gap as well.
    pub fn end_coverage(&mut self, at: Timestamp) {
        for (name, chain) in &mut self.chains {
            if let Some(from) = chain.last_success
                && (self.overdue)(name, from).is_some_and(|latest| at > latest)
            {
                chain.verdict.gaps.push(Gap { from, to: at });
            }
        }
    }

    /// The id of the last event that a run so far has room for.
    #[must_use]
    pub fn last_event_id(&self) -> i64 {
        self.last_event_id
    }

    /// Whether a run before now was not in the chain, and no link has adopted it yet.
    #[must_use]
    pub fn is_unchained(&self) -> bool {
        self.chains.values().any(|chain| chain.unchained.is_some())
    }

    /// Whether it was told of the organization.
    #[must_use]
    pub fn knows(&self, organization: &str) -> bool {
        self.chains.contains_key(organization)
    }

    /// Begins a run, and gives the id of the last event that may be its.
    pub fn begin_run(&mut self, run: RunRecord) -> i64 {
        let missing = self.next_run_id;
        if run.run_id != missing {
            // Whose it was, nobody can say: no history is whole without it.
            let what = format!("run {missing} is missing");
            for chain in self.chains.values_mut() {
                chain.fail(Some(missing), &what);
            }
        }
        self.next_run_id = run.run_id.saturating_add(1);
        let next_event_id = self.last_event_id.saturating_add(1);
        self.last_event_id = self.last_event_id.saturating_add(run.events().max(0));
        let mut horizons = Horizons::default();
        if let Some(chain) = self.chains.get_mut(&run.organization) {
            horizons = chain.horizons;
            if run.digest.is_none() && chain.head.is_none() {
                chain.unchained.get_or_insert_with(|| PartHasher::new(Part::Adopted));
                let gone = run.status == "ok" && run.run_id <= horizons.newest();
                chain.verdict.adopted_unchecked |= gone;
            }
        }
        let hashers = Part::ALL.map(PartHasher::new);
        self.current = Some(Current {
            run,
            horizons,
            next_event_id,
            hashers,
            problem: None,
            notices: Vec::new(),
            attributions: Vec::new(),
            versions: None,
        });
        self.last_event_id
    }

    /// An event with an id that may be the current run's.
    pub fn event(&mut self, event: &EventRecord) {
        let Some(current) = self.current.as_mut() else { return };
        let Some(chain) = self.chains.get_mut(&current.run.organization) else { return };
        if chain.verdict.problem.is_some() {
            return;
        }
        if current.problem.is_some() {
            return;
        }
        let (id, run_id) = (event.event_id, current.run.run_id);
        let class = Part::of_event(&event.event);
        let expected = current.next_event_id;
        current.next_event_id = id.saturating_add(1);
        // Where a part is pruned, the ids of the other have gaps; its number and digest tell.
        let has_gaps = current.horizons.cover(Part::Used, run_id)
            || current.horizons.cover(Part::Events, run_id);
        current.problem = if event.run_id != run_id {
            Some(format!("event {id} was moved here from run {}", event.run_id))
        } else if id < expected || current.horizons.cover(class, run_id) {
            Some(format!("event {id} was inserted"))
        } else if id > expected && !has_gaps {
            Some(format!("event {expected} was dropped"))
        } else if event.organization != current.run.organization {
            Some(format!("event {id} was moved here from `{}`", event.organization))
        } else {
            let at = usize::from(class == Part::Used);
            event.with_event(|event| {
                current.hashers[at].event(event);
                if let Some(adopting) = &mut chain.unchained {
                    adopting.event(event);
                }
            });
            chain.verdict.events += 1;
            match event.past() {
                None => Some(format!("event {id} cannot be read")),
                // What it leads to is in the keyframe.
                Some(_) if run_id <= current.horizons.newest() => None,
                Some(past) => {
                    chain.replay.event(&past, &current.run.finished_at).err().map(|why| {
                        format!("event {id} does not follow from what was before: {why}")
                    })
                }
            }
        };
    }

    pub fn notice(&mut self, notice: NoticeRecord) {
        if let Some(current) = self.current.as_mut() {
            notice.with_item(|item| current.hashers[2].notice(item));
            current.notices.push(notice);
        }
    }

    pub fn end_run(&mut self) {
        let Some(current) = self.current.take() else { return };
        let Some(chain) = self.chains.get_mut(&current.run.organization) else { return };
        if current.run.run_id == chain.horizons.events {
            chain.unread_until = chain.unread_until.max(self.last_event_id);
        }
        if chain.verdict.problem.is_none() {
            chain.end_run(current, self.overdue);
            self.wrong_versions.extend(chain.wrong_version.take());
        }
    }

    /// An act behind the newest run of its organization.
    pub fn act(&mut self, act: ActRecord) {
        let places = self.erased.as_mut().map(|erased| erased.remove(&act.act_id).unwrap_or(0));
        if let Some(chain) = self.chains.get_mut(&act.organization)
            && chain.verdict.problem.is_none()
        {
            chain.act(act, places);
        }
    }

    /// An event that no run has room for. Those are to come before all runs.
    pub fn stray_event(&mut self, event: &EventRecord) {
        if let Some(chain) = self.chains.get_mut(&event.organization) {
            let what = format!("event {} was inserted", event.event_id);
            chain.strays.entry(event.run_id).or_insert(what);
        }
    }

    /// A notice of a run that is not there.
    pub fn stray_notice(&mut self, organization: &str, notice: &NoticeRecord) {
        if let Some(chain) = self.chains.get_mut(organization) {
            let what = format!("notice {} was inserted", notice.notice_id);
            chain.fail(Some(notice.run_id), &what);
        }
    }

    /// A run that is numbered before the first.
    pub fn stray_run(&mut self, run: &RunRecord) {
        if let Some(chain) = self.chains.get_mut(&run.organization) {
            chain.fail(Some(run.run_id), "it was inserted");
        }
    }

    /// A key of the inventory, or why it cannot be read.
    pub fn inventory(&mut self, organization: &str, record: Result<InventoryRecord, String>) {
        let Some(chain) = self.chains.get_mut(organization) else { return };
        if chain.verdict.problem.is_some() {
            return;
        }
        let last = chain.verdict.last.as_ref().map(|(run_id, _)| *run_id);
        match record {
            Err(what) => chain.fail_here(last, &format!("the inventory cannot be read: {what}")),
            Ok(record) => {
                if !chain.checked.insert(record.key.id.clone()) {
                    let what = format!("key `{}` is in the inventory twice", record.key.id);
                    chain.fail_here(last, &what);
                    return;
                }
                chain.replay.tells_no_absence = chain.unchained.is_some();
                if let Err(what) = chain.replay.holds(&record) {
                    let key_id = &record.key.id;
                    chain.fail_here(
                        last,
                        &format!(
                            "the inventory does not follow from the history: key `{key_id}`: {what}"
                        ),
                    );
                }
            }
        }
    }

    /// The verdicts so far, of the history alone.
    #[must_use]
    pub fn verdicts(self) -> Vec<Verdict> {
        self.chains.into_values().map(|chain| chain.verdict).collect()
    }

    /// The verdicts, by organization.
    #[must_use]
    pub fn finish(mut self) -> Vec<Verdict> {
        let left = self.erased.as_ref().and_then(|erased| erased.keys().next().copied());
        if let Some(act_id) = left {
            let what = format!("erased values name act {act_id}, which is not there");
            self.chains.values_mut().for_each(|chain| chain.fail(None, &what));
        }
        let mut verdicts: Vec<Verdict> = self.chains.into_values().map(Chain::finish).collect();
        // Whatever else is damaged may be the reason, and is what is to be said.
        if verdicts.iter().all(|verdict| verdict.problem.is_none()) {
            // By a wrong number, right versions are looked for in the wrong place.
            for wrong in self.wrong_numbers.into_iter().chain(self.wrong_versions) {
                let verdict = verdicts.iter_mut().find(|of| of.organization == wrong.organization);
                if let Some(verdict) = verdict.filter(|verdict| verdict.problem.is_none()) {
                    (verdict.problem, verdict.good_until) = (Some(wrong.problem), wrong.good_until);
                }
            }
        }
        verdicts
    }
}
