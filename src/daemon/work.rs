//! One run of one organization, from the run lock to the closed database.

use std::sync::Arc;

use crate::checkpoint::{self, Checkpoints};
use crate::clock::{Clock, Timestamp};
use crate::config::Settings;
use crate::run::{Status, Tally, Trigger};
use crate::schedule::Schedule;
use crate::stop::Stop;
use crate::store::{self, Policy, RunDraft, Writer};
use crate::sync::{self, Report, Request, Ticks};

/// What a run needs; its own from beginning to end, whatever is configured meanwhile.
pub(super) struct Job {
    pub(super) settings: Arc<Settings>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: Stop,
    pub(super) organization: String,
    pub(super) schedule: Schedule,
    pub(super) trigger: Trigger,
    /// Up to when ticks were dealt with before.
    pub(super) since: Timestamp,
    /// Ticks that passed while it had to wait.
    pub(super) skipped: u64,
    /// Why there was no run before it.
    pub(super) gap: Option<String>,
    /// Earlier runs that could not even be noted.
    pub(super) owed: Vec<Owed>,
    /// What is to be kept of the history: what is older is thrown away after the run.
    pub(super) policy: Policy,
}

/// A run whose row could not be written, nor a note of it.
#[derive(Debug)]
pub(super) struct Owed {
    draft: RunDraft,
    error: String,
}

/// What came of a job.
pub(super) struct Done {
    pub(super) organization: String,
    pub(super) outcome: Outcome,
    /// What is still to be recorded.
    pub(super) owed: Vec<Owed>,
    /// Whether checkpoints could not be made.
    pub(super) lacks_checkpoints: bool,
}

pub(super) enum Outcome {
    Ran(Box<Report>),
    /// The database could not be had. The run counts as failed.
    Unrecorded {
        started_at: Timestamp,
        finished_at: Timestamp,
        error: sync::Error,
    },
    /// Somebody asked to stop before it had begun.
    NotBegun,
}

/// Runs the job. Between runs the lock is free, so that somebody can sync by hand.
pub(super) async fn run(mut job: Job) -> Done {
    let started_at = job.clock.now();
    let organization = job.organization.clone();
    let opened = tokio::select! {
        biased;
        _ = job.stop.requested() => {
            let outcome = Outcome::NotBegun;
            return Done { organization, outcome, owed: job.owed, lacks_checkpoints: false };
        }
        opened = open(&job.settings) => opened,
    };
    let mut lacks_checkpoints = false;
    let outcome = match opened {
        Ok((mut writer, mut checkpoints)) => {
            note_owed(&mut writer, &mut job.owed);
            let outcome = sync(&mut writer, &job).await;
            prune(&mut writer, &job).await;
            checkpoints.keep(&mut writer).await;
            lacks_checkpoints = checkpoints.is_behind;
            if let Err(error) = writer.close().await {
                tracing::info!(%error, "the database could not be tidied up");
            }
            outcome
        }
        Err(error) => Err(error),
    };
    let outcome = match outcome {
        Ok(report) => Outcome::Ran(Box::new(report)),
        Err(error) => give_up(&mut job, started_at, error),
    };
    Done { organization, outcome, owed: job.owed, lacks_checkpoints }
}

/// A database that is gone is not begun anew: somebody has to say what became of it.
async fn open(settings: &Settings) -> Result<(Writer, Checkpoints), sync::Error> {
    let path = &settings.database.path;
    if !path.exists() {
        return Err(store::Error::Gone { path: path.clone() }.into());
    }
    let opened = checkpoint::open(settings, settings.database.lock_timeout, |holder| {
        tracing::info!(holder, "waiting for the run lock");
    });
    match opened.await {
        Ok((writer, checkpoints)) => {
            checkpoints.tell();
            Ok((writer, checkpoints))
        }
        Err(checkpoint::Error::Store(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

/// Leaves what is owed to the run that follows, which records it first.
fn note_owed(writer: &mut Writer, owed: &mut Vec<Owed>) {
    let mut failure = None;
    owed.retain(|Owed { draft, error }| {
        let noted = writer.owe_run(draft, Status::Failed, error);
        noted.map_err(|error| failure = Some(error)).is_err()
    });
    if let Some(error) = failure {
        tracing::warn!(%error, runs = owed.len(), "earlier runs are still owed");
    }
}

async fn sync(writer: &mut Writer, job: &Job) -> Result<Report, sync::Error> {
    let Job { settings, organization, .. } = job;
    let Some(configured) = settings.organization(organization) else {
        // The planner and the settings are replaced together.
        unreachable!("`{organization}` is planned, but not configured");
    };
    let credential = || settings.credential_source(&configured.name)?.read();
    let request = Request {
        organization: configured,
        credential: &credential,
        api: &settings.api,
        removal: settings.removal,
        rules: &settings.findings,
        trigger: job.trigger,
        accept: false,
        ticks: Ticks {
            schedule: Some(&job.schedule),
            since: Some(job.since),
            skipped: job.skipped,
            gap: job.gap.as_deref(),
        },
        stop: &job.stop,
        progress: &|_| {},
    };
    sync::run(writer, &job.clock, &request).await
}

/// Throws away what is no longer kept. Who wants to stop need not wait for it: nothing of it is done then.
async fn prune(writer: &mut Writer, job: &Job) {
    if !job.policy.is_set() {
        return;
    }
    let (organization, actor) = (&job.organization, crate::actor::system_user());
    let pruned = tokio::select! {
        biased;
        _ = job.stop.requested() => return,
        pruned = writer.prune(organization, job.policy, job.clock.now(), &actor) => pruned,
    };
    match pruned {
        Ok(None) => {}
        Ok(Some(pruned)) => tracing::info!(
            org.label = organization,
            events.pruned = pruned.used + pruned.events,
            "what the retention policy no longer keeps was thrown away"
        ),
        Err(error) => {
            tracing::warn!(org.label = organization, %error, "nothing was thrown away");
        }
    }
}

fn give_up(job: &mut Job, started_at: Timestamp, error: sync::Error) -> Outcome {
    let finished_at = job.clock.now();
    let skipped = job.skipped + job.schedule.slots_between(job.since, finished_at);
    let draft = RunDraft {
        organization: job.organization.clone(),
        trigger: job.trigger,
        started_at,
        finished_at,
        token: sync::new_token(),
        tally: Tally { skipped, ..Tally::default() },
        notices: job.gap.clone().into_iter().collect(),
        deferred_until: None,
        cut_short: None,
    };
    job.owed.push(Owed { draft, error: error.in_one_line() });
    Outcome::Unrecorded { started_at, finished_at, error }
}
