//! The configuration file as text, and where in it something stands.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::Error;

const MAX_BYTES: u64 = 1 << 20;

/// A file that was read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Reads `path`. Where it is not `required` it need not exist, but if it does it must be readable:
/// to pass over it would be to work with other settings than were meant.
pub(super) fn open(path: &Path, required: bool) -> Result<Option<Document>, Error> {
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) if !required && is_absent(&error) => return Ok(None),
        Err(source) => {
            return Err(Error::Unreadable { path: path.to_owned(), source });
        }
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(error.as_bytes(), error.utf8_error().valid_up_to());
        Error::NotUtf8 { path: path.to_owned(), line, column }
    })?;
    Ok(Some(Document { path: path.to_owned(), text }))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Document {
    /// The directory that relative paths in the file start from.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// `FILE:LINE` of a byte of the text.
    pub(super) fn origin(&self, offset: usize) -> String {
        let (line, _) = position(self.text.as_bytes(), offset);
        format!("{}:{line}", self.path.display())
    }

    /// The parser's error without its rendering, which repeats the line and so maybe a credential.
    pub(super) fn syntax_error(&self, error: &toml::de::Error) -> Error {
        let offset = error.span().map_or(0, |span| span.start);
        let (line, column) = position(self.text.as_bytes(), offset);
        let message = error.message().lines().next().unwrap_or_default().to_owned();
        Error::Syntax { path: self.path.clone(), line, column, message }
    }
}

/// Line and column (in characters), both from 1.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = before.split(|byte| *byte == b'\n').count();
    (line, 1 + String::from_utf8_lossy(&before[start..]).chars().count())
}
