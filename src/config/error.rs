//! What can be wrong with a configuration, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::settings;

/// Why there are no valid settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not read the configuration file `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the configuration file `{}` is larger than 1 MiB", path.display())]
    TooLarge { path: PathBuf },
    #[error("the configuration file `{}` is not UTF-8: line {line}, column {column}", path.display())]
    NotUtf8 { path: PathBuf, line: usize, column: usize },
    /// `message` is the parser's word on the place, without the text that stands there.
    #[error("the configuration file `{}` is not TOML: line {line}, column {column}: {message}", path.display())]
    Syntax { path: PathBuf, line: usize, column: usize, message: String },
    /// All that was found: unknown names first, then wrong values.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
    /// The layers did not merge: not known to happen.
    #[error("could not merge the configuration's layers")]
    Merge(#[source] config::ConfigError),
}

/// One thing wrong in an otherwise readable configuration.
///
/// A value is never part of it: it may be a credential in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// `name` is the section, the full key or the variable.
    Unknown {
        kind: &'static str,
        name: String,
        origin: String,
        advice: String,
    },
    /// `must` completes "`key` must …".
    Invalid {
        key: String,
        origin: String,
        must: String,
    },
    OrganizationName {
        name: String,
        origin: String,
    },
    /// A credential, or a setting for one, where none belongs.
    Credential {
        key: String,
        origin: String,
        file_key: String,
    },
    Unreadable {
        key: String,
        origin: String,
        path: PathBuf,
        reason: String,
    },
    NoDatabasePath,
    /// What the database needs for itself.
    Taken {
        key: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { kind, name, origin, .. } if name == origin => {
                write!(f, "unknown {kind} `{name}`")
            }
            Self::Unknown { kind, name, origin, .. } => {
                write!(f, "unknown {kind} `{name}` (in `{origin}`)")
            }
            Self::Invalid { key, origin, must } => {
                write!(f, "`{key}` must {must} (set by `{origin}`)")
            }
            Self::OrganizationName { name, origin } => write!(
                f,
                "`{name}` is not a name for an organization: it must begin with a-z or 0-9 and \
                 hold only a-z, 0-9, `_` and `-`, 63 at most (set by `{origin}`)"
            ),
            Self::Credential { key, origin, .. } if key == origin => {
                write!(f, "`{key}` holds a credential, which has no place there")
            }
            Self::Credential { key, origin, .. } => {
                write!(
                    f,
                    "`{key}` holds a credential, which has no place there (set by `{origin}`)"
                )
            }
            Self::Unreadable { key, origin, path, reason } => {
                write!(f, "`{key}` (set by `{origin}`): `{}` {reason}", path.display())
            }
            Self::NoDatabasePath => f.write_str("there is no directory for the database"),
            Self::Taken { key } => {
                write!(f, "`{key}` is the database itself, or one of the files that belong to it")
            }
        }
    }
}

impl Problem {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { advice, .. } => Some(advice.clone()),
            Self::Credential { file_key, .. } => Some(format!(
                "write the admin key into a file of mode 600 and set `{file_key}` to its path"
            )),
            Self::NoDatabasePath => Some(format!(
                "pass `--database FILE`, or set `{}` or HOME",
                settings::variable("database.path")
            )),
            Self::Taken { .. } => Some(
                "leave it out, for a file beside the database, or name a file of its own"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl Error {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    Some("check the path given with `--config` or KEYDRIFT_CONFIG".to_owned())
                }
                io::ErrorKind::PermissionDenied => Some(
                    "run as a user who may read it, or name another file with `--config`"
                        .to_owned(),
                ),
                _ => Some("name a TOML file with `--config` or KEYDRIFT_CONFIG".to_owned()),
            },
            // With more problems, each has its hint beside it.
            Self::Invalid(problems) if problems.len() == 1 => problems[0].hint(),
            _ => None,
        }
    }

    /// The problems of a readable file and its environment; none for the other errors.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(problems) => problems,
            _ => &[],
        }
    }
}

fn list(problems: &[Problem]) -> String {
    if let [only] = problems {
        return only.to_string();
    }
    let mut text = format!("the configuration has {} problems:", problems.len());
    for problem in problems {
        text.push_str("\n  - ");
        text.push_str(&problem.to_string());
        if let Some(hint) = problem.hint() {
            text.push_str("; ");
            text.push_str(&hint);
        }
    }
    text
}

/// A name that somebody else chose, fit to be shown: short, on one line, and no credential.
pub(super) fn label(name: &str) -> String {
    const LONGEST: usize = 80;
    if name.to_lowercase().contains("sk-") {
        return "***".to_owned();
    }
    let mut shown: String = name.chars().take(LONGEST).collect::<String>().escape_debug().collect();
    if name.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
