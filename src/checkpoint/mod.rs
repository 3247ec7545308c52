//! Checkpoints: the end of each history, kept outside the database.
//!
//! A chain inside one file proves nothing against who can rewrite that file. So after each run the digest of
//! the new link goes into the journal and into the checkpoint file, and whoever opens the database to write
//! holds it against that file first. The notes themselves are [`crate::audit`]'s.
//!
//! What is on the disk at each step: the run commits; then its checkpoint is appended and synced. A crash
//! between the two leaves links without a checkpoint, a crash within the second a torn note at the end of the
//! file. Whoever writes next mends both.

mod accept;
mod all;
mod compare;
mod file;
mod given_up;
mod journal;
mod key;
mod proof;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::{Checkpoint, Note, Place, VerifyingKey};
use crate::config::{CheckpointSettings, Settings};
use crate::output::count;
use crate::store::{self, ChainLink, Links, Reader, Writer};

use given_up::GivenUp;
use journal::{load_names, tell_journal};

pub use accept::accept;
pub use all::{Comparison, compare_all};
pub use compare::Departure;
pub use key::{KeyError, generate, load as load_key};
pub use proof::{Proof, Source, Tally};
pub use shared::Shared;

/// The notes in the own checkpoint file that are wanted, each once, by organization and place.
pub fn collect(
    settings: &CheckpointSettings,
    wanted: impl Fn(&Checkpoint) -> bool,
) -> std::io::Result<Vec<Note>> {
    let mut notes: BTreeMap<(String, Place, String), Note> = BTreeMap::new();
    file::read(&settings.path, |note| {
        let Checkpoint { origin, place, .. } = &note.checkpoint;
        if wanted(&note.checkpoint) {
            notes.insert((origin.clone(), *place, note.to_string()), note);
        }
    })?;
    Ok(notes.into_values().collect())
}

/// Why a database is not used, or a checkpoint not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(
        "the database `{}` is missing: `{}` has a checkpoint of {} of `{}` of {}",
        .database.display(), .file.display(), .checkpoint.place, .checkpoint.origin, .checkpoint.time
    )]
    Missing { database: PathBuf, file: PathBuf, checkpoint: Box<Checkpoint> },
    #[error(
        "the database `{}` is older than its checkpoint: it ends with run {end}, and `{}` has {} of `{}` of {}",
        .database.display(), .file.display(), .checkpoint.place, .checkpoint.origin, .checkpoint.time
    )]
    Older { database: PathBuf, file: PathBuf, checkpoint: Box<Checkpoint>, end: i64 },
    #[error(
        "the database `{}` was truncated: it goes on to run {end}, but without {} of `{}`, of which `{}` has a checkpoint",
        .database.display(), .checkpoint.place, .checkpoint.origin, .file.display()
    )]
    Truncated { database: PathBuf, file: PathBuf, checkpoint: Box<Checkpoint>, end: i64 },
    #[error(
        "the history in the database `{}` is another one: {} of `{}` is not the one that `{}` has a checkpoint of",
        .database.display(), .checkpoint.place, .checkpoint.origin, .file.display()
    )]
    Forked { database: PathBuf, file: PathBuf, checkpoint: Box<Checkpoint> },
    #[error("the checkpoint file `{}` cannot be read", .file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("there is no organization `{name}`")]
    Unknown { name: String, known: Vec<String> },
    #[error("there is nothing to accept: the database departs from no checkpoint in `{}`", .file.display())]
    NothingToAccept { file: PathBuf },
    #[error("the checkpoint could not be written to `{}`", .file.display())]
    Unwritable { file: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the journal could not be read: {what}")]
    Journal { what: String },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Store(error) => return error.hint(),
            Self::Missing { file, .. } => format!(
                "bring it back, or restore a backup; to begin a new history, move `{}` away",
                file.display()
            ),
            Self::Older { .. } | Self::Truncated { .. } | Self::Forked { .. } => {
                "keep a copy of it; bring the right one back, or, if a backup was restored on purpose, run \
                 `keydrift checkpoint accept --reason TEXT`"
                    .to_owned()
            }
            Self::Unreadable { file, .. } => {
                format!("make `{}` readable for this user, or name the right file", file.display())
            }
            Self::NothingToAccept { .. } => "`keydrift verify` tells what else may be wrong".to_owned(),
            Self::Unknown { known, .. } => format!("known: {}", known.join(", ")),
            Self::Unwritable { file, .. } => format!(
                "make `{}` writable for the user that runs keydrift; what is missing is appended then",
                file.display()
            ),
            Self::Key(error) => error.hint(),
            Self::Journal { .. } => {
                "`journalctl` has to be there, and its journal yours to read".to_owned()
            }
        })
    }

    /// Whether the database is not the one that was left, or not as it was left.
    #[must_use]
    pub fn is_departure(&self) -> bool {
        matches!(self, Self::Older { .. } | Self::Truncated { .. } | Self::Forked { .. })
    }
}

/// What is known of the checkpoint file by the one who writes.
#[derive(Debug)]
pub struct Checkpoints {
    settings: CheckpointSettings,
    database: String,
    /// The newest checkpoint of each organization. `None`: the file cannot be read.
    newest: Option<BTreeMap<String, Note>>,
    /// The organizations that had any, even if that was given up.
    known: BTreeSet<String>,
    /// How many links had none, after a crash or a failure, and have one now.
    pub caught_up: usize,
    /// Whether a torn note was at the end of the file.
    pub mended: bool,
    /// Whether there are links without a checkpoint, because the last one could not be made.
    pub is_behind: bool,
}

/// Opens the database for writing, unless it departs from a checkpoint; checkpoints that are missing are
/// appended.
pub async fn open(
    settings: &Settings,
    wait: Duration,
    on_wait: impl FnMut(&str),
) -> Result<(Writer, Checkpoints), Error> {
    let database = &settings.database.path;
    refuse_fresh_start(database, &settings.checkpoint.path)?;
    let mut writer = Writer::open(database, wait, on_wait).await?;
    match hold(settings, &mut writer).await {
        Ok(checkpoints) => Ok((writer, checkpoints)),
        Err(error) => {
            if let Err(error) = writer.close().await {
                tracing::info!(%error, "the database could not be tidied up");
            }
            Err(error)
        }
    }
}

/// Holds the open database against the checkpoint file, as it is now; checkpoints that are missing are appended.
async fn hold(settings: &Settings, writer: &mut Writer) -> Result<Checkpoints, Error> {
    let mut checkpoints = Checkpoints::read(&settings.checkpoint, &mut writer.links()).await?;
    let known = checkpoints.newest.clone().unwrap_or_default();
    let departures = compare::compare(&mut writer.links(), &known).await?;
    if let Some(first) = departures.into_iter().next() {
        return Err(first.into_error(&settings.database.path, &settings.checkpoint.path));
    }
    checkpoints.caught_up = checkpoints.keep(writer).await;
    Ok(checkpoints)
}

/// A database that is not there, though there are checkpoints of one, is never begun anew.
fn refuse_fresh_start(database: &Path, file: &Path) -> Result<(), Error> {
    match database.metadata() {
        Ok(file) if file.len() > 0 => return Ok(()),
        // What stands in the way is told by who opens it.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Ok(()),
        Ok(_) | Err(_) => {}
    }
    // What cannot be read is told of when the database is open.
    match file::read_any(file).ok().flatten() {
        Some(note) => Err(Error::Missing {
            database: database.to_owned(),
            file: file.to_owned(),
            checkpoint: Box::new(note.checkpoint),
        }),
        None => Ok(()),
    }
}

/// How the database and its newest checkpoints are to each other, for who only reads.
#[derive(Debug, Default)]
pub struct Look {
    /// Where the database departs from one.
    pub departure: Option<Error>,
    /// How many links have no checkpoint yet, by the name that the organization has now. One may be about to get it.
    pub missing: BTreeMap<String, usize>,
    /// Why there can be no checkpoint file where it should be.
    pub unusable: Option<String>,
}

/// Holds the database against the checkpoint file. One that cannot be read is passed over.
pub async fn look(settings: &Settings, reader: &mut Reader) -> Result<Look, store::Error> {
    let mut links = reader.links();
    let file = &settings.checkpoint.path;
    let newest = match read_newest(&settings.checkpoint, &mut links).await?.1 {
        Ok(newest) => newest,
        Err(error) => {
            // Who only reads may be one who may not read this.
            let is_told = error.kind() != std::io::ErrorKind::PermissionDenied;
            let unusable =
                is_told.then(|| format!("the checkpoint file `{}`: {error}", file.display()));
            return Ok(Look { unusable, ..Look::default() });
        }
    };
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let unusable = directory.filter(|directory| !directory.is_dir()).map(|directory| {
        format!("the directory of the checkpoint file, `{}`, is missing", directory.display())
    });
    let departures = compare::compare(&mut links, &newest.ours).await?;
    let first = departures.into_iter().next();
    let departure = first.map(|first| first.into_error(&settings.database.path, file));
    let mut missing = BTreeMap::new();
    for (origin, note) in newest.ours {
        let behind = links.after(&origin, note.checkpoint.place).await?.len();
        let name = links.name_of(&origin).await?.unwrap_or(origin);
        missing.insert(name, behind);
    }
    Ok(Look { departure, missing, unusable })
}

/// As [`look`], of a database that is not there.
#[must_use]
pub fn look_for_missing(settings: &Settings) -> Option<Error> {
    refuse_fresh_start(&settings.database.path, &settings.checkpoint.path).err()
}

impl Checkpoints {
    async fn read(settings: &CheckpointSettings, links: &mut Links<'_>) -> Result<Self, Error> {
        let (database, newest) = read_newest(settings, links).await?;
        let mut known = BTreeSet::new();
        let newest = match newest {
            Ok(newest) => {
                if newest.known.is_empty() && newest.any.is_some() {
                    tracing::warn!(
                        file = %settings.path.display(),
                        "the checkpoint file has checkpoints of another database, and none of this one"
                    );
                } else {
                    miss(&settings.path, links, &newest.known).await?;
                }
                known = newest.known;
                Some(newest.ours)
            }
            Err(error) => {
                tracing::warn!(
                    file = %settings.path.display(), %error,
                    "the checkpoint file cannot be read: nothing holds the database against it"
                );
                None
            }
        };
        let settings = settings.clone();
        let is_behind = newest.is_none();
        Ok(Self { settings, database, newest, known, caught_up: 0, mended: false, is_behind })
    }

    /// What was mended when the database was opened.
    #[must_use]
    pub fn mending(&self) -> Option<String> {
        let late = count(u64::try_from(self.caught_up).unwrap_or(u64::MAX), "checkpoint");
        match (self.caught_up, self.mended) {
            (0, false) => None,
            (0, true) => {
                Some("a checkpoint had been cut off; the file goes on behind it".to_owned())
            }
            (_, false) => Some(format!("{late} had not been written; that is done now")),
            (_, true) => Some(format!(
                "a checkpoint had been cut off, and {late} not written; that is done now"
            )),
        }
    }

    /// Tells the log of it.
    pub fn tell(&self) {
        if let Some(mending) = self.mending() {
            tracing::info!("{mending}");
        }
    }

    /// Appends the checkpoints that are missing, in a normal life those of the run just recorded, and tells the
    /// journal. What stands in the way is a warning: no run fails for it, and the next one tries again. Gives
    /// how many links it were, of organizations that had a checkpoint before.
    pub async fn keep(&mut self, writer: &mut Writer) -> usize {
        let appended = self.append_missing(writer).await;
        self.is_behind = self.newest.is_none() || appended.is_err();
        match appended {
            Ok(appended) => appended,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let hint = error.hint().unwrap_or_default();
                let error = format!("{error}{}", cause.unwrap_or_default());
                tracing::warn!(error, hint, "no checkpoint was made; the next run tries again");
                0
            }
        }
    }

    async fn append_missing(&mut self, writer: &mut Writer) -> Result<usize, Error> {
        let Some(newest) = &mut self.newest else { return Ok(0) };
        let key = key::load(&self.settings)?;
        let missing = missing_links(&mut writer.links(), newest, key.is_some()).await?;
        let note = |(origin, link): (String, ChainLink)| {
            let (database, ChainLink { place, digest, time }) = (self.database.clone(), link);
            Note::new(Checkpoint { database, origin, place, digest, time }, key.as_ref())
        };
        let notes: Vec<Note> = missing.into_iter().filter_map(note).collect();
        let Some(last) = notes.last() else { return Ok(0) };
        let names = load_names(&mut writer.links(), &notes).await?;
        match file::append(&self.settings.path, &notes) {
            Ok(mended) => self.mended |= mended,
            Err(source) => {
                // The journal gets the others with the run that finds the file in order.
                tell_journal(last, &names);
                return Err(Error::Unwritable { file: self.settings.path.clone(), source });
            }
        }
        for note in &notes {
            tell_journal(note, &names);
        }
        let is_late = |note: &&Note| {
            let Checkpoint { origin, place, .. } = &note.checkpoint;
            match newest.get(origin) {
                Some(newest) => newest.checkpoint.place < *place,
                None => self.known.contains(origin),
            }
        };
        let late = notes.iter().filter(is_late).count();
        for note in notes {
            newest.insert(note.checkpoint.origin.clone(), note);
        }
        Ok(late)
    }
}

/// The id of the database, and its newest checkpoints in the file.
async fn read_newest(
    settings: &CheckpointSettings,
    links: &mut Links<'_>,
) -> Result<(String, std::io::Result<file::Newest>), store::Error> {
    let (database, origins) = (links.database_id().await?, links.origins().await?);
    let given_up = GivenUp::load(links).await?;
    let key = verifying_key(settings);
    let wanted = file::Wanted {
        database: &database,
        origins: &origins,
        key: key.as_ref(),
        given_up: Some(&given_up),
    };
    let newest = file::read_newest(&settings.path, &wanted);
    Ok((database, newest))
}

/// The public half of the key that signs. One that cannot be used is told of by who signs.
fn verifying_key(settings: &CheckpointSettings) -> Option<VerifyingKey> {
    key::load(settings).ok().flatten().map(|key| key.public().clone())
}

/// Warns of histories that have several links, and not one checkpoint.
async fn miss(
    file: &Path,
    links: &mut Links<'_>,
    known: &BTreeSet<String>,
) -> Result<(), store::Error> {
    const BEGINNING: Place = Place { run_id: -1, act_id: None };
    for origin in links.origins().await?.iter().filter(|origin| !known.contains(*origin)) {
        let there = links.after(origin, BEGINNING).await?.len();
        if there > 1 {
            tracing::warn!(
                file = %file.display(),
                "there is no checkpoint of `{origin}`, whose history has {there} links: the earlier \
                 checkpoints are gone, or were never written"
            );
        }
    }
    Ok(())
}

/// The links that have no checkpoint yet: all behind the newest one that has; where none has, the newest
/// alone, whose digest covers those before. One whose checkpoint is not signed, though there is a key, too.
async fn missing_links(
    links: &mut Links<'_>,
    newest: &BTreeMap<String, Note>,
    is_signing: bool,
) -> Result<Vec<(String, ChainLink)>, store::Error> {
    let mut missing = Vec::new();
    for origin in links.origins().await? {
        let of_this = match newest.get(&origin) {
            None => Vec::from_iter(links.head(&origin).await?),
            Some(note) => {
                let place = note.checkpoint.place;
                let mut behind = links.after(&origin, place).await?;
                if is_signing && note.signatures.is_empty() && behind.is_empty() {
                    behind.extend(links.find(&origin, place).await?);
                }
                behind
            }
        };
        missing.extend(of_this.into_iter().map(|link| (origin.clone(), link)));
    }
    missing.sort_by_key(|(_, link)| link.place);
    Ok(missing)
}
