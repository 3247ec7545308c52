//! A cron expression, and the times of a clock on the wall that fit it. Knows no zone.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use croner::parser::{CronParser, Seconds, Year};

/// 2026-01-01T00:00:00Z: where the shortest interval is measured, so that it never changes.
const REFERENCE: i64 = 1_767_225_600;
/// Enough to meet the shortest interval of any expression that people write.
const MEASURED_SLOTS: usize = 200;

/// A cron expression of five fields, or of six with the seconds first.
#[derive(Clone)]
pub struct Cron {
    text: String,
    parsed: croner::Cron,
    /// The hours, minutes and seconds that fit, a bit each. Every combination of them does.
    hours: u64,
    minutes: u64,
    seconds: u64,
    is_interval: bool,
}

/// Why a cron expression can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("have five fields (minute hour day month weekday), or six with the second first")]
    Fields,
    #[error("be a cron expression: {0}")]
    Syntax(String),
    #[error("be a cron expression that comes true some day")]
    Never,
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !(5..=6).contains(&text.split_whitespace().count()) {
            return Err(CronError::Fields);
        }
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let parsed = parser
            .parse(text)
            .map_err(|error| CronError::Syntax(error.to_string().to_lowercase()))?;
        let pattern = &parsed.pattern;
        let cron = Self {
            text: text.to_owned(),
            hours: bits(24, |hour| pattern.hour_match(hour)),
            minutes: bits(60, |minute| pattern.minute_match(minute)),
            seconds: bits(60, |second| pattern.second_match(second)),
            is_interval: is_interval(text),
            parsed,
        };
        let reference = DateTime::from_timestamp(REFERENCE, 0).map(|time| time.naive_utc());
        reference.and_then(|from| cron.next_local(from)).map(|_| cron).ok_or(CronError::Never)
    }
}

impl Cron {
    /// The next local time that fits, strictly after `from`.
    pub(super) fn next_local(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        // Taken for UTC, in which every local time is there exactly once.
        self.parsed.find_next_occurrence(&from.and_utc(), false).ok().map(|time| time.naive_utc())
    }

    /// How many local times fit, from one up to another and without that. It takes as long as there are
    /// days between them, however dense the times are.
    pub(super) fn count(&self, from: NaiveDateTime, until: NaiveDateTime) -> u64 {
        let on_day = |day: NaiveDate| {
            let begin = if day == from.date() { self.times_before(from.time()) } else { 0 };
            let end = if day == until.date() {
                self.times_before(until.time())
            } else {
                ones(self.hours) * ones(self.minutes) * ones(self.seconds)
            };
            end.saturating_sub(begin)
        };
        let days = from.date().iter_days().take_while(|day| *day <= until.date());
        days.filter(|day| self.has_day(*day)).map(on_day).sum()
    }

    fn has_day(&self, day: NaiveDate) -> bool {
        let pattern = &self.parsed.pattern;
        // An error is about a day that no calendar has.
        pattern.month_match(day.month()).unwrap_or(false)
            && pattern.day_match(day.year(), day.month(), day.day()).unwrap_or(false)
    }

    /// How many times of a day that fits are before one.
    fn times_before(&self, time: NaiveTime) -> u64 {
        let has = |set: u64, value: u32| set >> value & 1;
        let below = |set: u64, value: u32| ones(set & ((1 << value) - 1));
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        let in_minute = has(self.minutes, minute) * below(self.seconds, second);
        let in_hour = below(self.minutes, minute) * ones(self.seconds) + in_minute;
        let a_whole_hour = ones(self.minutes) * ones(self.seconds);
        below(self.hours, hour) * a_whole_hour + has(self.hours, hour) * in_hour
    }

    /// Whether it means every so often, and not certain times of the day.
    pub(super) const fn is_interval(&self) -> bool {
        self.is_interval
    }

    /// Between two slots, in seconds.
    pub(super) fn shortest_interval(&self) -> u64 {
        let Some(mut last) = DateTime::from_timestamp(REFERENCE, 0).map(|time| time.naive_utc())
        else {
            return 1;
        };
        let mut shortest = i64::MAX;
        for number in 0..MEASURED_SLOTS {
            let Some(next) = self.next_local(last) else { break };
            if number > 0 {
                shortest = shortest.min((next - last).num_seconds());
            }
            last = next;
        }
        u64::try_from(shortest).unwrap_or(1)
    }

    /// The seconds of a minute that fit.
    pub(super) fn seconds(&self) -> impl Iterator<Item = u8> + '_ {
        (0..60).filter(|second| self.seconds >> second & 1 == 1)
    }
}

fn is_interval(text: &str) -> bool {
    let mut fields: Vec<&str> = text.split_whitespace().collect();
    // Day, month and weekday do not tell.
    fields.truncate(fields.len().saturating_sub(3));
    fields.iter().any(|field| field.contains(['*', '/', '?']))
}

/// Those below `most` that fit, a bit each.
fn bits<E>(most: u32, fits: impl Fn(u32) -> Result<bool, E>) -> u64 {
    // An error is about a value that no clock shows.
    let fit = (0..most).filter(|value| fits(*value).unwrap_or(false));
    fit.fold(0, |bits, value| bits | 1 << value)
}

fn ones(bits: u64) -> u64 {
    u64::from(bits.count_ones())
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

/// As it was written.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
