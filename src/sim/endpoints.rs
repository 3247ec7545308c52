//! The API's endpoints over one organization, as the real ones answer.

use std::sync::Arc;

use super::access::{self, Access};
use super::keys::Position;
use super::organization::{AboveMaxLimit, Organization, VanishedCursor};
use super::reply::{Item, Page, Problem, Refusal, Reply};
use super::request::{ApiRequest, Endpoint};

/// What faults make of a listing before it is cut into a page.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) ignore_cursor: bool,
    pub(super) repeat_page: bool,
    pub(super) overlap: usize,
    pub(super) skip_ahead: usize,
    pub(super) descending: bool,
    pub(super) hidden: Vec<String>,
    /// Answer for this organization, from its beginning where the cursor is not its own.
    pub(super) instead: Option<Arc<Organization>>,
}

/// The answer to a request, before any fault but those of the view.
pub(super) fn answer(organization: &Organization, request: &ApiRequest, view: &View) -> Reply {
    let admitted = match request.endpoint {
        Endpoint::Unknown => Err(unknown_route(request)),
        Endpoint::List | Endpoint::Retrieve => admit(organization, request),
    };
    let source = view.instead.as_deref().unwrap_or(organization);
    let mut reply = match (admitted, &request.key_id) {
        (Err(refusal), _) => refusal.into(),
        (Ok(()), Some(id)) => retrieve(source, id),
        (Ok(()), None) => list(source, request, view).map_or_else(Reply::from, Reply::page),
    };
    reply.organization = organization.organization_id().map(str::to_owned);
    reply
}

fn unknown_route(request: &ApiRequest) -> Refusal {
    let message = format!("Invalid URL ({} {})", request.method, request.path);
    Refusal::new(404, &Problem::invalid_request(&message))
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
    match organization.find_credential(secret).map(|known| known.access) {
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
        Some(Access::Admin) => check_organization(organization, request),
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

fn retrieve(organization: &Organization, id: &str) -> Reply {
    match organization.table.get(id) {
        Some(record) => Reply::json(200, record.to_json()),
        None => not_found(id).into(),
    }
}

pub(super) fn not_found(id: &str) -> Refusal {
    let message = format!("No API key found with ID '{id}'.");
    Refusal::new(404, &Problem::invalid_request(&message))
}

fn list(organization: &Organization, request: &ApiRequest, view: &View) -> Result<Page, Refusal> {
    let limit = parse_limit(organization, request.limit.as_deref())?;
    let descending = parse_order(request.order.as_deref())? != view.descending;
    let cursor = match request.after.as_deref() {
        None | Some("") => None,
        Some(_) if view.ignore_cursor => None,
        Some(id) => match find_cursor(organization, id, view)? {
            Cursor::After(position) => Some(position),
            Cursor::Start => None,
            Cursor::End => return Ok(Page::new(Vec::new(), false)),
        },
    };
    let steps = if view.repeat_page { limit } else { view.overlap };
    let cursor = cursor.and_then(|at| organization.table.step_back(at, steps, descending));
    let mut records = organization
        .table
        .past(cursor, descending)
        .filter(|record| !record.id.as_deref().is_some_and(|id| is_hidden(view, id)))
        .skip(view.skip_ahead)
        .peekable();
    let items = records.by_ref().take(limit).map(Item::from).collect();
    Ok(Page::new(items, records.peek().is_some()))
}

fn is_hidden(view: &View, id: &str) -> bool {
    view.hidden.iter().any(|hidden| hidden == id)
}

/// Where a list begins.
enum Cursor {
    Start,
    After(Position),
    End,
}

fn find_cursor(organization: &Organization, id: &str, view: &View) -> Result<Cursor, Refusal> {
    if let Some(position) = organization.table.position(id) {
        return Ok(Cursor::After(position));
    }
    if view.instead.is_some() {
        return Ok(Cursor::Start);
    }
    let message = format!("No API key found with ID '{id}'.");
    let problem = Problem::invalid_request(&message).param("after");
    match organization.paging.vanished_cursor {
        VanishedCursor::NotFound404 => Err(Refusal::new(404, &problem)),
        VanishedCursor::BadRequest400 => Err(Refusal::new(400, &problem)),
        VanishedCursor::EmptyPage => Ok(Cursor::End),
        VanishedCursor::FromTheBeginning => Ok(Cursor::Start),
        VanishedCursor::Continues => {
            let gone = organization.departed_index.get(id).map(|at| &organization.departed[*at]);
            gone.map(|gone| Cursor::After(gone.position)).ok_or(Refusal::new(404, &problem))
        }
    }
}

fn parse_limit(organization: &Organization, limit: Option<&str>) -> Result<usize, Refusal> {
    let paging = organization.paging;
    let Some(text) = limit else {
        return Ok(paging.default_limit.min(paging.max_limit));
    };
    let refusal =
        |message: &str| Refusal::new(400, &Problem::invalid_request(message).param("limit"));
    match text.parse::<usize>() {
        Err(_) => Err(refusal("Invalid type for 'limit': expected an integer.")),
        Ok(0) => Err(refusal("Invalid 'limit': integer below minimum value.")),
        Ok(limit) if limit <= paging.max_limit => Ok(limit),
        Ok(limit) => match paging.above_max {
            AboveMaxLimit::Clamp => Ok(paging.max_limit),
            AboveMaxLimit::Refuse => Err(refusal(&format!(
                "Invalid 'limit': integer above maximum value. Expected a value <= {}, but got \
                 {limit} instead.",
                paging.max_limit
            ))),
        },
    }
}

/// True for descending.
fn parse_order(order: Option<&str>) -> Result<bool, Refusal> {
    match order {
        None | Some("asc") => Ok(false),
        Some("desc") => Ok(true),
        Some(other) => {
            let message = format!("Invalid value: '{other}'. Supported values: 'asc' and 'desc'.");
            Err(Refusal::new(400, &Problem::invalid_request(&message).param("order")))
        }
    }
}
