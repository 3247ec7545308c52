//! The credential: where it comes from, reading it, and keeping it from being seen.
//!
//! A source is resolved from settings that were read once; it is read anew for each run, so that a
//! rotated key needs no restart. Our copies are wiped when they go. Those that the HTTP and TLS
//! libraries make, and the process's own environment block, are not ours to wipe.

mod credential;
mod source;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crate::config::OrgName;

pub use credential::Credential;
pub(crate) use source::read_file;
pub use source::{CredentialSource, CredentialSources, KeyFile};

const KEY_VARIABLE: &str = "OPENAI_ADMIN_KEY";
const FILE_VARIABLE: &str = "OPENAI_ADMIN_KEY_FILE";
const SYSTEMD_NAME: &str = "openai-admin-key";

/// Why there is no credential. A part of one is never in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no credential for organization `{organization}`")]
    NotConfigured { organization: OrgName },
    /// `place` is an unnamed source, with more than one organization that it could be for.
    #[error(
        "{place} serves a single organization, but {} lack a credential of their own",
        names(organizations)
    )]
    Ambiguous { place: String, organizations: Vec<OrgName> },
    #[error("`{FILE_VARIABLE}` holds a credential, not the path of a file")]
    KeyInsteadOfPath,
    #[error("could not read the credential file `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the credential file `{}` is {what}, not a regular file", path.display())]
    NotAFile { path: PathBuf, what: &'static str },
    #[error("the credential file `{}` is larger than 64 KiB", path.display())]
    TooLarge { path: PathBuf },
    #[error("the credential file `{}` can be read by every user (mode {mode:03o})", path.display())]
    WorldReadable { path: PathBuf, mode: u32 },
    /// `fault` completes "the credential …".
    #[error("the credential in {place} {fault}")]
    Malformed { place: String, fault: &'static str },
    #[error("the credential in {place} is {kind}, not an admin key")]
    WrongKind { place: String, kind: &'static str },
}

impl Error {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotConfigured { organization } => format!(
                "set `organizations.{organization}.admin_key_file`, {FILE_VARIABLE} or \
                 {KEY_VARIABLE}, or give the systemd credential `{SYSTEMD_NAME}.{organization}` \
                 or `{SYSTEMD_NAME}`"
            ),
            Self::Ambiguous { .. } => {
                format!("set `admin_key_file` of each, or name the systemd credentials `{SYSTEMD_NAME}.NAME`")
            }
            Self::KeyInsteadOfPath => {
                format!("set {KEY_VARIABLE} to the key, or {FILE_VARIABLE} to a file that holds it")
            }
            Self::Unreadable { path, source } => unreadable_hint(path, source)?,
            Self::NotAFile { .. } => "name a file that can be read again for each run".to_owned(),
            Self::WorldReadable { path, .. } => format!("run `chmod 600 {}`", path.display()),
            Self::TooLarge { .. } | Self::Malformed { .. } => {
                "it must be the admin key alone, on one line".to_owned()
            }
            Self::WrongKind { .. } => "an owner of the organization can create an admin key, with \
                read-only permission, at https://platform.openai.com/settings/organization/admin-keys"
                .to_owned(),
        };
        Some(text)
    }
}

fn unreadable_hint(path: &Path, error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Some("write the admin key into it, with mode 600, or correct the path".to_owned())
        }
        io::ErrorKind::PermissionDenied => Some(format!(
            "make `{}` readable for the user that runs keydrift, and for no other",
            path.display()
        )),
        _ => None,
    }
}

fn names(organizations: &[OrgName]) -> String {
    let quoted: Vec<String> = organizations.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Makes the kernel write no core dump of this process, and let no other process of the same user
/// look into its memory.
pub fn forbid_core_dumps() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
