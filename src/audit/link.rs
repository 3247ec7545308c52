//! Links: what a digest covers.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256, digest};

use super::bytes::Bytes;
use super::item::{Event, NoticeItem};

const RUN: &str = "keydrift/run/1";
const ACT: &str = "keydrift/act/1";
const PART: &str = "keydrift/part/1";

/// A SHA-256 digest, shown as lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    fn of(bytes: &Bytes) -> Self {
        Self::from_ring(&digest(&SHA256, bytes.as_slice()))
    }

    pub(super) fn from_ring(digest: &ring::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| ())?;
        Self::from_slice(&bytes).ok_or(())
    }
}

/// A part of a run that has a digest of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// All events but `used` ones.
    Events,
    Used,
    Notices,
    /// Who did what events of this run or an earlier one tell.
    Attributions,
    /// What was there before the chain: run headers, events and notices, of an [`ActKind::Adopted`] act.
    Adopted,
}

impl Part {
    /// Those of a run, in the order in which its link has them.
    pub const ALL: [Self; 4] = [Self::Events, Self::Used, Self::Notices, Self::Attributions];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Used => "used",
            Self::Notices => "notices",
            Self::Attributions => "attributions",
            Self::Adopted => "adopted",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == text)
    }

    /// Which part an event belongs to.
    #[must_use]
    pub fn of_event(event: &str) -> Self {
        if event == "used" { Self::Used } else { Self::Events }
    }
}

/// A part with something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartDigest {
    pub part: Part,
    pub items: u64,
    pub digest: Digest,
}

/// Takes in the items of one part, in the order of their ids.
pub struct PartHasher {
    part: Part,
    items: u64,
    context: Context,
    bytes: Bytes,
}

impl fmt::Debug for PartHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PartHasher");
        shown.field("part", &self.part).field("items", &self.items).finish_non_exhaustive()
    }
}

impl PartHasher {
    #[must_use]
    pub fn new(part: Part) -> Self {
        let mut hasher =
            Self { part, items: 0, context: Context::new(&SHA256), bytes: Bytes::default() };
        hasher.bytes.text(PART);
        hasher.bytes.text(part.as_str());
        hasher.context.update(hasher.bytes.as_slice());
        hasher
    }

    pub fn event(&mut self, event: &Event<'_>) {
        self.item(|bytes| event.write(bytes));
    }

    pub fn run(&mut self, run: &RunHeader<'_>) {
        self.item(|bytes| {
            bytes.list(23);
            run.write(bytes, RUN);
        });
    }

    pub fn notice(&mut self, notice: &NoticeItem<'_>) {
        self.item(|bytes| notice.write(bytes));
    }

    pub(super) fn item(&mut self, write: impl FnOnce(&mut Bytes)) {
        self.items += 1;
        self.bytes.clear();
        write(&mut self.bytes);
        self.context.update(self.bytes.as_slice());
    }

    /// `None` if nothing was in it.
    #[must_use]
    pub fn finish(self) -> Option<PartDigest> {
        let digest = Digest::from_ring(&self.context.finish());
        (self.items > 0).then_some(PartDigest { part: self.part, items: self.items, digest })
    }
}

/// A link of an organization's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    Run(i64),
    Act(i64),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(id) => write!(f, "run {id}"),
            Self::Act(id) => write!(f, "act {id}"),
        }
    }
}

/// A run, by the columns of `run_history`.
#[derive(Debug, Clone, Copy)]
pub struct RunHeader<'a> {
    /// The name of the organization when its chain began.
    pub origin: &'a str,
    pub run_id: i64,
    pub trigger: &'a str,
    pub started_at: &'a str,
    pub finished_at: &'a str,
    pub status: &'a str,
    /// `keys_seen`, `baseline`, `added`, `restored`, `removed`, `used`, `changed`, `unconfirmed`, `skipped`,
    /// `pages`, `requests`, `retries`.
    pub counts: [i64; 12],
    pub notice: Option<&'a str>,
    pub error: Option<&'a str>,
    pub missing: Option<&'a str>,
    pub deferred_until: Option<&'a str>,
}

impl RunHeader<'_> {
    /// The digest of the run as a link. `parts` in the order of [`Part::ALL`], empty ones left out.
    #[must_use]
    pub fn digest(&self, previous: Option<Digest>, parts: &[PartDigest]) -> Digest {
        let mut bytes = Bytes::default();
        bytes.list(25);
        self.write(&mut bytes, RUN);
        write_previous(&mut bytes, previous);
        bytes.list(parts.len());
        for PartDigest { part, items, digest } in parts {
            bytes.list(3);
            bytes.text(part.as_str());
            bytes.integer(i64::try_from(*items).unwrap_or(i64::MAX));
            bytes.digest(&digest.0);
        }
        Digest::of(&bytes)
    }

    fn write(&self, into: &mut Bytes, kind: &str) {
        into.text(kind);
        into.text(self.origin);
        into.integer(self.run_id);
        into.text(self.trigger);
        into.text(self.started_at);
        into.text(self.finished_at);
        into.text(self.status);
        for count in self.counts {
            into.integer(count);
        }
        into.optional(self.notice);
        into.optional(self.error);
        into.optional(self.missing);
        into.optional(self.deferred_until);
    }
}

/// What somebody does to the history itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActKind {
    /// A history from before there was a chain was taken into it as it was found.
    Adopted,
    /// A database that departs from a checkpoint was taken for good.
    Accepted,
    /// Parts of old runs were thrown away.
    Pruned,
    /// What was known of a person was erased.
    Forgotten,
    /// The organization has another name from then on.
    Renamed,
    /// Somebody noted something of an event or a key.
    Noted,
}

impl ActKind {
    pub const ALL: [Self; 6] =
        [Self::Adopted, Self::Accepted, Self::Pruned, Self::Forgotten, Self::Renamed, Self::Noted];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Accepted => "accepted",
            Self::Pruned => "pruned",
            Self::Forgotten => "forgotten",
            Self::Renamed => "renamed",
            Self::Noted => "noted",
        }
    }
}

/// An act, by the columns of `act_history`.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    pub origin: &'a str,
    pub act_id: i64,
    /// The organization's newest run then; 0 if there was none.
    pub after_run_id: i64,
    pub kind: &'a str,
    pub acted_at: &'a str,
    pub actor: &'a str,
    /// JSON.
    pub detail: &'a str,
}

impl Act<'_> {
    #[must_use]
    pub fn digest(&self, previous: Option<Digest>) -> Digest {
        let mut bytes = Bytes::default();
        bytes.list(9);
        bytes.text(ACT);
        bytes.text(self.origin);
        bytes.integer(self.act_id);
        bytes.integer(self.after_run_id);
        bytes.text(self.kind);
        bytes.text(self.acted_at);
        bytes.text(self.actor);
        bytes.text(self.detail);
        write_previous(&mut bytes, previous);
        Digest::of(&bytes)
    }
}

fn write_previous(into: &mut Bytes, previous: Option<Digest>) {
    match previous {
        Some(digest) => into.digest(&digest.0),
        None => into.null(),
    }
}
