//! What a request asked for, and how messages name it.

use std::fmt;
use std::sync::Arc;

use crate::inventory::KeyId;

/// The longest id or header value that a message repeats, in characters.
const SHOWN_CHARS: usize = 100;

/// What a request asked for. Pages count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A page of the listing of admin keys.
    Page(u64),
    /// One key, at the endpoint of admin keys.
    Key(KeyId),
    /// A page of the projects.
    Projects(u64),
    /// One project.
    Project(Arc<str>),
    /// A page of the keys of one project.
    ProjectKeys { project: Arc<str>, page: u64 },
    /// One key, at the endpoint of its project.
    ProjectKey { project: Arc<str>, key: KeyId },
    /// A page of the audit log.
    AuditLog(u64),
}

impl Subject {
    /// What a listing lists, in the singular.
    pub(super) const fn item(&self) -> &'static str {
        match self {
            Self::Page(_) | Self::Key(_) | Self::ProjectKeys { .. } | Self::ProjectKey { .. } => {
                "key"
            }
            Self::Projects(_) | Self::Project(_) => "project",
            Self::AuditLog(_) => "entry",
        }
    }

    /// What a listing lists, in the plural.
    pub(super) const fn items(&self) -> &'static str {
        match self {
            Self::Page(_) | Self::Key(_) | Self::ProjectKeys { .. } | Self::ProjectKey { .. } => {
                "keys"
            }
            Self::Projects(_) | Self::Project(_) => "projects",
            Self::AuditLog(_) => "entries",
        }
    }

    /// Whether it is about projects or one of them.
    pub(super) const fn is_about_projects(&self) -> bool {
        matches!(
            self,
            Self::Projects(_)
                | Self::Project(_)
                | Self::ProjectKeys { .. }
                | Self::ProjectKey { .. }
        )
    }

    /// Whether it is a page of something that an organization has once, so that a 404 is about the
    /// endpoint.
    pub(super) const fn is_page_of_organization(&self) -> bool {
        matches!(self, Self::Page(_) | Self::Projects(_) | Self::AuditLog(_))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(number) => write!(f, "page {number} of the admin keys"),
            Self::Key(id) => write!(f, "the look-up of key `{}`", shorten(id.as_str())),
            Self::Projects(number) => write!(f, "page {number} of the projects"),
            Self::Project(id) => write!(f, "the look-up of project `{}`", shorten(id)),
            Self::ProjectKeys { project, page } => {
                write!(f, "page {page} of the keys of project `{}`", shorten(project))
            }
            Self::ProjectKey { project, key } => write!(
                f,
                "the look-up of key `{}` in project `{}`",
                shorten(key.as_str()),
                shorten(project)
            ),
            Self::AuditLog(number) => write!(f, "page {number} of the audit log"),
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
    pub(super) fn request(&self) -> String {
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
    /// The page begins with an older item than the cursor.
    Older,
    /// The page holds only items that were listed before.
    Repeated,
}

impl Lost {
    /// The reason in words, for a list of what `subject` lists.
    pub(super) fn describe(self, subject: &Subject) -> String {
        let (item, items) = (subject.item(), subject.items());
        match self {
            Self::Refused(status) => format!("the cursor was refused with status {status}"),
            Self::Empty => format!("the page is empty although more {items} were promised"),
            Self::Older => format!("the page begins with an older {item} than its cursor"),
            Self::Repeated => format!("the page only repeats {items} that were listed before"),
        }
    }
}

/// `text`, cut to what a message can bear.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
