//! Every checkpoint that is given, held against a history.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Error, file};
use crate::audit::{
    Acceptance, Checkpoint, Digest, Note, NoteReader, Place, Standing, VerifyingKey,
};
use crate::clock::Timestamp;
use crate::store::{self, Reader};
use crate::telemetry::message;

/// As much of what `journalctl` complains of is told.
const MOST_SAID: u64 = 4 * 1024;

/// Where checkpoints come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The checkpoint file of the configuration, which need not be there, nor be readable.
    Own(PathBuf),
    File(PathBuf),
    Journal,
}

/// All checkpoints that are given, each once.
#[derive(Debug, Default)]
pub struct Proof {
    keys: Vec<VerifyingKey>,
    database: String,
    /// By organization.
    found: BTreeMap<String, HashMap<(Place, Digest), Found>>,
    /// Those of other databases.
    pub ignored: u64,
    /// What could not be read in files and journal.
    pub damaged: u64,
    /// The own file, if it is there and could not be read.
    pub unreadable: Option<(PathBuf, std::io::Error)>,
}

#[derive(Debug)]
struct Found {
    time: Timestamp,
    has_signature: bool,
    standing: Standing,
}

/// What the checkpoints of one organization say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub agree: u64,
    /// Of these, those with a good signature by one of the keys.
    pub signed: u64,
    /// Without a good signature, though there are keys: they prove nothing.
    pub unproven: u64,
    /// Given up when a restored database was accepted.
    pub abandoned: u64,
    /// The newest that agrees, and what is to be said of its signature.
    pub newest: Option<(Place, String)>,
    /// The first link that is not what its checkpoint says, or has a forged one, and what is wrong.
    pub bad: Option<(Place, String)>,
    /// The newest that agrees and is before that.
    pub good_until: Option<(i64, String)>,
}

impl Proof {
    /// Reads all sources. Where there are keys, what is not signed by one of them proves nothing.
    pub fn read(
        database: &str,
        sources: &[Source],
        keys: Vec<VerifyingKey>,
    ) -> Result<Self, Error> {
        let mut proof = Self { keys, database: database.to_owned(), ..Self::default() };
        for source in sources {
            match source {
                Source::Own(path) => match file::read(path, |note| proof.take(note)) {
                    Ok(damaged) => proof.damaged += damaged.unwrap_or(0),
                    Err(error) => proof.unreadable = Some((path.clone(), error)),
                },
                Source::File(path) => proof.read_file(path)?,
                Source::Journal => proof.read_journal()?,
            }
        }
        Ok(proof)
    }

    /// Of a text, such as an evidence pack has.
    #[must_use]
    pub fn of_text(database: &str, text: &[u8], keys: Vec<VerifyingKey>) -> Self {
        let mut proof = Self { keys, database: database.to_owned(), ..Self::default() };
        let (notes, damaged) = NoteReader::read(text);
        proof.damaged = damaged;
        for note in notes {
            proof.take(note);
        }
        proof
    }

    /// Takes in the checkpoints of a file as well.
    pub fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        self.read_file(path)
    }

    /// Leaves aside what is not wanted: an organization's checkpoint, by its place.
    pub fn retain(&mut self, wanted: impl Fn(&str, Place) -> bool) {
        for (origin, found) in &mut self.found {
            found.retain(|(place, _), _| wanted(origin, *place));
        }
    }

    fn read_file(&mut self, path: &Path) -> Result<(), Error> {
        let read = File::open(path)
            .and_then(|from| file::scan(from, NoteReader::default(), |note| self.take(note)));
        self.damaged +=
            read.map_err(|source| Error::Unreadable { file: path.to_owned(), source })?;
        Ok(())
    }

    /// Asks `journalctl` for the lines that told of checkpoints.
    fn read_journal(&mut self) -> Result<(), Error> {
        let failed = |what: String| Error::Journal { what };
        let mut command = Command::new("journalctl");
        command.args(["--output=json", "--all", "--quiet", "--no-pager"]);
        command.arg(format!("MESSAGE_ID={}", message::CHECKPOINT));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let unusable = |error| failed(format!("`journalctl` could not be run: {error}"));
        let mut child = command.spawn().map_err(unusable)?;
        // Read at the same time: a pipe that nobody empties would hold it up for ever.
        let stderr = child.stderr.take().map(|stderr| std::thread::spawn(move || first_of(stderr)));
        let lines = child.stdout.take().map(BufReader::new);
        for line in lines.into_iter().flat_map(BufRead::lines) {
            let line = line.map_err(unusable)?;
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            for text in texts(&entry["KEYDRIFT_CHECKPOINT"]) {
                let (notes, damaged) = NoteReader::read(&text);
                self.damaged += damaged;
                for note in notes {
                    self.take(note);
                }
            }
        }
        let ended = child.wait().map_err(unusable)?;
        if ended.success() {
            return Ok(());
        }
        let said = stderr.and_then(|reader| reader.join().ok()).unwrap_or_default();
        Err(failed(match said.trim() {
            "" => format!("`journalctl` ended with {ended}"),
            said => format!("`journalctl` says: {said}"),
        }))
    }

    fn take(&mut self, note: Note) {
        if note.checkpoint.database != self.database {
            self.ignored += 1;
            return;
        }
        let standing = note.standing(&self.keys);
        let Note { checkpoint: Checkpoint { origin, place, digest, time, .. }, signatures } = note;
        let found = Found { time, has_signature: !signatures.is_empty(), standing };
        let known = self.found.entry(origin).or_default();
        let other = known.entry((place, digest)).or_insert_with(|| Found {
            time: found.time,
            has_signature: false,
            standing: Standing::Unsigned,
        });
        // The same from several sources: what proves more counts, and a forgery always.
        let weight = |found: &Found| match found.standing {
            Standing::Forged(_) => 3,
            Standing::Signed(_) => 2,
            Standing::Unsigned => u8::from(found.has_signature),
        };
        if weight(&found) > weight(other) {
            *other = found;
        }
    }

    /// The organizations that there are checkpoints of which prove something.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        let proves =
            |found: &Found| self.keys.is_empty() || matches!(found.standing, Standing::Signed(_));
        let origins = self.found.iter().filter(move |(_, found)| found.values().any(proves));
        origins.map(|(origin, _)| origin.as_str())
    }

    /// Holds an organization's history against its checkpoints.
    pub async fn hold(
        &self,
        reader: &mut Reader,
        origin: &str,
        accepted: &[Acceptance],
    ) -> Result<Tally, store::Error> {
        if !self.found.contains_key(origin) {
            return Ok(Tally::default());
        }
        let links = reader.links().after(origin, Place { run_id: -1, act_id: None }).await?;
        let links = links.into_iter().map(|link| (link.place, link.digest)).collect();
        Ok(self.hold_links(origin, &links, accepted))
    }

    /// Holds the links of an organization against its checkpoints.
    #[must_use]
    pub fn hold_links(
        &self,
        origin: &str,
        links: &HashMap<Place, Digest>,
        accepted: &[Acceptance],
    ) -> Tally {
        let mut tally = Tally::default();
        let Some(found) = self.found.get(origin) else { return tally };
        let mut agreeing: Vec<(Place, Timestamp)> = Vec::new();
        let mut sorted: Vec<(&(Place, Digest), &Found)> = found.iter().collect();
        sorted.sort_by_key(|(at, _)| **at);
        for ((place, digest), found) in sorted {
            let checkpoint = Checkpoint {
                database: self.database.clone(),
                origin: origin.to_owned(),
                place: *place,
                digest: *digest,
                time: found.time,
            };
            let there = links.get(place);
            let given_up = || accepted.iter().any(|accepted| accepted.covers(&checkpoint));
            if let Standing::Forged(name) = &found.standing {
                tally.find(
                    *place,
                    format!("a checkpoint of {place} has a forged signature of `{name}`"),
                );
            } else if !self.keys.is_empty() && found.standing == Standing::Unsigned {
                tally.unproven += 1;
            } else if there == Some(digest) {
                agreeing.push((*place, found.time));
                tally.agree(*place, found, !self.keys.is_empty());
            } else if given_up() {
                tally.abandoned += 1;
            } else if there.is_some() {
                tally.find(
                    *place,
                    format!("a checkpoint has another digest of {place}: it was replaced"),
                );
            } else {
                tally.find(*place, format!("a checkpoint has {place}, and the history does not"));
            }
        }
        // One link may have several, of which one agrees.
        let is_before = |place| tally.bad.as_ref().is_none_or(|(bad, _)| place < bad);
        let good = agreeing.iter().rfind(|(place, _)| is_before(place));
        tally.good_until = good.map(|(place, time)| (place.run_id, time.to_string()));
        tally
    }
}

impl Tally {
    fn agree(&mut self, place: Place, found: &Found, with_keys: bool) {
        self.agree += 1;
        self.signed += u64::from(matches!(found.standing, Standing::Signed(_)));
        let signature = match &found.standing {
            Standing::Signed(name) => format!("signed by `{name}`"),
            _ if with_keys || !found.has_signature => "unsigned".to_owned(),
            _ => "its signature was not checked".to_owned(),
        };
        self.newest = Some((place, signature));
    }

    fn find(&mut self, place: Place, what: String) {
        self.bad.get_or_insert((place, what));
    }
}

/// The beginning of a text that is read to its end.
fn first_of(mut from: impl Read) -> String {
    let mut said = Vec::new();
    // What cannot be read is not said.
    from.by_ref().take(MOST_SAID).read_to_end(&mut said).ok();
    std::io::copy(&mut from, &mut std::io::sink()).ok();
    String::from_utf8_lossy(&said).into_owned()
}

/// A field of the journal as its JSON has it: a text, its bytes, or several of these.
fn texts(field: &Value) -> Vec<Vec<u8>> {
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    match field {
        Value::String(text) => vec![text.as_bytes().to_vec()],
        Value::Array(items) => match items.iter().map(byte).collect::<Option<Vec<u8>>>() {
            Some(bytes) => vec![bytes],
            None => items.iter().flat_map(texts).collect(),
        },
        _ => Vec::new(),
    }
}
