//! One run of one organization, from the open database to what came of it.

use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::config::Settings;
use crate::run::{Status, Tally, Trigger};
use crate::schedule::Schedule;
use crate::stop::Stop;
use crate::store::{Policy, RunDraft, SharedWriter, Writer};
use crate::sync::{self, Report, Request, Ticks};

use super::database::Database;

/// What a run needs; its own from beginning to end, whatever is configured meanwhile.
pub(super) struct Job {
    pub(super) settings: Arc<Settings>,
    pub(super) database: Arc<Database>,
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

/// Runs the job. Runs of other organizations may be under way: they have the same database open.
pub(super) async fn run(mut job: Job) -> Done {
    let started_at = job.clock.now();
    let organization = job.organization.clone();
    let entered = tokio::select! {
        biased;
        _ = job.stop.requested() => {
            let outcome = Outcome::NotBegun;
            return Done { organization, outcome, owed: job.owed, lacks_checkpoints: false };
        }
        entered = job.database.enter(&job.settings) => entered,
    };
    let mut lacks_checkpoints = false;
    let outcome = match entered {
        Ok(database) => {
            note_owed(&mut *database.writer().lock().await, &mut job.owed);
            let outcome = sync(database.writer(), &job).await;
            prune(database.writer(), &job).await;
            lacks_checkpoints = database.keep().await;
            job.database.leave(database).await;
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

async fn sync(writer: &SharedWriter, job: &Job) -> Result<Report, sync::Error> {
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
async fn prune(writer: &SharedWriter, job: &Job) {
    if !job.policy.is_set() {
        return;
    }
    let (organization, actor) = (&job.organization, crate::actor::system_user());
    let pruning = async {
        let mut writer = writer.lock().await;
        writer.prune(organization, job.policy, job.clock.now(), &actor).await
    };
    let pruned = tokio::select! {
        biased;
        _ = job.stop.requested() => return,
        pruned = pruning => pruned,
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
