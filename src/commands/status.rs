//! `keydrift status`: healthy or not, from database and configuration alone.

use std::time::Duration;

use super::{Context, Exit, Misuse, open_reader};
use crate::checkpoint;
use crate::cli::Status;
use crate::clock::Timestamp;
use crate::config::{OrganizationSettings, Settings};
use crate::output::{Cell, Column, Format, Kind};
use crate::schedule::Schedule;
use crate::store::{Error, Health, Reader, runs_in_hand};

const COLUMNS: [Column; 12] = [
    Column::new("organization", "ORGANIZATION", Kind::Id),
    Column::hidden("healthy", Kind::Word),
    Column::new("status", "STATUS", Kind::Word),
    Column::new("last_success_at", "LAST SUCCESS", Kind::Time),
    Column::hidden("last_run_at", Kind::Time),
    Column::hidden("last_run_status", Kind::Word),
    Column::hidden("last_run_trigger", Kind::Word),
    Column::new("next_run_at", "NEXT RUN", Kind::Time),
    Column::new("keys", "KEYS", Kind::Number),
    Column::hidden("problem", Kind::Text),
    Column::hidden("watched", Kind::Word),
    Column::hidden("running_since", Kind::Time),
];

/// A clock may be so far behind another one.
const SET_BACK: Duration = Duration::from_mins(1);

/// How one organization is.
pub(super) struct Finding {
    organization: String,
    pub(super) verdict: Verdict,
    health: Health,
    pub(super) next_run_at: Option<Timestamp>,
    pub(super) problem: Option<String>,
    /// What to do about checkpoints.
    hint: Option<String>,
    /// When the run began that is under way.
    running_since: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// The last run failed, and the one before is not too long ago.
    Failing,
    Late,
    Held,
    NeverSynced,
    /// In the database, but no longer configured.
    NotWatched,
    Broken,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Late => "late",
            Self::Held => "held",
            Self::NeverSynced => "never synced",
            Self::NotWatched => "not watched",
            Self::Broken => "broken history",
        }
    }

    const fn is_healthy(self) -> bool {
        matches!(self, Self::Ok | Self::Failing | Self::NotWatched)
    }
}

pub(super) async fn run(context: &mut Context, arguments: &Status) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let now = context.clock.now();
    let wanted = arguments.organization.name.as_deref();
    let mut findings = match find(&settings, wanted, now).await {
        Err(error) => match told_by(&error) {
            Some((verdict, problem)) => {
                let hint = error.downcast_ref().and_then(checkpoint::Error::hint);
                judge_all(&settings, wanted, verdict, &problem, hint.as_deref())?
            }
            None => return Err(error),
        },
        Ok(findings) => findings,
    };
    note_running(&mut findings, &settings);
    let healthy = findings.iter().all(|finding| finding.verdict.is_healthy());
    let format: Format = arguments.format.format;
    let mut listing = context.printer.listing(format, &COLUMNS, "no organization")?;
    let problems: Vec<String> = findings.iter().flat_map(advice).collect();
    findings.into_iter().try_for_each(|finding| listing.row(&cells(finding)))?;
    listing.finish()?;
    if format == Format::Table {
        for problem in problems {
            context.printer.line(&problem)?;
        }
        context.printer.line(if healthy { "healthy" } else { "not healthy" })?;
    }
    Ok(if healthy { Exit::Done } else { Exit::Bad })
}

/// What a database that can't be asked tells of all organizations, if it tells anything.
fn told_by(error: &anyhow::Error) -> Option<(Verdict, String)> {
    if error.is::<checkpoint::Error>() {
        return Some((Verdict::Broken, format!("the history is broken: {error}")));
    }
    match error.downcast_ref()? {
        // What can't be read any more can't be proven either.
        Error::Corrupt { .. } | Error::NotADatabase { .. } | Error::Inconsistent { .. } => {
            Some((Verdict::Broken, format!("the history is broken: {error}")))
        }
        Error::Missing { .. } => Some((Verdict::NeverSynced, error.to_string())),
        _ => None,
    }
}

/// The same of each organization that is configured; of others nothing is known.
fn judge_all(
    settings: &Settings,
    wanted: Option<&str>,
    verdict: Verdict,
    problem: &str,
    hint: Option<&str>,
) -> Result<Vec<Finding>, Misuse> {
    let names = settings.organizations.iter().map(|organization| organization.name.to_string());
    if let Some(name) = wanted.filter(|name| settings.organization(name).is_none()) {
        return Err(Misuse::UnknownOrganization { name: name.to_owned(), known: names.collect() });
    }
    let finding = |organization| Finding {
        organization,
        verdict,
        health: Health::default(),
        next_run_at: None,
        problem: Some(problem.to_owned()),
        hint: hint.map(str::to_owned),
        running_since: None,
    };
    let wanted = names.filter(|name| wanted.is_none_or(|wanted| wanted == name));
    Ok(wanted.map(finding).collect())
}

async fn find(
    settings: &Settings,
    wanted: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<Vec<Finding>> {
    let mut reader = open_reader(settings).await?;
    let known = reader.list_organizations().await?;
    if let Some(name) = wanted.filter(|name| settings.organization(name).is_none())
        && !known.iter().any(|known| known == name)
    {
        return Err(Misuse::UnknownOrganization { name: name.to_owned(), known }.into());
    }
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted == name);
    let installation = reader.installation().await?;
    let mut broken = reader.find_break().await?.map(|what| (what, None));
    let mut look = checkpoint::Look::default();
    if broken.is_none() {
        look = checkpoint::look(settings, &mut reader).await?;
        broken = look.departure.as_ref().map(|error| (error.to_string(), error.hint()));
    }
    let mut findings = Vec::new();
    for organization in settings.organizations.iter().filter(|one| is_wanted(one.name.as_str())) {
        let health = reader.load_health(organization.name.as_str(), now).await?;
        let schedule = organization.schedule(&installation);
        let mut finding = judge(organization, &schedule, health, broken.as_ref(), now);
        note_missing(&mut finding, &look);
        note_renamed(&mut finding, &mut reader).await?;
        findings.push(finding);
    }
    for name in known.iter().filter(|name| is_wanted(name) && settings.organization(name).is_none())
    {
        findings.push(Finding {
            organization: name.clone(),
            verdict: Verdict::NotWatched,
            health: reader.load_health(name, now).await?,
            next_run_at: None,
            problem: None,
            hint: None,
            running_since: None,
        });
    }
    reader.close().await?;
    Ok(findings)
}

pub(super) fn judge(
    organization: &OrganizationSettings,
    schedule: &Schedule,
    health: Health,
    broken: Option<&(String, Option<String>)>,
    now: Timestamp,
) -> Finding {
    let last = health.last_run.as_ref();
    let reason = || {
        let error = last.and_then(|last| last.error.as_deref()).unwrap_or("no reason is known");
        format!("the last run did not succeed: {error}")
    };
    let (verdict, problem) = match health.last_success_at {
        _ if broken.is_some() => {
            (Verdict::Broken, broken.map(|(what, _)| format!("the history is broken: {what}")))
        }
        _ if health.is_held => (Verdict::Held, Some(reason())),
        None if last.is_none() => (Verdict::NeverSynced, Some("there was no run yet".to_owned())),
        None => (Verdict::NeverSynced, Some(reason())),
        Some(success) if success > now.saturating_add(SET_BACK) => {
            let future = format!(
                "the last success is said to be at {success}, which has not come yet: the clock was set back"
            );
            (Verdict::Late, Some(future))
        }
        Some(success) if schedule.overdue_at(success) < now => {
            let ended = last.is_some_and(|last| last.status == "ok");
            let since = format!("no run has succeeded since {success}");
            (Verdict::Late, Some(if ended { since } else { format!("{since}; {}", reason()) }))
        }
        Some(_) if last.is_some_and(|last| last.status != "ok") => {
            (Verdict::Failing, Some(reason()))
        }
        Some(_) => (Verdict::Ok, None),
    };
    Finding {
        organization: organization.name.to_string(),
        verdict,
        next_run_at: schedule.next_after(now),
        health,
        problem,
        hint: broken.and_then(|(_, hint)| hint.clone()),
        running_since: None,
    }
}

/// Runs without a checkpoint are no reason to wake anybody, but are to be seen. One may be about to get it.
fn note_missing(finding: &mut Finding, look: &checkpoint::Look) {
    let missing = look.missing.get(&finding.organization).copied().unwrap_or(0);
    if finding.problem.is_none() && missing > 1 {
        finding.problem = Some(format!("{missing} links of the history have no checkpoint"));
        let hint = "the checkpoint file could not be written: the log says why";
        finding.hint = Some(hint.to_owned());
    }
    if let Some(unusable) = look.unusable.as_ref().filter(|_| finding.problem.is_none()) {
        finding.problem = Some(format!("no checkpoint can be made: {unusable}"));
        let hint = "put it in order, or name another file in `checkpoint.path`";
        finding.hint = Some(hint.to_owned());
    }
}

/// A name that an organization had before never gets a run.
async fn note_renamed(finding: &mut Finding, reader: &mut Reader) -> Result<(), Error> {
    if let Some(now) = reader.find_renamed(&finding.organization).await? {
        let name = &finding.organization;
        finding.hint = Some(format!(
            "rename `[organizations.{name}]` to `[organizations.{now}]` in the configuration"
        ));
        finding.problem = Some(format!("it was renamed: it is called `{now}` now"));
    }
    Ok(())
}

/// The runs that are under way, as who holds the run lock notes them.
fn note_running(findings: &mut [Finding], settings: &Settings) {
    for run in runs_in_hand(&settings.database.path) {
        let of = findings.iter_mut().find(|finding| finding.organization == run.organization);
        if let Some(finding) = of {
            finding.running_since = Timestamp::from_unix(run.started_at);
        }
    }
}

/// What is wrong, and what to do about it; and what is under way.
fn advice(finding: &Finding) -> Vec<String> {
    let name = &finding.organization;
    let mut lines = Vec::new();
    if let Some(problem) = &finding.problem {
        lines.extend([format!("{name}: {problem}"), format!("  {}", advise(finding))]);
    }
    lines.extend(finding.running_since.map(|at| format!("{name}: a run is under way since {at}")));
    lines
}

/// What to do about what is wrong.
pub(super) fn advise(finding: &Finding) -> String {
    let name = &finding.organization;
    match finding.verdict {
        Verdict::Held => format!(
            "`keydrift runs --organization {name} --limit 1 --format json` names the keys; `keydrift sync --accept {name}` takes it for true"
        ),
        Verdict::Broken => finding
            .hint
            .clone()
            .unwrap_or_else(|| "keep the file as it is, and compare it with a backup".to_owned()),
        Verdict::Ok | Verdict::NeverSynced if finding.hint.is_some() => {
            finding.hint.clone().unwrap_or_default()
        }
        Verdict::NeverSynced | Verdict::Late if finding.running_since.is_some() => {
            "wait for the run that is under way: `api.run_deadline` ends one that hangs".to_owned()
        }
        Verdict::NeverSynced | Verdict::Late => {
            "see that `keydrift run` is running; `keydrift sync` tries at once".to_owned()
        }
        _ => "it is tried again by itself; `keydrift runs` has the history".to_owned(),
    }
}

fn cells(finding: Finding) -> Vec<Cell> {
    let Finding { organization, verdict, health, next_run_at, problem, hint: _, running_since } =
        finding;
    let time = |time: Option<Timestamp>| Cell::from(time.map(|time| time.to_string()));
    let last = health.last_run;
    let (at, status, trigger) = match last {
        Some(last) => (Some(last.finished_at), Some(last.status), Some(last.trigger)),
        None => (None, None, None),
    };
    let keys = i64::try_from(health.admin_keys + health.project_keys).unwrap_or(i64::MAX);
    vec![
        organization.into(),
        Cell::Bool(verdict.is_healthy()),
        verdict.as_str().to_owned().into(),
        time(health.last_success_at),
        time(at),
        status.into(),
        trigger.into(),
        time(next_run_at),
        keys.into(),
        problem.into(),
        Cell::Bool(verdict != Verdict::NotWatched),
        time(running_since),
    ]
}
