//! When runs are due: a cron expression in a time zone, moved by an offset of the installation's own.
//!
//! The expression is evaluated on the wall clock of its zone. Where that is set forward, a job at a fixed
//! time within the gap runs once, right after it; where it is set back, such a job runs once, the first
//! time. A job with a wildcard in its minutes or hours runs at every instant whose local time fits.

mod cron;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::clock::Timestamp;
pub use cron::{Cron, CronError};

/// More slots are not counted.
pub const MOST_SLOTS: u64 = 100_000;
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
        let from = DateTime::from_timestamp(time.unix() - self.offset, 0)?;
        let next =
            if self.cron.is_interval() { self.next_instant(from) } else { self.next_fixed(from) };
        Timestamp::from_unix(next?.timestamp() + self.offset)
    }

    /// How many slots there are after `after`, up to and with `until`; at most [`MOST_SLOTS`].
    #[must_use]
    pub fn slots_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        let mut count = 0;
        let mut last = after;
        while count < MOST_SLOTS
            && let Some(next) = self.next_after(last).filter(|next| *next <= until)
        {
            count += 1;
            last = next;
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
        self.cron
            .seconds()
            .into_iter()
            .filter_map(|second| u8::try_from(moved(second)).ok())
            .collect()
    }

    fn offset_at(&self, time: DateTime<Utc>) -> TimeDelta {
        let offset = self.zone.offset_from_utc_datetime(&time.naive_utc()).fix();
        TimeDelta::seconds(offset.local_minus_utc().into())
    }

    /// The next instant whose local time fits.
    fn next_instant(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // No zone sets its clock twice within a day.
        const DAY: TimeDelta = TimeDelta::days(1);
        let second = TimeDelta::seconds(1);
        let mut from = after;
        loop {
            let offset = self.offset_at(from + second);
            // As the clock shows it at the first instant in question, whatever it showed before.
            let local = (from + offset).naive_utc();
            let next = (self.cron.next_local(local)? - offset).and_utc();
            match self.clock_change(from + second, from + DAY) {
                Some(change) if next >= change => from = change - second,
                _ if self.offset_at(next) == offset => return Some(next),
                // Somewhere before `next` the clock is set, and nothing fits before that.
                _ => from = (next - DAY - DAY).max(from + DAY - second),
            }
        }
    }

    /// The first instant with another offset than at `from`, if there is one up to `until`.
    fn clock_change(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let offset = self.offset_at(from);
        let (mut before, mut after) = (from, until);
        if self.offset_at(after) == offset {
            return None;
        }
        while after - before > TimeDelta::seconds(1) {
            let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
            if self.offset_at(middle) == offset { before = middle } else { after = middle }
        }
        Some(after)
    }

    /// The next instant that a local time stands for.
    fn next_fixed(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // From before any gap or repetition that may concern us.
        let mut local = (after + self.offset_at(after)).naive_utc() - TimeDelta::days(2);
        loop {
            local = self.cron.next_local(local)?;
            let instant = match self.zone.from_local_datetime(&local) {
                LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => time.to_utc(),
                LocalResult::None => self.end_of_gap(local)?,
            };
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// The first instant after the gap that swallows a local time.
    fn end_of_gap(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        // By either offset it is within two days of the gap.
        let around = local.and_utc();
        self.clock_change(around - TimeDelta::days(2), around + TimeDelta::days(2))
    }
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
