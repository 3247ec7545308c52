//! `keydrift sync`: one sync of each organization now.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::events::{EventListing, Of};
use super::{Context, Exit, Misuse};
use crate::checkpoint::{self, Checkpoints};
use crate::cli::Sync;
use crate::config::{OrganizationSettings, Settings};
use crate::inventory::EventKind;
use crate::openai;
use crate::output::{self, Format};
use crate::run::{EventCounts, Status, Trigger};
use crate::secret::CredentialSource;
use crate::stop::Stop;
use crate::store::{EventFilter, EventRow, Reader, Writer};
use crate::sync::{self, Progress, Report, Request, Ticks};

/// An organization, and the credential to sync it with.
type Target<'a> = (&'a OrganizationSettings, CredentialSource);

pub(super) async fn run(context: &mut Context, arguments: &Sync) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let mut targets: Vec<Target<'_>> = Vec::new();
    for organization in chosen(&settings, arguments)? {
        targets.push((organization, settings.credential_source(&organization.name)?));
    }
    if let [(_, only)] = targets.as_slice() {
        // Nobody else is waiting: a credential that can't be read is a mistake, not a failed run.
        only.read()?;
    }
    let mut opened = open(context, &settings).await?;
    let mut reader = Reader::open(&settings.database.path).await?;
    let mut reports = Vec::new();
    let told =
        sync_each(context, &mut opened, &mut reader, &settings, arguments, &targets, &mut reports);
    let told = told.await;
    let (writer, _) = opened;
    let exit = exit(&reports, targets.len(), arguments.exit_code);
    let closed = if arguments.scheduled {
        reader.close().await?;
        writer.retire().await
    } else {
        // The writer first: SQLite's own files then stay, and who may not write here can still read.
        let closed = writer.close().await;
        reader.close().await?;
        closed
    };
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

/// Syncs one organization after the other, and prints what changed. An output that can't be printed keeps
/// none from being synced; it is the error in the end.
async fn sync_each(
    context: &mut Context,
    (writer, checkpoints): &mut (Writer, Checkpoints),
    reader: &mut Reader,
    settings: &Settings,
    arguments: &Sync,
    targets: &[Target<'_>],
    reports: &mut Vec<Report>,
) -> anyhow::Result<()> {
    let format = arguments.format.format;
    let stop = Stop::on_signals().context("could not listen for signals")?;
    let first_seen = reader.last_event_id().await?;
    let mut seen = first_seen;
    let mut told = Ok(());
    for target in targets {
        let name = target.0.name.as_str();
        if let Some(by) = stop.requested_by() {
            context.printer.warning(&format!("`{name}` was not synced: stopped by {by}"));
            continue;
        }
        let expected = reader.count_keys(name).await?;
        let mut report =
            sync_one(context, writer, settings, target, arguments, expected, &stop).await?;
        checkpoints.keep(writer).await;
        if format == Format::Table && told.is_ok() {
            told = list_drift(context, reader, seen, format).await;
            seen = reader.last_event_id().await?;
        }
        conclude(context, &mut report, &target.1);
        reports.push(report);
    }
    if format != Format::Table && told.is_ok() {
        // One document for all organizations.
        told = list_drift(context, reader, first_seen, format).await;
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

async fn open(context: &mut Context, settings: &Settings) -> anyhow::Result<(Writer, Checkpoints)> {
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
    Ok((writer, checkpoints))
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

async fn sync_one(
    context: &mut Context,
    writer: &mut Writer,
    settings: &Settings,
    (organization, credential): &Target<'_>,
    arguments: &Sync,
    expected: Option<u64>,
    stop: &Stop,
) -> anyhow::Result<Report> {
    let bar = context.printer.progress(organization.name.as_str(), expected);
    let show = |progress: Progress| match progress {
        Progress::Listed { keys, pages } => bar.advance(keys, pages),
        Progress::LookingUp { missing } => {
            bar.message(&format!("looking up {}", output::count(missing, "missing key")));
        }
    };
    let request = Request {
        organization,
        credential: &|| credential.read(),
        api: &settings.api,
        removal: settings.removal,
        rules: &settings.findings,
        trigger: if arguments.scheduled { Trigger::Schedule } else { Trigger::Manual },
        accept: arguments.accept.is_some(),
        ticks: Ticks::default(),
        stop,
        progress: &show,
    };
    let report = sync::run(writer, &context.clock, &request).await;
    bar.finish();
    Ok(report?)
}

/// Prints what was recorded after the event with id `seen`. Nobody else writes: we hold the run lock.
async fn list_drift(
    context: &mut Context,
    reader: &mut Reader,
    seen: i64,
    format: Format,
) -> anyhow::Result<()> {
    let drift = EventKind::ALL.into_iter().filter(|kind| *kind != EventKind::Baseline);
    let filter =
        EventFilter { after: Some(seen), kinds: drift.collect(), ..EventFilter::default() };
    let mut listing = EventListing::begin(&mut context.printer, format, Of::Organization, "")?;
    reader
        .list_events(&filter, |event: EventRow| listing.row(event).map_err(anyhow::Error::from))
        .await?;
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
        error @ (sync::Error::NothingToAccept | sync::Error::Stopped { .. }) => {
            anyhow::Error::new(error).context(failed)
        }
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
