//! What was asked, and the log of it.

use hyper::header::{AUTHORIZATION, HeaderMap};
use percent_encoding::percent_decode_str;

use super::truth::Mark;

const BASE_PATH: &str = "/v1/organization/";

/// The endpoints of the simulated API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `GET /v1/organization/admin_api_keys`
    List,
    /// `GET /v1/organization/admin_api_keys/{id}`
    Retrieve,
    /// `GET /v1/organization/projects`
    Projects,
    /// `GET /v1/organization/projects/{id}`
    Project,
    /// `GET /v1/organization/projects/{id}/api_keys`
    ProjectKeys,
    /// `GET /v1/organization/projects/{id}/api_keys/{id}`
    ProjectKey,
    /// `GET /v1/organization/audit_logs`
    AuditLogs,
    /// Any other path.
    Unknown,
}

/// One request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The endpoint that the path stands for, whatever the method.
    pub endpoint: Endpoint,
    /// The HTTP method.
    pub method: String,
    /// The path, as it came.
    pub path: String,
    /// The query, as it came, without the question mark.
    pub query: String,
    /// The cursor, decoded.
    pub after: Option<String>,
    /// The `limit` parameter.
    pub limit: Option<String>,
    /// The `order` parameter.
    pub order: Option<String>,
    /// The project of the path, decoded.
    pub project_id: Option<String>,
    /// The id of the key that was looked up, decoded.
    pub key_id: Option<String>,
    /// Every header in lower case, the authorization's value as `***`.
    pub headers: Vec<(String, String)>,
    /// Which page of a listing this was, counted from 0, if its cursor was the end of a page.
    pub page: Option<usize>,
    /// The `x-request-id` of the answer.
    pub request_id: String,
    /// The status of the answer, also of one that never arrived whole.
    pub status: u16,
    /// The moment of the organization's life in which it was answered.
    pub mark: Mark,
}

impl LoggedRequest {
    /// A header of the request, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter of the query (`event_types[]`), decoded, in their order.
    #[must_use]
    pub fn parameters(&self, name: &str) -> Vec<String> {
        parameters(&self.query, name)
    }

    /// Whether the request carried credentials.
    #[must_use]
    pub fn has_authorization(&self) -> bool {
        self.header("authorization").is_some()
    }
}

/// A request, parsed.
#[derive(Clone)]
pub(super) struct ApiRequest {
    pub(super) endpoint: Endpoint,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) project_id: Option<String>,
    pub(super) key_id: Option<String>,
    pub(super) after: Option<String>,
    pub(super) limit: Option<String>,
    pub(super) order: Option<String>,
    pub(super) bearer: Option<String>,
    pub(super) headers: Vec<(String, String)>,
}

impl ApiRequest {
    pub(super) fn parse<B>(request: &hyper::Request<B>) -> Self {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let Route { endpoint, project_id, key_id } = route(&path);
        let parameter = |name: &str| parameters(&query, name).into_iter().next();
        Self {
            endpoint,
            project_id,
            key_id,
            after: parameter("after"),
            limit: parameter("limit"),
            order: parameter("order"),
            bearer: bearer(request.headers()),
            headers: logged_headers(request.headers()),
            method: request.method().to_string(),
            path,
            query,
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter of the query, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).into_iter().next()
    }

    /// Every value of a parameter of the query, decoded.
    pub(super) fn parameters(&self, name: &str) -> Vec<String> {
        parameters(&self.query, name)
    }

    /// Whether it asks for a page of something.
    pub(super) fn is_list(&self) -> bool {
        matches!(
            self.endpoint,
            Endpoint::List | Endpoint::Projects | Endpoint::ProjectKeys | Endpoint::AuditLogs
        )
    }

    /// The log's entry; status and request id are known later.
    pub(super) fn to_logged(&self, page: Option<usize>, mark: Mark) -> LoggedRequest {
        LoggedRequest {
            endpoint: self.endpoint,
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            after: self.after.clone(),
            limit: self.limit.clone(),
            order: self.order.clone(),
            project_id: self.project_id.clone(),
            key_id: self.key_id.clone(),
            headers: self.headers.clone(),
            page,
            request_id: String::new(),
            status: 0,
            mark,
        }
    }
}

/// What a path stands for.
struct Route {
    endpoint: Endpoint,
    project_id: Option<String>,
    key_id: Option<String>,
}

/// The path is cut before it is decoded, so that an id may hold an encoded slash.
fn route(path: &str) -> Route {
    let segments: Vec<&str> =
        path.strip_prefix(BASE_PATH).map(|rest| rest.split('/').collect()).unwrap_or_default();
    let (endpoint, project_id, key_id) = match segments[..] {
        ["admin_api_keys"] => (Endpoint::List, None, None),
        ["admin_api_keys", key] => (Endpoint::Retrieve, None, Some(key)),
        ["projects"] => (Endpoint::Projects, None, None),
        ["projects", project] => (Endpoint::Project, Some(project), None),
        ["projects", project, "api_keys"] => (Endpoint::ProjectKeys, Some(project), None),
        ["projects", project, "api_keys", key] => (Endpoint::ProjectKey, Some(project), Some(key)),
        ["audit_logs"] => (Endpoint::AuditLogs, None, None),
        _ => (Endpoint::Unknown, None, None),
    };
    if project_id == Some("") || key_id == Some("") {
        return Route { endpoint: Endpoint::Unknown, project_id: None, key_id: None };
    }
    let decode = |segment: &str| percent_decode_str(segment).decode_utf8_lossy().into_owned();
    Route { endpoint, project_id: project_id.map(decode), key_id: key_id.map(decode) }
}

fn parameters(query: &str, name: &str) -> Vec<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned())
        .collect()
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ").unwrap_or(value).to_owned())
}

fn logged_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let shown = if name == AUTHORIZATION {
                "***".to_owned()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str().to_owned(), shown)
        })
        .collect()
}
