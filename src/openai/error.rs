//! What can go wrong between us and the provider's API.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::inventory::KeyId;

/// The longest id or header value that a message repeats, in characters.
const SHOWN_CHARS: usize = 100;

/// What a request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A page of the listing, counted from 1.
    Page(u64),
    /// One key, by its id.
    Key(KeyId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(number) => write!(f, "page {number} of the admin keys"),
            Self::Key(id) => write!(f, "the look-up of key `{}`", shorten(id.as_str())),
        }
    }
}

/// Where an error comes from: what was asked for, and how the provider can find its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub subject: Subject,
    /// The answer's `x-request-id`.
    pub request_id: Option<String>,
}

impl Origin {
    #[expect(clippy::unnecessary_box_returns, reason = "every error holds it boxed, to stay small")]
    pub(super) fn new(subject: &Subject, request_id: Option<&str>) -> Box<Self> {
        Box::new(Self { subject: subject.clone(), request_id: request_id.map(str::to_owned) })
    }

    /// ` (request req_abc)`, or nothing where the answer had no id.
    fn request(&self) -> String {
        let shown = |id: &String| format!(" (request {})", shorten(id));
        self.request_id.as_ref().map(shown).unwrap_or_default()
    }
}

/// Why the walk through the pages lost its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The cursor was refused with this status.
    Refused(u16),
    /// An empty page where more was promised.
    Empty,
    /// The page begins with an older key than the cursor.
    Older,
    /// The page holds only keys that were listed before.
    Repeated,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "the cursor was refused with status {status}"),
            Self::Empty => f.write_str("the page is empty although more keys were promised"),
            Self::Older => f.write_str("the page begins with an older key than its cursor"),
            Self::Repeated => f.write_str("the page only repeats keys that were listed before"),
        }
    }
}

/// Why there is no complete listing, or no client to ask with.
///
/// No variant carries a body or a credential; messages of the API are masked and cut.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the base URL with host `{host}` is plain HTTP to another machine")]
    InsecureUrl { host: String },
    #[error("the base URL {problem}")]
    InvalidUrl { problem: &'static str },
    #[error("the credential is empty or holds characters that an HTTP header cannot carry")]
    InvalidCredential,
    #[error("the organization id holds characters that an HTTP header cannot carry")]
    InvalidOrganizationId,
    #[error("the proxy URL is not usable")]
    InvalidProxy,
    #[error("could not load CA certificates from `{}`: {problem}", path.display())]
    CaFile { path: PathBuf, problem: String },
    #[error("no CA certificates were found on this machine")]
    NoCertificates,
    #[error("could not set up the HTTP client: {problem}")]
    Setup { problem: String },

    #[error("could not ask for {}: its address is not a usable URL", .at.subject)]
    InvalidRequest { at: Box<Origin> },
    #[error("could not reach the API for {}: {problem}", .at.subject)]
    Unreachable { at: Box<Origin>, problem: String },
    #[error("{} was not answered in time{}", .at.subject, .at.request())]
    TimedOut { at: Box<Origin> },
    #[error("the answer to {} was cut short{}: {problem}", .at.subject, .at.request())]
    CutShort { at: Box<Origin>, problem: String },

    #[error(
        "{} was refused with status {status}{}: the credential lacks the {} {}",
        .at.subject, .at.request(), plural(.scopes.len(), "scope", "scopes"), quote_all(.scopes)
    )]
    MissingScopes { at: Box<Origin>, status: u16, scopes: Vec<String> },
    #[error("{} was refused with status 401{}: {message}", .at.subject, .at.request())]
    Unauthorized { at: Box<Origin>, message: String },
    #[error("{} was refused with status 403{}: {message}", .at.subject, .at.request())]
    Forbidden { at: Box<Origin>, message: String },
    #[error("{} was refused with status 429{}: {message}", .at.subject, .at.request())]
    RateLimited { at: Box<Origin>, message: String },
    #[error("{} failed with status {status}{}: {message}", .at.subject, .at.request())]
    ServerFault { at: Box<Origin>, status: u16, message: String },
    #[error("{} was refused with status {status}{}: {message}", .at.subject, .at.request())]
    Refused { at: Box<Origin>, status: u16, message: String },

    #[error(
        "{} was answered with a redirect{} to {}, which is not followed",
        .at.subject, .at.request(), .target.as_deref().map_or("nowhere".to_owned(), |t| format!("`{}`", shorten(t)))
    )]
    Redirected { at: Box<Origin>, target: Option<String> },
    #[error("{} was answered with status {status}{}, not with 200", .at.subject, .at.request())]
    UnexpectedStatus { at: Box<Origin>, status: u16 },
    #[error(
        "{} was answered{} with {} instead of JSON",
        .at.subject, .at.request(), .content_type.as_deref().map_or("no content type".to_owned(), |t| format!("content type `{}`", shorten(t)))
    )]
    NotJson { at: Box<Origin>, content_type: Option<String> },
    #[error("the answer to {} is larger than {limit} bytes{}", .at.subject, .at.request())]
    BodyTooLarge { at: Box<Origin>, limit: usize },
    #[error("{} is not valid JSON{}: line {line}, column {column}", .at.subject, .at.request())]
    WrongJson { at: Box<Origin>, line: usize, column: usize },
    #[error("{} is not a list of keys{}: {problem}", .at.subject, .at.request())]
    WrongPage { at: Box<Origin>, problem: &'static str },
    /// `item` counts from 1.
    #[error("item {item} of {} is not a key{}: {problem}", .at.subject, .at.request())]
    WrongItem { at: Box<Origin>, item: usize, problem: &'static str },

    #[error(
        "{} came from organization `{}`, the pages before it from `{}`{}",
        .at.subject, shorten(.found), shorten(.first), .at.request()
    )]
    MixedOrganizations { at: Box<Origin>, first: String, found: String },
    #[error(
        "the list could not be followed past {}: at {}{}, {lost}, and going back did not help",
        .cursor.as_ref().map_or("its start".to_owned(), |id| format!("key `{}`", shorten(id.as_str()))),
        .at.subject, .at.request()
    )]
    LostCursor { at: Box<Origin>, cursor: Option<KeyId>, lost: Lost },
    #[error("{} lists the newest key first although the oldest was asked for{}", .at.subject, .at.request())]
    WrongOrder { at: Box<Origin> },
    #[error("the list holds more than {limit} keys")]
    TooManyKeys { limit: usize },

    #[error("the run's time of {} was over at {}", humantime::format_duration(*.limit), .at.subject)]
    DeadlineExceeded {
        at: Box<Origin>,
        limit: Duration,
        /// What the last attempt ran into, if there was one.
        source: Option<Box<Error>>,
    },
    #[error("deferred until {until}, as the API asks")]
    Deferred {
        until: Timestamp,
        #[source]
        cause: Box<Error>,
    },
}

impl Error {
    /// Whether the same run may well succeed later without anybody doing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::CutShort { .. }
            | Self::RateLimited { .. }
            | Self::ServerFault { .. }
            | Self::LostCursor { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Deferred { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 409),
            _ => false,
        }
    }

    /// Whether the connection was at fault, so that the same request may do better at once.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            // A certificate does not become valid within seconds.
            Self::Unreachable { problem, .. } => !problem.contains("certificate"),
            Self::TimedOut { .. } | Self::CutShort { .. } => true,
            _ => false,
        }
    }

    /// Whether the credential was refused, so that waiting helps nobody.
    pub(super) fn is_about_credential(&self) -> bool {
        matches!(
            self,
            Self::MissingScopes { .. } | Self::Unauthorized { .. } | Self::Forbidden { .. }
        )
    }

    /// The `x-request-id` of the answer that the error is about.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.origin().and_then(|at| at.request_id.as_deref())
    }

    fn origin(&self) -> Option<&Origin> {
        match self {
            Self::InvalidRequest { at }
            | Self::Unreachable { at, .. }
            | Self::TimedOut { at }
            | Self::CutShort { at, .. }
            | Self::MissingScopes { at, .. }
            | Self::Unauthorized { at, .. }
            | Self::Forbidden { at, .. }
            | Self::RateLimited { at, .. }
            | Self::ServerFault { at, .. }
            | Self::Refused { at, .. }
            | Self::Redirected { at, .. }
            | Self::UnexpectedStatus { at, .. }
            | Self::NotJson { at, .. }
            | Self::BodyTooLarge { at, .. }
            | Self::WrongJson { at, .. }
            | Self::WrongPage { at, .. }
            | Self::WrongItem { at, .. }
            | Self::MixedOrganizations { at, .. }
            | Self::LostCursor { at, .. }
            | Self::WrongOrder { at }
            | Self::DeadlineExceeded { at, .. } => Some(at),
            Self::Deferred { cause, .. } => cause.origin(),
            Self::InsecureUrl { .. }
            | Self::InvalidUrl { .. }
            | Self::InvalidCredential
            | Self::InvalidOrganizationId
            | Self::InvalidProxy
            | Self::CaFile { .. }
            | Self::NoCertificates
            | Self::Setup { .. }
            | Self::TooManyKeys { .. } => None,
        }
    }

    /// The failure in a few words, with nothing that the other side said.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "could not be asked for: the API was not reached",
            Self::TimedOut { .. } => "was not answered in time",
            Self::CutShort { .. } => "was answered in part only",
            Self::RateLimited { .. } => "was refused as too many requests",
            Self::ServerFault { .. } => "failed at the API",
            _ => "was refused",
        }
    }

    /// When to try again, if the API said so.
    #[must_use]
    pub fn deferred_until(&self) -> Option<Timestamp> {
        match self {
            Self::Deferred { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::InsecureUrl { .. } => {
                "use an `https://` URL; plain HTTP is accepted only to localhost, 127.0.0.0/8 and [::1]"
            }
            Self::NoCertificates => {
                "install the package `ca-certificates`, or set `api.tls_ca_file` to a PEM file of trusted roots"
            }
            Self::CaFile { .. } => {
                "`api.tls_ca_file` must be a readable PEM file with at least one certificate"
            }
            Self::MissingScopes { .. } => {
                "create a new admin key with read-only permission and use that: \
                 editing the scopes of an existing key often does not take"
            }
            Self::Unauthorized { .. } => {
                "the credential is not an admin key of the organization, or it was revoked: owners make \
                 new ones at https://platform.openai.com/settings/organization/admin-keys"
            }
            Self::Forbidden { .. } => {
                "the credential may not list admin keys: use an admin key with read-only permission, \
                 made by an owner of the organization"
            }
            Self::Unreachable { problem, .. } if problem.contains("certificate") => {
                "if the API is behind a private certificate authority, set `api.tls_ca_file` to its root"
            }
            Self::Unreachable { .. } => {
                "check the network and the base URL; proxies of the environment are not used, set `api.proxy`"
            }
            Self::Redirected { .. } | Self::NotJson { .. } => {
                "check the base URL: it must be the API itself, with its `/v1`, not a page or a login in front of it"
            }
            Self::Refused { at, status: 404, .. } if matches!(at.subject, Subject::Page(_)) => {
                "check the base URL: it is used as it stands, and `/v1` is not added to it"
            }
            Self::DeadlineExceeded { source, .. } => {
                return source.as_ref().and_then(|cause| cause.hint()).or_else(|| {
                    Some("raise `api.run_deadline` if the organization is large".to_owned())
                });
            }
            Self::Deferred { cause, .. } => return cause.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// `text`, cut to what a message can bear.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

const fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

fn quote_all(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
