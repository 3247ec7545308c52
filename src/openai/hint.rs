//! What the operator can do about an error of the API.

use super::error::Error;
use super::subject::Subject;

impl Error {
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
            Self::MissingScopes { at, scopes, .. } => return Some(lack(&at.subject, scopes)),
            Self::Unauthorized { at, .. } => return Some(refused(&at.subject)),
            Self::Forbidden { at, .. } => return Some(forbidden(&at.subject)),
            Self::AccessFilterRefused { .. } => {
                "check the base URL: a gateway in front of the API may not know this parameter; \
                 without it, keys whose owner has no access to the project could stay unseen"
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
            Self::Refused { at, status: 404, .. } if at.subject.is_page_of_organization() => {
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

/// What the advice for a key with too few rights always ends in.
const NEW_KEY: &str = "create a new admin key with read-only permission and use that: \
                       editing the scopes of an existing key often does not take";

fn lack(subject: &Subject, scopes: &[String]) -> String {
    let quoted: Vec<String> = scopes.iter().map(|scope| format!("`{scope}`")).collect();
    match what_needs_it(subject) {
        Some(what) => format!("{what} needs {}: {NEW_KEY}", quoted.join(", ")),
        None => NEW_KEY.to_owned(),
    }
}

fn refused(subject: &Subject) -> String {
    let cause = match what_needs_it(subject) {
        Some(what) => format!(
            "{what} needs an admin key with read-only permission (`{}`), and this credential is none, \
             or it was revoked",
            scope(subject)
        ),
        None => {
            "the credential is not an admin key of the organization, or it was revoked".to_owned()
        }
    };
    format!(
        "{cause}: owners make new ones at https://platform.openai.com/settings/organization/admin-keys"
    )
}

fn forbidden(subject: &Subject) -> String {
    match subject {
        Subject::AuditLog(_) => format!(
            "the audit log is there only where an owner has turned audit logging on, for an admin key \
             with read-only permission (`{}`)",
            scope(subject)
        ),
        _ => match what_needs_it(subject) {
            Some(what) => format!(
                "{what} needs an admin key with read-only permission (`{}`), made by an owner of the \
                 organization",
                scope(subject)
            ),
            None => "the credential may not list admin keys: use an admin key with read-only \
                     permission, made by an owner of the organization"
                .to_owned(),
        },
    }
}

/// The scope that the API names when a credential lacks it.
const fn scope(subject: &Subject) -> &'static str {
    match subject {
        Subject::AuditLog(_) => "api.audit_logs.read",
        _ => "api.management.read",
    }
}

/// What, beside listing admin keys, somebody may want a credential to have rights for.
const fn what_needs_it(subject: &Subject) -> Option<&'static str> {
    match subject {
        Subject::AuditLog(_) => Some("reading the audit log"),
        _ if subject.is_about_projects() => Some("reading projects and their keys"),
        _ => None,
    }
}
