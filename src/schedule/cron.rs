//! A cron expression, and the times of a clock on the wall that fit it. Knows no zone.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime};
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
        let cron = Self { text: text.to_owned(), parsed };
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

    /// Whether it means every so often, and not certain times of the day.
    pub(super) fn is_interval(&self) -> bool {
        let mut fields: Vec<&str> = self.text.split_whitespace().collect();
        // Day, month and weekday do not tell.
        fields.truncate(fields.len() - 3);
        fields.iter().any(|field| field.contains(['*', '/', '?']))
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
    pub(super) fn seconds(&self) -> Vec<u8> {
        let fields: Vec<&str> = self.text.split_whitespace().collect();
        let seconds = if fields.len() == 6 { fields[0] } else { "0" };
        let parser = CronParser::builder().seconds(Seconds::Required).build();
        let any_minute = parser.parse(&format!("{seconds} * * * * *"));
        let fits = |second: &u8| {
            let time = DateTime::from_timestamp(REFERENCE + i64::from(*second), 0);
            // What can't be told apart counts as fitting: one tick too many does no harm.
            any_minute
                .as_ref()
                .ok()
                .zip(time)
                .is_none_or(|(cron, time)| cron.is_time_matching(&time).unwrap_or(true))
        };
        (0..60).filter(fits).collect()
    }
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
