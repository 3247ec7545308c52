//! Look-ups of keys that a scan did not list.
//!
//! A 404 removes a key from the inventory, so it is believed only from an endpoint that knows keys: one
//! that answered 200 for a key that the scan did list, both before the look-ups and after them. The
//! second time guards against an endpoint that breaks in between; with one missing key the whole costs
//! three requests.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, stream};
use tracing::instrument;

use super::client::Answer;
use super::error::{Error, Subject};
use super::session::Session;
use super::wire::is_key;
use crate::inventory::{KeyId, LookUp};

/// How many listed keys are tried for one that answers. Some may have been deleted since the scan.
const MAX_CONTROLS: usize = 3;

/// What one question came to.
enum Asked {
    Answer(LookUp),
    /// Asking on is pointless: the time is over, or the API wants to be left alone.
    Stop,
}

impl Session {
    /// Asks for each key that the scan did not list whether it still exists.
    ///
    /// `listed` are keys that the scan did list, `organization` is what the scan's answers said. Every
    /// missing key has an entry in the result. What could not be found out, for whatever reason, is
    /// [`LookUp::Unknown`]. Once more than `most_unknown` are, the rest is not asked for: whoever asks
    /// would not act on the answers, and an endpoint that is down costs some retries, not some hours.
    #[instrument(name = "openai.look_up", level = "debug", skip_all, fields(keys.total = missing.len()))]
    pub async fn look_up(
        &self,
        missing: &[KeyId],
        listed: &[KeyId],
        organization: Option<&str>,
        most_unknown: usize,
    ) -> HashMap<KeyId, LookUp> {
        let mut answers: HashMap<KeyId, LookUp> =
            missing.iter().map(|id| (id.clone(), LookUp::Unknown)).collect();
        if missing.is_empty() || self.no_more_look_ups.load(Ordering::Relaxed) {
            return answers;
        }
        let controls = pick_controls(listed);
        if !self.knows_any(&controls, organization).await {
            tracing::warn!("no listed key could be looked up, so no missing one is");
            return answers;
        }
        self.ask_all(missing, organization, most_unknown, &mut answers).await;
        let gone = answers.values().any(|answer| *answer == LookUp::Gone);
        if gone && !self.knows_any(&controls, organization).await {
            tracing::warn!("listed keys can no longer be looked up, so no 404 is believed");
            for answer in answers.values_mut().filter(|answer| **answer == LookUp::Gone) {
                *answer = LookUp::Unknown;
            }
        }
        answers
    }

    /// Whether one of these keys, all of them listed, is answered with itself.
    async fn knows_any(&self, controls: &[KeyId], organization: Option<&str>) -> bool {
        for id in controls {
            match self.ask(id.clone(), organization).await.1 {
                Asked::Answer(LookUp::Present) => return true,
                Asked::Answer(_) => {}
                Asked::Stop => return false,
            }
        }
        false
    }

    async fn ask_all(
        &self,
        missing: &[KeyId],
        organization: Option<&str>,
        most_unknown: usize,
        answers: &mut HashMap<KeyId, LookUp>,
    ) {
        let mut seen = HashSet::new();
        let unique: Vec<KeyId> = missing.iter().filter(|id| seen.insert(*id)).cloned().collect();
        let at_once = self.client.options.max_concurrency.max(1);
        let mut asked =
            stream::iter(unique).map(|id| self.ask(id, organization)).buffer_unordered(at_once);
        let mut unknown = 0;
        while let Some((id, asked)) = asked.next().await {
            let Asked::Answer(answer) = asked else {
                tracing::warn!("look-ups end before the last missing key");
                return;
            };
            unknown += usize::from(answer == LookUp::Unknown);
            answers.insert(id, answer);
            if unknown > most_unknown {
                tracing::warn!("{unknown} look-ups told nothing; no more are made");
                return;
            }
        }
    }

    /// Asks for one key.
    async fn ask(&self, id: KeyId, organization: Option<&str>) -> (KeyId, Asked) {
        let Some(url) = self.client.endpoints.key_url(&id) else {
            tracing::warn!(
                "a key's id cannot be written as a part of a URL, so it is not looked up"
            );
            return (id, Asked::Answer(LookUp::Unknown));
        };
        let subject = Subject::Key(id.clone());
        let outcome = self.fetch(url, &subject).await;
        let asked = match &outcome {
            Err(Error::Deferred { .. } | Error::DeadlineExceeded { .. }) => {
                self.no_more_look_ups.store(true, Ordering::Relaxed);
                Asked::Stop
            }
            Err(error) => {
                tracing::warn!(http.request_id = error.request_id(), "a look-up failed: {error}");
                Asked::Answer(LookUp::Unknown)
            }
            Ok(answer) => Asked::Answer(interpret(answer, &id, organization)),
        };
        (id, asked)
    }
}

/// What an answer says about the key that was asked for.
fn interpret(answer: &Answer, id: &KeyId, organization: Option<&str>) -> LookUp {
    let (from, meaning) = match answer {
        Answer::Found(found) if is_key(&found.json, id) => (&found.organization, LookUp::Present),
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

/// A few keys from all over the list.
fn pick_controls(listed: &[KeyId]) -> Vec<KeyId> {
    let places = [0, listed.len() / 2, listed.len().saturating_sub(1)];
    let mut controls: Vec<KeyId> = Vec::with_capacity(MAX_CONTROLS);
    for id in places.into_iter().filter_map(|place| listed.get(place)) {
        if !controls.contains(id) {
            controls.push(id.clone());
        }
    }
    controls
}

#[cfg(test)]
#[path = "look_up_tests.rs"]
mod tests;
