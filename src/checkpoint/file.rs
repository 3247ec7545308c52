//! The checkpoint file: notes one after the other, only ever appended to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::given_up::GivenUp;
use crate::audit::{Note, NoteReader, Place, VerifyingKey};
use crate::clock::Timestamp;
use crate::store::leave_to_owner;

/// Of most files that is enough to find each organization's newest checkpoint.
///
/// Large, so that nobody hides the newest ones behind copies of old ones without it being seen: of a file as
/// most have it, it is all.
const TAIL_BYTES: u64 = 4 << 20;
/// A longer line is taken for several: none of a checkpoint is as long.
const LINE_BYTES: u64 = 4 * 1024;

/// The newest checkpoints in a file.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// Of one database, by organization, without those that were given up.
    pub(super) ours: BTreeMap<String, Note>,
    /// The organizations that have any, given up or not.
    pub(super) known: BTreeSet<String>,
    /// Of whatever database.
    pub(super) any: Option<Note>,
}

/// Which checkpoints are looked for.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    pub(super) database: &'a str,
    /// Those of the organizations that have to be found.
    pub(super) origins: &'a [String],
    /// What is not signed by it counts only where nothing is.
    pub(super) key: Option<&'a VerifyingKey>,
    pub(super) given_up: Option<&'a GivenUp>,
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

/// The newest checkpoints: from the end of the file, unless one of an organization is not there.
pub(super) fn read_newest(path: &Path, wanted: &Wanted<'_>) -> io::Result<Newest> {
    let Some(mut file) = open(path)? else { return Ok(Newest::default()) };
    let bytes = file.metadata()?.len();
    if bytes > TAIL_BYTES {
        file.seek(SeekFrom::Start(bytes - TAIL_BYTES))?;
        let mut candidates = Candidates::default();
        scan(&file, NoteReader::in_the_middle(), |note| candidates.take(note, wanted))?;
        let is_there = |origin| candidates.is_settled(origin, wanted);
        if wanted.origins.iter().all(is_there) {
            return Ok(candidates.choose(wanted));
        }
        file.rewind()?;
    }
    let mut candidates = Candidates::default();
    scan(&file, NoteReader::default(), |note| candidates.take(note, wanted))?;
    Ok(candidates.choose(wanted))
}

/// The newest one of whatever database.
pub(super) fn read_any(path: &Path) -> io::Result<Option<Note>> {
    read_newest(path, &Wanted::default()).map(|newest| newest.any)
}

/// What may be the newest of each organization.
#[derive(Debug, Default)]
struct Candidates {
    known: BTreeSet<String>,
    /// Those that say to be signed by the key. Checking it is left for the few that matter.
    signed: BTreeMap<String, Vec<Note>>,
    /// Of the others the newest.
    unsigned: BTreeMap<String, Note>,
    any: Option<Note>,
}

/// What comes later has the higher place: in one chain that is so, and what another one left behind was given
/// up.
fn age(note: &Note) -> (Place, Timestamp) {
    (note.checkpoint.place, note.checkpoint.time)
}

impl Candidates {
    fn take(&mut self, note: Note, wanted: &Wanted<'_>) {
        let checkpoint = &note.checkpoint;
        if checkpoint.database != wanted.database {
            self.any = Some(note);
            return;
        }
        self.known.insert(checkpoint.origin.clone());
        if wanted.given_up.is_some_and(|given_up| given_up.has(checkpoint)) {
            return;
        }
        let origin = checkpoint.origin.clone();
        if wanted.key.is_some_and(|key| note.names(key)) {
            self.signed.entry(origin).or_default().push(note);
        } else {
            self.take_unsigned(origin, note);
        }
    }

    fn take_unsigned(&mut self, origin: String, note: Note) {
        match self.unsigned.get(&origin) {
            Some(known) if age(known) > age(&note) => {}
            _ => drop(self.unsigned.insert(origin, note)),
        }
    }

    /// Whether what stands before cannot matter: it is not as new.
    fn is_settled(&self, origin: &String, wanted: &Wanted<'_>) -> bool {
        let is_signed = |note: &Note| wanted.key.is_some_and(|key| note.is_signed_by(key));
        match wanted.key {
            Some(_) => self.signed.get(origin).is_some_and(|notes| notes.iter().any(is_signed)),
            None => self.unsigned.contains_key(origin),
        }
    }

    fn choose(mut self, wanted: &Wanted<'_>) -> Newest {
        let mut ours = BTreeMap::new();
        for (origin, mut notes) in std::mem::take(&mut self.signed) {
            notes.sort_by_key(age);
            let is_signed = |note: &Note| wanted.key.is_some_and(|key| note.is_signed_by(key));
            match notes.iter().rposition(is_signed) {
                Some(newest) => drop(ours.insert(origin, notes.swap_remove(newest))),
                // They only said so.
                None => notes.into_iter().for_each(|note| self.take_unsigned(origin.clone(), note)),
            }
        }
        for (origin, note) in self.unsigned {
            ours.entry(origin).or_insert(note);
        }
        Newest { ours, known: self.known, any: self.any }
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
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            Err(io::Error::other("it is a symbolic link"))
        }
        Err(error) => Err(error),
    }
}
