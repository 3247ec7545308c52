//! The projects of the organization, and the keys of each.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Map, Value};
use tracing::instrument;
use url::Url;

use super::address::Endpoints;
use super::error::Error;
use super::fields::{Warnings, parse_time};
use super::listing::List;
use super::mask::Mask;
use super::scan::Scan;
use super::session::Session;
use super::subject::Subject;
use super::walk::Item;
use super::wire::{Body, Malformed, Page, PageParser, parse_page, read_id};
use crate::inventory::{Project, Sighting};

/// What the endpoints below the projects allow.
const MOST_PER_PAGE: u32 = 100;

/// The complete listing of one project's keys.
#[derive(Debug)]
pub struct ProjectListing {
    pub sightings: Vec<Sighting>,
    pub scan: Scan,
}

/// Takes each project's listing, or why there is none, as it comes, and tells whether others may begin.
pub type OnProject<'a> = dyn FnMut(Project, Result<ProjectListing, Error>) -> bool + Send + 'a;

impl Session {
    /// Lists every project, archived ones included.
    ///
    /// It promises of projects what [`Session::scan`] does of keys, as long as two projects never change
    /// places in the API's order, whatever that is.
    pub async fn list_projects(&self) -> Result<Vec<Project>, Error> {
        let mut projects = Vec::new();
        let list = Projects { mask: &self.client.mask, warnings: Warnings::default() };
        let scan = self.list(list, &mut |page, _| projects.extend(page)).await?;
        for field in scan.warnings.secrets_masked.keys() {
            tracing::warn!("masked what looks like a secret in `{field}` of a project");
        }
        Ok(projects)
    }

    /// Lists the keys of each of these projects, side by side, until all are listed or no others may begin.
    ///
    /// Each project that was taken is handed over once, with its complete listing or with the reason why there is
    /// none; that one fails holds up no other. Once the API wants to be left alone ([`Error::Deferred`]), or the
    /// run's time is over, the rest fails without being asked for.
    #[instrument(name = "openai.scan_projects", level = "debug", skip_all, fields(projects.total = projects.len()))]
    pub async fn scan_projects(
        &self,
        projects: &mut std::vec::IntoIter<Project>,
        on_project: &mut OnProject<'_>,
    ) {
        // More than there are permits, so that one that waits before its next attempt leaves none idle.
        let at_once = self.client.options.max_concurrency.max(1).saturating_mul(2);
        let mut listings = FuturesUnordered::new();
        let mut goes_on = true;
        loop {
            while goes_on
                && listings.len() < at_once
                && let Some(project) = projects.next()
            {
                listings.push(async move {
                    let listing = self.scan_project(&project).await;
                    (project, listing)
                });
            }
            // What has begun is awaited: it may hold a place that others wait for.
            let Some((project, listing)) = listings.next().await else { return };
            goes_on &= on_project(project, listing);
        }
    }

    async fn scan_project(&self, project: &Project) -> Result<ProjectListing, Error> {
        let mut sightings = Vec::new();
        let list =
            ProjectKeys { project, parser: PageParser::new(&self.client.mask, Some(project)) };
        let scan = self.list(list, &mut |page, _| sightings.extend(page)).await?;
        Ok(ProjectListing { sightings, scan })
    }
}

/// The listing of projects, in an order that nobody tells.
struct Projects<'a> {
    mask: &'a Mask,
    warnings: Warnings,
}

impl List for Projects<'_> {
    type Item = Project;

    const MOST_PER_PAGE: u32 = MOST_PER_PAGE;
    const IS_OF_KEYS: bool = false;

    fn url(&self, endpoints: &Endpoints, limit: Option<u32>, after: Option<&str>) -> Option<Url> {
        Some(endpoints.projects_url(limit, after))
    }

    fn subject(&self, page: u64) -> Subject {
        Subject::Projects(page)
    }

    fn parse(&mut self, body: &Body) -> Result<Page<Project>, Malformed> {
        parse_page(body, |item| read_project(item, self.mask, &mut self.warnings).map(Some))
    }

    fn place(&self, project: &Project) -> Item {
        (Arc::clone(&project.id), None)
    }

    fn warnings(self) -> Warnings {
        self.warnings
    }
}

/// The listing of one project's keys, in an order that nobody tells.
struct ProjectKeys<'a> {
    project: &'a Project,
    parser: PageParser<'a>,
}

impl List for ProjectKeys<'_> {
    type Item = Sighting;

    const MOST_PER_PAGE: u32 = MOST_PER_PAGE;
    const IS_OF_KEYS: bool = true;

    fn url(&self, endpoints: &Endpoints, limit: Option<u32>, after: Option<&str>) -> Option<Url> {
        endpoints.project_keys_url(&self.project.id, limit, after)
    }

    fn subject(&self, page: u64) -> Subject {
        Subject::ProjectKeys { project: Arc::clone(&self.project.id), page }
    }

    fn parse(&mut self, body: &Body) -> Result<Page<Sighting>, Malformed> {
        self.parser.parse(body)
    }

    fn place(&self, seen: &Sighting) -> Item {
        (seen.key.id.clone().into(), None)
    }

    fn warnings(self) -> Warnings {
        self.parser.warnings
    }
}

/// A project of the listing, or the one that was looked up.
pub(super) fn read_project(
    item: Value,
    mask: &Mask,
    warnings: &mut Warnings,
) -> Result<Project, &'static str> {
    let Value::Object(mut members) = item else {
        return Err("it is not an object");
    };
    let id = Arc::from(read_id(&members, mask)?);
    let name = members.remove("name").filter(Value::is_string);
    let name = name.and_then(|name| read_text(name, "name", mask, warnings));
    let status = members.remove("status").filter(|status| !status.is_null());
    let status = status.and_then(|status| read_text(status, "status", mask, warnings));
    let (archived_at, is_archived) = read_archived_at(&members);
    // A time that cannot be kept still says that the project is archived, unless the status knows better.
    let status = match status {
        None if is_archived && archived_at.is_none() => Some(Arc::from("archived")),
        status => status,
    };
    Ok(Project { id, name, archived_at, status })
}

/// When the project was archived, and whether anything is said about that.
fn read_archived_at(members: &Map<String, Value>) -> (Option<crate::clock::Timestamp>, bool) {
    match members.get("archived_at") {
        None | Some(Value::Null) => (None, false),
        Some(value) => (parse_time(value), true),
    }
}

/// A text without secrets; another value as its JSON.
fn read_text(
    mut value: Value,
    field: &str,
    mask: &Mask,
    warnings: &mut Warnings,
) -> Option<Arc<str>> {
    if mask.apply_to_value(&mut value) {
        warnings.count_masked(field);
    }
    match value {
        Value::Null => None,
        Value::String(text) => Some(Arc::from(text)),
        other => Some(Arc::from(other.to_string())),
    }
}

#[cfg(test)]
#[path = "projects_tests.rs"]
mod tests;
