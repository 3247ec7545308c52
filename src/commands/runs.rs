//! `keydrift runs`: the run history.

use super::{Context, Exit};
use crate::cli::Runs;
use crate::output::{self, Cell, Column, Format, Kind};
use crate::store::{self, RunRow};

/// The columns of the view `run_history`, and one for people.
const ALL: [Column; 24] = [
    Column::new("run_id", "RUN", Kind::Id),
    Column::hidden("organization", Kind::Id),
    Column::new("trigger", "TRIGGER", Kind::Word).spare(3),
    Column::new("started_at", "STARTED", Kind::Time),
    Column::hidden("finished_at", Kind::Time),
    Column::new("status", "STATUS", Kind::Word),
    Column::new("keys_seen", "KEYS", Kind::Number),
    Column::hidden("baseline", Kind::Number),
    Column::new("added", "ADDED", Kind::Number),
    Column::new("restored", "RESTORED", Kind::Number).spare(2),
    Column::new("removed", "REMOVED", Kind::Number),
    Column::new("used", "USED", Kind::Number),
    Column::new("changed", "CHANGED", Kind::Number),
    UNCONFIRMED,
    Column::hidden("skipped", Kind::Number),
    Column::hidden("pages", Kind::Number),
    Column::hidden("requests", Kind::Number),
    Column::hidden("retries", Kind::Number),
    Column::hidden("notice", Kind::Text),
    Column::hidden("error", Kind::Text),
    Column::hidden("digest", Kind::Id),
    Column::hidden("missing", Kind::Json),
    Column::hidden("deferred_until", Kind::Time),
    Column::new("remark", "", Kind::Remark),
];
/// Tables show it only where it is not 0 throughout.
const UNCONFIRMED: Column = Column::hidden("unconfirmed", Kind::Number);
const UNCONFIRMED_SHOWN: Column = Column::new("unconfirmed", "UNCONF.", Kind::Number).spare(1);
/// All but the remark.
const FOR_PROGRAMS: usize = 23;

pub(super) async fn run(context: &mut Context, arguments: &Runs) -> anyhow::Result<Exit> {
    let organization = arguments.organization.name.as_deref();
    let mut reader = context.reader(organization).await?;
    let mut columns = ALL;
    if organization.is_none() && reader.list_organizations().await?.len() > 1 {
        columns[1] = Column::new("organization", "ORGANIZATION", Kind::Id);
    }
    let mut runs = Vec::new();
    let keep = |row| {
        runs.push(row);
        Ok::<_, store::Error>(())
    };
    reader.list_runs(organization, arguments.limit, arguments.reverse, keep).await?;
    reader.close().await?;
    if runs.iter().any(|run| run.unconfirmed > 0)
        && let Some(column) = columns.iter_mut().find(|column| **column == UNCONFIRMED)
    {
        *column = UNCONFIRMED_SHOWN;
    }
    let format: Format = arguments.format.format;
    let shown = if format == Format::Table { ALL.len() } else { FOR_PROGRAMS };
    let mut listing = context.printer.listing(format, &columns[..shown], "no runs")?;
    runs.into_iter().try_for_each(|run| listing.row(&cells(run)[..shown]))?;
    let runs = listing.finish()?;
    if runs > 0 && format == Format::Table {
        context.printer.note(&output::count(runs, "run"));
    }
    Ok(Exit::Done)
}

fn cells(row: RunRow) -> Vec<Cell> {
    let remark = row.error.clone().or_else(|| row.notice.clone());
    vec![
        row.run_id.into(),
        row.organization.into(),
        row.trigger.into(),
        row.started_at.into(),
        row.finished_at.into(),
        row.status.into(),
        row.keys_seen.into(),
        row.baseline.into(),
        row.added.into(),
        row.restored.into(),
        row.removed.into(),
        row.used.into(),
        row.changed.into(),
        row.unconfirmed.into(),
        row.skipped.into(),
        row.pages.into(),
        row.requests.into(),
        row.retries.into(),
        row.notice.into(),
        row.error.into(),
        row.digest.into(),
        Cell::parse_json(row.missing),
        row.deferred_until.into(),
        remark.into(),
    ]
}
