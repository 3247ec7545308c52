//! Many sightings, set aside in little space until they are needed again, one after the other.
//!
//! A key in hand takes some four hundred bytes, and a first listing may hold a million of them. Where the bytes go is
//! the caller's choice.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::field::{Column, Shape};
use super::key::{Key, KeyId, Other, Scope};
use super::sighting::Sighting;
use crate::clock::Timestamp;

/// Sightings that are found together.
const BLOCK: usize = 32;
/// The medium is written in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;
/// Caches of shared values are emptied when they hold this many.
const MAX_CACHED: usize = 4096;

/// Somewhere to put bytes and read them again.
pub trait Medium: Send + Sync {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Fills `buffer` with what was appended from `offset` on.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Medium for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// Sightings in the order in which they were put here, each with a flag.
pub(super) struct Shelf {
    medium: Box<dyn Medium>,
    /// What is not in the medium yet: whole blocks, and the one that is being filled.
    tail: Vec<u8>,
    written: u64,
    /// Where each block begins.
    blocks: Vec<u64>,
    len: usize,
    shapes: Vec<Arc<Shape>>,
    shape_numbers: HashMap<Arc<Shape>, u32>,
}

/// A sighting as it lies on the shelf.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    flag: bool,
    id: &'a str,
    is_of_project: bool,
    /// 0: unknown, 1: admin, 2: project.
    prefix_scope: u8,
    texts: [Option<&'a str>; 8],
    times: [Option<i64>; 3],
    /// JSON; empty for none.
    #[serde(borrow)]
    other: Cow<'a, str>,
    shape: u32,
}

const TEXTS: [Column; 8] = [
    Column::Name,
    Column::RedactedValue,
    Column::ProjectId,
    Column::ProjectName,
    Column::OwnerType,
    Column::OwnerId,
    Column::OwnerName,
    Column::OwnerRole,
];
const TIMES: [Column; 3] = [Column::CreatedAt, Column::LastUsedAt, Column::ExpiresAt];

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Default for Shelf {
    fn default() -> Self {
        Self::new(Box::<Vec<u8>>::default())
    }
}

impl Shelf {
    pub(super) fn new(medium: Box<dyn Medium>) -> Self {
        Self {
            medium,
            tail: Vec::new(),
            written: 0,
            blocks: Vec::new(),
            len: 0,
            shapes: Vec::new(),
            shape_numbers: HashMap::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, sighting: &Sighting, flag: bool) -> io::Result<()> {
        if self.len.is_multiple_of(BLOCK) {
            if self.tail.len() >= PIECE_BYTES {
                self.medium.append(&self.tail)?;
                self.written += self.tail.len() as u64;
                self.tail.clear();
            }
            self.blocks.push(self.written + self.tail.len() as u64);
        }
        let shape = self.number_of_shape(&sighting.shape);
        let key = &sighting.key;
        let record = Record {
            flag,
            id: key.id.as_str(),
            is_of_project: key.scope == Scope::Project,
            prefix_scope: match sighting.prefix_scope {
                None => 0,
                Some(Scope::Admin) => 1,
                Some(Scope::Project) => 2,
            },
            texts: TEXTS.map(|column| key.text(column).map(AsRef::as_ref)),
            times: TIMES.map(|column| key.time(column).map(Timestamp::unix)),
            other: if key.other.is_empty() {
                Cow::Borrowed("")
            } else {
                Cow::Owned(serde_json::to_string(&key.other)?)
            },
            shape,
        };
        let tail = std::mem::take(&mut self.tail);
        self.tail = postcard::to_extend(&record, tail).map_err(io::Error::other)?;
        self.len += 1;
        Ok(())
    }

    fn number_of_shape(&mut self, shape: &Arc<Shape>) -> u32 {
        if let Some(last) = self.shapes.last()
            && Arc::ptr_eq(last, shape)
        {
            return u32::try_from(self.shapes.len() - 1).unwrap_or(u32::MAX);
        }
        if let Some(number) = self.shape_numbers.get(shape) {
            return *number;
        }
        let number = u32::try_from(self.shapes.len()).unwrap_or(u32::MAX);
        self.shapes.push(Arc::clone(shape));
        self.shape_numbers.insert(Arc::clone(shape), number);
        number
    }

    /// All sightings with their flags.
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter { shelf: self, next: 0, block: Vec::new(), at: 0, reader: Reader::default() }
    }

    /// One of them.
    pub(super) fn get(&self, at: usize) -> io::Result<(Sighting, bool)> {
        let mut iter = self.iter();
        iter.next = at / BLOCK * BLOCK;
        let missing = || io::Error::from(io::ErrorKind::UnexpectedEof);
        iter.nth(at % BLOCK).ok_or_else(missing)?
    }

    fn read_block(&self, number: usize, block: &mut Vec<u8>) -> io::Result<()> {
        let start = self.blocks[number];
        let whole = self.written + self.tail.len() as u64;
        let end = self.blocks.get(number + 1).copied().unwrap_or(whole);
        block.resize(usize::try_from(end - start).unwrap_or(usize::MAX), 0);
        match start.checked_sub(self.written) {
            Some(start) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                let end = start + block.len();
                block.copy_from_slice(&self.tail[start..end]);
                Ok(())
            }
            None => self.medium.read_at(start, block),
        }
    }
}

/// The sightings on a shelf, one after the other.
pub(super) struct Iter<'a> {
    shelf: &'a Shelf,
    next: usize,
    block: Vec<u8>,
    at: usize,
    reader: Reader,
}

impl Iterator for Iter<'_> {
    type Item = io::Result<(Sighting, bool)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.shelf.len {
            return None;
        }
        let read = self.read();
        self.next += 1;
        Some(read)
    }
}

impl Iter<'_> {
    fn read(&mut self) -> io::Result<(Sighting, bool)> {
        if self.next.is_multiple_of(BLOCK) {
            self.shelf.read_block(self.next / BLOCK, &mut self.block)?;
            self.at = 0;
        }
        let (record, rest) =
            postcard::take_from_bytes(&self.block[self.at..]).map_err(io::Error::other)?;
        self.at = self.block.len() - rest.len();
        self.reader.read(&record, &self.shelf.shapes)
    }
}

/// Puts sightings together again. Equal values of many keys share one allocation.
#[derive(Default)]
struct Reader {
    texts: HashSet<Arc<str>>,
    others: HashMap<String, Arc<Other>>,
}

impl Reader {
    fn read(&mut self, record: &Record<'_>, shapes: &[Arc<Shape>]) -> io::Result<(Sighting, bool)> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let id = KeyId::new(record.id).ok_or_else(broken)?;
        let scope = if record.is_of_project { Scope::Project } else { Scope::Admin };
        let mut key = Key::new(id, scope);
        for (column, text) in TEXTS.into_iter().zip(record.texts) {
            key.set_text(column, text.map(|text| self.text(column, text)));
        }
        for (column, time) in TIMES.into_iter().zip(record.times) {
            key.set_time(column, time.and_then(Timestamp::from_unix));
        }
        if !record.other.is_empty() {
            key.other = self.other(&record.other)?;
        }
        let shape = shapes.get(record.shape as usize).ok_or_else(broken)?;
        let prefix_scope = match record.prefix_scope {
            0 => None,
            1 => Some(Scope::Admin),
            _ => Some(Scope::Project),
        };
        Ok((Sighting { key, shape: Arc::clone(shape), prefix_scope }, record.flag))
    }

    fn text(&mut self, column: Column, text: &str) -> Arc<str> {
        if !column.is_shared() {
            return Arc::from(text);
        }
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        if self.texts.len() >= MAX_CACHED {
            self.texts.clear();
        }
        let text: Arc<str> = Arc::from(text);
        self.texts.insert(Arc::clone(&text));
        text
    }

    fn other(&mut self, json: &str) -> io::Result<Arc<Other>> {
        if let Some(known) = self.others.get(json) {
            return Ok(Arc::clone(known));
        }
        if self.others.len() >= MAX_CACHED {
            self.others.clear();
        }
        let other: Arc<Other> = Arc::new(serde_json::from_str(json)?);
        self.others.insert(json.to_owned(), Arc::clone(&other));
        Ok(other)
    }
}
