//! Where a credential comes from, and reading it there.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Credential, Error, FILE_VARIABLE, KEY_VARIABLE, SYSTEMD_NAME};
use crate::config::{Environment, OrgName, looks_like_credential};

const MAX_BYTES: usize = 64 * 1024;

/// A file named by `admin_key_file`, and where that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    pub path: PathBuf,
    pub origin: String,
}

/// Everything that a credential can come from.
#[derive(Clone)]
pub struct CredentialSources {
    organizations: Vec<(OrgName, Option<KeyFile>)>,
    environment: Environment,
}

impl fmt::Debug for CredentialSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSources")
            .field("organizations", &self.organizations)
            .finish_non_exhaustive()
    }
}

impl CredentialSources {
    /// All organizations, with the `admin_key_file` of each that has one.
    #[must_use]
    pub fn new(organizations: Vec<(OrgName, Option<KeyFile>)>, environment: &Environment) -> Self {
        const USED: [&str; 3] = ["CREDENTIALS_DIRECTORY", FILE_VARIABLE, KEY_VARIABLE];
        let used = USED.iter().filter_map(|name| Some((name, environment.get(name)?)));
        Self { organizations, environment: used.collect() }
    }

    /// Where the credential of an organization comes from. Looks which systemd credentials exist,
    /// and reads nothing.
    pub fn resolve(&self, organization: &OrgName) -> Result<CredentialSource, Error> {
        if let Some(own) = self.own(organization) {
            return Ok(own);
        }
        let unnamed = self
            .unnamed()
            .ok_or_else(|| Error::NotConfigured { organization: organization.clone() })?;
        let lacking: Vec<OrgName> = self
            .organizations
            .iter()
            .map(|(name, _)| name)
            .filter(|name| self.own(name).is_none())
            .cloned()
            .collect();
        if lacking.len() > 1 {
            return Err(Error::Ambiguous { place: unnamed.to_string(), organizations: lacking });
        }
        if matches!(&unnamed.0, Source::File { path, .. } if holds_credential(path)) {
            return Err(Error::KeyInsteadOfPath);
        }
        Ok(unnamed)
    }

    fn own(&self, organization: &OrgName) -> Option<CredentialSource> {
        let entry = self.organizations.iter().find(|(name, _)| name == organization);
        if let Some((_, Some(file))) = entry {
            let (path, origin) = (file.path.clone(), file.origin.clone());
            let private = !self.is_systemd(&path);
            return Some(CredentialSource(Source::File { path, origin, private }));
        }
        self.systemd(&format!("{SYSTEMD_NAME}.{organization}"))
    }

    fn unnamed(&self) -> Option<CredentialSource> {
        if let Some(source) = self.systemd(SYSTEMD_NAME) {
            return Some(source);
        }
        if let Some(path) = self.environment.get(FILE_VARIABLE).map(PathBuf::from) {
            let private = !self.is_systemd(&path);
            let origin = FILE_VARIABLE.to_owned();
            return Some(CredentialSource(Source::File { path, origin, private }));
        }
        let value = self.environment.get(KEY_VARIABLE)?;
        let value = Zeroizing::new(value.as_bytes().to_vec());
        Some(CredentialSource(Source::Variable(value)))
    }

    /// The systemd credential of this name. One that cannot be looked at is there: to pass over it
    /// would be to take another key than was meant.
    fn systemd(&self, name: &str) -> Option<CredentialSource> {
        let path = self.systemd_directory()?.join(name);
        let there = path.try_exists().unwrap_or(true);
        there.then(|| CredentialSource(Source::Systemd { path, name: name.to_owned() }))
    }

    fn systemd_directory(&self) -> Option<&Path> {
        self.environment.get("CREDENTIALS_DIRECTORY").map(Path::new)
    }

    /// systemd guards that directory itself, and gives its files modes of its own.
    fn is_systemd(&self, path: &Path) -> bool {
        self.systemd_directory().is_some_and(|directory| path.starts_with(directory))
    }
}

fn holds_credential(path: &Path) -> bool {
    looks_like_credential(&OsStr::to_string_lossy(path.as_os_str()))
}

/// Where a credential comes from. `Display` and `Debug` show the place, never the value.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialSource(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    /// `private`: refused if every user can read it.
    File {
        path: PathBuf,
        origin: String,
        private: bool,
    },
    Systemd {
        path: PathBuf,
        name: String,
    },
    Variable(Zeroizing<Vec<u8>>),
}

impl CredentialSource {
    /// Reads the credential, anew each time.
    pub fn read(&self) -> Result<Credential, Error> {
        let place = self.to_string();
        match &self.0 {
            Source::File { path, private, .. } => {
                Credential::parse(&read_file(path, *private)?, &place)
            }
            Source::Systemd { path, .. } => {
                Credential::parse(&read_file(path, false)?, &place).map(Credential::copied)
            }
            Source::Variable(value) => Credential::parse(value, &place),
        }
    }

    /// Whether it is a copy that systemd made at start, so that a rotated key needs a restart.
    #[must_use]
    pub fn is_systemd(&self) -> bool {
        matches!(self.0, Source::Systemd { .. } | Source::File { private: false, .. })
    }

    /// Whether the value is fixed until the process ends: a variable.
    #[must_use]
    pub fn is_variable(&self) -> bool {
        matches!(self.0, Source::Variable(_))
    }

    /// What chose this source: `FILE:LINE` of a setting, or a variable.
    #[must_use]
    pub fn origin(&self) -> String {
        match &self.0 {
            Source::File { origin, .. } => origin.clone(),
            Source::Systemd { .. } => "CREDENTIALS_DIRECTORY".to_owned(),
            Source::Variable(_) => KEY_VARIABLE.to_owned(),
        }
    }
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File { path, .. } if holds_credential(path) => write!(f, "`{FILE_VARIABLE}`"),
            Source::File { path, .. } => write!(f, "file `{}`", path.display()),
            Source::Systemd { name, .. } => write!(f, "systemd credential `{name}`"),
            Source::Variable(_) => write!(f, "variable `{KEY_VARIABLE}`"),
        }
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialSource({self})")
    }
}

/// A whole file, in a buffer that is wiped and never grows, because growing leaves copies behind.
pub(crate) fn read_file(path: &Path, private: bool) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    // Looked at before it is opened: to open a FIFO would wait for whoever writes to it, and one
    // could not be read again for the next run.
    refuse_irregular(path, &fs::metadata(path).map_err(unreadable)?)?;
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    refuse_irregular(path, &metadata)?;
    let mode = metadata.permissions().mode() & 0o777;
    if private && mode & 0o004 != 0 {
        return Err(Error::WorldReadable { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1024));
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

fn refuse_irregular(path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
    Err(Error::NotAFile { path: path.to_owned(), what })
}
