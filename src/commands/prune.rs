//! `keydrift prune`: throw away what the retention policy no longer keeps.

use super::{Context, Exit, Misuse};
use crate::actor;
use crate::cli::Prune;
use crate::config::Settings;
use crate::output::{Cell, Column, Format, Kind};
use crate::store::{Policy, Pruned, Reader};
use crate::when::render_duration;

const COLUMNS: [Column; 8] = [
    Column::new("organization", "ORGANIZATION", Kind::Id),
    Column::new("used", "USED", Kind::Number),
    Column::new("events", "OTHER EVENTS", Kind::Number),
    Column::new("notices", "NOTICES", Kind::Number),
    Column::new("attributions", "ATTRIBUTIONS", Kind::Number).spare(1),
    Column::hidden("used_until_run_id", Kind::Number),
    Column::hidden("events_until_run_id", Kind::Number),
    Column::new("known_since", "KNOWN SINCE", Kind::Time),
];

pub(super) async fn run(context: &mut Context, arguments: &Prune) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let policy = policy(&settings)?;
    let wanted = arguments.organization.name.as_deref();
    let pruned = if arguments.dry_run {
        plan(context, &settings, wanted, policy).await?
    } else {
        prune(context, &settings, wanted, policy, arguments.vacuum).await?
    };
    let format = arguments.format.format;
    let none = "nothing is older than what is kept";
    let mut listing = context.printer.listing(format, &COLUMNS, none)?;
    pruned.iter().try_for_each(|pruned| listing.row(&cells(pruned)))?;
    if listing.finish()? > 0 && format == Format::Table {
        let what = if arguments.dry_run { "would be thrown away" } else { "thrown away" };
        context.printer.note(&format!("{what}, as {} says", in_words(policy)));
    }
    Ok(Exit::Done)
}

fn policy(settings: &Settings) -> Result<Policy, Misuse> {
    let policy =
        Policy { used_events: settings.retention.used_events, events: settings.retention.events };
    if policy.is_set() {
        return Ok(policy);
    }
    Err(Misuse::Other {
        what: "no retention is configured: everything is kept".to_owned(),
        hint: "set `retention.used_events` or `retention.events`, such as `events = \"7y\"`"
            .to_owned(),
    })
}

fn in_words(policy: Policy) -> String {
    let settings = [("used_events", policy.used_events), ("events", policy.events)];
    let set = settings.iter().filter_map(|(name, duration)| {
        Some(format!("`retention.{name}` = {}", render_duration((*duration)?)))
    });
    set.collect::<Vec<_>>().join(", ")
}

async fn plan(
    context: &Context,
    settings: &Settings,
    wanted: Option<&str>,
    policy: Policy,
) -> anyhow::Result<Vec<Pruned>> {
    let mut reader = Reader::open(&settings.database.path).await?;
    let mut planned = Vec::new();
    for name in Context::organizations(&mut reader, wanted).await? {
        planned.extend(reader.plan_prune(&name, policy, context.clock.now()).await?);
    }
    reader.close().await?;
    Ok(planned)
}

async fn prune(
    context: &mut Context,
    settings: &Settings,
    wanted: Option<&str>,
    policy: Policy,
    vacuum: bool,
) -> anyhow::Result<Vec<Pruned>> {
    let (mut writer, mut checkpoints) = context.writer(settings).await?;
    let mut reader = Reader::open(&settings.database.path).await?;
    let names = Context::organizations(&mut reader, wanted).await?;
    reader.close().await?;
    let (actor, mut pruned) = (actor::system_user(), Vec::new());
    for name in names {
        pruned.extend(writer.prune(&name, policy, context.clock.now(), &actor).await?);
    }
    checkpoints.keep(&mut writer).await;
    let scrubbed = if vacuum { writer.scrub().await } else { Ok(()) };
    writer.close().await?;
    match scrubbed {
        Err(error) if !pruned.is_empty() => {
            Err(anyhow::Error::from(error).context("it is pruned, and yet"))
        }
        scrubbed => Ok(scrubbed.map(|()| pruned)?),
    }
}

fn cells(pruned: &Pruned) -> Vec<Cell> {
    let number = |number: u64| Cell::from(i64::try_from(number).unwrap_or(i64::MAX));
    let run = |run_id: i64| if run_id > 0 { Cell::from(run_id) } else { Cell::Null };
    vec![
        pruned.organization.as_str().into(),
        number(pruned.used),
        number(pruned.events),
        number(pruned.notices),
        number(pruned.attributions),
        run(pruned.horizons.used),
        run(pruned.horizons.events),
        pruned.since.to_string().into(),
    ]
}
