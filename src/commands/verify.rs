//! `keydrift verify`: whether the history is whole and unedited.

use serde_json::json;

use super::{Context, Exit, Misuse};
use crate::audit::{ActRecord, Gap, Problem, Verdict};
use crate::cli::Verify;
use crate::clock::Timestamp;
use crate::output::{Cell, Column, Format, Kind};
use crate::store::{Error, Reader};

const COLUMNS: [Column; 15] = [
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
];

/// As many gaps are named to people.
const MOST_GAPS: usize = 10;

pub(super) async fn run(context: &mut Context, arguments: &Verify) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let mut reader = Reader::open(&settings.database.path).await?;
    let known = reader.list_organizations().await?;
    let wanted = arguments.organization.name.as_deref();
    if let Some(name) = wanted.filter(|name| !known.iter().any(|known| known == name)) {
        return Err(Misuse::UnknownOrganization { name: name.to_owned(), known }.into());
    }
    let installation = reader.installation().await?;
    let overdue = |name: &str, success: Timestamp| {
        let organization = settings.organization(name)?;
        Some(organization.schedule(&installation).overdue_at(success))
    };
    let damage = reader.find_damage().await?;
    let mut verdicts = match reader.verify(&overdue).await {
        // What can't be read can't be proven either.
        Err(error @ (Error::Corrupt { .. } | Error::Sqlite { .. })) => {
            known.iter().map(|name| Verdict::unread(name, &error.to_string())).collect()
        }
        verdicts => verdicts?,
    };
    reader.close().await?;
    if let Some(damage) = damage {
        let what = format!("the database file is damaged: {damage}");
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
    print(context, arguments.format.format, &verdicts)
}

fn print(context: &mut Context, format: Format, verdicts: &[Verdict]) -> anyhow::Result<Exit> {
    let whole = verdicts.iter().all(|verdict| verdict.problem.is_none());
    let mut listing = context.printer.listing(format, &COLUMNS, "there is no history yet")?;
    verdicts.iter().try_for_each(|verdict| listing.row(&cells(verdict)))?;
    listing.finish()?;
    if format == Format::Table {
        for line in verdicts.iter().flat_map(explain) {
            context.printer.line(&line)?;
        }
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
    lines.extend(verdict.acts.iter().filter_map(|act| Some(format!("{name}: {}", tell(act)?))));
    lines
}

/// An act in a sentence, if it is one of somebody's.
fn tell(act: &ActRecord) -> Option<String> {
    let ActRecord { acted_at, actor, kind, .. } = act;
    let detail = act.detail();
    let text = |member: &str| detail[member].as_str().unwrap_or_default().to_owned();
    Some(match kind.as_str() {
        "adopted" => return None,
        "accepted" => format!(
            "at {acted_at} `{actor}` accepted that it departs from an earlier checkpoint: {}",
            text("reason")
        ),
        "pruned" => format!("at {acted_at} `{actor}` pruned {}", text("what")),
        _ => format!("at {acted_at} `{actor}` erased what was known of `{}`", text("owner_id")),
    })
}

fn cells(verdict: &Verdict) -> Vec<Cell> {
    let number = |number: u64| Cell::from(i64::try_from(number).unwrap_or(i64::MAX));
    let run = |run: &Option<(i64, String)>| match run {
        Some((run_id, at)) => (Cell::from(*run_id), Cell::from(at.as_str())),
        None => (Cell::Null, Cell::Null),
    };
    let ((first_run, first_at), (last_run, last_at)) = (run(&verdict.first), run(&verdict.last));
    let gaps = verdict.gaps.iter();
    let gaps = gaps.map(|Gap { from, to }| json!({ "from": from, "to": to })).collect();
    let problem = verdict.problem.as_ref();
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
    ]
}
