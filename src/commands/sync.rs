//! `keydrift sync`: one sync of each organization now, side by side, told of in the order of the configuration.

mod job;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use job::Job;
use tokio::task::JoinSet;

use super::events::{EventListing, Of};
use super::{Context, Exit, Misuse};
use crate::checkpoint::{self, Shared};
use crate::cli::Sync;
use crate::config::{OrganizationSettings, Settings};
use crate::inventory::EventKind;
use crate::openai;
use crate::output::{self, Format};
use crate::run::{EventCounts, Status, Trigger};
use crate::secret::CredentialSource;
use crate::stop::Stop;
use crate::store::{self, EventFilter, EventRow, Reader};
use crate::sync::{self, Report};

/// An organization, and the credential to sync it with.
type Target<'a> = (&'a OrganizationSettings, CredentialSource);

pub(super) async fn run(context: &mut Context, arguments: &Sync) -> anyhow::Result<Exit> {
    let settings = Arc::new(context.settings()?);
    let mut targets: Vec<Target<'_>> = Vec::new();
    for organization in chosen(&settings, arguments)? {
        targets.push((organization, settings.credential_source(&organization.name)?));
    }
    if let [(_, only)] = targets.as_slice() {
        // Nobody else is waiting: a credential that can't be read is a mistake, not a failed run.
        only.read()?;
    }
    let opened = Arc::new(open(context, &settings).await?);
    let mut reader = Reader::open(&settings.database.path).await?;
    let mut reports = Vec::new();
    let told =
        sync_all(context, &opened, &mut reader, &settings, arguments, &targets, &mut reports).await;
    let exit = exit(&reports, targets.len(), arguments.exit_code);
    let closed = close(opened, reader, arguments.scheduled).await?;
    match told {
        // Whoever read our output has seen enough. What was done counts all the same.
        Err(error) if !output::is_closed(&error) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match (exit, closed) {
        (Exit::Done | Exit::Bad, Err(error)) => {
            let what = "the sync is recorded, but the database could not be tidied up";
            return Err(anyhow::Error::new(error).context(what));
        }
        // If it is the database that is at fault, that was told already.
        (_, Err(error)) => tracing::info!(%error, "the database could not be tidied up"),
        (_, Ok(())) => {}
    }
    Ok(exit)
}

/// Closes the database. That it could not be tidied up is the inner error.
async fn close(
    opened: Arc<Shared>,
    reader: Reader,
    scheduled: bool,
) -> Result<Result<(), store::Error>, store::Error> {
    // No run has it any more.
    let Some(writer) = Arc::into_inner(opened).and_then(Shared::into_writer) else {
        return Ok(Ok(()));
    };
    if scheduled {
        reader.close().await?;
        return Ok(writer.retire().await);
    }
    // The writer first: SQLite's own files then stay, and who may not write here can still read.
    let closed = writer.close().await;
    reader.close().await?;
    Ok(closed)
}

/// Syncs the organizations side by side, and then prints what changed. An output that can't be printed keeps
/// none from being synced; it is the error in the end.
async fn sync_all(
    context: &mut Context,
    opened: &Arc<Shared>,
    reader: &mut Reader,
    settings: &Arc<Settings>,
    arguments: &Sync,
    targets: &[Target<'_>],
    reports: &mut Vec<Report>,
) -> anyhow::Result<()> {
    let format = arguments.format.format;
    let stop = Stop::on_signals().context("could not listen for signals")?;
    let first_seen = reader.last_event_id().await?;
    let ended = run_all(context, opened, reader, settings, arguments, targets, &stop).await?;
    let mut told = Ok(());
    for (report, (organization, credential)) in ended.into_iter().zip(targets) {
        let name = organization.name.as_str();
        let Some(report) = report else {
            let by = stop.requested_by().unwrap_or_default();
            context.printer.warning(&format!("`{name}` was not synced: stopped by {by}"));
            continue;
        };
        let mut report = match report {
            Ok(report) => report,
            // It could not even begin.
            Err(error) if targets.len() == 1 => return Err(error.into()),
            Err(error) => {
                let hint = advice(&error, name, credential);
                context.printer.report(&explain(error, name), &[hint]);
                continue;
            }
        };
        if format == Format::Table && told.is_ok() {
            told = list_drift(context, reader, &[name], first_seen, format).await;
        }
        conclude(context, &mut report, credential);
        reports.push(report);
    }
    if format != Format::Table && told.is_ok() {
        // One document for all organizations.
        let names: Vec<&str> = targets.iter().map(|(one, _)| one.name.as_str()).collect();
        told = list_drift(context, reader, &names, first_seen, format).await;
    }
    for report in reports.iter() {
        if told.is_ok() && format == Format::Table {
            told = context.printer.line(&summary(report)).map_err(anyhow::Error::from);
        } else if format != Format::Table {
            context.printer.note(&summary(report));
        }
    }
    told
}

/// What came of each run, in the order of the targets; nothing of one that was not begun any more.
async fn run_all(
    context: &Context,
    opened: &Arc<Shared>,
    reader: &mut Reader,
    settings: &Arc<Settings>,
    arguments: &Sync,
    targets: &[Target<'_>],
    stop: &Stop,
) -> anyhow::Result<Vec<Option<Result<Report, sync::Error>>>> {
    let lines = context.printer.progress();
    let mut runs = JoinSet::new();
    for (index, (organization, credential)) in targets.iter().enumerate() {
        let expected = reader.count_keys(organization.name.as_str()).await?;
        if stop.requested_by().is_some() {
            break;
        }
        let job = Job {
            settings: Arc::clone(settings),
            clock: Arc::clone(&context.clock),
            opened: Arc::clone(opened),
            organization: (*organization).clone(),
            credential: credential.clone(),
            trigger: if arguments.scheduled { Trigger::Schedule } else { Trigger::Manual },
            accept: arguments.accept.is_some(),
            stop: stop.clone(),
            line: lines.start(organization.name.as_str(), expected),
        };
        // Each on a thread of its own: one that is slow to compare, or to get its credential, holds up none.
        let runtime = tokio::runtime::Handle::current();
        runs.spawn_blocking(move || (index, runtime.block_on(job.run())));
    }
    let mut ended: Vec<_> = targets.iter().map(|_| None).collect();
    while let Some(done) = runs.join_next().await {
        let (index, report) = done.context("a run died")?;
        if let Some(place) = ended.get_mut(index) {
            *place = Some(report);
        }
    }
    Ok(ended)
}

/// The organizations that the arguments name, or all.
fn chosen<'a>(
    settings: &'a Settings,
    arguments: &Sync,
) -> Result<Vec<&'a OrganizationSettings>, Misuse> {
    let Some(name) = arguments.accept.as_ref().or(arguments.organization.name.as_ref()) else {
        return Ok(settings.organizations.iter().collect());
    };
    let known = || settings.organizations.iter().map(|known| known.name.to_string()).collect();
    let found = settings.organization(name);
    let found =
        found.ok_or_else(|| Misuse::UnknownOrganization { name: name.clone(), known: known() })?;
    Ok(vec![found])
}

async fn open(context: &mut Context, settings: &Settings) -> anyhow::Result<Shared> {
    if settings.database.is_default {
        make_directory(&settings.database.path)?;
    }
    let printer = &mut context.printer;
    let opened = checkpoint::open(settings, settings.database.lock_timeout, |holder| {
        printer.note(&format!("waiting for {holder}"));
    });
    let (writer, checkpoints) = opened.await?;
    if let Some(mending) = checkpoints.mending() {
        context.printer.note(&mending);
    }
    Ok(Shared::from((writer, checkpoints)))
}

/// The default place may not be there yet; one that somebody named has to be.
pub(super) fn make_directory(path: &Path) -> anyhow::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(directory)
        .map_err(|source| NoDirectory { path: directory.to_owned(), source }.into())
}

/// The directory of the default database could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not create the directory `{}`", .path.display())]
pub(super) struct NoDirectory {
    path: PathBuf,
    source: std::io::Error,
}

impl NoDirectory {
    pub(super) fn hint() -> String {
        "create it for the user that runs keydrift, or name another place with `--database` or the setting \
         `database.path`"
            .to_owned()
    }
}

/// Prints what was recorded of the organizations after the event with id `seen`. Nobody else writes: we hold
/// the run lock.
async fn list_drift(
    context: &mut Context,
    reader: &mut Reader,
    organizations: &[&str],
    seen: i64,
    format: Format,
) -> anyhow::Result<()> {
    let drift = EventKind::ALL.into_iter().filter(|kind| *kind != EventKind::Baseline);
    let mut filter =
        EventFilter { after: Some(seen), kinds: drift.collect(), ..EventFilter::default() };
    let mut listing = EventListing::begin(&mut context.printer, format, Of::Organization, "")?;
    for organization in organizations {
        filter.organization = Some((*organization).to_owned());
        reader
            .list_events(&filter, |event: EventRow| listing.row(event).map_err(anyhow::Error::from))
            .await?;
    }
    listing.finish()?;
    Ok(())
}

/// Says on stderr what somebody should know of one run.
fn conclude(context: &mut Context, report: &mut Report, credential: &CredentialSource) {
    let organization = &report.organization;
    for run in &report.settled {
        let how = if run.owed.is_some() { "could not be recorded then" } else { "was interrupted" };
        context.printer.warning(&format!(
            "an earlier run of `{}` {how}; it is in the run history now",
            run.organization
        ));
    }
    let notice = report.recorded.as_ref().and_then(|recorded| recorded.notice.as_deref());
    if let Some(notice) = notice {
        context.printer.warning(&format!("{organization}: {notice}"));
    }
    if let Some(error) = report.error.take() {
        let hint = advice(&error, organization, credential);
        let error = explain(error, organization);
        context.printer.report(&error, &[hint]);
    }
    let counts = report.recorded.as_ref().map(|recorded| recorded.counts).unwrap_or_default();
    if counts.baseline > 0 {
        let keys = output::count(counts.baseline, "key");
        context.printer.note(&format!(
            "{organization}: first listing: {keys} recorded as found (baseline), not as drift"
        ));
    }
}

/// What to do next, whatever it was.
fn advice(error: &sync::Error, organization: &str, credential: &CredentialSource) -> String {
    let hint = error.hint(organization);
    match (error, hint) {
        (sync::Error::Api(openai::Error::Unauthorized { .. }), Some(hint))
            if credential.is_systemd() =>
        {
            format!(
                "{hint}; if it was replaced, `systemctl restart` the service, whose {credential} is a \
                 copy made at start"
            )
        }
        (_, Some(hint)) => hint,
        (sync::Error::Api(cause), None) if cause.is_retryable() => {
            "nothing was changed: try again later".to_owned()
        }
        (sync::Error::Api(_), None) => "nothing was changed: try again, and if it lasts, ask the \
            provider about that request"
            .to_owned(),
        (_, None) => "nothing was changed: `keydrift runs` has all that is known of it".to_owned(),
    }
}

/// What happened, to which organization, and why.
fn explain(error: sync::Error, organization: &str) -> anyhow::Error {
    let failed = format!("could not sync organization `{organization}`");
    match error {
        sync::Error::Credential(cause) => anyhow::Error::new(cause).context(failed),
        sync::Error::Api(cause) => anyhow::Error::new(cause).context(failed),
        sync::Error::Store(cause) => anyhow::Error::new(cause).context(failed),
        sync::Error::Checkpoint(cause) => anyhow::Error::new(cause).context(failed),
        sync::Error::Refused(cause) => anyhow::Error::new(cause).context(format!(
            "refused to sync organization `{organization}`: this looks like another one"
        )),
        sync::Error::Held(cause) => anyhow::Error::new(cause).context(format!(
            "the sync of organization `{organization}` is held, nothing was changed"
        )),
        error @ (sync::Error::NothingToAccept
        | sync::Error::Stopped { .. }
        | sync::Error::SetAside(_)) => anyhow::Error::new(error).context(failed),
    }
}

/// `default: 1 204 keys, 2 added, 1 removed, 31 used, 0 changed in 1.4 s (13 requests)`
fn summary(report: &Report) -> String {
    let counts = report.recorded.as_ref().map(|recorded| recorded.counts).unwrap_or_default();
    let EventCounts { added, restored, removed, used, changed, .. } = counts;
    let requests = output::count(report.tally.requests, "request");
    let cost = format!("in {} ({requests})", output::duration(report.duration));
    match report.status {
        Status::Ok => {}
        Status::Failed => {
            return format!("{}: failed, nothing changed {cost}", report.organization);
        }
        Status::Held => return format!("{}: held, nothing changed {cost}", report.organization),
    }
    let mut line = format!(
        "{}: {}, {} added",
        report.organization,
        output::count(report.tally.keys_seen, "key"),
        output::grouped(added)
    );
    let mut more = |number: u64, what: &str, always: bool| {
        if always || number > 0 {
            // Writing into a `String` cannot fail.
            write!(line, ", {} {what}", output::grouped(number)).ok();
        }
    };
    more(restored, "restored", false);
    more(removed, "removed", true);
    more(used, "used", true);
    more(changed, "changed", true);
    more(report.tally.unconfirmed, "unconfirmed", false);
    format!("{line} {cost}")
}

fn exit(reports: &[Report], wanted: usize, exit_code: bool) -> Exit {
    let done = reports.iter().filter(|report| report.status == Status::Ok).count();
    let drifted = reports
        .iter()
        .filter_map(|report| report.recorded.as_ref())
        .any(|recorded| recorded.counts.is_drift());
    match (done, wanted - done) {
        (_, 0) if exit_code && drifted => Exit::Bad,
        (_, 0) => Exit::Done,
        (0, _) => Exit::Failed,
        _ => Exit::Partly,
    }
}
