//! When runs are due: a cron expression in a time zone, moved by an offset of the installation's own.
//!
//! The expression is evaluated on the wall clock of its zone. Where that is set forward, a job at a fixed
//! time within the gap runs once, right after it; where it is set back, such a job runs once, the first
//! time. A job with a wildcard in its minutes or hours runs at every instant whose local time fits.

mod cron;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::clock::Timestamp;
pub use cron::{Cron, CronError};

const SECOND: TimeDelta = TimeDelta::seconds(1);
/// No zone sets its clock twice within a day, or by more than one.
const DAY: TimeDelta = TimeDelta::days(1);
/// Slots further apart than a century are not counted: a clock that is as wrong stops nothing.
const LONGEST_COUNT: TimeDelta = TimeDelta::days(36_525);
/// When the runs of one organization are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    /// Seconds by which every slot is later than the expression says.
    offset: i64,
}

impl Schedule {
    /// The offset is at most `jitter` and at most half of the shortest interval; the same installation
    /// and organization always get the same.
    #[must_use]
    pub fn new(
        cron: Cron,
        zone: Tz,
        jitter: Duration,
        installation: &str,
        organization: &str,
    ) -> Self {
        let most = jitter.as_secs().min(cron.shortest_interval() / 2);
        let offset = stable_hash(&[installation, organization]) % (most + 1);
        Self { cron, zone, offset: i64::try_from(offset).unwrap_or(0) }
    }

    /// The next slot strictly after `time`. `None`: there is none before the year 5000.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.next_instant(self.instant(time)?)?;
        Timestamp::from_unix(next.timestamp() + self.offset)
    }

    /// How many slots there are after `after`, up to and with `until`, or up to a century later. It takes
    /// as long as there are days between them, however dense the slots are.
    #[must_use]
    pub fn slots_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        let (Some(after), Some(until)) = (self.instant(after), self.instant(until)) else {
            return 0;
        };
        let until = until.min(after + LONGEST_COUNT);
        let mut count = 0;
        let mut first = after + SECOND;
        while first <= until {
            let stretch = self.stretch(first);
            let end = (until + SECOND).min(stretch.end);
            count += self.cron.count(stretch.lowest, local(end, stretch.offset));
            let begin = local(first, stretch.offset);
            // What is made up for at an instant that is a slot anyway is that slot.
            count += u64::from(stretch.makes_up && self.cron.count(begin, begin + SECOND) == 0);
            first = stretch.end;
        }
        count
    }

    /// From when on the last success is older than two intervals, as they lie after it.
    #[must_use]
    pub fn overdue_at(&self, success: Timestamp) -> Timestamp {
        let slots = || {
            let first = self.next_after(success)?;
            let second = self.next_after(first)?;
            let third = self.next_after(second)?;
            let two = u64::try_from(third.unix() - first.unix()).ok()?;
            Some(success.saturating_add(Duration::from_secs(two)).max(second))
        };
        slots().unwrap_or(Timestamp::MAX)
    }

    /// The seconds of a minute, UTC, in which slots can fall. Zones are whole minutes apart these days.
    #[must_use]
    pub fn seconds(&self) -> BTreeSet<u8> {
        let moved = |second: u8| (i64::from(second) + self.offset).rem_euclid(60);
        self.cron.seconds().filter_map(|second| u8::try_from(moved(second)).ok()).collect()
    }

    /// The instant that the expression is asked about for a time.
    fn instant(&self, time: Timestamp) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(time.unix() - self.offset, 0)
    }

    fn offset_at(&self, time: DateTime<Utc>) -> TimeDelta {
        let offset = self.zone.offset_from_utc_datetime(&time.naive_utc()).fix();
        TimeDelta::seconds(offset.local_minus_utc().into())
    }

    /// The next slot of the expression itself.
    fn next_instant(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut first = after + SECOND;
        loop {
            let stretch = self.stretch(first);
            if stretch.makes_up {
                return Some(first);
            }
            let next = self.cron.next_local(stretch.lowest - SECOND)? - stretch.offset;
            let next = next.and_utc();
            if next < stretch.end {
                return Some(next);
            }
            // Nothing fits before `next`, give or take a day for what the clock is set by until then. But
            // where it is set back, it shows once more what it has shown.
            let skip = if stretch.ends_in_change { stretch.end } else { next - DAY - DAY };
            first = skip.max(stretch.end);
        }
    }

    /// What begins at an instant, without the clock being set before its end: a day at the most.
    fn stretch(&self, first: DateTime<Utc>) -> Stretch {
        let offset = self.offset_at(first);
        let change = self.clock_change(first, first + DAY);
        let mut stretch = Stretch {
            end: change.unwrap_or(first + DAY),
            ends_in_change: change.is_some(),
            offset,
            lowest: local(first, offset),
            makes_up: false,
        };
        if self.cron.is_interval() {
            return stretch;
        }
        if let Some(set) = self.clock_change(first - DAY, first) {
            let before = self.offset_at(first - DAY);
            if before > offset {
                stretch.lowest = stretch.lowest.max(local(set, before));
            } else if set == first {
                stretch.makes_up = self.cron.count(local(first, before), stretch.lowest) > 0;
            }
        }
        stretch
    }

    /// The first instant with another offset than at `from`, if there is one up to `until`.
    fn clock_change(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let offset = self.offset_at(from);
        let (mut before, mut after) = (from, until);
        if self.offset_at(after) == offset {
            return None;
        }
        while after - before > SECOND {
            let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
            if self.offset_at(middle) == offset { before = middle } else { after = middle }
        }
        Some(after)
    }
}

/// A time during which the clock of the zone is not set.
struct Stretch {
    /// The first instant after it.
    end: DateTime<Utc>,
    /// Whether the clock is set then.
    ends_in_change: bool,
    offset: TimeDelta,
    /// The local time from which on it has slots. Where the clock was set back, a job at a fixed time has
    /// had those before.
    lowest: NaiveDateTime,
    /// Whether its first instant makes up for fixed times that the clock was set forward over.
    makes_up: bool,
}

fn local(instant: DateTime<Utc>, offset: TimeDelta) -> NaiveDateTime {
    (instant + offset).naive_utc()
}

/// FNV-1a: spreads well enough, and will be the same in years to come.
fn stable_hash(parts: &[&str]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    // The low bits of the last characters are mixed least.
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests;
