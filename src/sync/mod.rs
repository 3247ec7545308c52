//! One run: sync one organization, from the credential to the commit.
//!
//! What is on the disk at each step:
//!
//! 1. The note beside the run lock says that the run began. If we die from here on, the next writer
//!    records it as interrupted.
//! 2. Listing, comparing, looking up and asking who did it write nothing. Runs of other organizations go on
//!    meanwhile: the writer is shared with them, and never taken while this one waits for the network.
//! 3. One transaction holds the snapshot, the events and the run's row. Before it commits, nothing of the
//!    run is in the history; after it, all of it is, and the note's token says so.
//! 4. The note is cleared. If the transaction failed, the note says how the run ended instead, and the
//!    next writer records that.

mod announce;
mod attribute;
mod listing;
mod removals;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::checkpoint;
use crate::clock::{Clock, Timestamp};
use crate::config::{ApiSettings, OrganizationSettings, RemovalSettings};
use crate::findings::Rules;
use crate::inventory::{
    Acceptance, Changes, Comparison, Identity, Snapshot, Stranger, Withheld, judge_identity,
};
use crate::openai;
use crate::run::{Status, Tally, Trigger};
use crate::schedule::Schedule;
use crate::secret::{self, Credential};
use crate::stop::Stop;
use crate::store::{
    self, Accepted, Attributed, CutShort, Judge, Outcome, Recorded, RunDraft, RunNote,
    SharedWriter, Withholding, Writer,
};

use announce::{News, announce};
use listing::Listed;

/// What a run is to do.
pub struct Request<'a> {
    pub organization: &'a OrganizationSettings,
    /// Asked once, when the run has begun.
    pub credential: &'a (dyn Fn() -> Result<Credential, secret::Error> + Sync),
    pub api: &'a ApiSettings,
    pub removal: RemovalSettings,
    /// By which the keys are judged.
    pub rules: &'a Rules,
    pub trigger: Trigger,
    /// Take what the newest held or refused run recorded for true.
    pub accept: bool,
    pub ticks: Ticks<'a>,
    /// Ends the run early, but not its transaction.
    pub stop: &'a Stop,
    /// Called as the run goes on.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
}

/// What the schedule has to do with a run. Nothing, for one that somebody started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ticks<'a> {
    /// Its ticks during the run are counted as skipped.
    pub schedule: Option<&'a Schedule>,
    /// Up to when they were dealt with before; the run's own start if nothing is said.
    pub since: Option<Timestamp>,
    /// Ticks that passed while the run had to wait.
    pub skipped: u64,
    /// Why there was none before it: for the run's notice.
    pub gap: Option<&'a str>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many keys have come in, on so many pages.
    Listed { keys: u64, pages: u64 },
    /// So many missing keys are being looked up.
    LookingUp { missing: u64 },
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    pub organization: String,
    pub status: Status,
    /// How it stands in the history. `None` if it could not be recorded.
    pub recorded: Option<Recorded>,
    pub tally: Tally,
    /// What came of its requests.
    pub outcomes: openai::Outcomes,
    credential_is_copy: bool,
    pub trigger: Trigger,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub duration: Duration,
    /// Why it is not `ok`.
    pub error: Option<Error>,
    /// Earlier runs without an end in the history, which this one recorded.
    pub settled: Vec<RunNote>,
}

impl Report {
    /// Why it is not `ok` and what to do about it, in one line.
    #[must_use]
    pub fn explanation(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        let told = error.with_hint(&self.organization);
        Some(match error {
            Error::Api(openai::Error::Unauthorized { .. }) if self.credential_is_copy => format!(
                "{told}; after replacing it, `systemctl restart` the service: its credential is a copy made at start"
            ),
            _ => told,
        })
    }
}

/// Why a run changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the credential could not be read")]
    Credential(#[from] secret::Error),
    #[error("the keys could not be listed")]
    Api(#[from] openai::Error),
    #[error("the database could not be used")]
    Store(#[from] store::Error),
    #[error("the database was not used")]
    Checkpoint(#[from] checkpoint::Error),
    #[error("the keys that were listed could not be set aside beside the database")]
    SetAside(#[source] io::Error),
    #[error("refused: this looks like another organization")]
    Refused(#[from] Stranger),
    #[error("held: nothing was changed")]
    Held(#[from] Withheld),
    #[error("interrupted: stopped by {by}")]
    Stopped { by: &'static str },
    #[error("there is no held or refused run to accept since the last good one")]
    NothingToAccept,
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self, organization: &str) -> Option<String> {
        match self {
            Self::Credential(error) => error.hint(),
            Self::Api(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::SetAside(_) => {
                Some("make room on the disk that holds the database, and run it again".to_owned())
            }
            Self::Refused(_) => Some(format!(
                "check which organization the credential of `{organization}` belongs to; if the list is right, run `keydrift sync --accept {organization}`"
            )),
            Self::Held(_) => Some(format!(
                "`keydrift runs --organization {organization} --limit 1 --format json` names the keys (`missing`); if they are gone, run `keydrift sync --accept {organization}`"
            )),
            Self::Stopped { .. } => Some("nothing was changed; run it again".to_owned()),
            Self::NothingToAccept => Some("run `keydrift sync` without `--accept`".to_owned()),
        }
    }

    /// Until when the API asked to be left alone.
    #[must_use]
    pub fn deferred_until(&self) -> Option<Timestamp> {
        match self {
            Self::Api(error) => error.deferred_until(),
            _ => None,
        }
    }

    const fn cut_short(&self) -> Option<CutShort> {
        match self {
            Self::Stopped { .. } => Some(CutShort::Stopped),
            _ => None,
        }
    }

    /// What happened and what to do about it, in one line.
    #[must_use]
    pub fn with_hint(&self, organization: &str) -> String {
        match self.hint(organization) {
            Some(hint) => format!("{}; {hint}", self.in_one_line()),
            None => self.in_one_line(),
        }
    }

    /// The whole chain of causes in one line, as the run history keeps it.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        in_one_line(self)
    }
}

/// An error and its causes in one line, each said once.
fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

/// Whether the credential, which the admin list was opened to, may not read something else. What else may go
/// wrong passes.
fn is_denied(error: &openai::Error) -> bool {
    error.is_missing_permission() || matches!(error, openai::Error::Unauthorized { .. })
}

/// A run that ended without changes, and what it leaves.
struct Failure {
    error: Error,
    withheld: Option<Withholding>,
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), withheld: None }
    }
}

/// What a run found out: everything that the transaction needs.
struct Discovery {
    changes: Changes,
    /// The `openai-organization` header of the answers.
    header: Option<String>,
    /// The keys as they were: by these they are judged.
    before: Snapshot,
    /// Who did it.
    attributed: Attributed,
}

/// What is filled in as a run goes on, so that a failed one still tells what it met.
#[derive(Default)]
struct Ledger {
    tally: Tally,
    notices: Vec<String>,
    settled: Vec<RunNote>,
    outcomes: openai::Outcomes,
    credential_is_copy: bool,
}

/// Runs one sync of one organization and records it. A run that fails or is held is a report as well; it
/// is an error only if it could not even begin.
#[tracing::instrument(name = "sync.run", skip_all, fields(org.label = %request.organization.name))]
pub async fn run(
    writer: &SharedWriter,
    clock: &Arc<dyn Clock>,
    request: &Request<'_>,
) -> Result<Report, Error> {
    let began = Instant::now();
    let accepted = load_accepted(&mut *writer.lock().await, request).await?;
    let started_at = clock.now();
    let token = new_token();
    let organization = request.organization.name.as_str();
    writer.lock().await.begin_run(&RunNote {
        organization: organization.to_owned(),
        trigger: request.trigger,
        started_at: started_at.unix(),
        token,
        owed: None,
        notices: request.ticks.gap.map(str::to_owned).into_iter().collect(),
        skipped: request.ticks.skipped,
    })?;
    let mut ledger = Ledger::default();
    ledger.notices.extend(request.ticks.gap.map(str::to_owned));
    // On the heap: it is by far the largest part of whatever waits for a run.
    let attempt = Box::pin(attempt(writer, clock, request, accepted, &mut ledger)).await;
    let error = attempt.as_ref().err().map(|failure| &failure.error);
    // The time is asked for when it is this run's turn: runs end in the order in which they are recorded.
    let mut writer = writer.lock().await;
    let finished_at = clock.now();
    let since = request.ticks.since.unwrap_or(started_at);
    let passed = |schedule: &Schedule| schedule.slots_between(since, finished_at);
    ledger.tally.skipped = request.ticks.skipped + request.ticks.schedule.map_or(0, passed);
    let draft = RunDraft {
        organization: organization.to_owned(),
        trigger: request.trigger,
        started_at,
        finished_at,
        token,
        tally: ledger.tally,
        notices: ledger.notices,
        deferred_until: error.and_then(Error::deferred_until),
        cut_short: error.and_then(Error::cut_short),
    };
    let news = attempt.as_ref().map(|found| News::of(&found.changes)).unwrap_or_default();
    let mut report = conclude(&mut writer, draft, request.rules, attempt).await;
    drop(writer);
    report.duration = began.elapsed();
    report.settled = ledger.settled;
    report.outcomes = ledger.outcomes;
    report.credential_is_copy = ledger.credential_is_copy;
    announce(&report, &news);
    Ok(report)
}

/// A name for a run, in the database and in the note beside the lock.
pub(crate) fn new_token() -> i64 {
    i64::from(fastrand::u32(..)) << 31 | i64::from(fastrand::u32(..) >> 1)
}

async fn conclude(
    writer: &mut Writer,
    draft: RunDraft,
    rules: &Rules,
    attempt: Result<Discovery, Failure>,
) -> Report {
    let status = match &attempt {
        Ok(_) => Status::Ok,
        Err(Failure { error: Error::Held(_), .. }) => Status::Held,
        Err(_) => Status::Failed,
    };
    let text = attempt.as_ref().err().map(|failure| failure.error.in_one_line());
    let text = text.as_deref().unwrap_or_default();
    let nothing = Withholding::default();
    let outcome = match &attempt {
        Ok(Discovery { changes, header, before, attributed }) => {
            let judge = Some(Judge { rules, before });
            Outcome::Ok { changes, header: header.as_deref(), attributed, judge }
        }
        Err(failure) if status == Status::Held => {
            Outcome::Held { error: text, withheld: failure.withheld.as_ref().unwrap_or(&nothing) }
        }
        Err(failure) => Outcome::Failed { error: text, withheld: failure.withheld.as_ref() },
    };
    let recorded = writer.record_run(&draft, &outcome).await;
    let mut report = Report {
        organization: draft.organization.clone(),
        status,
        recorded: None,
        tally: draft.tally,
        outcomes: openai::Outcomes::default(),
        credential_is_copy: false,
        trigger: draft.trigger,
        started_at: draft.started_at,
        finished_at: draft.finished_at,
        duration: Duration::ZERO,
        error: attempt.err().map(|failure| failure.error),
        settled: Vec::new(),
    };
    match recorded {
        Ok(recorded) => report.recorded = Some(recorded),
        Err(error) => owe(writer, &draft, &mut report, error),
    }
    report
}

/// The row of a run could not be written: the next writer will.
fn owe(writer: &mut Writer, draft: &RunDraft, report: &mut Report, unwritten: store::Error) {
    let error = report.error.take().unwrap_or(Error::Store(unwritten));
    if report.status == Status::Ok {
        report.status = Status::Failed;
    }
    match writer.owe_run(draft, report.status, &error.in_one_line()) {
        Ok(()) => tracing::error!(
            org.label = draft.organization,
            "the run could not be recorded; the next one records it"
        ),
        Err(note) => tracing::error!(
            org.label = draft.organization,
            error = %note,
            "the run could not be recorded, and no note of it could be left"
        ),
    }
    report.error = Some(error);
}

/// Lists, judges and compares. Nothing is written.
async fn attempt(
    writer: &SharedWriter,
    clock: &Arc<dyn Clock>,
    request: &Request<'_>,
    accepted: Option<Accepted>,
    ledger: &mut Ledger,
) -> Result<Discovery, Failure> {
    // Earlier runs come first in the history. Where they can't be recorded, neither can this one be.
    while let Some(run) = writer.lock().await.settle_run(clock.now()).await? {
        ledger.settled.push(run);
    }
    let name = request.organization.name.as_str();
    let credential = (request.credential)()?;
    ledger.credential_is_copy = credential.is_copy();
    let is_own = |redacted: &str| credential.matches_redacted(redacted);
    let client = openai::Client::new(
        options(request.organization, request.api),
        credential.expose(),
        Arc::clone(clock),
    )?;
    let session = openai::Session::new(Arc::new(client));
    // Where somebody accepts what is missing, nothing is asked about it before all is known.
    let may_ask = accepted.is_none();
    let listing = listing::compare(writer, &session, &is_own, may_ask, request, ledger);
    let listed = Box::pin(listing).await;
    count_traffic(&session, ledger);
    let (header_before, Listed { scan, early, mut comparison }) = listed?;
    comparison.check().map_err(Error::SetAside)?;
    let wanted = comparison.wanted();
    comparison.resolve(writer.lock().await.load_keys(name, &wanted).await?);

    let acceptance = accepted.as_ref().map(|accepted| &accepted.acceptance);
    identify(&comparison, header_before.as_deref(), &scan, acceptance, ledger)
        .map_err(|error| refusal(error, &comparison, &scan))?;
    // Where these answers do not say whose they are, the ones before did.
    let organization = scan.organization.as_deref().or(header_before.as_deref());
    let removals =
        removals::find(&session, &comparison, organization, request, acceptance, &early, ledger);
    let removals = unless_stopped(request, removals).await;
    count_traffic(&session, ledger);
    let removals = removals?.map_err(|error| Failure {
        error: error.into(),
        withheld: Some(Withholding { missing: comparison.missing(), stranger: None }),
    })?;
    if let Some(accepted) = &accepted {
        ledger.notices.push(note_accepted(accepted));
    }
    let returning = if comparison.has_appeared() {
        writer.lock().await.load_gone(name, comparison.appeared()).await?
    } else {
        HashSet::new()
    };
    comparison.check().map_err(Error::SetAside)?;
    let (changes, before) = comparison.conclude(&removals.gone, &returning);
    ledger.tally.unconfirmed = changes.unconfirmed.len() as u64;
    let told = changes.notices.iter().filter(|notice| notice.kind.is_told());
    ledger.notices.extend(told.map(ToString::to_string));
    let attributed = attribute::find(writer, clock.as_ref(), &session, &changes, request, ledger);
    // It is large, and seldom has anything to do.
    let attributed = Box::pin(attributed).await?;
    count_traffic(&session, ledger);
    Ok(Discovery { changes, header: scan.organization, before, attributed })
}

/// Which run was accepted, and why it had not been taken over.
fn note_accepted(accepted: &Accepted) -> String {
    let Accepted { run_id, reason, acceptance } = accepted;
    // How the two kinds of reasons begin.
    let (how, beginning) = match acceptance.stranger {
        Some(_) => ("refused", "refused: this looks like another organization: "),
        None => ("held", "held: nothing was changed: "),
    };
    let reason = reason.strip_prefix(beginning).unwrap_or(reason);
    format!("accepted what {how} run {run_id} had recorded: {reason}")
}

/// Waits for the network, or for the word to stop.
async fn unless_stopped<T>(
    request: &Request<'_>,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        by = request.stop.requested() => Err(Error::Stopped { by }),
        done = work => Ok(done),
    }
}

/// What the request builds on. Of an organization that has another name by now, nothing begins.
async fn load_accepted(
    writer: &mut Writer,
    request: &Request<'_>,
) -> Result<Option<Accepted>, Error> {
    writer.refuse_former_name(request.organization.name.as_str()).await?;
    if !request.accept {
        return Ok(None);
    }
    let accepted = writer.load_accepted(request.organization.name.as_str()).await?;
    accepted.map(Some).ok_or(Error::NothingToAccept)
}

/// How the API of an organization is reached.
pub(crate) fn options(organization: &OrganizationSettings, api: &ApiSettings) -> openai::Options {
    let ApiSettings {
        page_size,
        max_concurrency,
        side_by_side,
        connect_timeout,
        read_timeout,
        request_timeout,
        run_deadline,
        max_attempts,
        proxy,
        tls_ca_file,
    } = api.clone();
    openai::Options {
        base_url: organization.base_url.clone(),
        organization_id: organization.organization_id.clone(),
        page_size: page_size.into(),
        max_concurrency,
        side_by_side,
        connect_timeout,
        read_timeout,
        request_timeout,
        run_deadline,
        max_attempts,
        proxy: proxy.map(|proxy| proxy.expose().clone()),
        tls_ca_file,
    }
}

fn count_traffic(session: &openai::Session, ledger: &mut Ledger) {
    let (traffic, tally) = (session.traffic(), &mut ledger.tally);
    ledger.outcomes = session.outcomes();
    tally.pages = traffic.pages;
    tally.requests = traffic.requests;
    tally.retries = traffic.retries;
}

fn identify(
    comparison: &Comparison<'_>,
    before: Option<&str>,
    scan: &openai::Scan,
    acceptance: Option<&Acceptance>,
    ledger: &mut Ledger,
) -> Result<(), Stranger> {
    let now = scan.organization.as_deref();
    let (snapshot, common) = comparison.common_keys();
    match judge_identity(snapshot, common, before, now) {
        Ok(Identity::Same) => Ok(()),
        Ok(Identity::HeaderChanged { before, now }) => {
            ledger.notices.push(format!(
                "the answers come from organization `{now}` now, `{before}` before, with the same keys"
            ));
            Ok(())
        }
        Err(stranger) => {
            let accepted = acceptance.and_then(|acceptance| acceptance.stranger.as_ref());
            let as_accepted = accepted.is_some_and(|header| header.as_deref() == now);
            if as_accepted { Ok(()) } else { Err(stranger) }
        }
    }
}

fn refusal(error: Stranger, comparison: &Comparison<'_>, scan: &openai::Scan) -> Failure {
    let withheld =
        Withholding { missing: comparison.missing(), stranger: Some(scan.organization.clone()) };
    Failure { error: error.into(), withheld: Some(withheld) }
}
