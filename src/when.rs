//! Times and durations as people write them on the command line and in the configuration.
//!
//! What a point in time *is* belongs to [`crate::clock`]; here its written forms are read.

use std::time::Duration;

use chrono::NaiveDateTime;

use crate::clock::Timestamp;

const DAY: i64 = 24 * 60 * 60;
/// Of 365 days.
const YEAR: u64 = 365 * 24 * 60 * 60;

/// Longer texts are no durations that anybody means, and `humantime` can overflow on them.
const MAX_DURATION_CHARS: usize = 24;

/// The text is none of the forms of a time. `Display` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a time: expected RFC 3339 (`2026-11-23T12:29:00Z`), a date or a time in UTC \
     (`2026-10-01`, `2026-10-01T12:00`), `now`, `today`, `yesterday` (from 00:00 UTC), \
     or how long ago (`7d`, `12h`, `90m`)"
)]
pub struct ParseError;

/// The text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: expected a number with its unit, such as `30s`, `15m`, `12h` or `90d`")]
pub struct ParseDurationError;

/// Reads a point in time. Where the text names no zone, it is UTC, as everything that we print.
///
/// A duration means that long before `now`.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, ParseError> {
    let midnight = now.unix() - now.unix().rem_euclid(DAY);
    match text {
        "now" => return Ok(now),
        "today" => return Timestamp::from_unix(midnight).ok_or(ParseError),
        "yesterday" => return Timestamp::from_unix(midnight - DAY).ok_or(ParseError),
        _ => {}
    }
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    if let Ok(ago) = parse_duration(text) {
        return Ok(now.saturating_sub(ago));
    }
    parse_without_zone(text).and_then(Timestamp::from_unix).ok_or(ParseError)
}

/// Reads a point in time that means the same whenever it is read: RFC 3339, or a date or a time in UTC.
#[must_use]
pub fn parse_absolute(text: &str) -> Option<Timestamp> {
    let zoned = text.parse().ok();
    zoned.or_else(|| parse_without_zone(text).and_then(Timestamp::from_unix))
}

/// Unix seconds of `2026-10-01`, `2026-10-01T12:00` or `2026-10-01T12:00:30`; a blank may stand for
/// the `T`, and a `Z` may follow a time.
fn parse_without_zone(text: &str) -> Option<i64> {
    // chrono alone would also take `+2026-1-1`: let only the full form through.
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let full = match shape.trim_end_matches('Z').replacen(' ', "T", 1).as_str() {
        "0000-00-00" if !text.ends_with('Z') => format!("{text}T00:00:00"),
        "0000-00-00T00:00" => format!("{}:00", text.trim_end_matches('Z')),
        "0000-00-00T00:00:00" => text.trim_end_matches('Z').to_owned(),
        _ => return None,
    };
    let time = NaiveDateTime::parse_from_str(&full.replacen(' ', "T", 1), "%Y-%m-%dT%H:%M:%S");
    Some(time.ok()?.and_utc().timestamp())
}

/// Reads a duration: `30s`, `15m`, `12h`, `90d`, `7y` (of 365 days), and sums such as `1d 12h`.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    // Capitals are refused because `M` would be a month, and who writes it means minutes.
    let plain = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || c == '.' || c == ' ';
    let digits_apart = |pair: &[u8]| pair[0].is_ascii_digit() && pair[1] == b' ';
    if text.len() > MAX_DURATION_CHARS
        || !text.chars().all(plain)
        || text.as_bytes().windows(2).any(digits_apart)
    {
        return Err(ParseDurationError);
    }
    let (years, rest) = split_years(text);
    if rest.replace("day", "").contains('y') {
        return Err(ParseDurationError);
    }
    let rest = match (years, rest.trim()) {
        (Some(_), "") => Ok(Duration::ZERO),
        (_, rest) => humantime::parse_duration(rest),
    };
    let years =
        Duration::from_secs(YEAR).checked_mul(years.unwrap_or(0)).ok_or(ParseDurationError)?;
    rest.ok().and_then(|rest| rest.checked_add(years)).ok_or(ParseDurationError)
}

/// Whole years at the beginning of a duration. For `humantime` a year is 365.25 days, and `7y` no whole
/// number of days.
fn split_years(text: &str) -> (Option<u32>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let rest = ["years", "year", "yr", "y"].iter().find_map(|unit| rest.strip_prefix(unit));
    match (number.parse(), rest) {
        (Ok(years), Some(rest))
            if !rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '.') =>
        {
            (Some(years), rest)
        }
        _ => (None, text),
    }
}

/// Writes a duration so that [`parse_duration`] reads it back: `30s`, `1h 30m`, `90d`, `7y`.
#[must_use]
pub fn render_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds > 0 && seconds.is_multiple_of(YEAR) && duration.subsec_nanos() == 0 {
        return format!("{}y", seconds / YEAR);
    }
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    match units.iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit)) {
        Some((unit, name)) if duration.subsec_nanos() == 0 => format!("{}{name}", seconds / unit),
        // Its years and months are no whole days.
        _ if seconds >= 86_400 => {
            let rest = Duration::new(seconds % 86_400, duration.subsec_nanos());
            format!("{}d {}", seconds / 86_400, humantime::format_duration(rest))
        }
        _ => humantime::format_duration(duration).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-23T12:29:05Z".parse().unwrap()
    }

    fn at(text: &str) -> String {
        parse(text, now()).map_or_else(|_| "refused".to_owned(), |time| time.to_string())
    }

    #[test]
    fn every_documented_form_is_read() {
        for (text, expected) in [
            ("now", "2026-11-23T12:29:05Z"),
            ("today", "2026-11-23T00:00:00Z"),
            ("yesterday", "2026-11-22T00:00:00Z"),
            ("7d", "2026-11-16T12:29:05Z"),
            ("12h", "2026-11-23T00:29:05Z"),
            ("90m", "2026-11-23T10:59:05Z"),
            ("1d 12h", "2026-11-22T00:29:05Z"),
            ("2026-10-01", "2026-10-01T00:00:00Z"),
            ("2026-10-01T12:00", "2026-10-01T12:00:00Z"),
            ("2026-10-01T12:00Z", "2026-10-01T12:00:00Z"),
            ("2026-10-01 12:00", "2026-10-01T12:00:00Z"),
            ("2026-10-01T12:00:30", "2026-10-01T12:00:30Z"),
            ("2026-10-01T12:00:30Z", "2026-10-01T12:00:30Z"),
            ("2026-10-01T12:00:30.75+02:00", "2026-10-01T10:00:30Z"),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            " ",
            "tomorrow",
            "7",
            "d",
            "7D",
            "3M",
            "-7d",
            "1 0s",
            "2026-13-01",
            "2026-02-30",
            "2026-1-1",
            "+2026-01-01",
            "0000-01-01",
            "2026-10-01Z",
            "2026-10-01T24:00",
            "01/10/2026",
            "2026-10-01T12",
            "20261001",
            "1795436945",
        ] {
            assert_eq!(at(text), "refused", "{text}");
        }
    }

    #[test]
    fn the_errors_list_the_accepted_forms() {
        insta::assert_snapshot!(ParseError, @"not a time: expected RFC 3339 (`2026-11-23T12:29:00Z`), a date or a time in UTC (`2026-10-01`, `2026-10-01T12:00`), `now`, `today`, `yesterday` (from 00:00 UTC), or how long ago (`7d`, `12h`, `90m`)");
        insta::assert_snapshot!(ParseDurationError, @"not a duration: expected a number with its unit, such as `30s`, `15m`, `12h` or `90d`");
    }

    #[test]
    fn a_duration_longer_than_history_ends_at_its_beginning() {
        assert_eq!(parse("99999999d", now()), Ok(Timestamp::MIN));
    }

    #[test]
    fn today_and_yesterday_hold_before_1970_and_at_the_beginning_of_time() {
        let early = Timestamp::from_unix(-1).unwrap();
        assert_eq!(parse("today", early).unwrap().unix(), -DAY);
        assert_eq!(parse("yesterday", Timestamp::MIN), Err(ParseError));
    }

    #[test]
    fn a_year_is_365_days() {
        let days = |days: u64| Ok(Duration::from_hours(days * 24));
        for text in ["7y", "7years", "2555d", "6y 365d", "6y365days"] {
            assert_eq!(parse_duration(text), days(2_555), "{text}");
        }
        for text in ["1.5y", "1d 1y", "y", "1yd", "1y 2y", "1yy", "1day 1y"] {
            assert_eq!(parse_duration(text), Err(ParseDurationError), "{text}");
        }
        assert_eq!(render_duration(Duration::from_secs(7 * YEAR)), "7y");
        assert_eq!(render_duration(Duration::from_hours(9_600)), "400d");
        assert_eq!(render_duration(Duration::from_hours(9_601)), "9601h");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,40}", terse in "[0-9]{1,20}(\\.[0-9]{1,3})?(s|m|h|d|w|ms|us|ns|y)([0-9]{1,6}(s|ms|us))?") {
            let _read = (parse(&text, now()), parse(&terse, now()));
        }

        #[test]
        fn a_time_as_we_print_it_reads_back(unix in Timestamp::MIN.unix()..=Timestamp::MAX.unix()) {
            let time = Timestamp::from_unix(unix).unwrap();
            prop_assert_eq!(parse(&time.to_string(), now()), Ok(time));
        }

        #[test]
        fn a_duration_as_we_print_it_reads_back(seconds in 0_u64..100_000_000, millis in prop_oneof![Just(0_u64), 0_u64..1000]) {
            let duration = Duration::from_secs(seconds) + Duration::from_millis(millis);
            let text = render_duration(duration);
            if text.len() <= MAX_DURATION_CHARS {
                prop_assert_eq!(parse_duration(&text), Ok(duration), "{}", text);
            }
        }

        #[test]
        fn so_long_ago_is_that_long_before_now(count in 0_u64..10_000, unit in 0_usize..4) {
            let (name, seconds) = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)][unit];
            let expected = now().saturating_sub(Duration::from_secs(count * seconds));
            prop_assert_eq!(parse(&format!("{count}{name}"), now()), Ok(expected));
        }
    }
}
