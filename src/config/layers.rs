//! The layers of a configuration before anything is known about its values: which settings the
//! file and the environment set, and where. Unknown ones are found here, layer by layer.

use std::collections::BTreeSet;
use std::path::Path;

use config::{Map, Source, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::{Error, Problem, label};
use super::file::Document;
use super::settings::{
    self, EXCEPTION_MEMBERS, Expects, INNER_SECTIONS, ORGANIZATIONS, SECTIONS, Setting,
};
use super::{Environment, OrgName};

pub(super) const PREFIX: &str = "KEYDRIFT__";

/// Known settings with their origin, by full key.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    values: Map<String, Value>,
    organizations: BTreeSet<String>,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

impl Layer {
    /// `path` is that of a known setting, with a valid organization's name: nothing else may get
    /// here, because a full key is a path expression to the `config` crate.
    pub(super) fn set(&mut self, path: &[&str], value: Value) {
        if let [ORGANIZATIONS, name, _] = path {
            self.organizations.insert((*name).to_owned());
        }
        self.values.insert(path.join("."), value);
    }

    /// The organizations that this layer names, also one that it sets nothing of.
    pub(super) fn organizations(&self) -> &BTreeSet<String> {
        &self.organizations
    }
}

/// Reads the settings of a file's text.
pub(super) fn of_file(document: &Document, problems: &mut Vec<Problem>) -> Result<Layer, Error> {
    let parsed = DeTable::parse(&document.text).map_err(|error| document.syntax_error(&error))?;
    let mut reader = FileReader { document, layer: Layer::default(), problems };
    for (name, value) in in_order(parsed.get_ref()) {
        let at = document.origin(name.span().start);
        let section = name.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Table(organizations) if section == ORGANIZATIONS => {
                reader.organizations(organizations);
            }
            DeValue::Table(keys) if SECTIONS.contains(&section) => {
                reader.keys(&[section], None, keys);
            }
            _ => reader.not_a_section(section, value.get_ref(), at),
        }
    }
    Ok(reader.layer)
}

struct FileReader<'a> {
    document: &'a Document,
    layer: Layer,
    problems: &'a mut Vec<Problem>,
}

impl FileReader<'_> {
    fn organizations(&mut self, organizations: &DeTable<'_>) {
        for (name, value) in in_order(organizations) {
            let origin = self.document.origin(name.span().start);
            match (OrgName::new(name.get_ref()), value.get_ref()) {
                (None, DeValue::Table(_)) => self
                    .problems
                    .push(Problem::OrganizationName { name: label(name.get_ref()), origin }),
                (Some(name), DeValue::Table(keys)) => {
                    let section = [ORGANIZATIONS, name.as_str()];
                    self.layer.organizations.insert(name.to_string());
                    self.keys(&section, Some(name.as_str()), keys);
                }
                (_, other) => {
                    let key = format!("{ORGANIZATIONS}.{}", label(name.get_ref()));
                    if let Some(problem) = credential(name.get_ref(), other, &key, &origin) {
                        self.problems.push(problem);
                    } else {
                        let must = format!("be a section, `[{ORGANIZATIONS}.NAME]`");
                        self.problems.push(Problem::Invalid { key, origin, must });
                    }
                }
            }
        }
    }

    fn keys(&mut self, section: &[&str], organization: Option<&str>, keys: &DeTable<'_>) {
        for (name, value) in in_order(keys) {
            let origin = self.document.origin(name.span().start);
            let key = name.get_ref().as_ref();
            let full = format!("{}.{}", section.join("."), label(key));
            match (settings::find(section[0], key), value.get_ref()) {
                (None, DeValue::Table(inner)) if is_inner(organization, key) => {
                    self.inner_keys(section, organization, key, inner);
                }
                (Some(setting), value) if matches!(setting.expects, Expects::Exceptions) => {
                    let tables = self.exceptions(&full, value, &origin);
                    let path = [section, &[key]].concat();
                    self.layer.set(&path, Value::new(Some(&origin), tables));
                }
                (Some(setting), _) => {
                    let value = convert(setting, value.get_ref(), self.document.directory());
                    let path = [section, &[key]].concat();
                    self.layer.set(&path, Value::new(Some(&origin), value));
                }
                (None, _) => self.problems.push(
                    credential(key, value.get_ref(), &full, &origin)
                        .unwrap_or_else(|| unknown_setting(&full, organization, origin)),
                ),
            }
        }
    }

    /// The tables of `findings.exceptions`. Each value has the line that it stands on.
    fn exceptions(&mut self, full: &str, value: &DeValue<'_>, origin: &str) -> ValueKind {
        let must = |origin: String| {
            let must = format!("be {}", Expects::Exceptions);
            Problem::Invalid { key: full.to_owned(), origin, must }
        };
        let DeValue::Array(items) = value else {
            self.problems.push(must(origin.to_owned()));
            return ValueKind::Array(Vec::new());
        };
        let mut tables = Vec::new();
        for item in items {
            let origin = self.document.origin(item.span().start);
            if let DeValue::Table(members) = item.get_ref() {
                let table = ValueKind::Table(self.members(full, members));
                tables.push(Value::new(Some(&origin), table));
            } else {
                self.problems.push(must(origin));
            }
        }
        ValueKind::Array(tables)
    }

    fn members(&mut self, full: &str, members: &DeTable<'_>) -> Map<String, Value> {
        let mut known = Map::new();
        for (name, value) in in_order(members) {
            let origin = self.document.origin(name.span().start);
            let member = name.get_ref().as_ref();
            if EXCEPTION_MEMBERS.contains(&member) {
                let value = Value::new(Some(&origin), scalar(value.get_ref()));
                known.insert(member.to_owned(), value);
                continue;
            }
            let name = format!("{full}.{}", label(member));
            let problem = credential(member, value.get_ref(), &name, &origin);
            self.problems.push(problem.unwrap_or_else(|| {
                let advice = match settings::nearest_member(member) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("an exception has {}", backticked(&EXCEPTION_MEMBERS)),
                };
                Problem::Unknown { kind: "setting", name, origin, advice }
            }));
        }
        known
    }

    /// The settings of a section within an organization's.
    fn inner_keys(
        &mut self,
        section: &[&str],
        organization: Option<&str>,
        inner: &str,
        keys: &DeTable<'_>,
    ) {
        for (name, value) in in_order(keys) {
            let origin = self.document.origin(name.span().start);
            let key = format!("{inner}.{}", name.get_ref());
            if let Some(setting) = settings::find(section[0], &key) {
                let value = convert(setting, value.get_ref(), self.document.directory());
                self.layer.set(&[section, &[&key]].concat(), Value::new(Some(&origin), value));
            } else {
                let full = format!("{}.{inner}.{}", section.join("."), label(name.get_ref()));
                let meant = credential(name.get_ref(), value.get_ref(), &full, &origin);
                self.problems
                    .push(meant.unwrap_or_else(|| unknown_setting(&full, organization, origin)));
            }
        }
    }

    fn not_a_section(&mut self, name: &str, value: &DeValue<'_>, origin: String) {
        let shown = label(name);
        self.problems.push(if let Some(problem) = credential(name, value, &shown, &origin) {
            problem
        } else if SECTIONS.contains(&name) {
            let part = if name == ORGANIZATIONS { ".NAME" } else { "" };
            Problem::Invalid { key: shown, origin, must: format!("be a section, `[{name}{part}]`") }
        } else if matches!(value, DeValue::Table(_)) {
            let advice = match settings::nearest_section(name) {
                Some(near) => format!("did you mean `[{near}]`?"),
                None => format!("the sections are {}", backticked(&SECTIONS)),
            };
            Problem::Unknown { kind: "section", name: format!("[{shown}]"), origin, advice }
        } else {
            unknown_setting(&shown, None, origin)
        });
    }
}

/// Reads the settings of `KEYDRIFT__SECTION__KEY` variables.
///
/// `organizations` are those that the file names: a variable cannot hold a `-` in most shells, so
/// that `ACME_PROD` stands for the file's `acme-prod` too.
pub(super) fn of_environment(
    environment: &Environment,
    organizations: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> Layer {
    let mut layer = Layer::default();
    for (variable, value) in environment.iter() {
        let Some(rest) = variable.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let origin = label(&variable.to_string_lossy());
        let lower = rest.to_lowercase();
        let (section, key) = lower.rsplit_once("__").unwrap_or(("", &lower));
        let (section, written) = match section.split_once("__") {
            Some((ORGANIZATIONS, name)) => (ORGANIZATIONS, Some(name)),
            _ => (section, None),
        };
        let inner = written.and_then(split_inner_section);
        let nested = inner.map(|(_, inner)| format!("{inner}.{key}"));
        let written = inner.map_or(written, |(name, _)| Some(name));
        let key = nested.as_deref().unwrap_or(key);
        let name = written.map(|name| meant(name, organizations));
        let full: Vec<&str> = [section, name.unwrap_or(""), key]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        let text = value.to_str();
        let setting = settings::find(section, key)
            .filter(|setting| (setting.section == ORGANIZATIONS) == name.is_some());
        match (setting, name) {
            (None, _) => problems.push(unknown_variable(&full, name, text, origin)),
            (_, Some(name)) if OrgName::new(name).is_none() => {
                problems.push(Problem::OrganizationName { name: label(name), origin });
            }
            (Some(setting), _) if !setting.has_variable() => problems.push(Problem::Invalid {
                key: full.join("."),
                origin,
                must: "be set in the configuration file: no variable can hold it".to_owned(),
            }),
            // As with the other variables, an empty one is not set.
            (Some(_), _) if value.is_empty() => {}
            (Some(_), _) => {
                // Text that is not UTF-8 becomes a value that no setting accepts.
                let kind = text.map_or(ValueKind::Nil, |text| ValueKind::String(text.to_owned()));
                layer.set(&full, Value::new(Some(&origin), kind));
            }
        }
    }
    layer
}

fn is_inner(organization: Option<&str>, key: &str) -> bool {
    organization.is_some() && INNER_SECTIONS.contains(&key)
}

/// `name__schedule` as the name of an organization and a section within its own.
fn split_inner_section(written: &str) -> Option<(&str, &str)> {
    written.rsplit_once("__").filter(|(_, inner)| INNER_SECTIONS.contains(inner))
}

/// The organization that a variable's `name` stands for.
fn meant<'a>(name: &'a str, organizations: &'a BTreeSet<String>) -> &'a str {
    if organizations.contains(name) {
        return name;
    }
    organizations.iter().find(|known| known.replace('-', "_") == name).map_or(name, String::as_str)
}

fn unknown_variable(
    full: &[&str],
    name: Option<&str>,
    text: Option<&str>,
    origin: String,
) -> Problem {
    let last = full.last().copied().unwrap_or_default();
    // What is no name is not repeated: it may be anything.
    let name = name.filter(|name| OrgName::new(name).is_some() && label(name) == *name);
    if is_credential(last, text) {
        let file_key = format!("{ORGANIZATIONS}.{}.admin_key_file", name.unwrap_or("NAME"));
        return Problem::Credential {
            key: origin.clone(),
            origin,
            file_key: settings::variable(&file_key),
        };
    }
    let advice = match settings::nearest(&full.join("."), name) {
        Some(near) => format!("did you mean `{}`?", settings::variable(&near)),
        None => format!(
            "the variables are {PREFIX}SECTION__KEY, the sections {}",
            backticked(&SECTIONS)
        ),
    };
    Problem::Unknown { kind: "variable", name: origin.clone(), origin, advice }
}

fn unknown_setting(full: &str, organization: Option<&str>, origin: String) -> Problem {
    let advice = settings::nearest(full, organization).map_or_else(
        || {
            let section = full.split('.').next().unwrap_or_default();
            let of_section = settings::SETTINGS.iter().filter(|known| known.section == section);
            let keys: Vec<&str> = of_section.map(|known| known.key).collect();
            if keys.is_empty() {
                format!("the sections are {}", backticked(&SECTIONS))
            } else {
                format!("the settings there are {}", backticked(&keys))
            }
        },
        |near| format!("did you mean `{near}`?"),
    );
    Problem::Unknown { kind: "setting", name: full.to_owned(), origin, advice }
}

/// The problem of a credential in the file, whatever the setting is called.
fn credential(key: &str, value: &DeValue<'_>, full: &str, origin: &str) -> Option<Problem> {
    let text = match value {
        DeValue::String(text) => Some(text.as_ref()),
        _ => None,
    };
    let name = full
        .split('.')
        .nth(1)
        .filter(|_| full.starts_with("organizations.") && full.matches('.').count() == 2);
    is_credential(key, text).then(|| Problem::Credential {
        key: full.to_owned(),
        origin: origin.to_owned(),
        file_key: format!("{ORGANIZATIONS}.{}.admin_key_file", name.unwrap_or("NAME")),
    })
}

/// Whether an unknown setting is meant to hold a credential, by its name or by its value.
fn is_credential(key: &str, text: Option<&str>) -> bool {
    const NAMES: [&str; 6] =
        ["admin_key", "api_key", "key", "credential", "openai_admin_key", "openai_api_key"];
    text.is_some_and(super::looks_like_credential) || NAMES.contains(&key)
}

/// A value of the file. Paths in a file are relative to its directory, so that they mean the same
/// wherever a command is run.
fn convert(setting: &Setting, value: &DeValue<'_>, directory: &Path) -> ValueKind {
    match (value, &setting.expects) {
        (DeValue::String(text), Expects::Path) if !super::read::unfit_path(text) => {
            match directory.join(&**text).to_str() {
                Some(joined) => ValueKind::String(joined.to_owned()),
                None => ValueKind::String(text.to_string()),
            }
        }
        (DeValue::Array(items), Expects::Rules) => {
            let items = items.iter().map(|item| Value::new(None, scalar(item.get_ref())));
            ValueKind::Array(items.collect())
        }
        // Dates are for exceptions alone.
        (DeValue::Datetime(_), _) => ValueKind::Nil,
        _ => scalar(value),
    }
}

/// A single value, whatever it is for.
fn scalar(value: &DeValue<'_>) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        // `until = 2027-01-01` without quotes.
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(ValueKind::Nil, ValueKind::I64),
        DeValue::Boolean(value) => ValueKind::Boolean(*value),
        // No setting takes another type: what it was does not matter.
        _ => ValueKind::Nil,
    }
}

type Entry<'t, 'i> = (&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>);

/// The entries as they stand in the file: the table itself is sorted by key.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn backticked(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Reads a file into a layer; no file is an empty layer.
pub(super) fn of_optional_file(
    document: Option<&Document>,
    problems: &mut Vec<Problem>,
) -> Result<Layer, Error> {
    document.map_or_else(|| Ok(Layer::default()), |document| of_file(document, problems))
}
