//! `keydrift doctor`: every capability tried, for each organization; what fails, what that costs, and how to
//! mend it.
//!
//! It records nothing: the database is opened to read, and the API gets a few GET requests for one item each.
//! Where nobody else has the database open, `SQLite` leaves an empty `-wal` and `-shm` beside it: see
//! [`crate::store`]. With a configuration that is not valid, nothing is tried.

mod api;
mod local;
mod row;

use futures_util::future::join_all;

use super::{Context, Exit, Misuse};
use crate::cli::Doctor;
use crate::config::{OrganizationSettings, Settings};
use crate::output::{Cell, Column, Format, Kind, count};
use crate::store::Reader;

use row::Row;

const FOR_PEOPLE: [Column; 5] = [
    Column::new("organization", "ORGANIZATION", Kind::Id),
    Column::new("check", "CHECK", Kind::Id),
    Column::new("result", "RESULT", Kind::Word),
    Column::new("detail", "DETAIL", Kind::Phrase),
    Column::new("remark", "", Kind::Remark),
];
const FOR_PROGRAMS: [Column; 7] = [
    Column::hidden("organization", Kind::Id),
    Column::hidden("check", Kind::Id),
    Column::hidden("result", Kind::Word),
    Column::hidden("needed", Kind::Flag),
    Column::hidden("detail", Kind::Text),
    Column::hidden("costs", Kind::Text),
    Column::hidden("mend", Kind::Text),
];

pub(super) async fn run(context: &mut Context, arguments: &Doctor) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let organizations = chosen(&settings, arguments.organization.name.as_deref())?;
    let rows = examine(context, &settings, &organizations).await;
    let format: Format = arguments.format.format;
    let is_table = format == Format::Table;
    let columns = if is_table { &FOR_PEOPLE[..] } else { &FOR_PROGRAMS[..] };
    let mut listing = context.printer.listing(format, columns, "nothing was tried")?;
    for row in &rows {
        listing.row(&if is_table { cells_for_people(row) } else { cells_for_programs(row) })?;
    }
    listing.finish()?;
    let failed = rows.iter().filter(|row| row.is_fatal()).count();
    if is_table {
        context.printer.line(&conclusion(&rows, failed))?;
    }
    Ok(if failed > 0 { Exit::Bad } else { Exit::Done })
}

/// The organization asked for, or all that are configured.
fn chosen<'a>(
    settings: &'a Settings,
    wanted: Option<&str>,
) -> Result<Vec<&'a OrganizationSettings>, Misuse> {
    let Some(name) = wanted else { return Ok(settings.organizations.iter().collect()) };
    let found = settings.organization(name).ok_or_else(|| Misuse::UnknownOrganization {
        name: name.to_owned(),
        known: settings.organizations.iter().map(|known| known.name.to_string()).collect(),
    })?;
    Ok(vec![found])
}

/// Everything that can be tried. What fails is a row, and keeps nothing else from being tried.
async fn examine(
    context: &Context,
    settings: &Settings,
    organizations: &[&OrganizationSettings],
) -> Vec<Row> {
    let (database, mut reader) = local::examine_database(settings).await;
    let mut asked = Vec::new();
    for organization in organizations {
        let remembered = remember(reader.as_mut(), organization).await;
        asked.push(api::Target { settings, organization, remembered });
    }
    let answers = join_all(asked.iter().map(|target| api::examine(target, &context.clock))).await;
    let mut rows = Vec::new();
    for (organization, answers) in organizations.iter().zip(answers) {
        rows.extend(answers);
        rows.push(
            local::examine_schedule(organization, reader.as_mut(), context.clock.now()).await,
        );
    }
    rows.push(database);
    rows.push(local::examine_disk(settings));
    rows.push(local::examine_checkpoint(settings, reader.as_mut()).await);
    if let Some(reader) = reader
        && let Err(error) = reader.close().await
    {
        tracing::info!(%error, "the database could not be closed");
    }
    rows
}

/// What the database remembers of an organization; what cannot be read, the database's own row tells of.
async fn remember(
    reader: Option<&mut Reader>,
    organization: &OrganizationSettings,
) -> Option<crate::store::Remembered> {
    reader?.load_remembered(organization.name.as_str()).await.ok()
}

fn conclusion(rows: &[Row], failed: usize) -> String {
    let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let others = rows.iter().filter(|row| row.is_bad() && !row.is_fatal()).count();
    let also = match others {
        0 => String::new(),
        others => format!(", and {} may cost something", count(number(others), "more thing")),
    };
    match failed {
        0 if others == 0 => "all is well".to_owned(),
        0 => format!(
            "all that is needed works; {} may cost something",
            count(number(others), "thing")
        ),
        failed => {
            format!("not all that is needed works: {}{also}", count(number(failed), "failure"))
        }
    }
}

fn cells_for_people(row: &Row) -> Vec<Cell> {
    vec![
        row.organization.clone().into(),
        row.check.as_str().into(),
        row.outcome.as_str().into(),
        row.detail.as_str().into(),
        row.remark().into(),
    ]
}

fn cells_for_programs(row: &Row) -> Vec<Cell> {
    vec![
        row.organization.clone().into(),
        row.check.as_str().into(),
        row.outcome.as_str().into(),
        Cell::Bool(row.needed),
        row.detail.as_str().into(),
        row.costs().into(),
        row.mend.clone().into(),
    ]
}
