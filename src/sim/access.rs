//! Who may ask: the credentials that an organization knows, and how it refuses the others.

use std::fmt;
use std::sync::Arc;

use super::reply::Refusal;
use super::request::Endpoint;

/// What a credential opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A full admin key.
    Admin,
    /// An admin key that was revoked: 401.
    Revoked,
    /// A project key where an admin key is wanted: 401.
    ProjectKey,
    /// An admin key without the scopes: this status (401 and 403 are both seen), and the envelope
    /// whose `error` is a bare string.
    MissingScopes {
        /// The HTTP status of the refusal.
        status: u16,
    },
}

/// What an admin key may lack the scopes for, while the rest is open to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// The admin listing and its look-ups.
    AdminKeys,
    /// The projects and their keys.
    Projects,
    /// The keys of the projects alone.
    ProjectKeys,
    /// The audit log.
    AuditLogs,
}

impl Area {
    /// The ones that an endpoint belongs to.
    pub(super) fn of(endpoint: Endpoint) -> &'static [Self] {
        match endpoint {
            Endpoint::List | Endpoint::Retrieve => &[Self::AdminKeys],
            Endpoint::Projects | Endpoint::Project => &[Self::Projects],
            Endpoint::ProjectKeys | Endpoint::ProjectKey => &[Self::Projects, Self::ProjectKeys],
            Endpoint::AuditLogs => &[Self::AuditLogs],
            Endpoint::Unknown => &[],
        }
    }

    fn missing_scopes(self) -> &'static str {
        match self {
            Self::AuditLogs => MISSING_AUDIT_SCOPES,
            Self::AdminKeys | Self::Projects | Self::ProjectKeys => MISSING_SCOPES,
        }
    }
}

/// A secret that the organization knows.
#[derive(Clone)]
pub(super) struct Credential {
    pub(super) secret: String,
    pub(super) access: Access,
    /// The key of the listing that this secret belongs to.
    pub(super) key_id: Option<Arc<str>>,
    /// What it is refused all the same, and with which status.
    pub(super) refused: Vec<(Area, u16)>,
}

impl Credential {
    pub(super) fn refusal(&self, area: Area) -> Option<Refusal> {
        let (_, status) = self.refused.iter().find(|(refused, _)| *refused == area)?;
        Some(Refusal::bare(*status, area.missing_scopes()))
    }
}

/// Shows everything but the secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("secret", &"***")
            .field("access", &self.access)
            .field("key_id", &self.key_id)
            .field("refused", &self.refused)
            .finish()
    }
}

pub(super) const NO_KEY: &str = "You didn't provide an API key. You need to provide your API key \
    in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY). You can \
    obtain an API key from https://platform.openai.com/account/api-keys.";

pub(super) const PROJECT_KEY: &str = "This endpoint requires an admin API key, and the key provided is a project API key. You can \
     create an admin API key at https://platform.openai.com/settings/organization/admin-keys.";

pub(super) const MISSING_SCOPES: &str = "You have insufficient permissions for this operation. \
    Missing scopes: api.management.read. Check that you have the correct role in your \
    organization (Reader, Writer, Owner), and if you're using a restricted API key, that it has \
    the necessary scopes.";

pub(super) const MISSING_AUDIT_SCOPES: &str = "You have insufficient permissions for this operation. \
    Missing scopes: api.audit_logs.read. Check that you have the correct role in your \
    organization (Reader, Writer, Owner), and if you're using a restricted API key, that it has \
    the necessary scopes.";

pub(super) const OTHER_ORGANIZATION: &str =
    "OpenAI-Organization header should match organization for API key";

/// As the API words it: the key's ends, stars between.
pub(super) fn incorrect_key(secret: &str) -> String {
    let characters: Vec<char> = secret.chars().collect();
    let shown = if characters.len() > 16 {
        let head: String = characters[..8].iter().collect();
        let tail: String = characters[characters.len() - 4..].iter().collect();
        format!("{head}{}{tail}", "*".repeat(characters.len() - 12))
    } else {
        "*".repeat(characters.len())
    };
    format!(
        "Incorrect API key provided: {shown}. You can find your API key at \
         https://platform.openai.com/account/api-keys."
    )
}
