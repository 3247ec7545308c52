//! Where checkpoints go, and what signs them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::Problem;
use super::read::{self, Reader};
use super::{Environment, settings};

/// Where checkpoints go, and what signs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSettings {
    pub path: PathBuf,
    pub key_file: Option<PathBuf>,
    /// Where systemd puts credentials.
    pub credentials: Option<PathBuf>,
}

impl CheckpointSettings {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        database: &Path,
        environment: &Environment,
    ) -> Self {
        let known = reader.problems.len();
        let path = reader.path(&settings::CHECKPOINT_PATH).unwrap_or_else(|| {
            let mut beside = database.as_os_str().to_owned();
            beside.push(".checkpoints");
            let beside = PathBuf::from(beside);
            if reader.problems.len() == known {
                // `path` has noted that none is set.
                reader.effective.pop();
                let key = reader.full_key(&settings::CHECKPOINT_PATH);
                reader.note(key, beside.display().to_string(), read::DEFAULT);
            }
            beside
        });
        if belongs_to(database, &path) {
            let key = reader.full_key(&settings::CHECKPOINT_PATH);
            reader.problems.push(Problem::Taken { key });
        }
        Self {
            path,
            key_file: reader.path(&settings::CHECKPOINT_KEY_FILE),
            credentials: environment.get("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }
}

/// Whether a file is the database, or one that is written beside it.
fn belongs_to(database: &Path, file: &Path) -> bool {
    ["", "-wal", "-shm", "-journal", ".lock"].into_iter().any(|suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        is_same(Path::new(&name), file)
    })
}

/// By name, as far as the directories are there; or because both are one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let full = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new(".")).canonicalize().ok()?;
        Some(parent.join(path.file_name()?))
    };
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    one == other
        || full(one).is_some_and(|one| full(other).is_some_and(|other| one == other))
        || identity(one).is_some_and(|one| identity(other) == Some(one))
}
