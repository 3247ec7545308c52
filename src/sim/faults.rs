//! What can go wrong on demand, and when.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::organization::Organization;
use super::reply::EdgeIds;
use super::request::{ApiRequest, Endpoint};

/// What an answer with a failing status has for a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorBody {
    /// The API's envelope, with this message.
    Envelope(String),
    /// The other envelope, `error` a bare string.
    BareString(String),
    /// A proxy's page, as `text/html`.
    Html,
    /// Any JSON text.
    Json(String),
    /// None.
    Empty,
}

/// An item that is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadItem {
    /// Its `id` is left out.
    WithoutId,
    /// Its `id` is the empty string.
    EmptyId,
    /// Its `id` is a number.
    NumberId,
    /// Its `id` is null.
    NullId,
    /// This value is in its place.
    Instead(Value),
}

/// One way for an answer to go wrong. The ones about pages change nothing in an answer that is no
/// page.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another status, with headers of its own.
    Status {
        /// The HTTP status.
        status: u16,
        /// What it has for a body.
        body: ErrorBody,
        /// Headers beside the usual ones.
        headers: Vec<(String, String)>,
    },
    /// One more header on an answer that is otherwise right.
    Header(String, String),
    /// Another content type, or none.
    ContentType(Option<String>),
    /// Another `openai-organization`, or none.
    OrganizationHeader(Option<String>),
    /// The keys of another organization; its header too, or the right one.
    OtherOrganization {
        /// Whose keys are answered.
        organization: Arc<Organization>,
        /// Whether the header tells.
        header: bool,
    },
    /// A later answer.
    Delay(Duration),

    /// The connection is reset before any answer.
    ResetConnection,
    /// No answer, the connection open until the client goes.
    Hang,
    /// Half of the promised body, then the connection is closed.
    CutBody,
    /// Half of the promised body, then nothing.
    StallBody,
    /// The body, a few bytes at a time.
    DripBody {
        /// Bytes at a time.
        bytes: usize,
        /// Before each of them.
        pause: Duration,
    },
    /// A body of this many bytes, white space at its end.
    HugeBody(usize),
    /// The same, sent compressed with gzip, which makes it small.
    GzipBomb(usize),
    /// The body breaks off in the middle, the answer whole for HTTP.
    WrongJson,

    /// `has_more: false`, whatever comes.
    EarlyEnd,
    /// `has_more: true`, also on the last page.
    EndlessHasMore,
    /// `has_more` is left out.
    MissingHasMore,
    /// No data, but `has_more: true`.
    EmptyPageWithMore,
    /// No data and `has_more: false`: an empty organization.
    EmptyList,
    /// The key, the project or the entry is never listed. A look-up finds it.
    HiddenKey(String),
    /// The item at this place of the page is left out.
    DropItem(usize),
    /// The item at this place of the page comes twice, the second time at the page's start.
    DuplicateItem(usize),
    /// So many keys after the cursor are passed over.
    SkipAhead(usize),
    /// The page that ends at the cursor, over again.
    RepeatedPage,
    /// The page begins with so many keys of the page before.
    Overlap(usize),
    /// The first page, whatever the cursor.
    FromTheBeginning,
    /// Descending where ascending was asked, and the other way round. Of the audit log, the oldest
    /// first.
    OtherOrder,
    /// The page's items are in another order, but for the last one.
    ShuffledItems,
    /// `data` is left out.
    MissingData,
    /// This value for `data`.
    DataInstead(Value),
    /// The item at this place (the last one at most) is no key.
    BadItem(usize, BadItem),
    /// Other `first_id` and `last_id` than the items'.
    EdgeIds(EdgeIds),
    /// Fields that nobody knows, in the page, its items and their owners.
    UnknownFields,
    /// Each item, also a key looked up, carries this as its `value`: a full secret.
    FullSecret(String),

    /// The audit log's filters are ignored, as far as they are filters: pages stay pages.
    IgnoredFilters,
    /// A page of the audit log begins with entries of another key and of another type.
    ForeignEntries,

    /// A look-up always finds the key, also one that is gone.
    RetrieveAlwaysFound,
    /// A look-up never finds the key (404 in the API's envelope), also one that lives.
    RetrieveNeverFound,
    /// A look-up answers 200 with a key of another id.
    RetrieveOtherId(String),
}

impl Fault {
    /// A status with the API's error envelope.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let message = "The server had an error while processing your request.";
        Self::status_with(status, ErrorBody::Envelope(message.to_owned()))
    }

    /// A status with any body.
    #[must_use]
    pub fn status_with(status: u16, body: ErrorBody) -> Self {
        Self::Status { status, body, headers: Vec::new() }
    }

    /// 204, with nothing in it.
    #[must_use]
    pub fn no_content() -> Self {
        Self::status_with(204, ErrorBody::Empty)
    }

    /// A redirect to another URL.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::status_with(status, ErrorBody::Empty).with_header("location", location)
    }

    /// The same status with a header: `retry-after-ms`, `retry-after`, `x-should-retry`. A
    /// fault that is no [`Fault::Status`] stays as it is.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Status { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same status with `retry-after` as an HTTP date, from Unix seconds.
    #[must_use]
    pub fn with_retry_after_date(self, unix_seconds: i64) -> Self {
        self.with_header("retry-after", &super::http::http_date(unix_seconds))
    }
}

/// Which of the requests that a [`Matcher`] describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Times {
    #[default]
    Every,
    Nth(u64),
    From(u64),
    First(u64),
}

/// Which requests a fault is for. Everything said must hold; requests are counted from the moment
/// the rule was added, from 1, and only those for which the rest holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matcher {
    endpoint: Option<Endpoint>,
    project: Option<String>,
    times: Times,
    id: Option<String>,
    page: Option<usize>,
}

impl Matcher {
    /// Every request.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Every request to this endpoint.
    #[must_use]
    pub fn to(endpoint: Endpoint) -> Self {
        Self { endpoint: Some(endpoint), ..Self::default() }
    }

    /// Every request for a page of the admin listing.
    #[must_use]
    pub fn list() -> Self {
        Self::to(Endpoint::List)
    }

    /// Every look-up of a key in the admin listing.
    #[must_use]
    pub fn retrieve() -> Self {
        Self::to(Endpoint::Retrieve)
    }

    /// Every request for a page of projects.
    #[must_use]
    pub fn projects() -> Self {
        Self::to(Endpoint::Projects)
    }

    /// Every request for a page of a project's keys.
    #[must_use]
    pub fn project_keys() -> Self {
        Self::to(Endpoint::ProjectKeys)
    }

    /// Every look-up of a key in a project.
    #[must_use]
    pub fn project_key() -> Self {
        Self::to(Endpoint::ProjectKey)
    }

    /// Every request for a page of the audit log.
    #[must_use]
    pub fn audit_logs() -> Self {
        Self::to(Endpoint::AuditLogs)
    }

    /// Only requests about this project: for it, its keys, or one of them.
    #[must_use]
    pub fn project(self, id: &str) -> Self {
        Self { project: Some(id.to_owned()), ..self }
    }

    /// Only the `n`th of them.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { times: Times::Nth(n), ..self }
    }

    /// Only the `n`th and all after it.
    #[must_use]
    pub fn from(self, n: u64) -> Self {
        Self { times: Times::From(n), ..self }
    }

    /// Only the first `k` of them.
    #[must_use]
    pub fn first(self, k: u64) -> Self {
        Self { times: Times::First(k), ..self }
    }

    /// Only look-ups of this id, and pages with it for a cursor.
    #[must_use]
    pub fn id(self, id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..self }
    }

    /// Only this page, counted from 0: the one without a cursor is the first, and one whose cursor
    /// was the end of an answered page is the one after that.
    #[must_use]
    pub fn page(self, index: usize) -> Self {
        Self { page: Some(index), ..self }
    }

    fn describes(&self, request: &ApiRequest, page: Option<usize>) -> bool {
        let subject = request.key_id.as_ref().or(request.after.as_ref());
        self.endpoint.is_none_or(|endpoint| endpoint == request.endpoint)
            && self.project.as_ref().is_none_or(|id| request.project_id.as_ref() == Some(id))
            && self.id.as_ref().is_none_or(|id| subject == Some(id))
            && self.page.is_none_or(|index| page == Some(index))
    }
}

/// Something that waits for requests, and how many of them it has seen.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    when: Matcher,
    seen: u64,
}

impl Counter {
    pub(super) fn new(when: Matcher) -> Self {
        Self { when, seen: 0 }
    }

    /// Counts the request if it is one of those described, and says whether it is the time.
    pub(super) fn applies(&mut self, request: &ApiRequest, page: Option<usize>) -> bool {
        if !self.when.describes(request, page) {
            return false;
        }
        self.seen += 1;
        match self.when.times {
            Times::Every => true,
            Times::Nth(n) => self.seen == n,
            Times::From(n) => self.seen >= n,
            Times::First(k) => self.seen <= k,
        }
    }
}

/// A fault, and when it shows. Several rules can hold for one answer: each changes it further, in
/// the order in which they were added.
#[derive(Debug, Clone)]
pub(super) struct FaultRule {
    when: Counter,
    pub(super) fault: Fault,
}

impl FaultRule {
    pub(super) fn new(when: Matcher, fault: Fault) -> Self {
        Self { when: Counter::new(when), fault }
    }

    /// Counts the request, and says whether the fault shows.
    pub(super) fn applies(&mut self, request: &ApiRequest, page: Option<usize>) -> bool {
        self.when.applies(request, page)
    }
}
