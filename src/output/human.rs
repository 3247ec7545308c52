//! Numbers, counts and durations as people read them.

use std::time::Duration;

/// A number with its thousands apart: `1 204`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A number of things: `1 key`, `1 204 keys`, `2 retries`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {}", grouped(number), plural(noun)) }
}

fn plural(noun: &str) -> String {
    let consonant_y =
        noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u']));
    match consonant_y {
        Some(stem) => format!("{stem}ies"),
        None if ["s", "x", "ch", "sh"].iter().any(|end| noun.ends_with(end)) => format!("{noun}es"),
        None => format!("{noun}s"),
    }
}

/// A length of time: `0.2 s`, `2 min 5 s`, `1 h 4 min`, `3 d 2 h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    if tenths < 600 {
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let seconds = (duration.as_millis() + 500) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () => format!("{minutes} min {} s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let shown = [0, 999, 1204, 12_345, 1_000_000].map(grouped);
        assert_eq!(shown, ["0", "999", "1 204", "12 345", "1 000 000"]);
        assert_eq!(grouped(u64::MAX), "18 446 744 073 709 551 615");
    }

    #[test]
    fn plurals_are_real_plurals() {
        assert_eq!(count(1, "key"), "1 key");
        assert_eq!(count(0, "key"), "0 keys");
        assert_eq!(count(1204, "key"), "1 204 keys");
        assert_eq!(count(2, "retry"), "2 retries");
        assert_eq!(count(1, "retry"), "1 retry");
        assert_eq!(count(3, "process"), "3 processes");
        assert_eq!(count(13, "request"), "13 requests");
    }

    #[test]
    fn durations_read_well() {
        let shown = |millis| duration(Duration::from_millis(millis));
        assert_eq!(shown(0), "0.0 s");
        assert_eq!(shown(200), "0.2 s");
        assert_eq!(shown(1_449), "1.4 s");
        assert_eq!(shown(59_949), "59.9 s");
        assert_eq!(shown(59_950), "1 min 0 s");
        assert_eq!(shown(125_000), "2 min 5 s");
        assert_eq!(shown(3_840_000), "1 h 4 min");
        assert_eq!(shown(86_400_000 * 3 + 7_200_000), "3 d 2 h");
    }
}
