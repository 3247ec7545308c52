//! Space for what a run sets aside: in memory as long as it is little, then in a file beside the database.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tempfile::SpooledTempFile;

use crate::inventory::Medium;

/// As much is kept in memory: the keys of most organizations.
const MEMORY_BYTES: usize = 8 * 1024 * 1024;

/// A file without a name, which is gone with the process that made it.
pub(super) struct Scratch(Mutex<SpooledTempFile>);

impl Scratch {
    /// Beside the database at `path`, as that may be the only place where the process may write.
    pub(super) fn beside(path: &Path) -> Self {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        Self(Mutex::new(tempfile::spooled_tempfile_in(MEMORY_BYTES, directory)))
    }
}

impl Medium for Scratch {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::End(0))?;
        file.write_all(bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}
