//! Checkpoints: what is kept of a link outside the database.
//!
//! A checkpoint is a C2SP `signed-note` with a text of our own. It is not a `tlog-checkpoint`: that has the
//! root of a Merkle tree, this has the end of a chain. `docs/audit-log.md` specifies it.

use std::fmt::{self, Write as _};

use super::link::Digest;
use super::note::{SIGNATURE_MARK, Signature, SigningKey, VerifyingKey};
use crate::clock::Timestamp;

/// The first line of each.
const FIRST_LINE: &str = "keydrift checkpoint v1";
/// More than that is no checkpoint.
const MOST_BYTES: usize = 4096;
const MOST_SIGNATURES: usize = 16;

/// Where a link is in its organization's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Of an act: the run that it is behind; 0 if there was none.
    pub run_id: i64,
    pub act_id: Option<i64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.act_id {
            Some(act_id) => write!(f, "act {act_id} behind run {}", self.run_id),
            None => write!(f, "run {}", self.run_id),
        }
    }
}

/// One link, as of its recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The random id of the database.
    pub database: String,
    /// The name under which the organization's chain began.
    pub origin: String,
    pub place: Place,
    pub digest: Digest,
    /// When the run ended, or the act was done.
    pub time: Timestamp,
}

impl Checkpoint {
    /// What is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { database, origin, place, digest, time } = self;
        let mut text = format!(
            "{FIRST_LINE}\ndatabase {database}\norganization {origin}\nrun {}\n",
            place.run_id
        );
        if let Some(act_id) = place.act_id {
            // Writing into a string does not fail.
            writeln!(text, "act {act_id}").ok();
        }
        writeln!(text, "digest {digest}\ntime {time}").ok();
        text
    }

    fn parse(text: &str) -> Option<Self> {
        fn value<'a>(line: Option<&'a str>, name: &str) -> Option<&'a str> {
            line?.strip_prefix(name)?.strip_prefix(' ')
        }
        let mut lines = text.lines();
        lines.next().filter(|line| *line == FIRST_LINE)?;
        let database = value(lines.next(), "database")?.to_owned();
        let origin = value(lines.next(), "organization")?.to_owned();
        let run_id = value(lines.next(), "run")?.parse().ok()?;
        let mut next = lines.next();
        let act_id = match value(next, "act") {
            Some(act_id) => {
                next = lines.next();
                Some(act_id.parse().ok()?)
            }
            None => None,
        };
        let digest = value(next, "digest")?.parse().ok()?;
        let time = value(lines.next(), "time")?.parse().ok()?;
        let checkpoint = Self { database, origin, place: Place { run_id, act_id }, digest, time };
        // One text for each, so that a signature can be checked over it.
        (checkpoint.text() == text).then_some(checkpoint)
    }
}

/// A checkpoint with its signatures, if it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub checkpoint: Checkpoint,
    pub signatures: Vec<Signature>,
}

/// What a note's signatures are worth to who has these public keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// By the key of this name.
    Signed(String),
    /// By none of the keys.
    Unsigned,
    /// It says to be by the key of this name, and is not.
    Forged(String),
}

impl Note {
    /// Signed if there is a key. A text that could not be read again is not written: a name out of a database
    /// that somebody edited may hold a line feed.
    #[must_use]
    pub fn new(checkpoint: Checkpoint, key: Option<&SigningKey>) -> Option<Self> {
        let text = checkpoint.text();
        Checkpoint::parse(&text).filter(|read| *read == checkpoint)?;
        let signatures = match key {
            Some(key) => vec![key.sign(&text)?],
            None => Vec::new(),
        };
        Some(Self { checkpoint, signatures })
    }

    /// As it stands among others: each ends with an empty line.
    #[must_use]
    pub fn with_empty_line(&self) -> String {
        let end = if self.signatures.is_empty() { "" } else { "\n" };
        format!("{self}{end}")
    }

    /// Whether it says to be signed by the key.
    #[must_use]
    pub fn names(&self, key: &VerifyingKey) -> bool {
        self.signatures.iter().any(|signature| key.is_named_by(signature))
    }

    /// Whether it is.
    #[must_use]
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        matches!(self.standing(std::slice::from_ref(key)), Standing::Signed(_))
    }

    #[must_use]
    pub fn standing(&self, keys: &[VerifyingKey]) -> Standing {
        Standing::of(&self.checkpoint.text(), &self.signatures, keys)
    }
}

impl Standing {
    fn of(text: &str, signatures: &[Signature], keys: &[VerifyingKey]) -> Self {
        let mut standing = Self::Unsigned;
        for key in keys {
            for signature in signatures.iter().filter(|one| key.is_named_by(one)) {
                if !key.verifies(text, signature) {
                    return Self::Forged(key.name().to_owned());
                }
                standing = Self::Signed(key.name().to_owned());
            }
        }
        standing
    }

    /// Of a signed note of any kind over `text`.
    #[must_use]
    pub fn of_note(note: &str, text: &str, keys: &[VerifyingKey]) -> Self {
        let Some((signed, lines)) = note.split_once("\n\n") else { return Self::Unsigned };
        if format!("{signed}\n") != text {
            return Self::Unsigned;
        }
        let signatures: Vec<Signature> = lines.lines().filter_map(Signature::parse).collect();
        Self::of(text, &signatures, keys)
    }
}

/// A signed note of another kind: `text` must end with a line feed.
#[must_use]
pub fn sign_note(text: &str, key: &SigningKey) -> Option<String> {
    Some(format!("{text}\n{}\n", key.sign(text)?))
}

/// The note as it is published.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.checkpoint.text())?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// Reads notes from lines, one after the other with an empty line between them. What is none, such as the
/// beginning of one that a crash cut off, is passed over and counted.
#[derive(Debug, Default)]
pub struct NoteReader {
    state: State,
    pub damaged: u64,
}

#[derive(Debug, Default)]
enum State {
    /// Until a first line comes.
    #[default]
    Between,
    Text(String),
    Signatures(Note),
    /// What is here was counted as damaged.
    Lost,
}

impl NoteReader {
    /// Passes over what comes before the first note: for lines out of the middle of a file.
    #[must_use]
    pub fn in_the_middle() -> Self {
        Self { state: State::Lost, damaged: 0 }
    }

    /// Takes a line without its line feed, and gives the note that it ends.
    pub fn line(&mut self, line: &[u8]) -> Option<Note> {
        let line = str::from_utf8(line).unwrap_or("\u{fffd}");
        if line == FIRST_LINE {
            let ended = self.finish();
            self.state = State::Text(format!("{line}\n"));
            return ended;
        }
        match (std::mem::take(&mut self.state), line) {
            (State::Text(text), "") => match Checkpoint::parse(&text) {
                Some(checkpoint) => {
                    self.state = State::Signatures(Note { checkpoint, signatures: Vec::new() });
                }
                None => self.lose(),
            },
            (State::Text(text), line) if text.len() + line.len() <= MOST_BYTES => {
                self.state = State::Text(text + line + "\n");
            }
            (State::Signatures(note), "") => {
                // A blank line before any signature ends an unsigned one.
                return Some(note);
            }
            (State::Signatures(mut note), line)
                if line.starts_with(SIGNATURE_MARK) && note.signatures.len() < MOST_SIGNATURES =>
            {
                let Some(signature) = Signature::parse(line) else {
                    self.lose();
                    return Some(note);
                };
                note.signatures.push(signature);
                self.state = State::Signatures(note);
            }
            // What comes behind a note is no part of it.
            (State::Signatures(note), _) => {
                self.lose();
                return Some(note);
            }
            (State::Between, "") => {}
            (State::Text(_) | State::Between, _) => self.lose(),
            (State::Lost, _) => self.state = State::Lost,
        }
        None
    }

    /// The end of the lines, which may end a note.
    pub fn finish(&mut self) -> Option<Note> {
        match std::mem::take(&mut self.state) {
            State::Signatures(note) => return Some(note),
            State::Text(_) => self.damaged += 1,
            State::Between | State::Lost => {}
        }
        None
    }

    /// All notes in a text, and how much of it is none.
    #[must_use]
    pub fn read(text: &[u8]) -> (Vec<Note>, u64) {
        let mut reader = Self::default();
        let mut notes: Vec<Note> =
            text.split(|byte| *byte == b'\n').filter_map(|line| reader.line(line)).collect();
        notes.extend(reader.finish());
        (notes, reader.damaged)
    }

    fn lose(&mut self) {
        self.damaged += 1;
        self.state = State::Lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn key(name: &str, seed: u8) -> SigningKey {
        SigningKey::new(name, Zeroizing::new([seed; 32])).unwrap()
    }

    fn checkpoint(run_id: i64, act_id: Option<i64>) -> Checkpoint {
        Checkpoint {
            database: "c4a1".to_owned(),
            origin: "acme".to_owned(),
            place: Place { run_id, act_id },
            digest: Digest([0xab; 32]),
            time: Timestamp::from_unix(1_764_000_000).unwrap(),
        }
    }

    #[test]
    fn a_checkpoint_is_a_signed_note() {
        let note = Note::new(checkpoint(12, Some(3)), Some(&key("acme", 1))).unwrap();
        insta::assert_snapshot!(note.to_string(), @"
        keydrift checkpoint v1
        database c4a1
        organization acme
        run 12
        act 3
        digest abababababababababababababababababababababababababababababababab
        time 2025-11-24T16:00:00Z

        — acme +xTeNvzp4Y/F2jlx1NgbfiXvRDmOGIgVIQBOGeuavERym+iVefIIoTsTiLw5bQpLpePIwWMe0PLtwh8XVMLHVt+VmwQ=
        ");
    }

    #[test]
    fn a_signature_is_worth_what_the_keys_say() {
        let (ours, other) = (key("acme", 1), key("acme", 2));
        let keys = [ours.public().clone()];
        let note = Note::new(checkpoint(12, None), Some(&ours)).unwrap();
        assert_eq!(note.standing(&keys), Standing::Signed("acme".to_owned()));
        assert_eq!(note.standing(&[other.public().clone()]), Standing::Unsigned);
        let edited = Note { checkpoint: checkpoint(13, None), ..note };
        assert_eq!(edited.standing(&keys), Standing::Forged("acme".to_owned()));
        let unsigned = Note::new(checkpoint(12, None), None).unwrap();
        assert_eq!(unsigned.standing(&keys), Standing::Unsigned);
    }

    #[test]
    fn a_name_that_would_forge_a_line_gets_no_checkpoint() {
        let origin = "acme\nrun 7".to_owned();
        assert_eq!(Note::new(Checkpoint { origin, ..checkpoint(1, None) }, None), None);
    }

    proptest! {
        #[test]
        fn notes_are_read_as_they_were_written(runs in prop::collection::vec((any::<i64>(), any::<Option<i64>>(), any::<bool>()), 0..5)) {
            let key = key("acme", 1);
            let notes: Vec<Note> = runs
                .into_iter()
                .map(|(run, act, signed)| Note::new(checkpoint(run, act), signed.then_some(&key)).unwrap())
                .collect();
            let text: String = notes.iter().map(Note::with_empty_line).collect();
            prop_assert_eq!(NoteReader::read(text.as_bytes()), (notes, 0));
        }

        #[test]
        fn a_note_cut_off_anywhere_spoils_no_other(cut in 0..1000_usize, signed in any::<bool>()) {
            let key = key("acme", 1);
            let key = signed.then_some(&key);
            let note = |run| Note::new(checkpoint(run, None), key).unwrap();
            let torn = note(2).with_empty_line();
            let cut = cut % torn.len();
            let Some(torn) = torn.get(..cut) else { return Ok(()) };
            let text = note(1).with_empty_line() + torn + "\n\n" + &note(3).with_empty_line();
            let (read, damaged) = NoteReader::read(text.as_bytes());
            prop_assert_eq!(&read[0], &note(1));
            prop_assert_eq!(read.last().unwrap(), &note(3));
            prop_assert!(damaged <= 1);
            for note in &read {
                prop_assert!(matches!(note.standing(&[]), Standing::Unsigned));
                prop_assert!(!matches!(
                    note.standing(key.map(|key| key.public().clone()).as_slice()),
                    Standing::Forged(_)
                ));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (notes, damaged) = NoteReader::read(&bytes);
            prop_assert!(notes.len() as u64 + damaged <= bytes.len() as u64);
        }
    }
}
