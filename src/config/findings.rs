//! The section `[findings]`: thresholds, rules that are off, and exceptions.

use std::collections::BTreeSet;

use config::{Map, Value, ValueKind};

use super::error::Problem;
use super::read::{Found, Reader};
use super::{OrgName, looks_like_credential, settings};
use crate::findings::{Exception, Rule, Rules};
use crate::when::parse_absolute;

/// The longest reason, in characters.
const REASON_CHARS: usize = 500;

impl Reader<'_> {
    pub(super) fn rules(&mut self, organizations: &[OrgName]) -> Rules {
        Rules {
            never_used: self.duration(&settings::NEVER_USED),
            unused: self.duration(&settings::UNUSED),
            admin_key_age: self.duration(&settings::ADMIN_KEY_AGE),
            project_key_age: self.optional_duration(&settings::PROJECT_KEY_AGE),
            expires_within: self.duration(&settings::EXPIRES_WITHIN),
            silence: self.duration(&settings::SILENCE),
            stay_open: self.duration(&settings::STAY_OPEN),
            max_admin_keys: self.integer(&settings::MAX_ADMIN_KEYS),
            disabled: self.disabled(),
            exceptions: self.exceptions(organizations),
        }
    }

    fn disabled(&mut self) -> BTreeSet<Rule> {
        let setting = &settings::DISABLED;
        let Some(found) = self.find(setting) else {
            self.note_none(setting);
            return BTreeSet::new();
        };
        match read_rules(&found.kind) {
            Ok(rules) => {
                let names: Vec<&str> = rules.iter().map(|rule| rule.as_str()).collect();
                if names.is_empty() {
                    self.note_none(setting);
                } else {
                    self.note(found.key, names.join(", "), &found.origin);
                }
                rules
            }
            Err(must) => {
                let must = must.unwrap_or_else(|| format!("be {}", setting.expects));
                self.problems.push(found.must(must));
                BTreeSet::new()
            }
        }
    }

    fn exceptions(&mut self, organizations: &[OrgName]) -> Vec<Exception> {
        let mut exceptions = Vec::new();
        if let Some(Found { key, kind: ValueKind::Array(tables), .. }) =
            self.find(&settings::EXCEPTIONS)
        {
            for table in tables {
                let mut reader = ExceptionReader {
                    key: &key,
                    origin: table.origin().unwrap_or_default().to_owned(),
                    members: table.into_table().unwrap_or_default(),
                    problems: &mut self.problems,
                };
                exceptions.extend(reader.read(organizations));
            }
        }
        if exceptions.is_empty() {
            self.note_none(&settings::EXCEPTIONS);
        }
        for exception in &exceptions {
            let key = self.full_key(&settings::EXCEPTIONS);
            self.note(key, exception.to_string(), &exception.origin);
        }
        exceptions
    }
}

/// The rules that a list names, or a text with commas; or what it must be, where that is to be said.
fn read_rules(value: &ValueKind) -> Result<BTreeSet<Rule>, Option<String>> {
    let names: Vec<&str> = match value {
        ValueKind::Array(items) => {
            let texts = items.iter().map(|item| match &item.kind {
                ValueKind::String(text) => Some(text.as_str()),
                _ => None,
            });
            texts.collect::<Option<_>>().ok_or(None)?
        }
        ValueKind::String(text) => text.split(',').map(str::trim).collect(),
        _ => return Err(None),
    };
    names.into_iter().map(|name| read_rule(name).map_err(Some)).collect()
}

fn read_rule(name: &str) -> Result<Rule, String> {
    // What is no rule is not repeated: it may be anything.
    let all = || {
        let all: Vec<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
        format!("be a rule: {}", all.join(", "))
    };
    let advice = |near| format!("be a rule; did you mean `{near}`?");
    Rule::parse(name).ok_or_else(|| Rule::nearest(name).map_or_else(all, advice))
}

/// Reads one table, and notes each problem with its line.
struct ExceptionReader<'a> {
    key: &'a str,
    origin: String,
    members: Map<String, Value>,
    problems: &'a mut Vec<Problem>,
}

impl ExceptionReader<'_> {
    fn read(&mut self, organizations: &[OrgName]) -> Option<Exception> {
        let known = self.problems.len();
        let key_id = self.text("key", |text| {
            let fits = !text.is_empty() && !looks_like_credential(text);
            fits.then(|| text.to_owned()).ok_or_else(|| "be the id of a key".to_owned())
        });
        let rule = self.text("rule", read_rule);
        let organization = self.text("organization", |text| {
            let configured = organizations.iter().any(|name| name.as_str() == text);
            let must = || "be the name of an organization that is configured".to_owned();
            configured.then(|| text.to_owned()).ok_or_else(must)
        });
        let reason = self.text("reason", |text| {
            let fits = !text.trim().is_empty()
                && text.chars().count() <= REASON_CHARS
                && !text.contains(char::is_control)
                && crate::inventory::mask_secrets(text).is_none();
            let must = || format!("be a line of 1 to {REASON_CHARS} characters, without a secret");
            fits.then(|| text.to_owned()).ok_or_else(must)
        });
        let until = self.text("until", |text| {
            let must = || "be a date, such as \"2027-01-01\" (from 00:00 UTC)".to_owned();
            parse_absolute(text).ok_or_else(must)
        });
        for (member, is_there) in
            [("key", key_id.is_some()), ("reason", reason.is_some()), ("until", until.is_some())]
        {
            if !is_there && !self.members.contains_key(member) {
                let must = format!("have `{member}`");
                let (key, origin) = (self.key.to_owned(), self.origin.clone());
                self.problems.push(Problem::Invalid { key, origin, must });
            }
        }
        if self.problems.len() > known {
            return None;
        }
        let origin = self.origin.clone();
        Some(Exception {
            key_id: key_id?,
            rule,
            organization,
            reason: reason?,
            until: until?,
            origin,
        })
    }

    /// A member that is set, read by `parse`, which says what it must be if it is not.
    fn text<T>(&mut self, member: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.members.get(member)?;
        let parsed = match &value.kind {
            ValueKind::String(text) => parse(text),
            _ => Err("be text, in quotes".to_owned()),
        };
        parsed
            .map_err(|must| {
                let origin = value.origin().unwrap_or_default().to_owned();
                let key = format!("{}.{member}", self.key);
                self.problems.push(Problem::Invalid { key, origin, must });
            })
            .ok()
    }
}
