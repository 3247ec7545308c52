//! One process at a time syncs into a database.
//!
//! The lock is on a file beside the database and is the kernel's, so that it goes with the process that
//! holds it, however that ends. What the file says is a note for others: who holds the lock, and which runs
//! are in hand. A run that it still names when the lock is free was killed, or its row could not be written:
//! the next holder records it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::open::leave_to_owner;
use crate::clock::Timestamp;
use crate::run::{Status, Tally, Trigger};

/// The note always has this size, so that writing it needs no space on the disk once it is there. Enough
/// for a hundred runs, in hand or owed.
const NOTE_BYTES: usize = 64 * 1024;
/// As many organizations are named to who waits.
const MOST_NAMED: usize = 3;
/// As many links in a row as Linux follows.
const LINKS: u8 = 40;
/// Notices of one run in the note.
pub(super) const MOST_NOTICES: usize = 4;
const POLL: Duration = Duration::from_millis(50);

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    path: PathBuf,
    note: Note,
}

/// What a holder of the lock writes for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pid: u32,
    /// The run in hand, where only one could be: read, but no longer written.
    #[serde(default, skip_serializing)]
    run: Option<RunNote>,
    /// Those in hand, in the order in which they began.
    #[serde(default)]
    runs: Vec<RunNote>,
    /// Runs that ended, or were ended, without a row in the history, oldest first.
    #[serde(default)]
    owed: Vec<RunNote>,
}

/// A run in hand, or one that is owed to the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunNote {
    pub organization: String,
    pub trigger: Trigger,
    /// Unix seconds.
    pub started_at: i64,
    /// Names the run, in the database too.
    pub token: i64,
    /// How it ended, where that could not be recorded.
    pub owed: Option<Owed>,
    /// What its row is to say beside that: slots missed before it, for instance.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Ticks that passed while it had to wait.
    #[serde(default)]
    pub skipped: u64,
}

/// The end of a run that could not be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    pub status: Status,
    /// Unix seconds.
    pub finished_at: i64,
    pub tally: Tally,
    pub error: String,
    /// Until when the API asked to be left alone; Unix seconds.
    #[serde(default)]
    pub deferred_until: Option<i64>,
    /// Later runs that this one stands for, because the note had no room for each.
    #[serde(default)]
    pub further: u64,
}

impl RunNote {
    /// How it ended, as far as is known.
    pub(super) fn end(&self) -> Owed {
        self.owed.clone().unwrap_or_else(|| Owed {
            status: Status::Failed,
            finished_at: self.started_at,
            tally: Tally { skipped: self.skipped, ..Tally::default() },
            error: "interrupted: the process ended before the run did".to_owned(),
            deferred_until: None,
            further: 0,
        })
    }

    /// Lets this run stand for a later one, too.
    fn take_in(&mut self, later: &Self) {
        let (first, last) = (self.end(), later.end());
        self.owed = Some(Owed {
            status: if first.status == Status::Held { first.status } else { last.status },
            tally: first.tally.plus(last.tally),
            further: first.further + 1 + last.further,
            ..last
        });
        for notice in &later.notices {
            if self.notices.len() < MOST_NOTICES && !self.notices.contains(notice) {
                self.notices.push(notice.clone());
            }
        }
    }
}

impl Note {
    fn in_hand(&self) -> impl Iterator<Item = &RunNote> {
        self.run.iter().chain(&self.runs)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        let Some(began) = self.in_hand().map(|run| run.started_at).min() else { return Ok(()) };
        let names: Vec<String> =
            self.in_hand().map(|run| format!("`{}`", run.organization)).collect();
        match names.as_slice() {
            [] => {}
            [name] => write!(f, " (a sync of {name}")?,
            [names @ .., last] if names.len() < MOST_NAMED => {
                write!(f, " (syncs of {} and {last}", names.join(", "))?;
            }
            names => {
                let (first, further) = names.split_at(MOST_NAMED);
                write!(f, " (syncs of {} and {} more", first.join(", "), further.len())?;
            }
        }
        match Timestamp::from_unix(began) {
            Some(began) => write!(f, " since {began})"),
            None => f.write_str(")"),
        }
    }
}

impl RunLock {
    /// The file that is locked for the database at `database`. Links are followed, so that all names of
    /// one database have one lock.
    fn path_for(database: &Path) -> PathBuf {
        let mut name = real_path(database, LINKS).into_os_string();
        name.push(".lock");
        PathBuf::from(name)
    }

    /// Takes the lock for the database at `database`, waiting up to `wait` for another process, whose
    /// description `on_wait` gets once.
    pub async fn acquire(
        database: &Path,
        wait: Duration,
        mut on_wait: impl FnMut(&str),
    ) -> Result<Self, Error> {
        let path = Self::path_for(database);
        let unusable = |source: io::Error| {
            let database = database.to_owned();
            match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Error::ReadOnly { path: database }
                }
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    Error::CannotOpen { path: database, source }
                }
                io::ErrorKind::StorageFull => Error::Full { path: database },
                _ => Error::LockFile { path: path.clone(), source },
            }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o640);
        // Whoever may write in the directory could make it point to any file of ours.
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = match options.open(&path) {
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(Error::NotALock { path });
            }
            opened => opened.map_err(unusable)?,
        };
        if !is_ours(&file).map_err(unusable)? {
            return Err(Error::NotALock { path: path.clone() });
        }
        leave_to_owner(&file, &path);
        let give_up = tokio::time::Instant::now() + wait;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    let lock = Self::hold(file, path.clone());
                    lock.write_note().map_err(unusable)?;
                    return Ok(lock);
                }
                Err(TryLockError::Error(source)) => return Err(unusable(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            let holder = match read_note(&file) {
                Ok(Some(note)) => note.to_string(),
                _ => "another process".to_owned(),
            };
            if tokio::time::Instant::now() >= give_up {
                return Err(Error::Held { path: database.to_owned(), holder });
            }
            if !told {
                on_wait(&holder);
                told = true;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The lock just taken. Runs that the holder before had in hand were killed with it; a note that
    /// can't be read tells of none.
    fn hold(file: File, path: PathBuf) -> Self {
        let left = read_note(&file).ok().flatten();
        let owed = left.map_or_else(Vec::new, |note| {
            note.owed.into_iter().chain(note.run).chain(note.runs).collect()
        });
        let note = Note { pid: std::process::id(), run: None, runs: Vec::new(), owed };
        Self { file, path, note }
    }

    /// Until when runs that are still owed account for their organizations.
    pub(super) fn owed_until(&self) -> BTreeMap<String, Timestamp> {
        let mut until: BTreeMap<String, Timestamp> = BTreeMap::new();
        for run in &self.note.owed {
            if let Some(at) = Timestamp::from_unix(run.end().finished_at) {
                let known = until.entry(run.organization.clone()).or_insert(at);
                *known = at.max(*known);
            }
        }
        until
    }

    /// The oldest run that is without an end in the history, those in hand apart.
    pub(super) fn leftover(&self) -> Option<RunNote> {
        self.note.owed.first().cloned()
    }

    /// Says that a run is in hand. One of the same organization that is in hand already never ended.
    pub(super) fn begin(&mut self, run: RunNote) -> Result<(), Error> {
        let is_unended = |other: &mut RunNote| other.organization == run.organization;
        self.note.owed.extend(self.note.runs.extract_if(.., is_unended));
        let token = run.token;
        self.note.runs.push(run);
        self.write_fitting().map_err(|source| {
            // It does not begin: nor must it stand in the way of the notes of others.
            self.forget(token);
            self.failed(source)
        })
    }

    /// Says that a run is owed.
    pub(super) fn owe(&mut self, run: RunNote) -> Result<(), Error> {
        self.forget(run.token);
        self.note.owed.push(run);
        self.write_fitting().map_err(|source| self.failed(source))
    }

    /// Says that a run stands in the history.
    pub(super) fn end(&mut self, token: i64) -> Result<(), Error> {
        self.forget(token);
        self.write_note().map_err(|source| self.failed(source))
    }

    fn forget(&mut self, token: i64) {
        self.note.runs.retain(|run| run.token != token);
        self.note.owed.retain(|run| run.token != token);
    }

    /// Writes the note. Where it has no room for all runs, the newest two of whoever owes most become one.
    fn write_fitting(&mut self) -> io::Result<()> {
        while serde_json::to_vec(&self.note)?.len() > NOTE_BYTES && self.fold() {}
        self.write_note()
    }

    /// Whether two could become one.
    fn fold(&mut self) -> bool {
        let mut owing: BTreeMap<&str, usize> = BTreeMap::new();
        for run in &self.note.owed {
            *owing.entry(&run.organization).or_default() += 1;
        }
        let most = owing.into_iter().max_by_key(|(_, runs)| *runs).filter(|(_, runs)| *runs > 1);
        let Some(name) = most.map(|(name, _)| name.to_owned()) else { return false };
        let Some(last) = self.note.owed.iter().rposition(|run| run.organization == name) else {
            return false;
        };
        let later = self.note.owed.remove(last);
        if let Some(earlier) = self.note.owed.iter_mut().rfind(|run| run.organization == name) {
            earlier.take_in(&later);
        }
        true
    }

    fn write_note(&self) -> io::Result<()> {
        let mut block = serde_json::to_vec(&self.note)?;
        if block.len() > NOTE_BYTES {
            return Err(io::Error::other("there are too many organizations to note their runs"));
        }
        block.resize(NOTE_BYTES, b'\n');
        self.file.write_all_at(&block, 0)?;
        self.file.sync_data()
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::LockFile { path: self.path.clone(), source }
    }
}

/// The runs that another process has in hand for the database at `database`, as far as that can be known. The
/// lock is tried only where the note names some and its process is there, so that nobody is kept from it.
#[must_use]
pub fn runs_in_hand(database: &Path) -> Vec<RunNote> {
    let mut options = OpenOptions::new();
    // Without waiting for who writes to a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).custom_flags(flags.bits().cast_signed());
    let Ok(file) = options.open(RunLock::path_for(database)) else { return Vec::new() };
    if !is_ours(&file).unwrap_or(false) {
        return Vec::new();
    }
    let Ok(Some(note)) = read_note(&file) else { return Vec::new() };
    let is_there = Path::new("/proc").join(note.pid.to_string()).exists();
    // A note outlives a process that was killed; the lock does not.
    let is_held = || matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    if note.in_hand().next().is_none() || !is_there || !is_held() {
        return Vec::new();
    }
    note.in_hand().cloned().collect()
}

/// Where a file is, or will be once it is created: up to `links` links are followed, also to nowhere yet.
fn real_path(path: &Path, links: u8) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
    match path.read_link() {
        Ok(target) if links > 0 => real_path(&parent.join(target), links - 1),
        _ => parent.join(path.file_name().unwrap_or_default()),
    }
}

/// Whether the file is empty or begins as our notes do: nothing else may be written over.
fn is_ours(mut file: &File) -> io::Result<bool> {
    const BEGINNING: &str = "{\"pid\":";
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut beginning = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(BEGINNING.len() as u64).read_to_end(&mut beginning)?;
    Ok(beginning.is_empty() || beginning == BEGINNING.as_bytes())
}

fn read_note(mut file: &File) -> io::Result<Option<Note>> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(NOTE_BYTES as u64).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text).ok())
}
