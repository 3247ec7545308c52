//! When a request is worth repeating, and after what wait. Pure: no I/O, no clock.
//!
//! The rules are the official SDK's: `retry-after-ms`, else `retry-after` in seconds, else as an HTTP
//! date; `x-should-retry` overrides the status; else 408, 409, 429 and 5xx; otherwise a backoff that
//! doubles.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::clock::Timestamp;

/// The longest wait that the API may ask for within a run. Anything longer ends the run.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// What a wait is taken for that is too long for the arithmetic of times.
const ENDLESS: Duration = Duration::from_hours(10 * 365 * 24);

/// What an answer says about being repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) wait: Option<Duration>,
    pub(super) should_retry: Option<bool>,
}

impl Advice {
    pub(super) fn from_headers(headers: &HeaderMap, now: Timestamp) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let millis = text("retry-after-ms").and_then(|text| parse_number(text, 0.001));
        let after = text(RETRY_AFTER.as_str());
        let wait = millis
            .or_else(|| after.and_then(|text| parse_number(text, 1.0)))
            .or_else(|| after.and_then(|text| parse_date(text, now)));
        let should_retry = match text("x-should-retry") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        Self { wait, should_retry }
    }
}

/// A count of units that are `seconds` long. Negative numbers and nonsense are no wait.
fn parse_number(text: &str, seconds: f64) -> Option<Duration> {
    let count = text.trim().parse::<f64>().ok().filter(|count| *count >= 0.0)?;
    Some(Duration::try_from_secs_f64(count * seconds).unwrap_or(ENDLESS).min(ENDLESS))
}

/// The time until an HTTP date. One that has passed is no wait.
fn parse_date(text: &str, now: Timestamp) -> Option<Duration> {
    let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let now = Duration::from_secs(u64::try_from(now.unix()).ok()?);
    date.checked_sub(now).filter(|wait| !wait.is_zero())
}

/// Whether an answer with this status is worth asking again for.
///
/// A refused credential never is, whatever the answer says: repeating it locks accounts and helps nobody.
pub(super) fn is_worth_repeating(status: u16, advice: Advice) -> bool {
    match status {
        401 | 403 => false,
        _ => advice.should_retry.unwrap_or(matches!(status, 408 | 409 | 429 | 500..=599)),
    }
}

/// The waits where the API names none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(8) }
    }
}

impl Backoff {
    /// The wait after the attempt with this number (counted from 1), up to a quarter less by chance.
    pub(super) fn wait(self, attempt: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        doubled.min(self.longest).mul_f64(1.0 - 0.25 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn advice(headers: &[(&'static str, &str)]) -> Advice {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        // 1994-11-06T08:49:37Z
        Advice::from_headers(&headers.collect(), Timestamp::from_unix(784_111_777).unwrap())
    }

    fn wait(headers: &[(&'static str, &str)]) -> Option<Duration> {
        advice(headers).wait
    }

    #[test]
    fn every_form_of_the_retry_headers_is_understood() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(wait(&[("retry-after-ms", "1500")]), Some(Duration::from_millis(1500)));
        assert_eq!(wait(&[("retry-after-ms", "0.5")]), Some(Duration::from_micros(500)));
        assert_eq!(
            wait(&[("retry-after-ms", "7"), ("retry-after", "60")]),
            Some(Duration::from_millis(7))
        );
        assert_eq!(wait(&[("retry-after-ms", "soon"), ("retry-after", "60")]), seconds(60));
        assert_eq!(wait(&[("retry-after", "2.5")]), Some(Duration::from_millis(2500)));
        assert_eq!(wait(&[("retry-after", "0")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")]), seconds(60));
        assert_eq!(wait(&[("retry-after", "Sunday, 06-Nov-94 08:50:37 GMT")]), seconds(60));
        assert_eq!(wait(&[("retry-after", "Sun Nov  6 08:50:37 1994")]), seconds(60));
    }

    #[test]
    fn nonsense_and_the_past_are_no_wait() {
        for value in ["-1", "NaN", "", "later", "Sun, 06 Nov 1994 08:49:00 GMT"] {
            assert_eq!(wait(&[("retry-after", value)]), None, "{value}");
        }
        for endless in ["1e300", "inf", "99999999999999999999"] {
            assert_eq!(wait(&[("retry-after", endless)]), Some(ENDLESS), "{endless}");
        }
    }

    #[test]
    fn the_status_decides_unless_the_answer_overrides_it() {
        let none = Advice::default();
        let yes = advice(&[("x-should-retry", "true")]);
        let no = advice(&[("x-should-retry", "false")]);
        for status in [408, 409, 429, 500, 502, 503, 504, 529] {
            assert!(is_worth_repeating(status, none), "{status}");
            assert!(!is_worth_repeating(status, no), "{status}");
        }
        for status in [400, 404, 410, 422] {
            assert!(!is_worth_repeating(status, none), "{status}");
            assert!(is_worth_repeating(status, yes), "{status}");
        }
        for status in [401, 403] {
            assert!(!is_worth_repeating(status, yes), "{status}");
        }
    }

    #[test]
    fn the_backoff_doubles_up_to_eight_seconds_and_is_jittered() {
        for (attempt, longest) in [(1, 500), (2, 1000), (3, 2000), (5, 8000), (40, 8000)] {
            for _ in 0..50 {
                let wait = Backoff::default().wait(attempt).as_millis();
                assert!((longest * 3 / 4..=longest).contains(&wait), "{attempt}: {wait}");
            }
        }
    }
}
