//! Points in time, and where the present one comes from.
//!
//! Nothing else in the program may ask the machine for the time: a [`Clock`] is passed in.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

/// A point in time: Unix seconds, UTC, within the years 1 to 9999 (the range that RFC 3339 can write).
///
/// It counts from a second before the first of these, so that an optional one takes no more room: there are millions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU64);

const MIN_SECONDS: i64 = -62_135_596_800;
const MAX_SECONDS: i64 = 253_402_300_799;

impl Timestamp {
    /// 0001-01-01T00:00:00Z
    pub const MIN: Self = Self(NonZeroU64::MIN);
    /// 9999-12-31T23:59:59Z
    pub const MAX: Self = Self(NonZeroU64::MIN.saturating_add(MAX_SECONDS.abs_diff(MIN_SECONDS)));

    /// `None` outside the years 1 to 9999.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Option<Self> {
        let is_within = (MIN_SECONDS..=MAX_SECONDS).contains(&seconds);
        is_within.then(|| Self(NonZeroU64::MIN.saturating_add(seconds.abs_diff(MIN_SECONDS))))
    }

    /// Unix seconds.
    #[must_use]
    pub const fn unix(self) -> i64 {
        (self.0.get() - 1).cast_signed() + MIN_SECONDS
    }

    /// This point moved later by `duration` (whole seconds), at most [`Timestamp::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs())).min(Self::MAX)
    }

    /// This point moved earlier by `duration` (whole seconds), at least [`Timestamp::MIN`].
    #[must_use]
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        match NonZeroU64::new(self.0.get().saturating_sub(duration.as_secs())) {
            Some(earlier) => Self(earlier),
            None => Self::MIN,
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timestamp").field(&self.unix()).finish()
    }
}

/// RFC 3339 in UTC with whole seconds, as in every view: `2026-11-23T12:29:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp(self.unix(), 0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true)),
            None => write!(f, "{}", self.unix()),
        }
    }
}

/// The text is not an RFC 3339 time within the years 1 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time, such as `2026-11-23T12:29:00Z`")]
pub struct ParseTimestampError;

/// Accepts RFC 3339 with any offset; fractions of a second are cut off.
impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| ParseTimestampError)?;
        Self::from_unix(time.timestamp()).ok_or(ParseTimestampError)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
        let epoch = Timestamp::from_unix(0).unwrap_or(Timestamp::MIN);
        epoch.saturating_add(since_epoch.unwrap_or(Duration::ZERO))
    }
}

/// A clock that stands still until it is set: for the demo and for tests.
#[derive(Debug)]
pub struct ManualClock(std::sync::atomic::AtomicU64);

impl ManualClock {
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(std::sync::atomic::AtomicU64::new(now.0.get()))
    }

    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0.get(), std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let now = NonZeroU64::new(self.0.load(std::sync::atomic::Ordering::SeqCst));
        now.map_or(Timestamp::MIN, Timestamp)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_optional_time_takes_no_more_room() {
        assert_eq!(size_of::<Option<Timestamp>>(), size_of::<i64>());
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(format!("{:?}", Timestamp::from_unix(-7).unwrap()), "Timestamp(-7)");
    }

    proptest! {
        #[test]
        fn times_are_the_seconds_that_they_are_made_of(
            a in MIN_SECONDS - 2..=MAX_SECONDS + 2,
            b in MIN_SECONDS..=MAX_SECONDS,
            seconds in any::<u64>(),
        ) {
            let time = Timestamp::from_unix(a);
            prop_assert_eq!(time.is_some(), (MIN_SECONDS..=MAX_SECONDS).contains(&a));
            let other = Timestamp::from_unix(b).unwrap();
            if let Some(time) = time {
                prop_assert_eq!(time.unix(), a);
                prop_assert_eq!(time.cmp(&other), a.cmp(&b));
            }
            let wide = |seconds: i128| i64::try_from(seconds.clamp(MIN_SECONDS.into(), MAX_SECONDS.into())).unwrap();
            for seconds in [seconds, seconds % 1_000_000_000_000] {
                let moved = Duration::from_secs(seconds);
                prop_assert_eq!(other.saturating_add(moved).unix(), wide(i128::from(b) + i128::from(seconds)));
                prop_assert_eq!(other.saturating_sub(moved).unix(), wide(i128::from(b) - i128::from(seconds)));
            }
        }
    }
}
