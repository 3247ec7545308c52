//! The API's endpoints over one organization, as the real ones answer.

use std::sync::Arc;

use super::access::{self, Access, Area};
use super::audit_query;
use super::keys::Record;
use super::listing::{self, Source, unsupported};
use super::organization::Organization;
use super::projects::{Home, ProjectAccess};
use super::reply::{Page, Problem, Refusal, Reply};
use super::request::{ApiRequest, Endpoint};

/// What faults make of a listing before it is cut into a page.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault that can be with any other")]
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) ignore_cursor: bool,
    pub(super) repeat_page: bool,
    pub(super) overlap: usize,
    pub(super) skip_ahead: usize,
    pub(super) descending: bool,
    pub(super) hidden: Vec<String>,
    pub(super) ignore_filters: bool,
    pub(super) foreign_entries: bool,
    /// Answer for this organization, from its beginning where the cursor is not its own.
    pub(super) instead: Option<Arc<Organization>>,
}

impl View {
    pub(super) fn hides(&self, id: &str) -> bool {
        self.hidden.iter().any(|hidden| hidden == id)
    }
}

/// The answer to a request, before any fault but those of the view.
pub(super) fn answer(organization: &Organization, request: &ApiRequest, view: &View) -> Reply {
    let source = view.instead.as_deref().unwrap_or(organization);
    let answered = match request.endpoint {
        Endpoint::Unknown => Err(unknown_route(request)),
        _ => admit(organization, request).and_then(|()| serve(source, request, view)),
    };
    let mut reply = answered.unwrap_or_else(Reply::from);
    reply.organization = organization.organization_id().map(str::to_owned);
    reply
}

fn unknown_route(request: &ApiRequest) -> Refusal {
    let message = format!("Invalid URL ({} {})", request.method, request.path);
    Refusal::new(404, &Problem::invalid_request(&message))
}

fn serve(source: &Organization, request: &ApiRequest, view: &View) -> Result<Reply, Refusal> {
    let page = match request.endpoint {
        Endpoint::List => list_admin(source, request, view)?,
        Endpoint::Retrieve => {
            let id = request.key_id.as_deref().unwrap_or_default();
            return found(source.admin.table.get(id), NO_KEY_FOUND, id);
        }
        Endpoint::Projects => list_projects(source, request, view)?,
        Endpoint::Project => {
            let (id, _) = open_project(source, request)?;
            return found(source.projects.rows.table.get(id), NO_PROJECT_FOUND, id);
        }
        Endpoint::ProjectKeys => list_project_keys(source, request, view)?,
        Endpoint::ProjectKey => {
            let (_, home) = open_project(source, request)?;
            let id = request.key_id.as_deref().unwrap_or_default();
            return found(home.keys.table.get(id), NO_KEY_FOUND, id);
        }
        Endpoint::AuditLogs => audit_query::list(source, request, view)?,
        Endpoint::Unknown => return Err(unknown_route(request)),
    };
    Ok(Reply::page(page))
}

fn admit(organization: &Organization, request: &ApiRequest) -> Result<(), Refusal> {
    if request.method != "GET" {
        let message = format!(
            "Not allowed to {} on {} (HINT: Perhaps you meant to use a different HTTP method?)",
            request.method, request.path
        );
        return Err(Refusal::new(405, &Problem::invalid_request(&message)));
    }
    let Some(secret) = request.bearer.as_deref().filter(|secret| !secret.is_empty()) else {
        return Err(Refusal::new(401, &Problem::invalid_request(access::NO_KEY)));
    };
    let known = organization.find_credential(secret);
    match known.map(|known| known.access) {
        None | Some(Access::Revoked) => {
            let message = access::incorrect_key(secret);
            let problem = Problem::invalid_request(&message).code("invalid_api_key");
            Err(Refusal::new(401, &problem))
        }
        Some(Access::ProjectKey) => {
            Err(Refusal::new(401, &Problem::invalid_request(access::PROJECT_KEY)))
        }
        Some(Access::MissingScopes { status }) => {
            Err(Refusal::bare(status, access::MISSING_SCOPES))
        }
        Some(Access::Admin) => {
            let mut areas = Area::of(request.endpoint).iter();
            let refused = areas.find_map(|area| known?.refusal(*area));
            refused.map_or_else(|| check_organization(organization, request), Err)
        }
    }
}

fn check_organization(organization: &Organization, request: &ApiRequest) -> Result<(), Refusal> {
    match (request.header("openai-organization"), organization.organization_id()) {
        (Some(asked), Some(own)) if asked != own => {
            let problem = Problem::invalid_request(access::OTHER_ORGANIZATION)
                .code("mismatched_organization");
            Err(Refusal::new(401, &problem))
        }
        _ => Ok(()),
    }
}

/// How the API says that it knows no key, and no project, of an id.
const NO_KEY_FOUND: &str = "API key";
const NO_PROJECT_FOUND: &str = "project";

fn found(record: Option<&Record>, noun: &str, id: &str) -> Result<Reply, Refusal> {
    let record = record.ok_or_else(|| not_found(noun, id))?;
    Ok(Reply::json(200, record.to_json()))
}

fn not_found(noun: &str, id: &str) -> Refusal {
    let message = format!("No {noun} found with ID '{id}'.");
    Refusal::new(404, &Problem::invalid_request(&message))
}

/// What a look-up that does not find what it asks for answers.
pub(super) fn never_found(request: &ApiRequest) -> Refusal {
    match (&request.key_id, &request.project_id) {
        (None, Some(project)) => not_found(NO_PROJECT_FOUND, project),
        (key, _) => not_found(NO_KEY_FOUND, key.as_deref().unwrap_or_default()),
    }
}

fn list_admin(source: &Organization, request: &ApiRequest, view: &View) -> Result<Page, Refusal> {
    let source = Source {
        rows: &source.admin,
        paging: source.paging,
        noun: NO_KEY_FOUND,
        ordered: true,
        shows: &|_| true,
    };
    listing::list(&source, request, view)
}

fn list_projects(
    source: &Organization,
    request: &ApiRequest,
    view: &View,
) -> Result<Page, Refusal> {
    let archived = parse_boolean(request, "include_archived")?;
    let shows = |record: &Record| {
        let home = record.id.as_deref().and_then(|id| source.projects.home(id));
        home.is_none_or(|home| home.access != ProjectAccess::Vanished)
            && (archived || record.to_map().get("status").is_none_or(|status| status != "archived"))
    };
    let source = Source {
        rows: &source.projects.rows,
        paging: source.paging,
        noun: NO_PROJECT_FOUND,
        ordered: false,
        shows: &shows,
    };
    listing::list(&source, request, view)
}

fn list_project_keys(
    source: &Organization,
    request: &ApiRequest,
    view: &View,
) -> Result<Page, Refusal> {
    let (_, home) = open_project(source, request)?;
    let wanted = match request.parameter("owner_project_access").as_deref() {
        // Which keys are left out where nothing is asked for is said vaguely: these are.
        None | Some("active") => Some("active"),
        Some("inactive") => Some("inactive"),
        Some("any") => None,
        Some(other) => {
            let supported = "'active', 'inactive' and 'any'";
            return Err(unsupported("owner_project_access", other, supported));
        }
    };
    let shows = |record: &Record| {
        wanted.is_none_or(|wanted| {
            let access = record.to_map().remove("owner_project_access");
            access.is_none_or(|access| access == wanted)
        })
    };
    let source = Source {
        rows: &home.keys,
        paging: source.paging,
        noun: NO_KEY_FOUND,
        ordered: false,
        shows: &shows,
    };
    listing::list(&source, request, view)
}

/// The project of the path, if it exists and may be seen.
fn open_project<'a>(
    source: &'a Organization,
    request: &'a ApiRequest,
) -> Result<(&'a str, &'a Home), Refusal> {
    let id = request.project_id.as_deref().unwrap_or_default();
    let home = source.projects.home(id).filter(|_| source.projects.rows.contains(id));
    match home {
        Some(Home { access: ProjectAccess::Forbidden { status }, .. }) => {
            Err(Refusal::bare(*status, access::MISSING_SCOPES))
        }
        None | Some(Home { access: ProjectAccess::Vanished, .. }) => {
            Err(not_found(NO_PROJECT_FOUND, id))
        }
        Some(home) => Ok((id, home)),
    }
}

pub(super) fn parse_boolean(request: &ApiRequest, name: &str) -> Result<bool, Refusal> {
    match request.parameter(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(unsupported(name, other, "'true' and 'false'")),
    }
}
