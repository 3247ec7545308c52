//! `keydrift findings`: which keys break a rule, as the newest good run found it.

use super::show::the_key;
use super::{Context, Exit, none_listed};
use crate::cli::Findings;
use crate::clock::Timestamp;
use crate::config::Settings;
use crate::findings::{Exception, Severity};
use crate::output::{self, Cell, Column, Format, Kind};
use crate::store::{FindingFilter, FindingRow, Reader};

/// The columns of the view `finding_history`; without those of the end, of `findings`.
const COLUMNS: [Column; 12] = [
    Column::hidden("organization", Kind::Id),
    Column::new("severity", "SEVERITY", Kind::Word),
    Column::new("rule", "RULE", Kind::Word),
    Column::new("key_id", "KEY", Kind::Id),
    Column::new("key_name", "NAME", Kind::Text).spare(1),
    Column::hidden("scope", Kind::Word),
    Column::new("since", "SINCE", Kind::Time),
    Column::hidden("opened_run_id", Kind::Id),
    Column::hidden("opened_at", Kind::Time),
    Column::hidden("closed_run_id", Kind::Id),
    Column::new("closed_at", "CLOSED", Kind::Time),
    Column::new("detail", "DETAIL", Kind::Phrase),
];
/// Those that say how it ended.
const CLOSED: std::ops::Range<usize> = 9..11;

pub(super) async fn run(context: &mut Context, arguments: &Findings) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let organization = arguments.organization.name.clone();
    let mut reader = context.reader(organization.as_deref()).await?;
    let organizations = reader.list_organizations().await?;
    let several = organization.is_none() && organizations.len() > 1;
    let mut filter = FindingFilter {
        organization,
        key_id: None,
        rules: arguments.rule.iter().map(|rule| rule.0).collect(),
        severity: arguments.severity.map(Severity::from),
        history: arguments.history,
        without: Vec::new(),
    };
    if let Some(key) = &arguments.key {
        let row = the_key(&mut reader, filter.organization.as_deref(), key).await?;
        filter.organization = Some(row.organization);
        filter.key_id = Some(row.key_id);
    }
    if filter.organization.is_none() && !filter.history {
        // Nobody looks at them any more: what was open stays so for ever.
        filter.without = organizations;
        filter.without.retain(|name| settings.organization(name).is_none());
    }
    let mut columns = COLUMNS.to_vec();
    if several {
        columns[0] = Column::new("organization", "ORGANIZATION", Kind::Id);
    }
    if !filter.history {
        columns.drain(CLOSED);
    }
    let format = arguments.format.format;
    let none = none_listed(&mut reader, filter.organization.as_deref(), "no findings").await?;
    let mut listing = context.printer.listing(format, &columns, &none)?;
    let mut counts = [0; Severity::ALL.len()];
    reader
        .list_findings(&filter, |row| {
            let of_severity = Severity::ALL.iter().zip(&mut counts);
            let counted = of_severity.filter(|(severity, _)| severity.as_str() == row.severity);
            counted.for_each(|(_, count)| *count += 1);
            listing.row(&cells(row, filter.history)).map_err(anyhow::Error::from)
        })
        .await?;
    let listed = listing.finish()?;
    if listed > 0 && format == Format::Table {
        context.printer.note(&summary(listed, counts));
    }
    tell_age(context, &mut reader, &settings, filter.organization.as_deref()).await?;
    tell_left_out(context, &filter.without);
    tell_exceptions(context, &settings, filter.organization.as_deref());
    reader.close().await?;
    Ok(if arguments.exit_code && listed > 0 { Exit::Bad } else { Exit::Done })
}

fn cells(row: FindingRow, history: bool) -> Vec<Cell> {
    let mut cells: Vec<Cell> = vec![
        row.organization.into(),
        row.severity.into(),
        row.rule.into(),
        row.key_id.into(),
        row.key_name.into(),
        row.scope.into(),
        row.since.into(),
        row.opened_run_id.into(),
        row.opened_at.into(),
        row.closed_run_id.into(),
        row.closed_at.into(),
        row.detail.into(),
    ];
    if !history {
        cells.drain(CLOSED);
    }
    cells
}

/// `3 findings: 1 high, 2 low`.
fn summary(listed: u64, counts: [u64; Severity::ALL.len()]) -> String {
    let by_severity = Severity::ALL.into_iter().zip(counts).rev().filter(|(_, count)| *count > 0);
    let by_severity = by_severity
        .map(|(severity, count)| format!("{} {}", output::grouped(count), severity.as_str()));
    let by_severity = by_severity.collect::<Vec<_>>().join(", ");
    format!("{}: {by_severity}", output::count(listed, "finding"))
}

/// As of when that is, and that it is long ago if it is.
async fn tell_age(
    context: &mut Context,
    reader: &mut Reader,
    settings: &Settings,
    organization: Option<&str>,
) -> anyhow::Result<()> {
    let installation = reader.installation().await?;
    let windows = reader.load_windows(organization, Timestamp::MAX).await?;
    let name_them = windows.len() > 1;
    for window in windows {
        let name = if name_them { format!("{}: ", window.organization) } else { String::new() };
        let (run_id, finished_at) = (window.run_id, window.finished_at);
        context.printer.note(&format!("{name}as of run {run_id} at {finished_at}"));
        // One that is not watched is as old as it is.
        let watched = settings.organization(&window.organization);
        let overdue = watched.map(|it| it.schedule(&installation).overdue_at(finished_at));
        if overdue.is_some_and(|overdue| overdue < context.clock.now()) {
            context.printer.warning(&format!(
                "{name}no run has been good since {finished_at}: the keys may be others by now"
            ));
        }
    }
    Ok(())
}

/// That organizations are left out which the configuration does not have.
fn tell_left_out(context: &mut Context, names: &[String]) {
    for name in names {
        context.printer.warning(&format!(
            "{name} is not watched, as it is not configured: its findings are left out; `--organization {name}` or `--history` lists them"
        ));
    }
}

/// That something is not listed on purpose, and that some of that has ended.
fn tell_exceptions(context: &mut Context, settings: &Settings, organization: Option<&str>) {
    let now = context.clock.now();
    let of = |exception: &&Exception| organization.is_none_or(|name| exception.is_of(name));
    let exceptions = settings.findings.exceptions.iter().filter(of);
    let (in_force, ended): (Vec<&Exception>, Vec<&Exception>) =
        exceptions.partition(|exception| exception.is_in_force(now));
    match in_force.len() as u64 {
        0 => {}
        1 => context
            .printer
            .warning("1 exception is in force: from the next run on, what it covers is not listed"),
        some => {
            let some = output::count(some, "exception");
            context.printer.warning(&format!(
                "{some} are in force: from the next run on, what they cover is not listed"
            ));
        }
    }
    for exception in ended {
        tell_ended(context, exception);
    }
}

/// An exception that somebody should take out or renew.
pub(super) fn tell_ended(context: &mut Context, exception: &Exception) {
    let Exception { key_id, until, origin, .. } = exception;
    context.printer.warning(&format!(
        "the exception for `{key_id}` ended at {until} and no longer counts (set by `{origin}`)"
    ));
}
