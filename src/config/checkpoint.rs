//! Where checkpoints go, and what signs them.

use std::path::{Path, PathBuf};

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
        Self {
            path,
            key_file: reader.path(&settings::CHECKPOINT_KEY_FILE),
            credentials: environment.get("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }
}
