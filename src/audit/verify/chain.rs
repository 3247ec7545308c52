//! One organization's history, run by run.

use std::collections::{BTreeMap, BTreeSet};

use super::{Chain, Current, Gap, Overdue, Problem, Verdict};
use crate::audit::keyframe::Horizons;
use crate::audit::link::{ActKind, Link, Part, PartDigest, PartHasher};
use crate::audit::record::{ActRecord, NoticeRecord, RunRecord};
use crate::audit::replay::Replay;
use crate::clock::Timestamp;

impl Chain {
    pub(super) fn new(organization: String, origin: String) -> Self {
        let (named, called) = (origin.clone(), organization.clone());
        let verdict = Verdict {
            organization,
            origin,
            runs: 0,
            events: 0,
            first: None,
            last: None,
            chained_from: None,
            head: None,
            gaps: Vec::new(),
            adopted_unchecked: false,
            acts: Vec::new(),
            problem: None,
            good_until: None,
        };
        Self {
            verdict,
            named,
            called,
            head: None,
            last_run_id: 0,
            resumed_after: 0,
            replay: Replay::default(),
            unread_until: 0,
            unchained: None,
            last_success: None,
            checked: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            horizons: Horizons::default(),
            keyframe: None,
            wanted: None,
            strays: BTreeMap::new(),
            wrong_version: None,
        }
    }

    pub(super) fn fail(&mut self, run_id: Option<i64>, what: &str) {
        if self.verdict.problem.is_none() {
            self.verdict.problem = Some(Problem { run_id, what: what.to_owned() });
        }
    }

    /// As [`Chain::fail`], but before anything is adopted: then it is the whole history up to there that
    /// nothing vouches for.
    pub(super) fn fail_here(&mut self, run_id: Option<i64>, what: &str) {
        let first = self.verdict.first.as_ref().map(|(run_id, _)| *run_id);
        match first.filter(|_| self.unchained.is_some()) {
            Some(first) => {
                self.verdict.good_until = None;
                self.fail(Some(first), what);
            }
            None => self.fail(run_id, what),
        }
    }

    pub(super) fn end_run(&mut self, current: Current, overdue: &Overdue<'_>) {
        let Current { run, hashers, problem, notices, attributions, versions, .. } = current;
        let before = self.before_notices(&notices);
        let found: Vec<PartDigest> = hashers.into_iter().filter_map(PartHasher::finish).collect();
        let (parts, inserted) = self.put_back(&run, &found);
        if let Some(what) = self.strays.remove(&run.run_id) {
            self.fail(Some(run.run_id), &what);
            return;
        }
        let problem = problem
            .or(inserted)
            .or_else(|| self.check_counts(&run, &parts))
            .or_else(|| self.check_link(&run, &parts))
            .or_else(|| self.check_attributions(&run, &attributions))
            .or_else(|| self.replay_notices(&run, &notices))
            .or_else(|| self.resume(&run));
        if let Some(what) = problem {
            self.fail_here(Some(run.run_id), &what);
            return;
        }
        self.wrong_version = self.find_wrong_version(&run, versions, before);
        self.replay.end_run(&run.finished_at, run.status == "ok");
        self.keep_wanted(&run);
        let here = (run.run_id, run.finished_at.clone());
        self.last_run_id = run.run_id;
        self.verdict.runs += 1;
        self.verdict.first.get_or_insert_with(|| here.clone());
        self.verdict.last = Some(here.clone());
        self.verdict.good_until = Some(here);
        if run.status == "ok" {
            self.cover(&run, overdue);
        }
    }

    fn check_counts(&self, run: &RunRecord, parts: &[PartDigest]) -> Option<String> {
        let said = run.events();
        if run.status != "ok" && said > 0 {
            return Some(format!("it is `{}` and yet has events", run.status));
        }
        let here = |part: Part| {
            let found = parts.iter().find(|found| found.part == part);
            found.map_or(0, |found| i64::try_from(found.items).unwrap_or(i64::MAX))
        };
        let events = here(Part::Events).saturating_add(here(Part::Used));
        if events < said && run.run_id > self.horizons.newest() {
            return Some(format!(
                "it should have {said} events and has {events}: some were dropped"
            ));
        }
        // Of a run from before the chain no digests are kept.
        let is_kept = |part: &Part| !self.horizons.cover(*part, run.run_id) || run.digest.is_some();
        let kept = [Part::Events, Part::Used].into_iter().filter(is_kept);
        kept.into_iter().find(|part| here(*part) != run.said(*part)).map(|part| {
            let (said, here) = (run.said(part), here(part));
            format!("its `{}` should be {said} and are {here}", part.as_str())
        })
    }

    /// The link against its digest. Where a digest of a part is off, it says which.
    fn check_link(&mut self, run: &RunRecord, parts: &[PartDigest]) -> Option<String> {
        let Some(digest) = run.digest else { return self.check_unchained(run) };
        if self.unchained.is_some() {
            return Some("what was before the chain was not adopted by it".to_owned());
        }
        if self.head.is_none() && self.last_run_id > 0 {
            return Some("what was before the chain was not adopted by it".to_owned());
        }
        self.verdict.chained_from.get_or_insert(run.run_id);
        let header = run.header(&self.verdict.origin);
        let previous = self.head.replace(digest);
        self.verdict.head = Some((Link::Run(run.run_id), digest));
        if header.digest(previous, parts) == digest {
            return (run.parts != parts).then(|| "the digests of its parts were edited".to_owned());
        }
        let edited = |part: &Part| {
            let of = |parts: &[PartDigest]| parts.iter().find(|found| found.part == *part).copied();
            of(parts) != of(&run.parts)
        };
        let part = Part::ALL.into_iter().find(edited);
        Some(match part {
            Some(part) if header.digest(previous, &run.parts) == digest => match part {
                Part::Notices => "a notice was edited, dropped or inserted".to_owned(),
                Part::Attributions => "an attribution was edited, dropped or inserted".to_owned(),
                part => format!("one of its `{}` was edited", part.as_str()),
            },
            _ if run.run_id <= self.horizons.newest() => {
                "the run itself was edited, or the digest of a pruned part, or the link before it"
                    .to_owned()
            }
            _ => "the run itself was edited, or the link before it".to_owned(),
        })
    }

    fn check_unchained(&mut self, run: &RunRecord) -> Option<String> {
        // Runs from before the chain have no digests of parts either.
        if self.head.is_some() || !run.parts.is_empty() {
            return Some("it has no digest, though the chain had begun".to_owned());
        }
        if let Some(adopting) = &mut self.unchained {
            adopting.run(&run.header(&self.verdict.origin));
        }
        None
    }

    fn replay_notices(&mut self, run: &RunRecord, notices: &[NoticeRecord]) -> Option<String> {
        for notice in notices {
            if let Some(adopting) = &mut self.unchained {
                notice.with_item(|item| adopting.notice(item));
            }
            if run.run_id <= self.horizons.newest() {
                continue;
            }
            let changes = notice.changes.iter();
            let values: Vec<(&str, Option<&str>)> =
                changes.map(|change| (change.key_id.as_str(), change.value.as_deref())).collect();
            if let Err(why) = self.replay.notice(&notice.kind, &notice.field, &values) {
                let id = notice.notice_id;
                return Some(format!("notice {id} does not follow from what was before: {why}"));
            }
        }
        None
    }

    fn cover(&mut self, run: &RunRecord, overdue: &Overdue<'_>) {
        let Ok(to) = run.finished_at.parse::<Timestamp>() else { return };
        if let Some(from) = self.last_success.replace(to)
            && overdue(&self.verdict.organization, from).is_some_and(|latest| to > latest)
        {
            self.verdict.gaps.push(Gap { from, to });
        }
    }

    pub(super) fn act(&mut self, act: ActRecord, places: Option<i64>) {
        let run_id = self.last_run_id;
        let is_unread = run_id == 0 && (0..=self.resumed_after).contains(&act.after_run_id);
        if act.after_run_id != run_id && !is_unread {
            self.fail(Some(act.after_run_id), &format!("act {} is not behind its run", act.act_id));
            return;
        }
        let digest = act.link(&self.verdict.origin).digest(self.head);
        if act.digest != Some(digest) {
            let what = format!("act {} was edited, or the link before it", act.act_id);
            self.fail_here(Some(run_id), &what);
            return;
        }
        if act.kind == "adopted" {
            let found = self.unchained.take().and_then(PartHasher::finish);
            let said = act.detail()["digest"].as_str().and_then(|text| text.parse().ok());
            if !self.verdict.adopted_unchecked && found.map(|found| found.digest) != said {
                let what = "something before the chain was edited, dropped or inserted";
                self.verdict.good_until = None;
                self.fail(self.verdict.first.clone().map(|(run_id, _)| run_id), what);
                return;
            }
            self.replay.adopt(&act.detail()["unconfirmed"]);
        }
        let said = if act.kind == "forgotten" { act.detail()["places"].as_i64() } else { Some(0) };
        if let Some(places) = places
            && said != Some(places)
        {
            let said = said.unwrap_or(0);
            let what = format!(
                "act {} erased {said} values, and {places} are marked as erased by it",
                act.act_id
            );
            self.fail(Some(run_id), &what);
            return;
        }
        if let Some(what) = self.rename(&act) {
            self.fail(Some(run_id), &what);
            return;
        }
        self.head = Some(digest);
        self.verdict.head = Some((Link::Act(act.act_id), digest));
        self.verdict.acts.push(act);
    }

    /// Follows an act that renames it. What is wrong with one that does not begin with its name.
    pub(super) fn rename(&mut self, act: &ActRecord) -> Option<String> {
        if act.kind != ActKind::Renamed.as_str() {
            return None;
        }
        let detail = act.detail();
        let (Some(from), Some(to)) = (detail["from"].as_str(), detail["to"].as_str()) else {
            return Some(format!("act {} does not say what it renamed", act.act_id));
        };
        let named = std::mem::replace(&mut self.named, to.to_owned());
        (named != from).then(|| {
            format!("act {} renamed it from `{from}`, and it was called `{named}`", act.act_id)
        })
    }

    /// The name is none of the history's own: it must be the one that the renames lead to.
    pub(super) fn check_name(&mut self) {
        if self.named != self.called {
            let Self { named, called, .. } = self;
            let what =
                format!("it is called `{called}`, and its history leads to the name `{named}`");
            self.fail(None, &what);
        }
    }

    pub(super) fn finish(mut self) -> Verdict {
        let last = self.verdict.last.as_ref().map(|(run_id, _)| *run_id);
        if let Some((run_id, what)) = self.strays.pop_first() {
            self.fail(Some(run_id), &what);
        }
        if self.keyframe.is_some() {
            self.fail_here(last, "a keyframe was inserted");
        }
        let unchecked = self.replay.known().find(|id| !self.checked.contains(*id)).cloned();
        if let Some(key_id) = unchecked {
            let what = format!(
                "the inventory does not follow from the history: key `{key_id}` is not in it"
            );
            self.fail_here(last, &what);
        }
        self.check_name();
        self.verdict
    }
}
