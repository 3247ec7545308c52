//! The walk through the pages of a list that changes while it is walked. Pure: no HTTP, no clock.
//!
//! What it promises: every key that existed from the first request to the last is handed over, each
//! once, whatever is created and deleted meanwhile and however the server treats a cursor that has
//! vanished. Why that holds:
//!
//! - A page is an unbroken stretch of the server's list. If it begins at or before the successor of a
//!   key up to which everything lasting was seen, then everything lasting up to its last item has been
//!   seen. So *every* key seen is a good cursor, and so is the start; going back to an earlier one costs
//!   requests and never a key.
//! - The only answer that can lie about a vanished cursor is the empty one (a refusal ends nothing, and
//!   "from the beginning" starts before the successor). So an empty page after a cursor is never taken
//!   for the end by itself: the end is a page with keys and `has_more: false`.
//! - Where the server sends no `has_more` at all, an empty page *claims* that its cursor is the last
//!   key. The claim is believed once a later page ends with that very key: it existed after the empty
//!   answer, so it had not vanished before, as ids do not come back.
//!
//! The other rules (older than the cursor, only repeated keys, bounded steps and restarts) are there
//! so that no server can keep us walking for ever. None of the three points above needs to know by what
//! the list is ordered, only that two keys never change places in it. So a list of unknown order is
//! walked the same way, with items that show no time: then nothing is older than its cursor.

use std::sync::Arc;

use super::subject::Lost;
use crate::clock::Timestamp;
use crate::numbered::Numbered;

/// More keys than any organization has.
pub(super) const MAX_ITEMS: usize = 5_000_000;
/// How often a lost cursor is answered by going further back (1, 2, 4 … keys) before beginning again.
const MAX_STEPS: u32 = 8;
/// How often the walk begins again without gaining a key in between.
const MAX_RESTARTS_IN_A_ROW: u32 = 3;
/// How often the walk begins again at all.
const MAX_RESTARTS: u32 = 12;

/// The position of a key that is about to be given one.
const IN_HAND: u32 = u32::MAX;

/// One item of a page, as far as the walk is concerned: its id, and its age where the list is known to be
/// in the order of age.
pub(super) type Item = (Arc<str>, Option<Timestamp>);

/// What became of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It continues the walk. One flag an item: whether it is seen for the first time.
    Taken { fresh: Vec<bool>, end: bool },
    /// It does not; the walk goes on from an earlier key. `None`: that was to confirm an end.
    SteppedBack(Option<Lost>),
}

/// The walk cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stuck {
    Lost(Lost),
    WrongOrder,
    TooManyItems,
}

/// Where a walk is, and which keys it has seen.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The keys seen.
    ids: Numbered,
    /// The age of each, by its number, where it is known.
    times: Vec<Option<Timestamp>>,
    /// Their numbers, in the server's order as far as the pages told it. So for an honest server the
    /// page after a key that still exists always ends further on.
    order: Vec<u32>,
    /// Where in it each stands, by its number.
    positions: Vec<u32>,
    /// The position of the key to ask after; `None` for the start of the list.
    cursor: Option<usize>,
    /// Steps back since the last new key or restart.
    steps: u32,
    restarts_in_a_row: u32,
    /// From a lost cursor to the next new key, pages rightly repeat what was seen.
    recovering: bool,
    /// Whether the page before said `has_more: true`.
    more_promised: bool,
    /// The cursor of the last empty page that claims the end of a list without `has_more`.
    claimed_end: Option<u32>,
    pub(super) shifts: u64,
    pub(super) lost_cursors: u64,
    pub(super) restarts: u32,
}

impl Walk {
    /// One that begins behind a key that is known.
    pub(super) fn after(id: &str, time: Timestamp) -> Self {
        let mut walk = Self::default();
        // The first one always has a number.
        if walk.place(&[(Arc::from(id), Some(time))]).is_some() {
            walk.cursor = Some(0);
        }
        walk
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The key to ask after next; `None` for the start of the list.
    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.map(|position| self.ids.text(self.order[position] as usize))
    }

    /// Whether the key was seen.
    pub(super) fn has_seen(&self, id: &str) -> bool {
        self.ids.find(id).is_some()
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.ids.find(id).map(|number| self.positions[number] as usize)
    }

    /// How many keys were seen.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Takes the page that was asked for after [`Walk::cursor`].
    pub(super) fn accept(
        &mut self,
        items: &[Item],
        has_more: Option<bool>,
    ) -> Result<Verdict, Stuck> {
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            return self.accept_empty(has_more);
        };
        // Of a later page the first item tells as much, and a few keys may well stand the other way round.
        if self.cursor.is_none() && has_more != Some(false) && is_descending(items) {
            return Err(Stuck::WrongOrder);
        }
        if let Some(lost) = self.find_loss(items, first, last) {
            return self.lose(lost);
        }
        let Some(fresh) = self.place(items) else { return Err(Stuck::TooManyItems) };
        if self.order.len() > MAX_ITEMS {
            return Err(Stuck::TooManyItems);
        }
        if fresh.contains(&true) {
            if fresh.contains(&false) && !self.recovering {
                self.shifts += 1;
            }
            self.recovering = false;
            self.steps = 0;
            self.restarts_in_a_row = 0;
        }
        self.cursor = self.position(&last.0);
        let last = self.cursor.map(|position| self.order[position]);
        let end =
            has_more.map_or(self.claimed_end.is_some() && self.claimed_end == last, |more| !more);
        self.more_promised = has_more == Some(true);
        Ok(Verdict::Taken { fresh, end })
    }

    /// Takes the news that the request after [`Walk::cursor`] was refused as such.
    pub(super) fn refuse(&mut self, status: u16) -> Result<Verdict, Stuck> {
        self.lose(Lost::Refused(status))
    }

    fn accept_empty(&mut self, has_more: Option<bool>) -> Result<Verdict, Stuck> {
        let Some(cursor) = self.cursor else {
            // That every key went since the walk began is a lot less likely than a glitch.
            return if has_more == Some(true) || !self.order.is_empty() {
                self.lose(Lost::Empty)
            } else {
                Ok(Verdict::Taken { fresh: Vec::new(), end: true })
            };
        };
        if self.more_promised || has_more == Some(true) {
            return self.lose(Lost::Empty);
        }
        self.claimed_end = Some(self.order[cursor]);
        self.recovering = true;
        if self.steps < MAX_STEPS {
            self.cursor = self.earlier(cursor);
            self.steps += 1;
            return Ok(Verdict::SteppedBack(None));
        }
        self.begin_again(Lost::Empty)?;
        Ok(Verdict::SteppedBack(None))
    }

    /// Why this page does not follow the cursor, if it does not.
    fn find_loss(&self, items: &[Item], first: &Item, last: &Item) -> Option<Lost> {
        let cursor = self.cursor?;
        let number = self.order[cursor] as usize;
        let cursor_id = self.ids.text(number);
        if let (Some(before), Some(after)) = (self.times[number], first.1)
            && after < before
        {
            return Some(Lost::Older);
        }
        let repeats = items.iter().all(|(id, _)| self.has_seen(id));
        let advances = self.position(&last.0).is_none_or(|position| position > cursor);
        // A page cannot hold the key that it comes after: such a server does not look at the cursor.
        let ignores_cursor = items.iter().any(|(id, _)| id.as_ref() == cursor_id);
        (repeats && (!advances || ignores_cursor)).then_some(Lost::Repeated)
    }

    /// Puts the keys of a page into the order, each new one beside its neighbours in the page. Tells
    /// of each item whether it is new; `None` if there are more than can be counted.
    fn place(&mut self, items: &[Item]) -> Option<Vec<bool>> {
        let mut fresh = Vec::with_capacity(items.len());
        let mut run = Vec::new();
        let mut at = self.cursor.map_or(0, |cursor| cursor + 1);
        for (id, time) in items {
            let known = self.ids.find(id);
            fresh.push(known.is_none());
            match known.map(|number| self.positions[number]) {
                None => {
                    run.push(u32::try_from(self.ids.add(id)?).ok()?);
                    self.times.push(*time);
                    self.positions.push(IN_HAND);
                }
                Some(IN_HAND) => {}
                Some(position) => {
                    let position = position as usize;
                    at = position + run.len() + 1;
                    self.insert(position, &mut run);
                }
            }
        }
        self.insert(at, &mut run);
        Some(fresh)
    }

    /// Mostly `at` is the end; only recoveries and shifting lists have something behind it to move.
    fn insert(&mut self, at: usize, run: &mut Vec<u32>) {
        if run.is_empty() {
            return;
        }
        self.order.splice(at..at, run.drain(..));
        for (position, number) in (0..).zip(&self.order).skip(at) {
            self.positions[*number as usize] = position;
        }
    }

    fn lose(&mut self, lost: Lost) -> Result<Verdict, Stuck> {
        self.lost_cursors += 1;
        self.recovering = true;
        let earlier = self.cursor.and_then(|cursor| self.earlier(cursor));
        if earlier.is_some() && self.steps < MAX_STEPS {
            self.cursor = earlier;
            self.steps += 1;
        } else {
            self.begin_again(lost)?;
        }
        Ok(Verdict::SteppedBack(Some(lost)))
    }

    /// The next candidate before `cursor`; `None` for the start of the list.
    fn earlier(&self, cursor: usize) -> Option<usize> {
        cursor.checked_sub(1 << self.steps)
    }

    fn begin_again(&mut self, lost: Lost) -> Result<(), Stuck> {
        if self.restarts_in_a_row == MAX_RESTARTS_IN_A_ROW || self.restarts == MAX_RESTARTS {
            return Err(Stuck::Lost(lost));
        }
        self.restarts += 1;
        self.restarts_in_a_row += 1;
        self.steps = 0;
        self.cursor = None;
        Ok(())
    }
}

/// Whether the page runs from newer to older keys throughout.
fn is_descending(items: &[Item]) -> bool {
    let times: Option<Vec<Timestamp>> = items.iter().map(|item| item.1).collect();
    let Some(times) = times else { return false };
    times.is_sorted_by(|a, b| a >= b) && times.first() > times.last()
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "walk_law.rs"]
pub(super) mod law;
