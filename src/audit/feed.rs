//! A history in pieces, put together for a [`Verifier`].

use std::collections::VecDeque;

use super::attribution::AttributionRecord;
use super::record::{ActRecord, EventRecord, NoticeRecord, RunRecord, VersionRecord};
use super::verify::Verifier;

/// What runs tell beside events, each with its organization, by run and number.
#[derive(Debug, Default)]
pub struct Told {
    pub notices: Vec<(String, NoticeRecord)>,
    pub attributions: Vec<(String, AttributionRecord)>,
}

/// Gives a verifier each run with what belongs to it, while events come in by their ids.
#[derive(Debug)]
pub struct Feed<'f, 'v> {
    verifier: &'f mut Verifier<'v>,
    runs: VecDeque<RunRecord>,
    told: VecDeque<(String, NoticeRecord)>,
    attributions: VecDeque<(String, AttributionRecord)>,
    acts: &'f mut VecDeque<ActRecord>,
    versions: Option<VecDeque<VersionRecord>>,
    /// The last event that may be the current run's.
    until: Option<i64>,
}

impl<'f, 'v> Feed<'f, 'v> {
    /// `runs` and what was `told` by their number; `acts` in the order of the chains, of which those behind
    /// the runs are taken away.
    /// `versions` are those of keys that the runs made, by run, where there are any to be read.
    pub fn new(
        verifier: &'f mut Verifier<'v>,
        runs: Vec<RunRecord>,
        told: Told,
        acts: &'f mut VecDeque<ActRecord>,
        versions: Option<Vec<VersionRecord>>,
    ) -> Self {
        let Told { notices, attributions } = told;
        let (told, attributions) = (notices.into(), attributions.into());
        let (runs, versions) = (runs.into(), versions.map(VecDeque::from));
        let mut feed = Self { verifier, runs, told, attributions, acts, versions, until: None };
        feed.begin_next();
        feed
    }

    /// Takes in an event; by their ids.
    pub fn event(&mut self, event: &EventRecord) {
        while self.until.is_some_and(|until| event.event_id > until) {
            self.verifier.end_run();
            self.begin_next();
        }
        self.verifier.event(event);
    }

    fn begin_next(&mut self) {
        let Some(run) = self.runs.pop_front() else {
            self.until = None;
            return;
        };
        let run_id = run.run_id;
        while let Some(act) = self.acts.pop_front_if(|act| act.after_run_id < run_id) {
            self.verifier.act(act);
        }
        self.until = Some(self.verifier.begin_run(run));
        if let Some(versions) = &mut self.versions {
            let next = || versions.pop_front_if(|version| version.run_id <= run_id);
            self.verifier.versions(std::iter::from_fn(next).collect());
        }
        while let Some((_, notice)) = self.told.pop_front_if(|(_, notice)| notice.run_id <= run_id)
        {
            self.verifier.notice(notice);
        }
        let is_due = |(_, of): &mut (String, AttributionRecord)| of.run_id <= run_id;
        while let Some((_, attribution)) = self.attributions.pop_front_if(is_due) {
            self.verifier.attribution(attribution);
        }
    }

    /// Ends the runs that are left.
    pub fn end(mut self) {
        while self.until.is_some() {
            self.verifier.end_run();
            self.begin_next();
        }
        for (organization, notice) in &self.told {
            self.verifier.stray_notice(organization, notice);
        }
        for (organization, attribution) in &self.attributions {
            self.verifier.stray_attribution(organization, attribution);
        }
    }
}
