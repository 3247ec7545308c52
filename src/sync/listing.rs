//! All lists of one run: the admin keys, the projects, and the keys of each project.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Error, Ledger, Progress, Request, is_denied, unless_stopped};
use crate::inventory::{Comparison, KeyId, Project, Scope, SeenProjects, Sighting, keys};
use crate::openai::{self, Audience, Boundary, Early, ProjectListing, Scan, ScanProgress, Session};
use crate::store::SharedWriter;

/// Keys of projects that are held until the admin list is read.
const MOST_AHEAD: usize = 5_000;

/// Loads what was, reads every list there is, and compares them. Gives back the header that was remembered, too.
pub(super) async fn compare<'c>(
    writer: &SharedWriter,
    session: &Session,
    is_own: &'c (dyn Fn(&str) -> bool + Send + Sync),
    may_ask: bool,
    request: &Request<'_>,
    ledger: &mut Ledger,
) -> Result<(Option<String>, Listed<'c>), Error> {
    // What was is read while pages are awaited: first where they begin, then all of it.
    let (found, boundaries) = oneshot::channel();
    let (ready, before) = oneshot::channel();
    let name = request.organization.name.as_str();
    let load = async {
        let mut writer = writer.lock().await;
        let boundaries = if request.api.side_by_side {
            writer.load_boundaries(name, request.api.page_size.into()).await?
        } else {
            Vec::new()
        };
        let boundaries = boundaries.into_iter();
        let boundaries = boundaries.map(|(id, created_at)| Boundary { id: id.into(), created_at });
        // Where nobody waits any more, the listing has failed and says so.
        found.send(boundaries.collect()).ok();
        let (snapshot, header) = writer.load_snapshot(name, is_own).await?;
        ready.send(Comparison::new(snapshot, is_own).on(writer.scratch())).ok();
        Ok::<_, Error>(header)
    };
    let listing = async {
        let listing = list(session, boundaries, before, may_ask, request, ledger);
        Ok::<_, Error>(unless_stopped(request, Box::pin(listing)).await??)
    };
    let (mut load, mut listing) = (Box::pin(load), pin!(listing));
    tokio::select! {
        loaded = &mut load => match loaded {
            Ok(header) => listing.await.map(|listed| (header, listed)),
            // Nobody waits for pages that there is nothing to compare with.
            Err(error) => Err(error),
        },
        // It has failed: without the snapshot it does not end otherwise. No query is left half done.
        listed = &mut listing => load.await.and_then(|header| Ok((header, listed?))),
    }
}

/// Reads every list there is. What keeps a project's keys from being listed costs nothing but them.
///
/// The lists are compared with what comes of `before`; until then, answers wait.
async fn list<'c>(
    session: &Session,
    boundaries: oneshot::Receiver<Vec<Boundary>>,
    before: oneshot::Receiver<Comparison<'c>>,
    may_ask: bool,
    request: &Request<'_>,
    ledger: &mut Ledger,
) -> Result<Listed<'c>, openai::Error> {
    let opening = session.open_scan().await?;
    let beside = async {
        Ok(if request.organization.project_keys { Some(look_ahead(session).await) } else { None })
    };
    // Whoever sends them has failed otherwise, and ends this.
    let boundaries = boundaries.await.unwrap_or_default();
    let limit = usize::try_from(request.removal.confirm_limit).unwrap_or(usize::MAX);
    let mut intake = Intake {
        comparison: Err(before),
        ledger,
        progress: request.progress,
        room: if may_ask { limit } else { 0 },
    };
    let admin = session.scan_side_by_side(opening, boundaries, &mut intake);
    // Projects first: what they hold is asked for in turn with the pages, and not after them.
    let (projects, (scan, early)) = tokio::try_join!(beside, admin)?;
    // The scan has waited for it, or this is about to end: as above.
    let Ok(mut comparison) = intake.comparison else { return std::future::pending().await };
    note_scan(&scan, ledger);
    let seen = match projects {
        None => SeenProjects::NotAsked,
        Some(Ok(ahead)) => {
            list_of_projects(session, &mut comparison, ahead, request, ledger).await?
        }
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
    Ok(Listed { scan, early, comparison })
}

/// What came of the lists.
pub(super) struct Listed<'c> {
    pub(super) scan: Scan,
    pub(super) early: Early,
    pub(super) comparison: Comparison<'c>,
}

/// Takes in the admin list.
struct Intake<'i, 'c> {
    /// Or where it will come from.
    comparison: Result<Comparison<'c>, oneshot::Receiver<Comparison<'c>>>,
    ledger: &'i mut Ledger,
    progress: &'i (dyn Fn(Progress) + Send + Sync),
    /// How many missing keys may still be asked about before all are known: with more, the run is held.
    room: usize,
}

impl Audience for Intake<'_, '_> {
    fn ready(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if let Err(before) = &mut self.comparison {
                match before.await {
                    Ok(comparison) => self.comparison = Ok(comparison),
                    // As with the boundaries.
                    Err(_) => std::future::pending().await,
                }
            }
        })
    }

    fn take(&mut self, sightings: Vec<Sighting>, progress: ScanProgress) {
        let Ok(comparison) = &mut self.comparison else { return };
        for sighting in sightings {
            comparison.observe(sighting);
        }
        self.ledger.tally.keys_seen = comparison.keys_seen();
        let keys = self.ledger.tally.keys_seen;
        (self.progress)(Progress::Listed { keys, pages: progress.pages });
    }

    fn missing(&mut self, until: Option<&Boundary>) -> Vec<(Scope, KeyId)> {
        let Ok(comparison) = &mut self.comparison else { return Vec::new() };
        let missing = comparison.missing_until(until.map(|boundary| boundary.created_at));
        // A list without a known key is another organization's.
        if missing.len() > self.room || !comparison.has_common() {
            self.room = 0;
            return Vec::new();
        }
        self.room -= missing.len();
        missing
    }

    fn listed(&self, scope: Scope) -> Option<KeyId> {
        self.comparison.as_ref().ok()?.some_listed(scope, 1).pop()
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
