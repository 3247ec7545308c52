//! Where the pages of a list are when they are asked for side by side. Pure: no HTTP, no clock.
//!
//! The ids of the last snapshot are cursors, so that nobody has to wait for a page to learn where the next one
//! begins. Some of them are *boundaries*, in the order of the listing; *segments* begin behind them, and the first one
//! at the start of the list. Each segment is a walk of its own (`walk`), until it has itself seen a boundary further
//! on. What this promises is what a walk promises: every key that existed from the first request to the last is handed
//! over. Why that holds:
//!
//! - What a walk has seen is an unbroken stretch of everything lasting, from where it began up to its last key: no page
//!   that answers a cursor begins behind the cursor's successor (see `walk`). So a walk that begins behind a boundary
//!   has seen everything lasting from that boundary on.
//! - The first segment begins at the start. When it sees a boundary, it has seen everything lasting up to it, and what
//!   comes next is what the segment behind that boundary has seen. So it goes on from one to the next, and where a
//!   walk reaches the end of the list, all has been seen. None of this depends on the boundary still being there, or on
//!   the order being the one that it was.
//! - A segment counts only where the one before it has seen its boundary, or a key that the segment has seen itself:
//!   then what both have seen is one stretch. Where the boundary is gone, the walk before goes on until it meets what
//!   was read behind it, or another boundary; what is read twice is handed over once. Nor does a segment count whose
//!   cursor was lost at once (refused, an empty page, a page from elsewhere): the one before goes on in its place, even
//!   if it had seen the boundary and was done.
//! - All segments behind a walk that reached the end of the list are dropped: there is no list behind it.
//!
//! A server that does not list the oldest key first rules all this out, since boundaries would be of no use there:
//! then the list is read page by page.
//!
//! With an unchanged list each segment is one page, as its boundary is the last key on it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::subject::Lost;
use super::walk::{Item, Stuck, Verdict, Walk};
use crate::clock::Timestamp;

/// A key of the last snapshot, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    pub id: Arc<str>,
    pub created_at: Timestamp,
}

/// What became of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// One flag an item: whether it is to be handed over.
    Page(Vec<bool>),
    /// It was of no use: for a loss of the place in the list, if there was one.
    Nothing(Option<Lost>),
}

/// Why the list cannot be read side by side, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// It has to be read page by page, for this reason.
    RuledOut(&'static str),
    Stuck(Stuck),
}

/// A page to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) segment: usize,
    pub(super) after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was asked for yet.
    Waiting,
    Walking,
    /// It has seen the boundary of that segment.
    Closed(usize),
    /// It has reached the end of the list.
    Ended,
    /// It does not count.
    Dropped,
}

#[derive(Debug)]
struct Segment {
    walk: Walk,
    state: State,
    /// Pages that it took.
    pages: u64,
    /// The ages of the keys that it has seen: the greatest and the least.
    span: Option<(Timestamp, Timestamp)>,
}

/// Segments of a list, and how far each of them is.
#[derive(Debug)]
pub(super) struct Segments {
    boundaries: Vec<Boundary>,
    /// The segments behind the boundaries, by the boundaries' ids.
    behind: HashMap<Arc<str>, usize>,
    parts: Vec<Segment>,
    /// Those that walk and of which no page is asked for.
    idle: BTreeSet<usize>,
    /// No segment before this one waits.
    first_waiting: usize,
    /// Up to here, one closed segment follows the other.
    front: usize,
    /// Whether one walk met what another had seen: then both may have gone further, and all remember.
    has_met: bool,
    /// Those that remember what they have seen: others may come upon it.
    remembering: BTreeSet<usize>,
    shifts: u64,
    lost_cursors: u64,
    restarts: u32,
}

impl Segments {
    /// Of a list with these boundaries in it, the oldest first.
    pub(super) fn new(boundaries: Vec<Boundary>) -> Self {
        let numbered = boundaries.iter().zip(1..);
        let behind = numbered.map(|(boundary, number)| (Arc::clone(&boundary.id), number));
        let waiting =
            |_| Segment { walk: Walk::default(), state: State::Waiting, pages: 0, span: None };
        Self {
            behind: behind.collect(),
            parts: (0..=boundaries.len()).map(waiting).collect(),
            boundaries,
            idle: BTreeSet::new(),
            first_waiting: 0,
            front: 0,
            has_met: false,
            remembering: BTreeSet::new(),
            shifts: 0,
            lost_cursors: 0,
            restarts: 0,
        }
    }

    /// The next page to ask for, if there is one that is not asked for: those that others wait for first.
    pub(super) fn next(&mut self) -> Option<Wanted> {
        let at = self.idle.pop_first().or_else(|| self.start_next())?;
        let after = self.parts[at].walk.cursor().map(str::to_owned);
        Some(Wanted { segment: at, after })
    }

    fn start_next(&mut self) -> Option<usize> {
        while let Some(segment) = self.parts.get_mut(self.first_waiting) {
            let at = self.first_waiting;
            self.first_waiting += 1;
            if segment.state == State::Waiting {
                segment.state = State::Walking;
                if let Some(before) = at.checked_sub(1) {
                    let Boundary { id, created_at } = &self.boundaries[before];
                    segment.walk = Walk::after(id, *created_at);
                }
                return Some(at);
            }
        }
        None
    }

    /// Whether everything lasting has been seen.
    pub(super) fn is_complete(&mut self) -> bool {
        while let State::Closed(next) = self.parts[self.front].state {
            self.front = next;
        }
        self.parts[self.front].state == State::Ended
    }

    /// The boundary up to which everything has been seen without a gap, if that is not the start.
    pub(super) fn front(&self) -> Option<&Boundary> {
        self.boundaries.get(self.front.checked_sub(1)?)
    }

    /// Which of the boundaries that is, counted from 1.
    pub(super) const fn front_number(&self) -> usize {
        self.front
    }

    /// How many segments there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The walk of the first segment: it began at the start of the list, and whoever goes on with it reads all.
    pub(super) fn into_first(mut self) -> Walk {
        let mut segments = std::mem::take(&mut self.parts).into_iter();
        let mut walk = segments.next().map(|first| first.walk).unwrap_or_default();
        for Segment { walk, .. } in segments {
            self.count(&walk);
        }
        walk.shifts += self.shifts;
        walk.lost_cursors += self.lost_cursors;
        walk.restarts += self.restarts;
        walk
    }

    /// Takes the page that was [wanted](Self::next) for a segment.
    pub(super) fn accept(
        &mut self,
        at: usize,
        items: &[Item],
        has_more: Option<bool>,
    ) -> Result<Taken, Hindrance> {
        if self.parts[at].state == State::Dropped {
            return Ok(Taken::Nothing(None));
        }
        if items.iter().any(|item| item.1.is_none()) || !items.is_sorted_by_key(|item| item.1) {
            return Err(Hindrance::RuledOut("the list is not in the order that was asked for"));
        }
        let seen = self.next_boundary(at, items)?;
        let (items, has_more) = match seen {
            Some((place, _)) => (&items[..=place], Some(true)),
            None => (items, has_more),
        };
        match self.parts[at].walk.accept(items, has_more) {
            Ok(Verdict::Taken { fresh, end }) => Ok(self.take(at, items, fresh, seen, end)),
            Ok(Verdict::SteppedBack(lost)) => {
                if at > 0 && self.parts[at].walk.cursor().is_none() {
                    self.lose(at)?;
                } else {
                    self.idle.insert(at);
                }
                Ok(Taken::Nothing(lost))
            }
            Err(stuck) if at == 0 => Err(Hindrance::Stuck(stuck)),
            Err(_) => self.lose(at).map(|()| Taken::Nothing(None)),
        }
    }

    /// Takes the news that the request that was wanted for a segment was refused for its cursor.
    pub(super) fn refuse(&mut self, at: usize, status: u16) -> Result<(), Hindrance> {
        if self.parts[at].state == State::Dropped {
            return Ok(());
        }
        match self.parts[at].walk.refuse(status) {
            Err(stuck) if at == 0 => Err(Hindrance::Stuck(stuck)),
            Ok(_) if at == 0 || self.parts[at].walk.cursor().is_some() => {
                self.idle.insert(at);
                Ok(())
            }
            Ok(_) | Err(_) => self.lose(at),
        }
    }

    /// The first boundary on the page that counts, and the segment behind it.
    fn next_boundary(
        &self,
        at: usize,
        items: &[Item],
    ) -> Result<Option<(usize, usize)>, Hindrance> {
        for (place, (id, _)) in items.iter().enumerate() {
            let Some(behind) = self.behind.get(id).copied() else { continue };
            if behind > at {
                if self.parts[behind].state != State::Dropped {
                    return Ok(Some((place, behind)));
                }
            } else if self.parts[at].pages > 0 && !self.parts[at].walk.has_seen(id) {
                return Err(Hindrance::RuledOut("keys have changed places in the list"));
            }
        }
        Ok(None)
    }

    fn take(
        &mut self,
        at: usize,
        items: &[Item],
        mut fresh: Vec<bool>,
        seen: Option<(usize, usize)>,
        end: bool,
    ) -> Taken {
        let span = items.first().and_then(|item| item.1).zip(items.last().and_then(|item| item.1));
        let others = self.remembering.iter().copied().filter(|other| *other != at);
        let others: Vec<usize> =
            others.filter(|other| overlap(self.parts[*other].span, span)).collect();
        let mut met = None;
        let mut known_to: HashMap<usize, usize> = HashMap::new();
        for ((id, _), fresh) in items.iter().zip(&mut fresh) {
            // Where a walk began, it knows of a key that it has not seen.
            let began = self.behind.get(id).copied();
            for other in others.iter().copied().filter(|other| began != Some(*other)) {
                let part = &self.parts[other];
                if part.walk.has_seen(id) {
                    *fresh = false;
                    let counts = other > at && part.state != State::Dropped;
                    met = met.or_else(|| counts.then_some(other));
                    *known_to.entry(other).or_default() += 1;
                }
            }
        }
        let met = met.filter(|_| seen.is_none() && !end);
        // One before it has come past where it began, and is as far: side by side, they would read all twice.
        let is_ahead = |(other, known): (&usize, &usize)| {
            *other < at && *known == items.len() && self.parts[*other].state == State::Walking
        };
        let is_useless = seen.is_none()
            && met.is_none()
            && !end
            && known_to.iter().any(is_ahead)
            && self.closed_at(at).is_none();
        self.has_met |= met.is_some() || is_useless;
        let seen = seen.map(|(_, behind)| behind).or(met);
        let segment = &mut self.parts[at];
        segment.pages += 1;
        segment.span = match (segment.span, span) {
            (Some((from, until)), Some((first, last))) => Some((from.min(first), until.max(last))),
            (known, new) => known.or(new),
        };
        self.remembering.insert(at);
        if let Some(behind) = seen {
            segment.state = State::Closed(behind);
            self.drop_all(at + 1..behind);
        } else if end {
            segment.state = State::Ended;
            self.drop_all(at + 1..self.parts.len());
        } else if is_useless {
            segment.state = State::Dropped;
        } else {
            self.idle.insert(at);
        }
        self.forget();
        Taken::Page(fresh)
    }

    fn drop_all(&mut self, which: std::ops::Range<usize>) {
        for at in which {
            self.parts[at].state = State::Dropped;
            self.idle.remove(&at);
        }
    }

    /// Forgets what closed segments have seen, where no other can come upon it again: none before it still walks, and
    /// the one behind it is on its way, so that this one does not have to go on in its place.
    fn forget(&mut self) {
        while let Some(at) = self.remembering.first().copied().filter(|_| !self.has_met) {
            let is_settled = match self.parts[at].state {
                // It may have seen keys that the one behind it has yet to come to.
                State::Closed(next) => {
                    let until = |at: usize| self.parts[at].span.map(|span| span.1);
                    self.parts[next].pages > 0 && until(next) >= until(at)
                }
                State::Dropped => true,
                State::Waiting | State::Walking | State::Ended => false,
            };
            // Of the first one that walks, all before is settled.
            if !is_settled || self.has_walking_before(at) {
                return;
            }
            self.remembering.remove(&at);
            let walk = std::mem::take(&mut self.parts[at].walk);
            // The first one may yet have to read all.
            if at == 0 {
                self.parts[0].walk = walk;
                continue;
            }
            self.count(&walk);
        }
    }

    /// The segment that has seen the boundary before this one, if one has.
    fn closed_at(&self, at: usize) -> Option<usize> {
        (0..at).rev().find(|before| self.parts[*before].state == State::Closed(at))
    }

    /// Whether a segment before this one has not seen a boundary yet.
    fn has_walking_before(&self, at: usize) -> bool {
        self.front < at && {
            let mut front = self.front;
            while let State::Closed(next) = self.parts[front].state {
                front = next;
            }
            front < at
        }
    }

    fn count(&mut self, walk: &Walk) {
        self.shifts += walk.shifts;
        self.lost_cursors += walk.lost_cursors;
        self.restarts += walk.restarts;
    }

    /// The cursor behind the segment's boundary is lost: the segment before goes on in its place.
    fn lose(&mut self, at: usize) -> Result<(), Hindrance> {
        if self.parts[at].pages > 0 {
            return Err(Hindrance::RuledOut("the place in the list was lost"));
        }
        self.lost_cursors += 1;
        self.drop_all(at..at + 1);
        self.parts[at].walk = Walk::default();
        let Some(before) = self.closed_at(at) else {
            // It goes on anyway.
            return Ok(());
        };
        self.parts[before].state = State::Walking;
        self.front = self.front.min(before);
        // Its cursor is the key that is no cursor any more.
        self.refuse(before, 404)
    }
}

/// Whether two spans of time have a moment in common.
fn overlap(one: Option<(Timestamp, Timestamp)>, other: Option<(Timestamp, Timestamp)>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.0 <= other.1 && other.0 <= one.1)
}

#[cfg(test)]
#[path = "segments_law.rs"]
mod law;
