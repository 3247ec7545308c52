//! Look-ups of keys that a scan did not list.
//!
//! A 404 removes a key from the inventory, so it is believed only from a place that knows what is there:
//! one that answered 200 for something that the scan did list, both before the look-ups and after them.
//! The second time guards against an endpoint that breaks in between; with one missing key the whole
//! costs three requests.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use tracing::instrument;
use url::Url;

use super::ahead::Early;
use super::client::{Answer, Found};
use super::error::Error;
use super::fields::Warnings;
use super::mask::Mask;
use super::projects::read_project;
use super::session::Session;
use super::subject::Subject;
use super::wire::is_key;
use crate::inventory::{KeyId, LookUp};

/// How many listed things are tried for one that answers. Some may have been deleted since the scan.
const MAX_CONTROLS: usize = 3;

/// Where a key is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// The endpoint of admin keys.
    Admin,
    /// The endpoint of the keys of the project with this id.
    Project(Arc<str>),
}

/// Something that the scan did list, and that must be answered with itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Control {
    /// A key at its place.
    Key(Place, KeyId),
    /// The project with this id, which must not be archived either.
    Project(Arc<str>),
}

/// Missing keys of one place, and what has to vouch for the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    pub place: Place,
    pub missing: Vec<KeyId>,
    /// Tried in this order until one answers; no more than three.
    pub controls: Vec<Control>,
}

/// What one question came to.
enum Asked {
    Answer(LookUp),
    /// Asking on is pointless: the time is over, the API wants to be left alone, or too much is unknown.
    Stop,
}

impl Session {
    /// Asks for one admin key, once. `None`: no answer came that tells anything.
    pub(super) async fn look_up(&self, id: &KeyId, organization: Option<&str>) -> Option<LookUp> {
        let url = self.client.endpoints.key_url(id)?;
        let answer = self.fetch_once(url, &Subject::Key(id.clone())).await?;
        Some(interpret(&answer, &|found| is_key(&found.body, id), organization))
    }

    /// Asks for each missing key whether it still exists, the inquiries side by side.
    ///
    /// `organization` is what the scan's answers said. Every missing key has an entry in the result. What
    /// could not be found out, for whatever reason, is [`LookUp::Unknown`]. Once more than `most_unknown`
    /// are, all inquiries together, the rest is not asked for: whoever asks would not act on the answers,
    /// and an endpoint that is down costs some retries, not some hours.
    #[instrument(name = "openai.look_up", level = "debug", skip_all, fields(inquiries.total = inquiries.len()))]
    pub async fn look_up_all(
        &self,
        inquiries: &[Inquiry],
        organization: Option<&str>,
        most_unknown: usize,
        early: &Early,
    ) -> HashMap<KeyId, LookUp> {
        let unknown = AtomicUsize::new(0);
        let round = Round { session: self, organization, most_unknown, unknown, early };
        let at_once = self.client.options.max_concurrency.max(1);
        let mut answered = stream::iter(inquiries.to_vec())
            .map(|inquiry| round.answer(inquiry))
            .buffer_unordered(at_once);
        let mut answers: HashMap<KeyId, LookUp> = HashMap::new();
        while let Some(found) = answered.next().await {
            for (id, answer) in found {
                let known = answers.entry(id).or_insert(answer);
                *known = more_cautious(*known, answer);
            }
        }
        answers
    }
}

/// A key that two places were asked for is gone only if both say so.
fn more_cautious(one: LookUp, other: LookUp) -> LookUp {
    match (one, other) {
        (LookUp::Present, _) | (_, LookUp::Present) => LookUp::Present,
        (LookUp::Gone, LookUp::Gone) => LookUp::Gone,
        _ => LookUp::Unknown,
    }
}

/// What all inquiries of one call share.
struct Round<'a> {
    session: &'a Session,
    organization: Option<&'a str>,
    most_unknown: usize,
    /// How many answers told nothing so far.
    unknown: AtomicUsize,
    /// What was told of keys of the admin list already.
    early: &'a Early,
}

impl Round<'_> {
    async fn answer(&self, inquiry: Inquiry) -> HashMap<KeyId, LookUp> {
        let Inquiry { place, missing, controls } = inquiry;
        let mut answers: HashMap<KeyId, LookUp> =
            missing.iter().map(|id| (id.clone(), LookUp::Unknown)).collect();
        if missing.is_empty() || self.is_pointless() {
            return answers;
        }
        let controls = first_few(controls);
        let missing = self.take_early(&place, missing, &mut answers);
        if !missing.is_empty() && !self.knows_any(&controls).await {
            self.unknown.fetch_add(missing.len(), Ordering::Relaxed);
            tracing::warn!("nothing that was listed could be looked up, so no missing key is");
            self.doubt(&mut answers);
            return answers;
        }
        self.ask_all(&place, &missing, &mut answers).await;
        let is_open = |(id, answer): (&KeyId, &LookUp)| {
            *answer == LookUp::Gone && !(place == Place::Admin && self.is_vouched(id))
        };
        if answers.iter().any(is_open) && !self.knows_any(&controls).await {
            tracing::warn!("what was listed can no longer be looked up, so no 404 is believed");
            self.doubt(&mut answers);
        }
        answers
    }

    /// Believes no 404.
    fn doubt(&self, answers: &mut HashMap<KeyId, LookUp>) {
        for answer in answers.values_mut().filter(|answer| **answer == LookUp::Gone) {
            *answer = LookUp::Unknown;
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes over what is told already, and gives back what is not.
    fn take_early(
        &self,
        place: &Place,
        missing: Vec<KeyId>,
        answers: &mut HashMap<KeyId, LookUp>,
    ) -> Vec<KeyId> {
        if *place != Place::Admin {
            return missing;
        }
        let early = self.early;
        let (told, open): (Vec<KeyId>, Vec<KeyId>) =
            missing.into_iter().partition(|id| early.contains_key(id));
        answers.extend(
            told.into_iter()
                .filter_map(|id| early.get_key_value(&id))
                .map(|(id, told)| (id.clone(), told.answer)),
        );
        open
    }

    /// Whether nobody has to vouch for the answer any more.
    fn is_vouched(&self, id: &KeyId) -> bool {
        self.early.get(id).is_some_and(|told| told.is_vouched)
    }

    fn is_pointless(&self) -> bool {
        self.session.are_look_ups_over() || self.unknown.load(Ordering::Relaxed) > self.most_unknown
    }

    /// Whether one of these is answered with itself.
    async fn knows_any(&self, controls: &[Control]) -> bool {
        for control in controls {
            let asked = match control {
                Control::Key(place, id) => self.ask(place, id).await,
                Control::Project(id) => self.ask_for_project(id).await,
            };
            match asked {
                Asked::Answer(LookUp::Present) => return true,
                Asked::Answer(_) => {}
                Asked::Stop => return false,
            }
        }
        false
    }

    async fn ask_all(
        &self,
        place: &Place,
        missing: &[KeyId],
        answers: &mut HashMap<KeyId, LookUp>,
    ) {
        let mut seen = HashSet::new();
        let unique: Vec<KeyId> = missing.iter().filter(|id| seen.insert(*id)).cloned().collect();
        let at_once = self.session.client.options.max_concurrency.max(1);
        let mut asked = stream::iter(unique)
            .map(|id| async move {
                let pointless = self.is_pointless();
                let asked = if pointless { Asked::Stop } else { self.ask(place, &id).await };
                (id, asked)
            })
            .buffer_unordered(at_once);
        while let Some((id, asked)) = asked.next().await {
            let Asked::Answer(answer) = asked else {
                tracing::warn!("look-ups end before the last missing key");
                return;
            };
            answers.insert(id, answer);
            if answer == LookUp::Unknown {
                let unknown = 1 + self.unknown.fetch_add(1, Ordering::Relaxed);
                if unknown > self.most_unknown {
                    tracing::warn!("{unknown} look-ups told nothing; no more are made");
                    return;
                }
            }
        }
    }

    /// Asks for one key.
    async fn ask(&self, place: &Place, id: &KeyId) -> Asked {
        let endpoints = &self.session.client.endpoints;
        let (url, subject) = match place {
            Place::Admin => (endpoints.key_url(id), Subject::Key(id.clone())),
            Place::Project(project) => (
                endpoints.project_key_url(project, id),
                Subject::ProjectKey { project: Arc::clone(project), key: id.clone() },
            ),
        };
        self.ask_for(url, &subject, &|found| is_key(&found.body, id)).await
    }

    async fn ask_for_project(&self, id: &Arc<str>) -> Asked {
        let url = self.session.client.endpoints.project_url(id);
        let mask = &self.session.client.mask;
        self.ask_for(url, &Subject::Project(Arc::clone(id)), &|found| is_live(found, id, mask))
            .await
    }

    async fn ask_for(
        &self,
        url: Option<Url>,
        subject: &Subject,
        is_it: &(dyn Fn(&Found) -> bool + Sync),
    ) -> Asked {
        let Some(url) = url else {
            tracing::warn!("an id cannot be written as a part of a URL, so it is not looked up");
            return Asked::Answer(LookUp::Unknown);
        };
        match self.session.fetch(url, subject).await {
            Err(
                Error::Deferred { .. } | Error::LeftAlone { .. } | Error::DeadlineExceeded { .. },
            ) => Asked::Stop,
            Err(error) => {
                tracing::warn!(http.request_id = error.request_id(), "a look-up failed: {error}");
                Asked::Answer(LookUp::Unknown)
            }
            Ok(answer) => Asked::Answer(interpret(&answer, is_it, self.organization)),
        }
    }
}

/// Whether the answer is the project with this id, in use.
fn is_live(found: &Found, id: &str, mask: &Mask) -> bool {
    let project = found.body.read().ok();
    let project =
        project.and_then(|project| read_project(project, mask, &mut Warnings::default()).ok());
    project.is_some_and(|project| project.id.as_ref() == id && !project.is_archived())
}

/// What an answer says about what was asked for.
fn interpret(
    answer: &Answer,
    is_it: &dyn Fn(&Found) -> bool,
    organization: Option<&str>,
) -> LookUp {
    let (from, meaning) = match answer {
        Answer::Found(found) if is_it(found) => (&found.organization, LookUp::Present),
        // A message about scopes is about us, whatever its status.
        Answer::Refused(refusal)
            if refusal.status == 404
                && refusal.error.is_envelope
                && refusal.error.scopes.is_empty() =>
        {
            (&refusal.organization, LookUp::Gone)
        }
        Answer::Found(_) | Answer::Refused(_) => return LookUp::Unknown,
    };
    match (organization, from) {
        (Some(ours), Some(theirs)) if ours != theirs => LookUp::Unknown,
        _ => meaning,
    }
}

/// The controls that are tried, each once.
fn first_few(controls: Vec<Control>) -> Vec<Control> {
    let mut few: Vec<Control> = Vec::with_capacity(MAX_CONTROLS);
    for control in controls {
        if few.len() < MAX_CONTROLS && !few.contains(&control) {
            few.push(control);
        }
    }
    few
}

#[cfg(test)]
#[path = "look_up_tests.rs"]
mod tests;
