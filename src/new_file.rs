//! A file that appears whole, or not at all, and never in the place of another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file on its way. Dropped before [`NewFile::keep`], nothing is left of it.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    partial: PathBuf,
    target: PathBuf,
}

impl NewFile {
    /// Begins a file that the group may read. One that is there already is an error.
    pub fn create(target: &Path) -> io::Result<Self> {
        if target.symlink_metadata().is_ok() {
            return Err(occupied());
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = target.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&partial)?;
        Ok(Self { file, partial, target: target.to_owned() })
    }

    /// Gives it its name, and how many bytes it has. From here on it is on the disk.
    pub fn keep(self) -> io::Result<u64> {
        self.file.sync_all()?;
        // Unlike a renaming, this never takes the place of another file.
        fs::hard_link(&self.partial, &self.target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => occupied(),
            _ => error,
        })?;
        let directory = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        Ok(self.file.metadata()?.len())
    }
}

fn occupied() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "it is there already: name a file that is not")
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Once it has its own name, it needs this one no more.
        fs::remove_file(&self.partial).ok();
    }
}
