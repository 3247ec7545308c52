//! One run: sync one organization, from the credential to the commit.
//!
//! What is on the disk at each step:
//!
//! 1. The note beside the run lock says that the run began. If we die from here on, the next writer
//!    records it as interrupted.
//! 2. Listing, comparing, looking up and asking who did it write nothing.
//! 3. One transaction holds the snapshot, the events and the run's row. Before it commits, nothing of the
//!    run is in the history; after it, all of it is, and the note's token says so.
//! 4. The note is cleared. If the transaction failed, the note says how the run ended instead, and the
//!    next writer records that.

mod announce;
mod attribute;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::checkpoint;
use crate::clock::{Clock, Timestamp};
use crate::config::{ApiSettings, OrganizationSettings, RemovalSettings};
use crate::inventory::{
    Acceptance, Changes, Comparison, Guards, Identity, KeyId, LookUp, Removals, Scope, Stranger,
    Withheld, judge_identity, judge_missing, keys, plan_look_ups,
};
use crate::openai::{self, Control, Inquiry, Place};
use crate::run::{Status, Tally, Trigger};
use crate::schedule::Schedule;
use crate::secret::{self, Credential};
use crate::stop::Stop;
use crate::store::{
    self, Accepted, Attributed, CutShort, Outcome, Recorded, RunDraft, RunNote, Withholding, Writer,
};

use announce::{News, announce};

/// How many listed keys may be asked for as a proof that look-ups work.
const CONTROLS: usize = 3;

/// What a run is to do.
pub struct Request<'a> {
    pub organization: &'a OrganizationSettings,
    /// Asked once, when the run has begun.
    pub credential: &'a (dyn Fn() -> Result<Credential, secret::Error> + Sync),
    pub api: &'a ApiSettings,
    pub removal: RemovalSettings,
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
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
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
struct Findings {
    changes: Changes,
    /// The `openai-organization` header of the answers.
    header: Option<String>,
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
    writer: &mut Writer,
    clock: &Arc<dyn Clock>,
    request: &Request<'_>,
) -> Result<Report, Error> {
    let began = Instant::now();
    let accepted = load_accepted(writer, request).await?;
    let started_at = clock.now();
    let token = new_token();
    let organization = request.organization.name.as_str();
    writer.begin_run(&RunNote {
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
    let attempt = attempt(writer, clock, request, accepted, &mut ledger).await;
    let error = attempt.as_ref().err().map(|failure| &failure.error);
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
    let news = attempt.as_ref().map(|findings| News::of(&findings.changes)).unwrap_or_default();
    let mut report = conclude(writer, draft, attempt).await;
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
    attempt: Result<Findings, Failure>,
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
        Ok(findings) => {
            let Findings { changes, header, attributed } = findings;
            Outcome::Ok { changes, header: header.as_deref(), attributed }
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
    writer: &mut Writer,
    clock: &Arc<dyn Clock>,
    request: &Request<'_>,
    accepted: Option<Accepted>,
    ledger: &mut Ledger,
) -> Result<Findings, Failure> {
    // Earlier runs come first in the history. Where they can't be recorded, neither can this one be.
    while let Some(run) = writer.settle_run(clock.now()).await? {
        ledger.settled.push(run);
    }
    let name = request.organization.name.as_str();
    let credential = (request.credential)()?;
    ledger.credential_is_copy = credential.is_copy();
    let (snapshot, header_before) = writer.load_snapshot(name).await?;
    let mut comparison =
        Comparison::new(snapshot, |redacted: &str| credential.matches_redacted(redacted));

    let client = openai::Client::new(
        options(request.organization, request.api),
        credential.expose(),
        Arc::clone(clock),
    )?;
    let session = openai::Session::new(Arc::new(client));
    let scanned = unless_stopped(request, scan(&session, &mut comparison, request, ledger)).await;
    count_traffic(&session, ledger);
    let scan = scanned??;
    note_scan(&scan, ledger);

    let acceptance = accepted.as_ref().map(|accepted| &accepted.acceptance);
    identify(&comparison, header_before.as_deref(), &scan, acceptance, ledger)
        .map_err(|error| refusal(error, &comparison, &scan))?;
    // Where these answers do not say whose they are, the ones before did.
    let organization = scan.organization.as_deref().or(header_before.as_deref());
    let removals = find_removals(&session, &comparison, organization, request, acceptance, ledger);
    let removals = unless_stopped(request, removals).await;
    count_traffic(&session, ledger);
    let removals = removals?.map_err(|error| Failure {
        error: error.into(),
        withheld: Some(Withholding { missing: comparison.missing(), stranger: None }),
    })?;
    if let Some(accepted) = &accepted {
        ledger.notices.push(note_accepted(accepted));
    }
    let returning = writer.load_gone(name, &comparison.appeared()).await?;
    let changes = comparison.finish(&removals.gone, &returning);
    ledger.tally.unconfirmed = changes.unconfirmed.len() as u64;
    let told = changes.notices.iter().filter(|notice| notice.kind.is_told());
    ledger.notices.extend(told.map(ToString::to_string));
    let attributed = attribute::find(writer, clock.as_ref(), &session, &changes, request, ledger);
    // It is large, and seldom has anything to do.
    let attributed = Box::pin(attributed).await?;
    count_traffic(&session, ledger);
    Ok(Findings { changes, header: scan.organization, attributed })
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

async fn load_accepted(
    writer: &mut Writer,
    request: &Request<'_>,
) -> Result<Option<Accepted>, Error> {
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
        connect_timeout,
        read_timeout,
        request_timeout,
        run_deadline,
        max_attempts,
        proxy: proxy.map(|proxy| proxy.expose().clone()),
        tls_ca_file,
    }
}

async fn scan(
    session: &openai::Session,
    comparison: &mut Comparison<'_>,
    request: &Request<'_>,
    ledger: &mut Ledger,
) -> Result<openai::Scan, openai::Error> {
    session
        .scan(&mut |sightings, progress| {
            ledger.tally.keys_seen += sightings.len() as u64;
            for sighting in sightings {
                comparison.observe(sighting);
            }
            (request.progress)(Progress::Listed {
                keys: ledger.tally.keys_seen,
                pages: progress.pages,
            });
        })
        .await
}

fn count_traffic(session: &openai::Session, ledger: &mut Ledger) {
    let (traffic, tally) = (session.traffic(), &mut ledger.tally);
    ledger.outcomes = session.outcomes();
    tally.pages = traffic.pages;
    tally.requests = traffic.requests;
    tally.retries = traffic.retries;
}

/// What a scan met that somebody may want to know.
fn note_scan(scan: &openai::Scan, ledger: &mut Ledger) {
    let mut note = |count: u64, text: &str| {
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        if count > 0 {
            ledger.notices.push(text.replace("{times}", &times).replace("{keys}", &keys(count)));
        }
    };
    note(scan.shifts, "the list shifted {times} while it was read");
    note(scan.lost_cursors, "the cursor was lost {times}");
    note(scan.restarts.into(), "the list was read again from the start {times}");
    note(
        scan.warnings.values_dropped,
        "the API sent the full secret of {keys}: dropped, and to be taken as leaked",
    );
    for (field, count) in &scan.warnings.secrets_masked {
        let keys = keys(count);
        ledger.notices.push(format!("masked what looks like a secret in `{field}` of {keys}"));
    }
}

fn identify(
    comparison: &Comparison<'_>,
    before: Option<&str>,
    scan: &openai::Scan,
    acceptance: Option<&Acceptance>,
    ledger: &mut Ledger,
) -> Result<(), Stranger> {
    let now = scan.organization.as_deref();
    let (snapshot, common) = (comparison.snapshot_keys(), comparison.common_keys());
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

async fn find_removals(
    session: &openai::Session,
    comparison: &Comparison<'_>,
    organization: Option<&str>,
    request: &Request<'_>,
    acceptance: Option<&Acceptance>,
    ledger: &mut Ledger,
) -> Result<Removals, Withheld> {
    let missing = comparison.missing();
    let snapshot = comparison.snapshot_keys();
    let guards = guards(request.removal);
    ledger.tally.unconfirmed = missing.len() as u64;
    let asked = plan_look_ups(&missing, snapshot, guards, acceptance)?;
    // With more unknown the run is held, whatever the other answers; an accepted one never is.
    let most_unknown = match acceptance {
        Some(_) => usize::MAX,
        None => guards.most_unknown(snapshot),
    };
    let mut answers: HashMap<KeyId, LookUp> = HashMap::new();
    for scope in [Scope::Admin, Scope::Project] {
        let of_scope = |id: &&KeyId| comparison.scope_of(id) == Some(scope);
        let asked: Vec<KeyId> = asked.iter().filter(of_scope).cloned().collect();
        if asked.is_empty() {
            continue;
        }
        (request.progress)(Progress::LookingUp { missing: asked.len() as u64 });
        // That the endpoint knows one kind of key says little of the other: projects' keys are in this
        // list, and perhaps not behind this endpoint. Where none of the kind is listed any more, the
        // other kind has to vouch.
        let mut controls = comparison.some_listed(scope, CONTROLS);
        if controls.is_empty() {
            let other = if scope == Scope::Admin { Scope::Project } else { Scope::Admin };
            controls = comparison.some_listed(other, CONTROLS);
        }
        let controls = controls.into_iter().map(|id| Control::Key(Place::Admin, id)).collect();
        let inquiry = Inquiry { place: Place::Admin, missing: asked, controls };
        answers.extend(session.look_up_all(&[inquiry], organization, most_unknown).await);
    }
    judge_missing(&missing, &answers, snapshot, guards, acceptance)
}

fn guards(removal: RemovalSettings) -> Guards {
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Guards {
        keys: count(removal.guard_keys),
        percent: usize::from(removal.guard_percent),
        confirm_limit: count(removal.confirm_limit),
    }
}
