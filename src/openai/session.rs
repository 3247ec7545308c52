//! One run's conversation with the API: its deadline, its retries, what it cost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use super::client::{Answer, Client, Refusal};
use super::error::Error;
use super::pace::{Gate, Turn};
use super::retry::{LONGEST_WAIT, is_worth_repeating};
use super::subject::{Origin, Subject};
use crate::clock::Timestamp;

/// What a run has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Attempts included.
    pub requests: u64,
    pub retries: u64,
    /// Pages that were read, repeated ones included.
    pub pages: u64,
}

/// The same, by what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Requests by the status of their answer, or by what kept it away.
    pub requests: BTreeMap<String, u64>,
    /// Repeated requests by what made that necessary.
    pub retries: BTreeMap<String, u64>,
}

/// One run: its clock is running from the moment it is made.
pub struct Session {
    pub(super) client: Arc<Client>,
    deadline: Instant,
    requests: AtomicU64,
    retries: AtomicU64,
    pages: AtomicU64,
    outcomes: Mutex<Outcomes>,
    /// Where every request waits for its turn.
    gate: Gate,
    /// Until when the API wants to be left alone, once it said so: nothing more is asked in this run.
    left_alone: watch::Sender<Option<Timestamp>>,
    look_ups_over: AtomicBool,
    /// The organization that the first answer of a listing came from.
    organization: Mutex<Option<String>>,
}

impl Session {
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        let deadline = Instant::now() + client.options.run_deadline.min(FOR_EVER);
        let zero = || AtomicU64::new(0);
        let gate = Gate::new(client.options.max_concurrency);
        Self {
            client,
            deadline,
            requests: zero(),
            retries: zero(),
            pages: zero(),
            outcomes: Mutex::default(),
            gate,
            left_alone: watch::Sender::new(None),
            look_ups_over: AtomicBool::new(false),
            organization: Mutex::default(),
        }
    }

    /// What the run has cost so far, also after it failed.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            pages: self.pages.load(Ordering::Relaxed),
        }
    }

    /// What came of the requests so far.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, of: impl Fn(&mut Outcomes) -> &mut BTreeMap<String, u64>, code: String) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        *of(&mut outcomes).entry(code).or_default() += 1;
    }

    pub(super) fn count_page(&self) {
        self.pages.fetch_add(1, Ordering::Relaxed);
    }

    /// How many seconds the server's clock is ahead of ours, as far as its last answer told.
    #[must_use]
    pub fn clock_skew(&self) -> Option<i64> {
        self.client.clock_skew()
    }

    /// Whether nothing more can be asked.
    pub(super) fn is_over(&self) -> bool {
        self.left_alone.borrow().is_some() || Instant::now() >= self.deadline
    }

    /// The organization of the run's listings, where it is another one than `found`.
    pub(super) fn other_organization(&self, found: &str) -> Option<String> {
        let mut known = self.organization.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_with(|| found.to_owned());
        (known != found).then(|| known.clone())
    }

    /// Asks, and asks again while that is worth it and there is time.
    pub(super) async fn fetch(&self, url: Url, subject: &Subject) -> Result<Answer, Error> {
        let mut last_failure = None;
        for attempt in 1.. {
            let Some(turn) = self.enter(subject).await? else {
                return Err(self.overdue(subject, last_failure));
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            let asked = Instant::now();
            let asking = self.client.get(url.clone(), subject);
            let Ok(outcome) = tokio::time::timeout_at(self.deadline, asking).await else {
                self.count(|outcomes| &mut outcomes.requests, "timeout".to_owned());
                return Err(self.overdue(subject, last_failure));
            };
            // Others may ask while this one waits.
            drop(turn);
            self.note_pace(&outcome, asked.elapsed());
            let code = code(&outcome);
            self.count(|outcomes| &mut outcomes.requests, code.clone());
            let Some(cause) = Cause::of(&outcome) else {
                return outcome;
            };
            match self.wait(outcome, cause, attempt, subject).await {
                Ok(error) => last_failure = Some(Box::new(error)),
                Err(settled) => return settled,
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            self.count(|outcomes| &mut outcomes.retries, code);
        }
        Err(self.overdue(subject, last_failure))
    }

    /// Asks once, for something that can be looked up again later: what goes wrong has no consequences, unless the API
    /// asks for a long wait, which look-ups then keep to.
    pub(super) async fn fetch_once(&self, url: Url, subject: &Subject) -> Option<Answer> {
        let turn = self.enter(subject).await.ok()??;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let asking = self.client.get(url, subject);
        let Ok(outcome) = tokio::time::timeout_at(self.deadline, asking).await else {
            self.count(|outcomes| &mut outcomes.requests, "timeout".to_owned());
            return None;
        };
        drop(turn);
        self.note_pace(&outcome, asked.elapsed());
        self.count(|outcomes| &mut outcomes.requests, code(&outcome));
        match outcome {
            Ok(Answer::Refused(refusal)) if refusal.status != 404 => {
                let is_long = refusal.advice.wait.is_some_and(|wait| wait > LONGEST_WAIT);
                self.look_ups_over.fetch_or(is_long, Ordering::Relaxed);
                None
            }
            answer => answer.ok(),
        }
    }

    /// Whether the API wants nothing more to be looked up for longer than a run can wait.
    pub(super) fn are_look_ups_over(&self) -> bool {
        self.is_over() || self.look_ups_over.load(Ordering::Relaxed)
    }

    /// How many requests may be under way now.
    pub(super) fn at_once(&self) -> usize {
        self.gate.limit()
    }

    /// Only what was answered tells how the API fares.
    fn note_pace(&self, outcome: &Result<Answer, Error>, took: Duration) {
        match outcome {
            Ok(Answer::Refused(refusal)) if refusal.status == 429 => self.gate.note(None),
            Ok(_) => self.gate.note(Some(took)),
            Err(_) => {}
        }
    }

    /// Waits for a place within the budget. `None`: the run's time is over.
    async fn enter(&self, subject: &Subject) -> Result<Option<Turn<'_>>, Error> {
        tokio::select! {
            biased;
            until = self.until_left_alone() => {
                Err(Error::LeftAlone { at: Origin::new(subject, None), until })
            }
            () = tokio::time::sleep_until(self.deadline) => Ok(None),
            turn = self.gate.enter() => Ok(Some(turn)),
        }
    }

    /// Waits for the API to say that it wants to be left alone, and tells until when.
    async fn until_left_alone(&self) -> Timestamp {
        let mut said = self.left_alone.subscribe();
        let until = match said.wait_for(Option::is_some).await {
            Ok(until) => *until,
            Err(_) => None,
        };
        match until {
            Some(until) => until,
            // The sender lives as long as we do.
            None => std::future::pending().await,
        }
    }

    /// Waits before the next attempt and gives back what made it necessary, or settles for what there is.
    async fn wait(
        &self,
        outcome: Result<Answer, Error>,
        cause: Cause,
        attempt: u32,
        subject: &Subject,
    ) -> Result<Error, Result<Answer, Error>> {
        let Cause { status, wait: asked } = cause;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let tries_left = attempt < self.client.options.max_attempts;
        if let Some(wait) = asked
            && (wait > LONGEST_WAIT || (tries_left && wait > left))
        {
            return Err(Err(self.deferred(wait, into_error(outcome, subject))));
        }
        if !tries_left {
            return Err(outcome);
        }
        let error = into_error(outcome, subject);
        let wait = asked.unwrap_or_else(|| self.client.backoff.wait(attempt));
        if wait > left {
            return Err(Err(self.overdue(subject, Some(Box::new(error)))));
        }
        tracing::warn!(
            http.status = status,
            http.request_id = error.request_id(),
            attempt,
            retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "{subject} {}, trying again",
            error.kind(),
        );
        tokio::select! {
            biased;
            // The next attempt finds out.
            _ = self.until_left_alone() => {}
            () = tokio::time::sleep(wait) => {}
        }
        Ok(error)
    }

    /// What a refusal that ends a listing comes to. A wait that the API asked for holds for the next run,
    /// however short; but not where the credential is at fault, and may be another by then.
    pub(super) fn explain_refusal(&self, refusal: Refusal, subject: &Subject) -> Error {
        let wait = refusal.advice.wait.filter(|wait| *wait > MOMENT);
        let status = refusal.status;
        let error = refusal.into_error(subject);
        match wait {
            Some(_) if error.is_about_credential() => error,
            // One project of many in trouble for a while says nothing of the others.
            Some(wait)
                if matches!(subject, Subject::ProjectKeys { .. })
                    && status != 429
                    && wait <= LONGEST_WAIT =>
            {
                error
            }
            Some(wait) => self.deferred(wait, error),
            None => error,
        }
    }

    fn deferred(&self, wait: Duration, cause: Error) -> Error {
        // Rounded up: whoever comes back early is refused again.
        let until = self.client.clock.now().saturating_add(wait + Duration::from_millis(999));
        self.left_alone.send_replace(Some(until));
        Error::Deferred { until, cause: Box::new(cause) }
    }

    fn overdue(&self, subject: &Subject, source: Option<Box<Error>>) -> Error {
        let limit = self.client.options.run_deadline;
        Error::DeadlineExceeded { at: Origin::new(subject, None), limit, source }
    }
}

/// A wait that is over before anybody could ask again.
const MOMENT: Duration = Duration::from_secs(1);
/// Longer than any run; short enough for the arithmetic of instants.
const FOR_EVER: Duration = Duration::from_hours(365 * 24);

/// What makes an attempt worth repeating.
#[derive(Clone, Copy)]
struct Cause {
    status: Option<u16>,
    /// The wait that the API asks for.
    wait: Option<Duration>,
}

impl Cause {
    fn of(outcome: &Result<Answer, Error>) -> Option<Self> {
        match outcome {
            Ok(Answer::Refused(refusal)) => is_worth_repeating(refusal.status, refusal.advice)
                .then_some(Self { status: Some(refusal.status), wait: refusal.advice.wait }),
            Ok(Answer::Found(_)) => None,
            Err(error) => error.is_passing().then_some(Self { status: None, wait: None }),
        }
    }
}

/// The status of an answer, or in a word what kept it away.
fn code(outcome: &Result<Answer, Error>) -> String {
    match outcome {
        Ok(Answer::Found(_)) => "200".to_owned(),
        Ok(Answer::Refused(refusal)) => refusal.status.to_string(),
        Err(Error::TimedOut { .. }) => "timeout".to_owned(),
        Err(Error::Unreachable { .. }) => "unreachable".to_owned(),
        Err(Error::CutShort { .. }) => "cut_short".to_owned(),
        Err(Error::Redirected { .. }) => "redirected".to_owned(),
        Err(_) => "invalid".to_owned(),
    }
}

/// The failure as an error. Nothing that was found has failed.
fn into_error(outcome: Result<Answer, Error>, subject: &Subject) -> Error {
    match outcome {
        Ok(Answer::Refused(refusal)) => refusal.into_error(subject),
        Ok(Answer::Found(found)) => {
            let at = Origin::new(subject, found.request_id.as_deref());
            Error::UnexpectedStatus { at, status: 200 }
        }
        Err(error) => error,
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
