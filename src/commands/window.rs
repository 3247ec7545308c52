//! What an answer about the past rests on: between which times keydrift looked, and whether it looked at all.

use super::Context;
use crate::clock::Timestamp;
use crate::output::Format;
use crate::store::{Reader, Window};

/// Of each organization, which observation a state as of `at` is.
pub(super) async fn load(
    context: &Context,
    reader: &mut Reader,
    organization: Option<&str>,
    at: Timestamp,
) -> anyhow::Result<Observed> {
    let settings = context.settings()?;
    let installation = reader.installation().await?;
    let windows = reader.load_windows(organization, at).await?;
    let now = context.clock.now();
    let gaps = windows.iter().map(|window| {
        let schedule = settings.organization(&window.organization)?.schedule(&installation);
        let latest = schedule.overdue_at(window.finished_at);
        let looked = window.next_started_at.unwrap_or_else(|| at.min(now));
        // At its very end, a run is as fresh as can be.
        (looked > latest && at > window.finished_at).then_some(())
    });
    let gaps = gaps.map(|gap| gap.is_some()).collect();
    Ok(Observed { at, is_future: at > now, windows, gaps })
}

/// What a state of the past was observed by.
pub(super) struct Observed {
    at: Timestamp,
    /// Whether it is yet to come.
    is_future: bool,
    windows: Vec<Window>,
    /// Whether the time lies in one in which nothing was observed for longer than the schedule allows.
    gaps: Vec<bool>,
}

impl Observed {
    /// Says it to people, and a gap to everybody.
    pub(super) fn tell(&self, context: &mut Context, format: Format) {
        if self.is_future {
            let at = self.at;
            context
                .printer
                .warning(&format!("{at} is yet to come: this is the newest that is known"));
        }
        let of_several = self.windows.len() > 1;
        for (window, gap) in self.windows.iter().zip(&self.gaps) {
            let Window { organization, run_id, started_at, finished_at, next_started_at } = window;
            let at = self.at;
            let name = if of_several { format!("{organization}: ") } else { String::new() };
            if format == Format::Table {
                let next = match next_started_at {
                    Some(next) => format!("the next good run began at {next}"),
                    None => "no good run followed".to_owned(),
                };
                context.printer.note(&format!(
                    "{name}as of {at}: what run {run_id} observed between {started_at} and {finished_at}; {next}"
                ));
            }
            if *gap {
                let until = match next_started_at {
                    Some(next) => format!("between {finished_at} and {next}"),
                    None => format!("since {finished_at}"),
                };
                context
                    .printer
                    .warning(&format!("{name}{at} lies in a gap: nothing was observed {until}"));
            }
        }
    }
}
