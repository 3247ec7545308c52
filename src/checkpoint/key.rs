//! The key that signs checkpoints: making one, and reading it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::audit::{KeyFault, SigningKey, VerifyingKey};
use crate::config::CheckpointSettings;
use crate::secret;

/// The systemd credential.
const CREDENTIAL: &str = "checkpoint-key";

/// Why there is no key to sign with. A part of one is never in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the signing key `{}` cannot be used: {fault}", .path.display())]
    Fault { path: PathBuf, fault: KeyFault },
    #[error("the signing key `{}` cannot be read: {what}", .path.display())]
    Unreadable { path: PathBuf, what: String },
    #[error("the signing key `{}` can be read by every user (mode {mode:03o})", .path.display())]
    WorldReadable { path: PathBuf, mode: u32 },
    #[error("`{}` is there already", .path.display())]
    Occupied { path: PathBuf },
    #[error("the key name `{name}` cannot be used: {fault}")]
    Name { name: String, fault: KeyFault },
    #[error("the signing key could not be written to `{}`", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

impl KeyError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Fault { .. } | Self::Unreadable { .. } => {
                "`keydrift checkpoint keygen FILE` makes one; the setting is `checkpoint.key_file`"
                    .to_owned()
            }
            Self::WorldReadable { path, .. } => format!("run `chmod 600 {}`", path.display()),
            Self::Occupied { .. } => {
                "name a file that is not there yet: a key never takes the place of another"
                    .to_owned()
            }
            Self::Name { .. } => "leave out white space and `+`".to_owned(),
            Self::Unwritable { path, .. } => {
                format!("make the directory of `{}` writable for this user", path.display())
            }
        }
    }
}

/// The key that signs, if one is configured.
pub fn load(settings: &CheckpointSettings) -> Result<Option<SigningKey>, KeyError> {
    let in_credentials = |path: &Path| {
        settings.credentials.as_ref().is_some_and(|directory| path.starts_with(directory))
    };
    let path = settings.key_file.clone().or_else(|| {
        let path = settings.credentials.as_ref()?.join(CREDENTIAL);
        // One that cannot be looked at is there.
        path.try_exists().unwrap_or(true).then_some(path)
    });
    let Some(path) = path else { return Ok(None) };
    let bytes = match secret::read_file(&path, !in_credentials(&path)) {
        Ok(bytes) => bytes,
        Err(secret::Error::WorldReadable { path, mode }) => {
            return Err(KeyError::WorldReadable { path, mode });
        }
        Err(secret::Error::Unreadable { path, source }) => {
            return Err(KeyError::Unreadable { path, what: source.to_string() });
        }
        Err(secret::Error::NotAFile { path, what }) => {
            return Err(KeyError::Unreadable { path, what: format!("it is {what}") });
        }
        Err(_) => return Err(KeyError::Unreadable { path, what: "it is too large".to_owned() }),
    };
    let text = str::from_utf8(&bytes).unwrap_or_default().trim_ascii();
    SigningKey::parse(text).map(Some).map_err(|fault| KeyError::Fault { path, fault })
}

/// Makes a new key in a new file that only its owner can read, and gives its public half.
pub fn generate(path: &Path, name: &str) -> Result<VerifyingKey, KeyError> {
    let unwritable = |source| KeyError::Unwritable { path: path.to_owned(), source };
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(&mut *seed)
        .map_err(|_| unwritable(io::Error::other("the system gives no random numbers")))?;
    let key = SigningKey::new(name, seed)
        .map_err(|fault| KeyError::Name { name: name.to_owned(), fault })?;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = created.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Occupied { path: path.to_owned() },
        _ => unwritable(source),
    })?;
    let mut text = key.expose();
    text.push('\n');
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable)?;
    Ok(key.public().clone())
}
