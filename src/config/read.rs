//! From merged text to typed values, noting each setting's origin and every problem.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};
use config::{Map, Value, ValueKind};
use url::Url;

use super::error::Problem;
use super::settings::{self, Expects, ORGANIZATIONS, Setting};
use super::url::{HeartbeatUrl, ProxyUrl, parse_base, parse_heartbeat, parse_proxy};
use super::{EffectiveSetting, OrgName, RetentionSettings, ScheduleSettings};
use crate::schedule::{Cron, CronError};
use crate::when::{parse_duration, render_duration};

/// How an unset setting is shown.
const NONE: &str = "(none)";
pub(super) const DEFAULT: &str = "default";

/// Reads settings one by one. Where one is wrong it notes the problem and goes on with a value that
/// nobody will see.
pub(super) struct Reader<'a> {
    merged: &'a Map<String, Value>,
    organization: Option<&'a OrgName>,
    pub(super) problems: Vec<Problem>,
    pub(super) effective: Vec<EffectiveSetting>,
}

/// A setting that is set: full key, value, origin.
pub(super) struct Found {
    pub(super) key: String,
    pub(super) kind: ValueKind,
    pub(super) origin: String,
}

impl Found {
    fn text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn must(&self, must: impl Into<String>) -> Problem {
        let (key, origin) = (self.key.clone(), self.origin.clone());
        Problem::Invalid { key, origin, must: must.into() }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(merged: &'a Map<String, Value>, problems: Vec<Problem>) -> Self {
        Self { merged, organization: None, problems, effective: Vec::new() }
    }

    /// The organization whose settings are read from here on.
    pub(super) fn turn_to(&mut self, organization: &'a OrgName) {
        self.organization = Some(organization);
    }

    pub(super) fn full_key(&self, setting: &Setting) -> String {
        match (setting.section, self.organization) {
            (ORGANIZATIONS, Some(name)) => format!("{ORGANIZATIONS}.{name}.{}", setting.key),
            (section, _) => format!("{section}.{}", setting.key),
        }
    }

    pub(super) fn find(&self, setting: &Setting) -> Option<Found> {
        let mut table = inner(self.merged, setting.section)?;
        if setting.section == ORGANIZATIONS {
            table = inner(table, self.organization?.as_str())?;
        }
        let key = match setting.key.split_once('.') {
            Some((section, key)) => {
                table = inner(table, section)?;
                key
            }
            None => setting.key,
        };
        let value = table.get(key)?;
        Some(Found {
            key: self.full_key(setting),
            kind: value.kind.clone(),
            origin: value.origin().unwrap_or(DEFAULT).to_owned(),
        })
    }

    pub(super) fn note(&mut self, key: String, value: String, origin: &str) {
        self.effective.push(EffectiveSetting { key, value, origin: origin.to_owned() });
    }

    pub(super) fn note_none(&mut self, setting: &Setting) {
        self.note(self.full_key(setting), NONE.to_owned(), DEFAULT);
    }

    /// A setting that always has a value, read by `parse` and shown by `render`.
    fn required<T: Default>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&Found) -> Option<T>,
        render: impl Fn(&T) -> String,
    ) -> T {
        let Some(found) = self.find(setting) else {
            return T::default();
        };
        if let Some(value) = parse(&found) {
            self.note(found.key, render(&value), &found.origin);
            return value;
        }
        self.problems.push(found.must(format!("be {}", setting.expects)));
        T::default()
    }

    pub(super) fn integer(&mut self, setting: &Setting) -> u64 {
        let parse = |found: &Found| {
            let number = match &found.kind {
                ValueKind::I64(number) => u64::try_from(*number).ok(),
                // From a variable. `parse` alone would take `+5` too.
                ValueKind::String(text) if text.bytes().all(|c| c.is_ascii_digit()) => {
                    text.parse().ok()
                }
                _ => None,
            };
            number.filter(|number| match &setting.expects {
                Expects::Integer(range) => range.contains(number),
                _ => false,
            })
        };
        self.required(setting, parse, u64::to_string)
    }

    pub(super) fn duration(&mut self, setting: &Setting) -> Duration {
        let parse = |found: &Found| {
            let duration = parse_duration(found.text()?).ok();
            duration.filter(|duration| match &setting.expects {
                Expects::Duration(range) => range.contains(duration),
                _ => false,
            })
        };
        self.required(setting, parse, |duration| render_duration(*duration))
    }

    /// A setting that may be unset, with the reason of a refusal ("must …") from `parse`.
    fn optional<T, E: Into<String>>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, E>,
        render: impl Fn(&T) -> String,
    ) -> Option<T> {
        let Some(found) = self.find(setting) else {
            self.note_none(setting);
            return None;
        };
        let problem = match found.text() {
            Some(text) if super::looks_like_credential(text) => {
                self.credential_in_place_of(found);
                return None;
            }
            Some(text) => match parse(text) {
                Ok(value) => {
                    self.note(found.key, render(&value), &found.origin);
                    return Some(value);
                }
                Err(reason) => found.must(reason),
            },
            None => found.must(format!("be {}", setting.expects)),
        };
        self.problems.push(problem);
        None
    }

    pub(super) fn optional_duration(&mut self, setting: &Setting) -> Option<Duration> {
        let Expects::Duration(range) = &setting.expects else { return None };
        let parse = |text: &str| {
            let duration = parse_duration(text).ok().filter(|duration| range.contains(duration));
            duration.ok_or_else(|| format!("be {}", setting.expects))
        };
        self.optional(setting, parse, |duration| render_duration(*duration))
    }

    pub(super) fn retention(&mut self) -> RetentionSettings {
        let used_events = self.optional_duration(&settings::KEEP_USED_EVENTS);
        let events = self.optional_duration(&settings::KEEP_EVENTS);
        if let (Some(used), Some(all)) = (used_events, events)
            && all < used
            && let Some(found) = self.find(&settings::KEEP_EVENTS)
        {
            let other = self.full_key(&settings::KEEP_USED_EVENTS);
            let must = format!("not be shorter than `{other}`, which is {}", render_duration(used));
            self.problems.push(found.must(must));
        }
        RetentionSettings { used_events, events }
    }

    fn credential_in_place_of(&mut self, found: Found) {
        let name = self.organization.map_or("NAME", OrgName::as_str);
        let file_key = format!("{ORGANIZATIONS}.{name}.admin_key_file");
        let Found { key, origin, .. } = found;
        self.problems.push(Problem::Credential { key, origin, file_key });
    }

    pub(super) fn path(&mut self, setting: &Setting) -> Option<PathBuf> {
        let parse = |text: &str| match text {
            _ if !unfit_path(text) => Ok(PathBuf::from(text)),
            _ if text.starts_with('~') => Err("be written out: `~` is not expanded here"),
            _ => Err("be the path of a file"),
        };
        self.optional(setting, parse, |path| path.display().to_string())
    }

    /// The path of a file of PEM certificates, which is looked into.
    pub(super) fn certificates(&mut self, setting: &Setting) -> Option<PathBuf> {
        let origin = self.find(setting).map(|found| found.origin).unwrap_or_default();
        let path = self.path(setting)?;
        if let Err(reason) = holds_certificates(&path) {
            let key = self.full_key(setting);
            self.problems.push(Problem::Unreadable { key, origin, path, reason });
            return None;
        }
        Some(path)
    }

    pub(super) fn proxy(&mut self, setting: &Setting) -> Option<ProxyUrl> {
        self.optional(setting, parse_proxy, ProxyUrl::to_string)
    }

    pub(super) fn base_url(&mut self, setting: &Setting) -> Option<Url> {
        self.optional(setting, parse_base, Url::to_string)
    }

    /// A setting of an organization, or else the general one, which always has a value.
    fn own_or_general<T: Clone>(
        &mut self,
        own: &Setting,
        general: (&Setting, Option<&T>),
        read: impl Fn(&mut Self, &Setting) -> Option<T>,
        render: impl Fn(&T) -> String,
    ) -> Option<T> {
        if self.find(own).is_some() {
            return read(self, own);
        }
        let (setting, value) = general;
        let shown = value.map_or_else(|| NONE.to_owned(), render);
        let origin = format!("{}.{}", setting.section, setting.key);
        self.note(self.full_key(own), shown, &origin);
        value.cloned()
    }

    fn cron(&mut self, setting: &Setting) -> Option<Cron> {
        let parse = |text: &str| text.parse().map_err(|error: CronError| error.to_string());
        self.optional(setting, parse, Cron::to_string)
    }

    fn zone(&mut self, setting: &Setting) -> Option<Tz> {
        self.optional(setting, parse_zone, Tz::to_string)
    }

    pub(super) fn boolean(&mut self, setting: &Setting) -> Option<bool> {
        let found = self.find(setting)?;
        let value = match &found.kind {
            ValueKind::Boolean(value) => Some(*value),
            ValueKind::String(text) => text.parse().ok(),
            _ => None,
        };
        match value {
            Some(value) => self.note(found.key, value.to_string(), &found.origin),
            None => self.problems.push(found.must(format!("be {}", setting.expects))),
        }
        value
    }

    /// One of the words that the setting takes.
    pub(super) fn word(&mut self, setting: &Setting) -> Option<&'static str> {
        let found = self.find(setting)?;
        let Expects::Word(words) = setting.expects else { return None };
        let word = match &found.kind {
            ValueKind::String(text) => words.iter().copied().find(|word| word == text),
            _ => None,
        };
        match word {
            Some(word) => self.note(found.key, word.to_owned(), &found.origin),
            None => self.problems.push(found.must(format!("be {}", setting.expects))),
        }
        word
    }

    /// The schedule of everything that has none of its own.
    pub(super) fn general_schedule(&mut self) -> Option<ScheduleSettings> {
        let cron = self.cron(&settings::CRON);
        let timezone = self.zone(&settings::TIMEZONE);
        let jitter = self.duration(&settings::JITTER);
        let run_at_start = self.boolean(&settings::RUN_AT_START);
        Some(ScheduleSettings {
            cron: cron?,
            timezone: timezone?,
            jitter,
            run_at_start: run_at_start?,
        })
    }

    /// The schedule of the organization.
    pub(super) fn schedule(&mut self, general: &ScheduleSettings) -> Option<ScheduleSettings> {
        let cron = (&settings::CRON, Some(&general.cron));
        let cron = self.own_or_general(&settings::OWN_CRON, cron, Self::cron, Cron::to_string);
        let timezone = (&settings::TIMEZONE, Some(&general.timezone));
        let timezone =
            self.own_or_general(&settings::OWN_TIMEZONE, timezone, Self::zone, Tz::to_string);
        let jitter = (&settings::JITTER, Some(&general.jitter));
        let read = |reader: &mut Self, setting: &Setting| Some(reader.duration(setting));
        let render = |duration: &Duration| render_duration(*duration);
        let jitter = self.own_or_general(&settings::OWN_JITTER, jitter, read, render);
        let at_start = (&settings::RUN_AT_START, Some(&general.run_at_start));
        let own = &settings::OWN_RUN_AT_START;
        let at_start = self.own_or_general(own, at_start, Self::boolean, bool::to_string);
        Some(ScheduleSettings {
            cron: cron?,
            timezone: timezone?,
            jitter: jitter?,
            run_at_start: at_start?,
        })
    }

    pub(super) fn general_heartbeat(&mut self) -> Option<HeartbeatUrl> {
        self.optional(&settings::HEARTBEAT_URL, parse_heartbeat, HeartbeatUrl::to_string)
    }

    /// Where the organization's heartbeat goes.
    pub(super) fn heartbeat(&mut self, general: Option<&HeartbeatUrl>) -> Option<HeartbeatUrl> {
        let read = |reader: &mut Self, setting: &Setting| {
            reader.optional(setting, parse_heartbeat, HeartbeatUrl::to_string)
        };
        let general = (&settings::HEARTBEAT_URL, general);
        self.own_or_general(&settings::OWN_HEARTBEAT_URL, general, read, HeartbeatUrl::to_string)
    }

    /// An address and port, or a port alone, which is this machine's own.
    pub(super) fn listen(&mut self, setting: &Setting) -> Option<SocketAddr> {
        let parse = |text: &str| {
            let text = text.strip_prefix("localhost:").unwrap_or(text);
            let port = text.parse().map(|port: u16| (Ipv4Addr::LOCALHOST, port).into());
            port.or_else(|_| text.parse()).map_err(|_| format!("be {}", setting.expects))
        };
        if let Some(Found { kind: ValueKind::I64(port), key, origin }) = self.find(setting)
            && let Ok(port) = u16::try_from(port)
        {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            self.note(key, address.to_string(), &origin);
            return Some(address);
        }
        self.optional(setting, parse, SocketAddr::to_string)
    }

    /// Text that goes into a header.
    pub(super) fn header_text(&mut self, setting: &Setting) -> Option<String> {
        let parse = |text: &str| {
            let fits =
                (1..=256).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
            if fits {
                Ok(text.to_owned())
            } else {
                Err("be 1 to 256 ASCII characters without white space")
            }
        };
        self.optional(setting, parse, String::clone)
    }
}

fn parse_zone(text: &str) -> Result<Tz, String> {
    let near = || {
        let score = |name: &str| {
            strsim::normalized_damerau_levenshtein(&text.to_lowercase(), &name.to_lowercase())
        };
        let last = |name: &'static str| name.rsplit('/').next().unwrap_or(name);
        let scored = TZ_VARIANTS
            .iter()
            .map(|zone| (score(zone.name()).max(score(last(zone.name()))), zone.name()));
        scored.filter(|(score, _)| *score > 0.6).max_by(|a, b| a.0.total_cmp(&b.0))
    };
    text.parse().map_err(|_| match near() {
        Some((_, near)) => format!("be the IANA name of a time zone; did you mean `{near}`?"),
        None => "be the IANA name of a time zone, such as `Europe/Berlin`".to_owned(),
    })
}

fn inner<'m>(table: &'m Map<String, Value>, key: &str) -> Option<&'m Map<String, Value>> {
    match &table.get(key)?.kind {
        ValueKind::Table(inner) => Some(inner),
        _ => None,
    }
}

/// Text that is no path, or not the one that was meant.
pub(super) fn unfit_path(text: &str) -> bool {
    text.is_empty()
        || text.contains('\0')
        || text == "~"
        || text.starts_with("~/")
        || super::looks_like_credential(text)
}

fn holds_certificates(path: &Path) -> Result<(), String> {
    const MAX_BYTES: u64 = 4 << 20;
    let fault = |error: std::io::Error| format!("could not be read: {error}");
    let mut pem = Vec::new();
    let is_file = std::fs::metadata(path).map_err(fault)?.is_file();
    if !is_file {
        return Err("is not a file".to_owned());
    }
    File::open(path).map_err(fault)?.take(MAX_BYTES).read_to_end(&mut pem).map_err(fault)?;
    let marker = b"-----BEGIN CERTIFICATE-----";
    if pem.windows(marker.len()).any(|window| window == marker) {
        Ok(())
    } else {
        Err("holds no certificate in PEM format (`-----BEGIN CERTIFICATE-----`)".to_owned())
    }
}
