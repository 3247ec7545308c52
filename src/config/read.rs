//! From merged text to typed values, noting each setting's origin and every problem.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Map, Value, ValueKind};
use url::Url;

use super::error::Problem;
use super::settings::{Expects, ORGANIZATIONS, Setting};
use super::url::{ProxyUrl, parse_base, parse_proxy};
use super::{EffectiveSetting, OrgName};
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
struct Found {
    key: String,
    kind: ValueKind,
    origin: String,
}

impl Found {
    fn text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    fn must(&self, must: impl Into<String>) -> Problem {
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

    fn find(&self, setting: &Setting) -> Option<Found> {
        let mut table = inner(self.merged, setting.section)?;
        if setting.section == ORGANIZATIONS {
            table = inner(table, self.organization?.as_str())?;
        }
        let value = table.get(setting.key)?;
        Some(Found {
            key: self.full_key(setting),
            kind: value.kind.clone(),
            origin: value.origin().unwrap_or(DEFAULT).to_owned(),
        })
    }

    pub(super) fn note(&mut self, key: String, value: String, origin: &str) {
        self.effective.push(EffectiveSetting { key, value, origin: origin.to_owned() });
    }

    fn note_none(&mut self, setting: &Setting) {
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
    fn optional<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, &'static str>,
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
