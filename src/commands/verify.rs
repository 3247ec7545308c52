//! `keydrift verify`: whether the history is whole and unedited.

use serde_json::json;

use super::held::{self, Held};
use super::{Context, Exit, Misuse, open_reader};
use crate::audit::{ActRecord, Gap, Problem, Verdict};
use crate::checkpoint;
use crate::cli::Verify;
use crate::clock::Timestamp;
use crate::config::Settings;
use crate::output::{self, Cell, Column, Format, Kind};
use crate::store::{Error, Reader};

const COLUMNS: [Column; 19] = [
    Column::new("organization", "ORGANIZATION", Kind::Id),
    Column::new("verdict", "VERDICT", Kind::Word),
    Column::new("runs", "RUNS", Kind::Number),
    Column::new("events", "EVENTS", Kind::Number),
    Column::hidden("first_run_id", Kind::Number),
    Column::new("first_run_at", "FROM", Kind::Time),
    Column::hidden("last_run_id", Kind::Number),
    Column::new("last_run_at", "TO", Kind::Time),
    Column::hidden("chained_from_run_id", Kind::Number),
    Column::hidden("head", Kind::Text),
    Column::hidden("digest", Kind::Text),
    Column::hidden("gaps", Kind::Text),
    Column::hidden("first_bad_run_id", Kind::Number),
    Column::hidden("good_until", Kind::Time),
    Column::hidden("problem", Kind::Text),
    Column::hidden("checkpoints", Kind::Number),
    Column::hidden("signed", Kind::Number),
    Column::hidden("abandoned", Kind::Number),
    Column::hidden("ignored", Kind::Number),
];

/// As many gaps are named to people.
const MOST_GAPS: usize = 10;

pub(super) async fn run(context: &mut Context, arguments: &Verify) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let format = arguments.format.format;
    match verify(context, &settings, arguments).await {
        // What can't be read can't be proven either.
        Err(error) if error.downcast_ref().is_some_and(is_damage) => {
            let verdict = Verdict::unread("database", &format!("{error:#}"));
            print(context, format, &[verdict], &Held::default())
        }
        verified => {
            let (verdicts, held) = verified?;
            print(context, format, &verdicts, &held)
        }
    }
}

/// Whether something that must be in every database of ours is not there, or is not what it must be.
fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. } | Error::Sqlite { .. } | Error::Inconsistent { .. })
}

async fn verify(
    context: &mut Context,
    settings: &Settings,
    arguments: &Verify,
) -> anyhow::Result<(Vec<Verdict>, Held)> {
    let wanted = arguments.organization.name.as_deref();
    let mut reader = match open_reader(settings).await {
        Err(error) => {
            let missing = error.downcast::<checkpoint::Error>()?;
            let verdicts = held::without_database(context, settings, wanted, &missing)?;
            return Ok((verdicts, Held::default()));
        }
        Ok(reader) => reader,
    };
    let known = reader.list_organizations().await?;
    if let Some(name) = wanted.filter(|name| !known.iter().any(|known| known == name)) {
        return Err(Misuse::UnknownOrganization { name: name.to_owned(), known }.into());
    }
    let installation = reader.installation().await?;
    let overdue = |name: &str, success: Timestamp| {
        let organization = settings.organization(name)?;
        Some(organization.schedule(&installation).overdue_at(success))
    };
    let damage = find_damage(context, &mut reader).await?;
    let mut verdicts = match reader.verify(&overdue).await {
        Err(error) if is_damage(&error) => {
            let why = format!("{:#}", anyhow::Error::from(error));
            let unread = |name: &String| match &damage {
                Some(damage) => Verdict::broken(name, damage),
                None => Verdict::unread(name, &why),
            };
            known.iter().map(unread).collect()
        }
        verdicts => verdicts?,
    };
    let held = held::hold(context, settings, arguments, &mut reader, &mut verdicts).await;
    let is_broken = damage.is_some() || verdicts.iter().any(|verdict| verdict.problem.is_some());
    let held = match held {
        // That is told already, and the verdict stands.
        Err(error) if is_broken && error.is::<Error>() => Held::default(),
        held => held?,
    };
    reader.close().await?;
    if let Some(what) = damage {
        if verdicts.is_empty() {
            // No organization is left that it could be said of.
            verdicts.push(Verdict::unread("database", &what));
        }
        for verdict in &mut verdicts {
            verdict.problem.get_or_insert_with(|| Problem { run_id: None, what: what.clone() });
        }
    }
    // One history may not hold without another: run numbers are common to all.
    verdicts.retain(|verdict| wanted.is_none_or(|wanted| wanted == verdict.organization));
    Ok((verdicts, held))
}

/// What is wrong with the file as such, or with what shows the history in it.
async fn find_damage(context: &mut Context, reader: &mut Reader) -> Result<Option<String>, Error> {
    if let Some(damage) = reader.find_damage().await? {
        return Ok(Some(format!("the database file is damaged: {damage}")));
    }
    let drift = reader.compare_schema().await?;
    if !drift.unguarded.is_empty() {
        context.printer.warning(&format!(
            "triggers that guard the history from edits by mistake are missing from the database: {}",
            drift.unguarded.join(", ")
        ));
    }
    Ok(drift.damage.map(|damage| format!("the schema of the database was edited: {damage}")))
}

pub(super) fn print(
    context: &mut Context,
    format: Format,
    verdicts: &[Verdict],
    held: &Held,
) -> anyhow::Result<Exit> {
    let whole = verdicts.iter().all(|verdict| verdict.problem.is_none());
    let mut listing = context.printer.listing(format, &COLUMNS, "there is no history yet")?;
    verdicts.iter().try_for_each(|verdict| listing.row(&cells(verdict, held)))?;
    listing.finish()?;
    if format == Format::Table {
        for verdict in verdicts {
            let of_checkpoints = held.explain(&verdict.organization);
            for line in explain(verdict).into_iter().chain(of_checkpoints) {
                context.printer.line(&line)?;
            }
        }
        held.remarks().iter().try_for_each(|line| context.printer.line(line))?;
        context.printer.line(if whole { "whole and unedited" } else { "broken" })?;
    }
    Ok(if whole { Exit::Done } else { Exit::Bad })
}

/// What people should know of a verdict beside its row.
fn explain(verdict: &Verdict) -> Vec<String> {
    let name = &verdict.organization;
    let mut lines = Vec::new();
    if let Some(problem) = &verdict.problem {
        let of = problem.run_id.map(|run_id| format!("run {run_id}: ")).unwrap_or_default();
        lines.push(format!("{name}: broken: {of}{}", problem.what));
        lines.push(match &verdict.good_until {
            Some((run_id, at)) => format!("  good until run {run_id}, {at}"),
            None => "  nothing before it is good".to_owned(),
        });
    }
    if let (Some(chained), Some((first, _))) = (verdict.chained_from, &verdict.first)
        && chained != *first
    {
        lines.push(format!(
            "{name}: the chain begins with run {chained}; what was before is as it was found then"
        ));
    }
    let gaps = verdict.gaps.len();
    for Gap { from, to } in verdict.gaps.iter().take(MOST_GAPS) {
        lines.push(format!("{name}: nothing was observed between {from} and {to}"));
    }
    if gaps > MOST_GAPS {
        lines.push(format!("{name}: and {} more such times", gaps - MOST_GAPS));
    }
    if verdict.adopted_unchecked {
        lines.push(format!(
            "{name}: what was before the chain is pruned in part, so that its digest cannot be checked any more"
        ));
    }
    let notes = verdict.acts.iter().filter(|act| act.kind == "noted").count();
    if notes > 0 {
        lines.push(format!("{name}: {} in it", output::count(notes as u64, "note")));
    }
    let pruned = verdict.acts.iter().filter(|act| act.kind == "pruned").count();
    let newest = verdict.acts.iter().rposition(|act| act.kind == "pruned");
    for (place, act) in verdict.acts.iter().enumerate() {
        if act.kind != "pruned" {
            lines.extend(tell(act).map(|told| format!("{name}: {told}")));
        } else if Some(place) == newest {
            // The daemon prunes daily: the last one says what there is no more.
            let before =
                if pruned > 1 { format!(", the last of {pruned} times") } else { String::new() };
            lines.extend(tell(act).map(|told| format!("{name}: {told}{before}")));
        }
    }
    lines
}

/// An act in a sentence, if it is one of somebody's.
fn tell(act: &ActRecord) -> Option<String> {
    let ActRecord { acted_at, actor, kind, .. } = act;
    let detail = act.detail();
    let text = |member: &str| detail[member].as_str().unwrap_or_default().to_owned();
    Some(match kind.as_str() {
        // Notes stand beside what they are of: here they are counted.
        "adopted" | "noted" => return None,
        "accepted" => format!(
            "at {acted_at} `{actor}` accepted that it departs from an earlier checkpoint: {}",
            text("reason")
        ),
        "pruned" => {
            let policy = ["used_events", "events"].map(|name| {
                let kept = detail["policy"][name].as_str()?;
                Some(format!("`{name}` = {kept}"))
            });
            let policy = policy.into_iter().flatten().collect::<Vec<_>>().join(", ");
            format!("at {acted_at} `{actor}` pruned {}, as {policy} said", text("what"))
        }
        "renamed" => {
            format!("at {acted_at} `{actor}` renamed `{}` to `{}`", text("from"), text("to"))
        }
        "forgotten" => {
            format!("at {acted_at} `{actor}` erased what was known of `{}`", text("owner_id"))
        }
        other => format!("at {acted_at} `{actor}` did something to it: {other}"),
    })
}

fn cells(verdict: &Verdict, held: &Held) -> Vec<Cell> {
    let number = |number: u64| Cell::from(i64::try_from(number).unwrap_or(i64::MAX));
    let run = |run: &Option<(i64, String)>| match run {
        Some((run_id, at)) => (Cell::from(*run_id), Cell::from(at.as_str())),
        None => (Cell::Null, Cell::Null),
    };
    let ((first_run, first_at), (last_run, last_at)) = (run(&verdict.first), run(&verdict.last));
    let gaps = verdict.gaps.iter();
    let gaps = gaps.map(|Gap { from, to }| json!({ "from": from, "to": to })).collect();
    let problem = verdict.problem.as_ref();
    let [agree, signed, abandoned] = held.counts(&verdict.organization);
    vec![
        verdict.organization.as_str().into(),
        if problem.is_none() { "whole" } else { "broken" }.into(),
        number(verdict.runs),
        number(verdict.events),
        first_run,
        first_at,
        last_run,
        last_at,
        verdict.chained_from.map_or(Cell::Null, Cell::from),
        verdict.head.map(|(link, _)| link.to_string()).into(),
        verdict.head.map(|(_, digest)| digest.to_string()).into(),
        Cell::Json(serde_json::Value::Array(gaps)),
        problem.and_then(|problem| problem.run_id).map_or(Cell::Null, Cell::from),
        run(&verdict.good_until).1,
        problem.map(|problem| problem.what.as_str()).into(),
        number(agree),
        number(signed),
        number(abandoned),
        number(held.ignored),
    ]
}
