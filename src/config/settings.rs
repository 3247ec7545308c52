//! The one list of settings: names, defaults, and what each may hold.
//!
//! Everything that must agree (the unknown-setting check, the defaults, the annotated file and the
//! documentation, by tests) reads this list.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::when::render_duration;

/// One setting, as a section and a key in it.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// As written in the file, without quotes. `None`: unset, or worked out.
    pub(super) default: Option<&'static str>,
    pub(super) expects: Expects,
}

/// What a setting holds.
#[derive(Debug)]
pub(super) enum Expects {
    Path,
    Integer(RangeInclusive<u64>),
    Duration(RangeInclusive<Duration>),
    Bool,
    /// One of these.
    Word(&'static [&'static str]),
    Cron,
    Zone,
    /// An address to listen at.
    Listen,
    Url,
    Text,
    /// Names of rules.
    Rules,
    /// Tables of the members [`EXCEPTION_MEMBERS`].
    Exceptions,
}

pub(super) const ORGANIZATIONS: &str = "organizations";
/// What a table of `findings.exceptions` can say.
pub(super) const EXCEPTION_MEMBERS: [&str; 5] = ["key", "rule", "organization", "reason", "until"];
pub(super) const SECTIONS: [&str; 10] = [
    "database",
    "checkpoint",
    "api",
    "removal",
    "retention",
    "findings",
    "schedule",
    "metrics",
    "heartbeat",
    ORGANIZATIONS,
];
/// Sections within an organization's: what they set goes before the section of the same name.
pub(super) const INNER_SECTIONS: [&str; 2] = ["schedule", "heartbeat"];

const fn path(section: &'static str, key: &'static str) -> Setting {
    Setting { section, key, default: None, expects: Expects::Path }
}

const fn text(section: &'static str, key: &'static str, expects: Expects) -> Setting {
    Setting { section, key, default: None, expects }
}

const fn integer(
    section: &'static str,
    key: &'static str,
    default: &'static str,
    range: RangeInclusive<u64>,
) -> Setting {
    Setting { section, key, default: Some(default), expects: Expects::Integer(range) }
}

const fn duration(
    section: &'static str,
    key: &'static str,
    default: &'static str,
    shortest: Duration,
    longest: Duration,
) -> Setting {
    let expects = Expects::Duration(RangeInclusive::new(shortest, longest));
    Setting { section, key, default: Some(default), expects }
}

/// Something of an organization that is on or off.
const fn switch(key: &'static str, default: &'static str) -> Setting {
    Setting { section: ORGANIZATIONS, key, default: Some(default), expects: Expects::Bool }
}

/// How long something is kept; unset, for ever.
const fn kept(key: &'static str) -> Setting {
    long("retention", key, None)
}

/// A time in the life of a key.
const fn long(section: &'static str, key: &'static str, default: Option<&'static str>) -> Setting {
    let range = RangeInclusive::new(HOUR, HOUR.saturating_mul(24 * 365 * 100));
    Setting { section, key, default, expects: Expects::Duration(range) }
}

const TENTH: Duration = Duration::from_millis(100);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const MANY: u64 = 10_000_000;

pub(super) const DATABASE_PATH: Setting = path("database", "path");
pub(super) const LOCK_TIMEOUT: Setting =
    duration("database", "lock_timeout", "30s", Duration::ZERO, HOUR);

pub(super) const CHECKPOINT_PATH: Setting = path("checkpoint", "path");
pub(super) const CHECKPOINT_KEY_FILE: Setting = path("checkpoint", "key_file");

pub(super) const PAGE_SIZE: Setting = integer("api", "page_size", "100", 1..=1000);
pub(super) const MAX_CONCURRENCY: Setting = integer("api", "max_concurrency", "8", 1..=64);
pub(super) const SCAN: Setting = Setting {
    section: "api",
    key: "scan",
    default: Some("side_by_side"),
    expects: Expects::Word(&["side_by_side", "sequential"]),
};
pub(super) const CONNECT_TIMEOUT: Setting =
    duration("api", "connect_timeout", "10s", TENTH, MINUTE.saturating_mul(5));
pub(super) const READ_TIMEOUT: Setting =
    duration("api", "read_timeout", "30s", TENTH, MINUTE.saturating_mul(10));
pub(super) const REQUEST_TIMEOUT: Setting =
    duration("api", "request_timeout", "60s", TENTH, MINUTE.saturating_mul(30));
pub(super) const RUN_DEADLINE: Setting =
    duration("api", "run_deadline", "15m", TENTH, HOUR.saturating_mul(24));
pub(super) const MAX_ATTEMPTS: Setting = integer("api", "max_attempts", "5", 1..=20);
pub(super) const PROXY: Setting = text("api", "proxy", Expects::Url);
pub(super) const TLS_CA_FILE: Setting = path("api", "tls_ca_file");

pub(super) const GUARD_KEYS: Setting = integer("removal", "guard_keys", "10", 0..=MANY);
pub(super) const GUARD_PERCENT: Setting = integer("removal", "guard_percent", "30", 0..=100);
pub(super) const CONFIRM_LIMIT: Setting = integer("removal", "confirm_limit", "5000", 0..=MANY);

pub(super) const KEEP_USED_EVENTS: Setting = kept("used_events");
pub(super) const KEEP_EVENTS: Setting = kept("events");

pub(super) const NEVER_USED: Setting = long("findings", "never_used", Some("90d"));
pub(super) const UNUSED: Setting = long("findings", "unused", Some("90d"));
pub(super) const ADMIN_KEY_AGE: Setting = long("findings", "admin_key_age", Some("90d"));
pub(super) const PROJECT_KEY_AGE: Setting = long("findings", "project_key_age", None);
pub(super) const EXPIRES_WITHIN: Setting = long("findings", "expires_within", Some("14d"));
pub(super) const SILENCE: Setting = long("findings", "silence", Some("90d"));
pub(super) const STAY_OPEN: Setting = long("findings", "stay_open", Some("30d"));
pub(super) const MAX_ADMIN_KEYS: Setting = integer("findings", "max_admin_keys", "10", 0..=MANY);
pub(super) const DISABLED: Setting = text("findings", "disabled", Expects::Rules);
pub(super) const EXCEPTIONS: Setting = text("findings", "exceptions", Expects::Exceptions);

pub(super) const CRON: Setting = Setting {
    section: "schedule",
    key: "cron",
    default: Some("0 * * * *"),
    expects: Expects::Cron,
};
pub(super) const TIMEZONE: Setting =
    Setting { section: "schedule", key: "timezone", default: Some("UTC"), expects: Expects::Zone };
pub(super) const JITTER: Setting = duration("schedule", "jitter", "60s", Duration::ZERO, HOUR);
pub(super) const RUN_AT_START: Setting = Setting {
    section: "schedule",
    key: "run_at_start",
    default: Some("true"),
    expects: Expects::Bool,
};

pub(super) const LISTEN: Setting = text("metrics", "listen", Expects::Listen);
pub(super) const HEARTBEAT_URL: Setting = text("heartbeat", "url", Expects::Url);

pub(super) const BASE_URL: Setting = Setting {
    section: ORGANIZATIONS,
    key: "base_url",
    default: Some("https://api.openai.com/v1"),
    expects: Expects::Url,
};
pub(super) const ADMIN_KEY_FILE: Setting = path(ORGANIZATIONS, "admin_key_file");
pub(super) const ORGANIZATION_ID: Setting = text(ORGANIZATIONS, "organization_id", Expects::Text);
pub(super) const PROJECT_KEYS: Setting = switch("project_keys", "true");
pub(super) const AUDIT_LOGS: Setting = switch("audit_logs", "false");

pub(super) const OWN_CRON: Setting = text(ORGANIZATIONS, "schedule.cron", Expects::Cron);
pub(super) const OWN_TIMEZONE: Setting = text(ORGANIZATIONS, "schedule.timezone", Expects::Zone);
pub(super) const OWN_JITTER: Setting = Setting {
    section: ORGANIZATIONS,
    key: "schedule.jitter",
    default: None,
    expects: Expects::Duration(RangeInclusive::new(Duration::ZERO, HOUR)),
};
pub(super) const OWN_RUN_AT_START: Setting =
    text(ORGANIZATIONS, "schedule.run_at_start", Expects::Bool);
pub(super) const OWN_HEARTBEAT_URL: Setting = text(ORGANIZATIONS, "heartbeat.url", Expects::Url);

pub(super) static SETTINGS: [Setting; 45] = [
    DATABASE_PATH,
    LOCK_TIMEOUT,
    CHECKPOINT_PATH,
    CHECKPOINT_KEY_FILE,
    PAGE_SIZE,
    MAX_CONCURRENCY,
    SCAN,
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    REQUEST_TIMEOUT,
    RUN_DEADLINE,
    MAX_ATTEMPTS,
    PROXY,
    TLS_CA_FILE,
    GUARD_KEYS,
    GUARD_PERCENT,
    CONFIRM_LIMIT,
    KEEP_USED_EVENTS,
    KEEP_EVENTS,
    NEVER_USED,
    UNUSED,
    ADMIN_KEY_AGE,
    PROJECT_KEY_AGE,
    EXPIRES_WITHIN,
    SILENCE,
    STAY_OPEN,
    MAX_ADMIN_KEYS,
    DISABLED,
    EXCEPTIONS,
    CRON,
    TIMEZONE,
    JITTER,
    RUN_AT_START,
    LISTEN,
    HEARTBEAT_URL,
    BASE_URL,
    ADMIN_KEY_FILE,
    ORGANIZATION_ID,
    PROJECT_KEYS,
    AUDIT_LOGS,
    OWN_CRON,
    OWN_TIMEZONE,
    OWN_JITTER,
    OWN_RUN_AT_START,
    OWN_HEARTBEAT_URL,
];

/// Completes "must be …".
impl fmt::Display for Expects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the path of a file, in quotes"),
            Self::Url => f.write_str("a URL, in quotes"),
            Self::Bool => f.write_str("true or false"),
            Self::Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                f.write_str(&words.join(" or "))
            }
            Self::Cron => f.write_str("a cron expression, in quotes"),
            Self::Zone => f.write_str("the IANA name of a time zone, in quotes"),
            Self::Listen => {
                f.write_str("an address and port, in quotes, such as \"127.0.0.1:9464\"")
            }
            Self::Text => f.write_str("text, in quotes"),
            Self::Rules => f.write_str("a list of rules, such as [\"never_expires\"]"),
            Self::Exceptions => f.write_str("tables, each below a line `[[findings.exceptions]]`"),
            Self::Integer(range) => {
                write!(f, "a whole number from {} to {}", range.start(), range.end())
            }
            Self::Duration(range) => write!(
                f,
                "a duration from {} to {}, such as \"30s\" or \"15m\"",
                render_duration(*range.start()),
                render_duration(*range.end())
            ),
        }
    }
}

impl Setting {
    /// Whether a variable of the environment can set it.
    pub(super) const fn has_variable(&self) -> bool {
        !matches!(self.expects, Expects::Exceptions)
    }
}

/// The member of an exception that is meant by one that is unknown.
pub(super) fn nearest_member(unknown: &str) -> Option<&'static str> {
    let score = |known| strsim::normalized_damerau_levenshtein(unknown, known);
    let near = EXCEPTION_MEMBERS.into_iter().filter(|known| score(known) >= 0.5);
    near.max_by(|a, b| score(a).total_cmp(&score(b)))
}

/// The setting of this name, if there is one.
pub(super) fn find(section: &str, key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.section == section && setting.key == key)
}

/// What to write instead of an unknown setting: full keys (`api.page_size`) in, full key out.
///
/// `name` is the organization's name, where the unknown one is a setting of an organization.
pub(super) fn nearest(unknown: &str, name: Option<&str>) -> Option<String> {
    let leaf = last_segment(unknown);
    let score = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(unknown, candidate);
        let last = strsim::normalized_damerau_levenshtein(leaf, last_segment(candidate));
        (whole.max(last), whole)
    };
    SETTINGS
        .iter()
        .map(|setting| match setting.section {
            ORGANIZATIONS => format!("{ORGANIZATIONS}.{}.{}", name.unwrap_or("NAME"), setting.key),
            section => format!("{section}.{}", setting.key),
        })
        .map(|candidate| (score(&candidate), candidate))
        .filter(|((best, _), _)| *best >= 0.6)
        .max_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)))
        .map(|(_, candidate)| candidate)
}

/// The section that is meant by an unknown one.
pub(super) fn nearest_section(unknown: &str) -> Option<&'static str> {
    let score = |known| strsim::normalized_damerau_levenshtein(&unknown.to_lowercase(), known);
    let near = SECTIONS.into_iter().filter(|known| score(known) >= 0.5);
    near.max_by(|a, b| score(a).total_cmp(&score(b)))
}

fn last_segment(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// `api.page_size` as the variable that sets it.
pub(super) fn variable(key: &str) -> String {
    format!("{}{}", super::layers::PREFIX, key.replace('.', "__").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_setting_is_found_also_in_another_section() {
        let near = |unknown| nearest(unknown, Some("acme")).unwrap_or_default();
        assert_eq!(near("api.page_sze"), "api.page_size");
        assert_eq!(near("api.pagesize"), "api.page_size");
        assert_eq!(near("database.page_size"), "api.page_size");
        assert_eq!(near("page_size"), "api.page_size");
        assert_eq!(near("organizations.acme.base_ulr"), "organizations.acme.base_url");
        assert_eq!(near("api.xyzzy"), "");
    }

    #[test]
    fn every_setting_is_in_a_known_section_and_found() {
        for setting in &SETTINGS {
            assert!(SECTIONS.contains(&setting.section));
            assert!(find(setting.section, setting.key).is_some());
        }
    }
}
