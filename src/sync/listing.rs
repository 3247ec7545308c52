//! All lists of one run: the admin keys, the projects, and the keys of each project.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Ledger, Progress, Request, is_denied};
use crate::inventory::{Comparison, KeyId, Project, Scope, SeenProjects, Sighting, keys};
use crate::openai::{
    self, Audience, Boundary, Early, Opening, ProjectListing, Scan, ScanProgress, Session,
};

/// Keys of projects that are held until the admin list is read.
const MOST_AHEAD: usize = 5_000;

/// Reads every list there is. What keeps a project's keys from being listed costs nothing but them.
pub(super) async fn list(
    session: &Session,
    opening: Opening<'_>,
    comparison: &mut Comparison<'_>,
    may_ask: bool,
    request: &Request<'_>,
    ledger: &mut Ledger,
) -> Result<(Scan, Early), openai::Error> {
    let beside = async {
        Ok(if request.organization.project_keys { Some(look_ahead(session).await) } else { None })
    };
    let boundaries = comparison.boundaries(request.api.page_size.into()).into_iter();
    let boundaries =
        boundaries.map(|(id, created_at)| Boundary { id: id.into(), created_at }).collect();
    let limit = usize::try_from(request.removal.confirm_limit).unwrap_or(usize::MAX);
    let mut intake = Intake {
        comparison,
        ledger,
        progress: request.progress,
        room: if may_ask { limit } else { 0 },
    };
    let admin = session.scan_side_by_side(opening, boundaries, &mut intake);
    // Projects first: what they hold is asked for in turn with the pages, and not after them.
    let (projects, (scan, early)) = tokio::try_join!(beside, admin)?;
    note_scan(&scan, ledger);
    let seen = match projects {
        None => SeenProjects::NotAsked,
        Some(Ok(ahead)) => list_of_projects(session, comparison, ahead, request, ledger).await?,
        Some(Err(deferred @ openai::Error::Deferred { .. })) => return Err(deferred),
        Some(Err(error)) => {
            tracing::warn!(http.request_id = error.request_id(), "{error}");
            let is_forbidden = is_denied(&error);
            SeenProjects::Unlisted { problem: in_short(&error), is_forbidden }
        }
    };
    comparison.conclude_projects(seen);
    ledger.tally.keys_seen = comparison.keys_seen();
    ledger.notices.extend(comparison.project_notices());
    Ok((scan, early))
}

/// Takes in the admin list.
struct Intake<'i, 'c> {
    comparison: &'i mut Comparison<'c>,
    ledger: &'i mut Ledger,
    progress: &'i (dyn Fn(Progress) + Send + Sync),
    /// How many missing keys may still be asked about before all are known: with more, the run is held.
    room: usize,
}

impl Audience for Intake<'_, '_> {
    fn take(&mut self, sightings: Vec<Sighting>, progress: ScanProgress) {
        for sighting in sightings {
            self.comparison.observe(sighting);
        }
        self.ledger.tally.keys_seen = self.comparison.keys_seen();
        let keys = self.ledger.tally.keys_seen;
        (self.progress)(Progress::Listed { keys, pages: progress.pages });
    }

    fn missing(&mut self, until: Option<&Boundary>) -> Vec<(Scope, KeyId)> {
        let missing = self.comparison.missing_until(until.map(|boundary| boundary.created_at));
        // A list without a known key is another organization's.
        if missing.len() > self.room || !self.comparison.has_common() {
            self.room = 0;
            return Vec::new();
        }
        self.room -= missing.len();
        missing
    }

    fn listed(&self, scope: Scope) -> Option<KeyId> {
        self.comparison.some_listed(scope, 1).pop()
    }
}

/// What is known of the projects when the admin list is read.
struct Ahead {
    projects: Vec<Project>,
    listed: Vec<(Project, Result<ProjectListing, openai::Error>)>,
    rest: std::vec::IntoIter<Project>,
}

/// Lists the projects, and the keys of some, which have to wait until the admin list is whole.
async fn look_ahead(session: &Session) -> Result<Ahead, openai::Error> {
    let projects = session.list_projects().await?;
    let mut rest = projects.clone().into_iter();
    let (mut listed, mut keys) = (Vec::new(), 0);
    let mut on_project = |project: Project, listing: Result<ProjectListing, openai::Error>| {
        keys += listing.as_ref().map_or(0, |listing| listing.sightings.len());
        listed.push((project, listing));
        keys < MOST_AHEAD
    };
    session.scan_projects(&mut rest, &mut on_project).await;
    Ok(Ahead { projects, listed, rest })
}

/// The keys of each project. Only that the API wants to be left alone ends the run.
async fn list_of_projects(
    session: &Session,
    comparison: &mut Comparison<'_>,
    ahead: Ahead,
    request: &Request<'_>,
    ledger: &mut Ledger,
) -> Result<SeenProjects, openai::Error> {
    let Ahead { projects, listed, mut rest } = ahead;
    let mut problems: HashMap<Arc<str>, String> = HashMap::new();
    let mut refused = 0;
    let mut deferred = None;
    let mut on_project = |project: Project, listing: Result<ProjectListing, openai::Error>| {
        match listing {
            Ok(ProjectListing { sightings, scan }) => {
                note_scan(&scan, ledger);
                comparison.observe_project(&project, sightings);
                ledger.tally.keys_seen = comparison.keys_seen();
                let pages = session.traffic().pages;
                (request.progress)(Progress::Listed { keys: ledger.tally.keys_seen, pages });
            }
            Err(error) => {
                tracing::warn!(http.request_id = error.request_id(), "{error}");
                let problem = in_short(&error);
                refused += usize::from(is_denied(&error));
                if matches!(error, openai::Error::Deferred { .. }) {
                    deferred.get_or_insert(error);
                }
                problems.insert(project.id, problem);
            }
        }
        true
    };
    for (project, listing) in listed {
        on_project(project, listing);
    }
    session.scan_projects(&mut rest, &mut on_project).await;
    if let Some(deferred) = deferred {
        return Err(deferred);
    }
    // What is refused of every project is not a matter of the projects: it is said once.
    if refused > 0 && refused == projects.len() {
        let problem = problems.into_values().min().unwrap_or_default();
        return Ok(SeenProjects::Unlisted { problem, is_forbidden: true });
    }
    let seen = projects.into_iter().map(|project| {
        let problem = problems.remove(&project.id);
        (project, problem)
    });
    Ok(SeenProjects::Listed(seen.collect()))
}

/// Why a list was not to be had, without what differs from one time to the next.
fn in_short(error: &openai::Error) -> String {
    use openai::Error;
    match error {
        Error::MissingScopes { scopes, .. } => {
            let scopes: Vec<String> = scopes.iter().map(|scope| format!("`{scope}`")).collect();
            format!("the credential lacks {}", scopes.join(", "))
        }
        Error::Unauthorized { message, .. } => format!("refused with status 401: {message}"),
        Error::Forbidden { message, .. } => format!("refused with status 403: {message}"),
        Error::Refused { status, .. } => format!("refused with status {status}"),
        Error::ServerFault { status, .. } => format!("failed with status {status}"),
        Error::RateLimited { .. } => "refused as too many requests".to_owned(),
        Error::TimedOut { .. } => "not answered in time".to_owned(),
        Error::Unreachable { .. } => "the API was not reached".to_owned(),
        Error::CutShort { .. } => "the answer was cut short".to_owned(),
        Error::DeadlineExceeded { .. } => "the run's time was over".to_owned(),
        Error::Deferred { .. } => "deferred, as the API asks".to_owned(),
        Error::MixedOrganizations { .. } => "the answers came from another organization".to_owned(),
        other => other.to_string(),
    }
}

/// What a scan met that somebody may want to know.
fn note_scan(scan: &openai::Scan, ledger: &mut Ledger) {
    let mut note = |count: u64, text: &str| {
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        if count > 0 {
            ledger.notices.push(text.replace("{times}", &times).replace("{keys}", &keys(count)));
        }
    };
    note(scan.shifts, "the list shifted {times} while it was read");
    note(scan.lost_cursors, "the cursor was lost {times}");
    note(scan.restarts.into(), "the list was read again from the start {times}");
    note(
        scan.warnings.values_dropped,
        "the API sent the full secret of {keys}: dropped, and to be taken as leaked",
    );
    for (field, count) in &scan.warnings.secrets_masked {
        let keys = keys(count);
        ledger.notices.push(format!("masked what looks like a secret in `{field}` of {keys}"));
    }
}
