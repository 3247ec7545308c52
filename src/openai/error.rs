//! What can go wrong between us and the provider's API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::subject::{Lost, Origin, shorten};
use crate::clock::Timestamp;

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
    #[error("{} is not a list of {}{}: {problem}", .at.subject, .at.subject.items(), .at.request())]
    WrongPage { at: Box<Origin>, problem: &'static str },
    /// `item` counts from 1.
    #[error(
        "item {item} of {} is not a {}{}: {problem}",
        .at.subject, .at.subject.item(), .at.request()
    )]
    WrongItem { at: Box<Origin>, item: usize, problem: &'static str },

    #[error(
        "{} came from organization `{}`, the pages before it from `{}`{}",
        .at.subject, shorten(.found), shorten(.first), .at.request()
    )]
    MixedOrganizations { at: Box<Origin>, first: String, found: String },
    #[error(
        "the list could not be followed past {}: at {}{}, {}, and going back did not help",
        .cursor.as_ref().map_or("its start".to_owned(), |id| format!("{} `{}`", .at.subject.item(), shorten(id))),
        .at.subject, .at.request(), .lost.describe(&.at.subject)
    )]
    LostCursor { at: Box<Origin>, cursor: Option<Arc<str>>, lost: Lost },
    #[error("{} lists the newest key first although the oldest was asked for{}", .at.subject, .at.request())]
    WrongOrder { at: Box<Origin> },
    #[error("the list holds more than {limit} {}: given up at {}", .at.subject.items(), .at.subject)]
    TooManyItems { at: Box<Origin>, limit: usize },
    #[error("the list has more than {limit} pages: given up at {}", .at.subject)]
    TooManyPages { at: Box<Origin>, limit: u64 },
    /// The keys of a project were asked for with `owner_project_access=any`.
    #[error(
        "{} was refused with status {status}{} when asked for with `owner_project_access=any`, \
         without which keys may be left out: {message}",
        .at.subject, .at.request()
    )]
    AccessFilterRefused { at: Box<Origin>, status: u16, message: String },

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
    /// An earlier request of the run was [`Error::Deferred`].
    #[error("{} was not asked for: the API wants to be left alone until {until}", .at.subject)]
    LeftAlone { at: Box<Origin>, until: Timestamp },
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
            | Self::Deferred { .. }
            | Self::LeftAlone { .. } => true,
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
    #[must_use]
    pub fn is_about_credential(&self) -> bool {
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
            | Self::TooManyItems { at, .. }
            | Self::TooManyPages { at, .. }
            | Self::AccessFilterRefused { at, .. }
            | Self::LeftAlone { at, .. }
            | Self::DeadlineExceeded { at, .. } => Some(at),
            Self::Deferred { cause, .. } => cause.origin(),
            Self::InsecureUrl { .. }
            | Self::InvalidUrl { .. }
            | Self::InvalidCredential
            | Self::InvalidOrganizationId
            | Self::InvalidProxy
            | Self::CaFile { .. }
            | Self::NoCertificates
            | Self::Setup { .. } => None,
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
            Self::Deferred { until, .. } | Self::LeftAlone { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether the credential may not have what was asked for, or the API does not offer it: the next
    /// run fares the same. A revoked credential, a project that is gone and a server in trouble are
    /// something else.
    #[must_use]
    pub fn is_missing_permission(&self) -> bool {
        match self {
            Self::MissingScopes { .. } | Self::Forbidden { .. } => true,
            Self::Refused { at, status, .. } => {
                *status == 404 && at.subject.is_page_of_organization()
            }
            _ => false,
        }
    }
}

const fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

fn quote_all(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
