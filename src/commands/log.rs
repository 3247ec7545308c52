//! `keydrift log`: the audit history.

use std::time::Duration;

use super::events::{EventListing, Of};
use super::show::the_key;
use super::{Context, Exit, Misuse, none_listed};
use crate::cli::Log;
use crate::inventory::EventKind;
use crate::output;
use crate::stop::Stop;
use crate::store::{EventFilter, Reader};

/// How often `--follow` looks for new events.
const POLL: Duration = Duration::from_millis(500);

pub(super) async fn run(context: &mut Context, arguments: &Log) -> anyhow::Result<Exit> {
    let since = context.optional_time("--since", arguments.since.as_ref())?;
    let until = context.optional_time("--until", arguments.until.as_ref())?;
    let organization = arguments.organization.name.clone();
    let mut reader = context.reader(organization.as_deref()).await?;
    let several = organization.is_none() && reader.list_organizations().await?.len() > 1;
    let mut filter = EventFilter {
        organization,
        since,
        until,
        key_id: None,
        kinds: kinds(arguments)?,
        unexplained: arguments.unexplained,
        after: None,
        limit: arguments.limit,
        reverse: arguments.reverse,
    };
    if let Some(key) = &arguments.key {
        let row = the_key(&mut reader, filter.organization.as_deref(), key).await?;
        filter.organization = Some(row.organization);
        filter.key_id = Some(row.key_id);
    }
    let format = arguments.format.format;
    let of = if several { Of::Organizations } else { Of::Organization };
    // From the first line on, an interrupt ends `--follow` as it should.
    let stop = arguments.follow.then(Stop::on_signals).transpose()?;
    let none = none_listed(&mut reader, filter.organization.as_deref(), "no events match").await?;
    let mut listing = EventListing::begin(&mut context.printer, format, of, &none)?;
    let newest = list(&mut reader, &filter, &mut listing).await?;
    if let Some(stop) = stop {
        filter.after = Some(newest);
        filter.limit = None;
        follow(&mut reader, filter, &mut listing, &stop).await?;
        listing.finish()?;
    } else {
        let listed = listing.finish()?;
        if listed > 0 {
            context.printer.note(&output::count(listed, "event"));
        }
    }
    reader.close().await?;
    Ok(Exit::Done)
}

/// Which events to list. Unexplained is drift alone, and its mass only where somebody asks for it.
fn kinds(arguments: &Log) -> Result<Vec<EventKind>, Misuse> {
    let kinds: Vec<EventKind> = arguments.event.iter().copied().map(EventKind::from).collect();
    if !arguments.unexplained {
        return Ok(kinds);
    }
    if kinds.is_empty() {
        let quiet = |kind: &EventKind| matches!(kind, EventKind::Baseline | EventKind::Used);
        return Ok(EventKind::ALL.into_iter().filter(|kind| !quiet(kind)).collect());
    }
    if kinds.contains(&EventKind::Baseline) {
        let what = "`--unexplained` lists drift, and `baseline` events are none".to_owned();
        let hint = "leave one of both out".to_owned();
        return Err(Misuse::Other { what, hint });
    }
    Ok(kinds)
}

/// Prints the events that are there, and says up to which id there is nothing left to print.
async fn list(
    reader: &mut Reader,
    filter: &EventFilter,
    listing: &mut EventListing<'_>,
) -> anyhow::Result<i64> {
    let newest = reader.last_event_id().await?;
    let mut printed = newest;
    reader
        .list_events(filter, |event| {
            printed = printed.max(event.event_id);
            listing.row(event).map_err(anyhow::Error::from)
        })
        .await?;
    Ok(printed)
}

/// Prints events as they come, until interrupted.
async fn follow(
    reader: &mut Reader,
    mut filter: EventFilter,
    listing: &mut EventListing<'_>,
    stop: &Stop,
) -> anyhow::Result<()> {
    loop {
        listing.flush()?;
        tokio::select! {
            _ = stop.requested() => return Ok(()),
            () = tokio::time::sleep(POLL) => {}
        }
        let newest = list(reader, &filter, listing).await?;
        filter.after = Some(newest);
    }
}
