//! The checkpoint file: notes one after the other, only ever appended to.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::audit::{Note, NoteReader};
use crate::store::leave_to_owner;

/// Of most files that is enough to find each organization's newest checkpoint.
const TAIL_BYTES: u64 = 64 * 1024;
/// A longer line is taken for several: none of a checkpoint is as long.
const LINE_BYTES: u64 = 4 * 1024;

/// The newest checkpoints in a file.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// Of one database, by organization.
    pub(super) ours: BTreeMap<String, Note>,
    /// Of whatever database.
    pub(super) any: Option<Note>,
}

/// Reads all notes, and gives how much there is that is none.
pub(super) fn scan(
    from: impl Read,
    mut notes: NoteReader,
    mut each: impl FnMut(Note),
) -> io::Result<u64> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        notes.line(line.strip_suffix(b"\n").unwrap_or(&line)).into_iter().for_each(&mut each);
    }
    notes.finish().into_iter().for_each(&mut each);
    Ok(notes.damaged)
}

/// Reads all notes in the file, if there is one.
pub(super) fn read(path: &Path, each: impl FnMut(Note)) -> io::Result<Option<u64>> {
    match open(path)? {
        Some(file) => scan(file, NoteReader::default(), each).map(Some),
        None => Ok(None),
    }
}

/// The newest checkpoints of `database`: from the end of the file, unless one of `origins` is not there.
pub(super) fn read_newest(
    path: &Path,
    database: Option<&str>,
    origins: &[String],
) -> io::Result<Newest> {
    let Some(mut file) = open(path)? else { return Ok(Newest::default()) };
    let bytes = file.metadata()?.len();
    let mut newest = Newest::default();
    if bytes > TAIL_BYTES {
        file.seek(SeekFrom::Start(bytes - TAIL_BYTES))?;
        scan(&file, NoteReader::in_the_middle(), |note| newest.take(note, database))?;
        let found = |origin| newest.ours.contains_key(origin);
        if database.map_or(newest.any.is_some(), |_| origins.iter().all(found)) {
            return Ok(newest);
        }
        newest = Newest::default();
        file.rewind()?;
    }
    scan(&file, NoteReader::default(), |note| newest.take(note, database))?;
    Ok(newest)
}

impl Newest {
    fn take(&mut self, note: Note, database: Option<&str>) {
        if database.is_some_and(|database| database == note.checkpoint.database) {
            self.ours.insert(note.checkpoint.origin.clone(), note);
        } else {
            self.any = Some(note);
        }
    }
}

/// Appends notes, and gives whether the end of the file had to be mended first: a crash may have cut off
/// the last note.
pub(super) fn append(path: &Path, notes: &[Note]) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    // Whoever may write in the directory could make it point to any file of ours.
    options.read(true).append(true).mode(0o640).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let (mut file, is_new) = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (options.create(true).open(path)?, true)
        }
        opened => (opened?, false),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    leave_to_owner(&file, path);
    let mend = missing_end(&file, metadata.len())?;
    let mut text = mend.to_owned();
    text.extend(notes.iter().map(Note::with_empty_line));
    // In one piece. What is written when this fails half-way is mended by the next one.
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    if is_new {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    }
    Ok(!mend.is_empty())
}

/// What the file needs so that the next note begins behind an empty line.
fn missing_end(file: &File, bytes: u64) -> io::Result<&'static str> {
    let mut end = [b'\n'; 2];
    let known = bytes.min(2);
    let at = usize::try_from(2 - known).unwrap_or(0);
    file.read_exact_at(&mut end[at..], bytes - known)?;
    Ok(match end {
        [b'\n', b'\n'] => "",
        [_, b'\n'] => "\n",
        _ => "\n\n",
    })
}

fn open(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    // Without waiting for who writes to a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match options.read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) if !file.metadata()?.is_file() => {
            Err(io::Error::other("it is not a regular file"))
        }
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
