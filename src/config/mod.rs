//! From a file, the environment and flags to validated [`Settings`].
//!
//! Two steps: [`layers`] finds what is set and where, [`read`] what it means. Credentials are not
//! read here: [`crate::secret`] does, anew for each run.

mod checkpoint;
mod environment;
mod error;
mod file;
mod findings;
mod layers;
mod name;
mod read;
mod settings;
#[cfg(test)]
mod tests;
mod url;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::url::Url;
use chrono_tz::Tz;
use config::{Config, Value, ValueKind};

pub use checkpoint::CheckpointSettings;
pub use environment::Environment;
pub use error::{Error, Problem};
pub use name::OrgName;
pub use url::{HeartbeatUrl, ProxyUrl};

use crate::findings::Rules;
use crate::schedule::{Cron, Schedule};
use crate::secret::{self, CredentialSource, CredentialSources};
use layers::Layer;
use read::Reader;
use settings::{ORGANIZATIONS, SETTINGS};

/// Read if it exists, where no other file is named.
pub const SYSTEM_FILE: &str = "/etc/keydrift/keydrift.toml";

/// Where settings come from, beside the system's file.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `--config`: must exist.
    pub config_path: Option<&'a Path>,
    /// `--database`.
    pub database: Option<&'a Path>,
    pub environment: &'a Environment,
}

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file that was read, if there was one.
    pub config_file: Option<PathBuf>,
    pub database: DatabaseSettings,
    pub checkpoint: CheckpointSettings,
    pub api: ApiSettings,
    pub removal: RemovalSettings,
    pub retention: RetentionSettings,
    pub metrics: MetricsSettings,
    /// By which keys are judged.
    pub findings: Rules,
    /// At least one, by name.
    pub organizations: Vec<OrganizationSettings>,
    credentials: CredentialSources,
    effective: Vec<EffectiveSetting>,
}

#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    pub path: PathBuf,
    /// Whether nobody named the path: then its directory may have to be made.
    pub is_default: bool,
    /// How long to wait for another process's run.
    pub lock_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Keys asked for in one page.
    pub page_size: u16,
    /// Requests side by side.
    pub max_concurrency: usize,
    /// Whether the pages of the list of keys are asked for side by side.
    pub side_by_side: bool,
    pub connect_timeout: Duration,
    /// The longest silence while an answer is read.
    pub read_timeout: Duration,
    /// One request in total.
    pub request_timeout: Duration,
    /// One organization's run in total.
    pub run_deadline: Duration,
    /// Attempts of one request, the first one counted in.
    pub max_attempts: u32,
    /// The only proxy there is: those of the environment are not used.
    pub proxy: Option<ProxyUrl>,
    /// PEM file of private roots.
    pub tls_ca_file: Option<PathBuf>,
}

/// A run is held when more keys are missing and unconfirmed than `guard_keys` and than
/// `guard_percent` of the snapshot, or when more are missing than `confirm_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovalSettings {
    pub guard_keys: u64,
    /// 0 to 100.
    pub guard_percent: u8,
    pub confirm_limit: u64,
}

/// How long the history is kept. Neither: for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionSettings {
    pub used_events: Option<Duration>,
    /// All other events, and the notices; not shorter.
    pub events: Option<Duration>,
}

/// When an organization is synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSettings {
    pub cron: Cron,
    /// The zone whose wall clock the expression means.
    pub timezone: Tz,
    /// How much later than the expression says, at most.
    pub jitter: Duration,
    pub run_at_start: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Where metrics are served, if anywhere.
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone)]
pub struct OrganizationSettings {
    pub name: OrgName,
    /// Without a slash at its end, except for an empty path: append with [`Self::endpoint`].
    pub base_url: Url,
    /// Sent as `OpenAI-Organization`.
    pub organization_id: Option<String>,
    /// Whether the keys of its projects are listed too, where the credential may.
    pub project_keys: bool,
    /// Whether its audit log is asked who did what.
    pub audit_logs: bool,
    pub schedule: ScheduleSettings,
    /// Told of each run.
    pub heartbeat: Option<HeartbeatUrl>,
}

impl OrganizationSettings {
    /// When it is synced, into the database with this id.
    #[must_use]
    pub fn schedule(&self, installation: &str) -> Schedule {
        let ScheduleSettings { cron, timezone, jitter, run_at_start: _ } = &self.schedule;
        Schedule::new(cron.clone(), *timezone, *jitter, installation, self.name.as_str())
    }

    /// The base URL with further path segments, each percent-encoded as one.
    ///
    /// `None` where a segment is empty, `.` or `..`: a URL cannot carry those, in no encoding, and
    /// would quietly mean another resource.
    #[must_use]
    pub fn endpoint<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Option<Url> {
        url::append(&self.base_url, segments)
    }
}

/// One row of what `config check` prints. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EffectiveSetting {
    pub key: String,
    pub value: String,
    /// `default`, `FILE:LINE`, a variable or a flag.
    pub origin: String,
}

/// Reads and validates the configuration.
pub fn load(inputs: &Inputs<'_>) -> Result<Settings, Error> {
    load_with(inputs, Path::new(SYSTEM_FILE))
}

/// As [`load`], but the system's file is not looked at: for the demo, which is apart from everything.
pub fn load_apart(inputs: &Inputs<'_>) -> Result<Settings, Error> {
    load_with(inputs, Path::new(""))
}

fn load_with(inputs: &Inputs<'_>, system_file: &Path) -> Result<Settings, Error> {
    let from_variable = inputs.environment.get("KEYDRIFT_CONFIG").map(Path::new);
    let document = match inputs.config_path.or(from_variable) {
        Some(path) => file::open(path, true)?,
        None => file::open(system_file, false)?,
    };
    let mut problems = Vec::new();
    let file = layers::of_optional_file(document.as_ref(), &mut problems)?;
    let variables = layers::of_environment(inputs.environment, file.organizations(), &mut problems);
    let names = organization_names(&file, &variables, problems.is_empty());

    let merged = Config::builder()
        .add_source(defaults(&names, inputs.environment))
        .add_source(file)
        .add_source(variables)
        .build()
        .map_err(Error::Merge)?;
    let ValueKind::Table(merged) = merged.cache.kind else {
        return Err(Error::Invalid(problems));
    };
    let config_file = document.map(|document| document.path);
    validate(inputs, &names, Reader::new(&merged, problems), config_file)
}

fn organization_names(file: &Layer, variables: &Layer, clean: bool) -> Vec<OrgName> {
    let all: BTreeSet<&String> = file.organizations().union(variables.organizations()).collect();
    let mut names: Vec<OrgName> = all.into_iter().filter_map(|name| OrgName::new(name)).collect();
    // A refused one may have been meant to be the only one: then there is nothing to check.
    if names.is_empty() && clean {
        names.push(OrgName::default());
    }
    names
}

/// What holds where nothing is set: the defaults in code, and the variables of the official SDKs
/// where there is one organization that they can mean.
fn defaults(names: &[OrgName], environment: &Environment) -> Layer {
    let mut layer = Layer::default();
    let origin = read::DEFAULT.to_owned();
    for setting in &SETTINGS {
        let Some(default) = setting.default else {
            continue;
        };
        let value = Value::new(Some(&origin), default);
        if setting.section != ORGANIZATIONS {
            layer.set(&[setting.section, setting.key], value);
            continue;
        }
        for name in names {
            layer.set(&[ORGANIZATIONS, name.as_str(), setting.key], value.clone());
        }
    }
    if let [only] = names {
        for (variable, setting) in
            [("OPENAI_BASE_URL", settings::BASE_URL), ("OPENAI_ORG_ID", settings::ORGANIZATION_ID)]
        {
            if let Some(value) = environment.get(variable) {
                let text = value.to_str().map_or(ValueKind::Nil, ValueKind::from);
                let value = Value::new(Some(&variable.to_owned()), text);
                layer.set(&[ORGANIZATIONS, only.as_str(), setting.key], value);
            }
        }
    }
    layer
}

fn validate<'a>(
    inputs: &Inputs<'_>,
    names: &'a [OrgName],
    mut reader: Reader<'a>,
    config_file: Option<PathBuf>,
) -> Result<Settings, Error> {
    let (path, is_default) = database_path(&mut reader, inputs);
    let database = DatabaseSettings {
        path,
        is_default,
        lock_timeout: reader.duration(&settings::LOCK_TIMEOUT),
    };
    let checkpoint = CheckpointSettings::read(&mut reader, &database.path, inputs.environment);
    let api = api(&mut reader);
    let removal = RemovalSettings {
        guard_keys: reader.integer(&settings::GUARD_KEYS),
        guard_percent: narrow(reader.integer(&settings::GUARD_PERCENT)),
        confirm_limit: reader.integer(&settings::CONFIRM_LIMIT),
    };
    let retention = reader.retention();
    let schedule = reader.general_schedule();
    let metrics = MetricsSettings { listen: reader.listen(&settings::LISTEN) };
    let heartbeat = reader.general_heartbeat();
    let findings = reader.rules(names);
    let mut organizations = Vec::new();
    let mut key_files = Vec::new();
    for name in names {
        let general = (schedule.as_ref(), heartbeat.as_ref());
        organizations.extend(organization(name, &mut reader, general, &mut key_files));
    }
    let Reader { problems, effective, .. } = reader;
    if !problems.is_empty() {
        return Err(Error::Invalid(problems));
    }
    let credentials = CredentialSources::new(key_files, inputs.environment);
    Ok(Settings {
        config_file,
        database,
        checkpoint,
        api,
        removal,
        retention,
        metrics,
        findings,
        organizations,
        credentials,
        effective,
    })
}

fn api(reader: &mut Reader<'_>) -> ApiSettings {
    ApiSettings {
        page_size: narrow(reader.integer(&settings::PAGE_SIZE)),
        max_concurrency: narrow(reader.integer(&settings::MAX_CONCURRENCY)),
        side_by_side: reader.word(&settings::SCAN) != Some("sequential"),
        connect_timeout: reader.duration(&settings::CONNECT_TIMEOUT),
        read_timeout: reader.duration(&settings::READ_TIMEOUT),
        request_timeout: reader.duration(&settings::REQUEST_TIMEOUT),
        run_deadline: reader.duration(&settings::RUN_DEADLINE),
        max_attempts: narrow(reader.integer(&settings::MAX_ATTEMPTS)),
        proxy: reader.proxy(&settings::PROXY),
        tls_ca_file: reader.certificates(&settings::TLS_CA_FILE),
    }
}

fn organization<'n>(
    name: &'n OrgName,
    reader: &mut Reader<'n>,
    (schedule, heartbeat): (Option<&ScheduleSettings>, Option<&HeartbeatUrl>),
    key_files: &mut Vec<(OrgName, Option<secret::KeyFile>)>,
) -> Option<OrganizationSettings> {
    reader.turn_to(name);
    let base_url = reader.base_url(&settings::BASE_URL);
    let path = reader.path(&settings::ADMIN_KEY_FILE);
    let origin = reader.effective.last().map(|row| row.origin.clone()).unwrap_or_default();
    key_files.push((name.clone(), path.map(|path| secret::KeyFile { path, origin })));
    let organization_id = reader.header_text(&settings::ORGANIZATION_ID);
    let project_keys = reader.boolean(&settings::PROJECT_KEYS);
    let audit_logs = reader.boolean(&settings::AUDIT_LOGS);
    // Where the general schedule is wrong, that is told already.
    let schedule = schedule.and_then(|general| reader.schedule(general));
    let heartbeat = reader.heartbeat(heartbeat);
    Some(OrganizationSettings {
        name: name.clone(),
        base_url: base_url?,
        organization_id,
        project_keys: project_keys?,
        audit_logs: audit_logs?,
        schedule: schedule?,
        heartbeat,
    })
}

/// The ranges of the settings keep every value within the type that holds it.
fn narrow<T: TryFrom<u64> + Default>(number: u64) -> T {
    T::try_from(number).unwrap_or_default()
}

fn database_path(reader: &mut Reader<'_>, inputs: &Inputs<'_>) -> (PathBuf, bool) {
    let key = reader.full_key(&settings::DATABASE_PATH);
    if let Some(path) = inputs.database {
        reader.note(key, path.display().to_string(), "--database");
        return (path.to_owned(), false);
    }
    let known = reader.problems.len();
    if let Some(path) = reader.path(&settings::DATABASE_PATH) {
        return (path, false);
    }
    // `path` has noted that none is set, or a problem.
    if reader.problems.len() > known {
        return (PathBuf::new(), false);
    }
    reader.effective.pop();
    if let Some((path, variable)) = default_database(inputs.environment) {
        reader.note(key, path.display().to_string(), &format!("default, from {variable}"));
        return (path, true);
    }
    reader.problems.push(Problem::NoDatabasePath);
    (PathBuf::new(), false)
}

/// `keydrift.db` in the state directory that systemd gives, else in the XDG data directory.
fn default_database(environment: &Environment) -> Option<(PathBuf, &'static str)> {
    use std::os::unix::ffi::OsStrExt;
    let directory = |name| environment.get(name).map(Path::new).filter(|path| path.is_absolute());
    let first = environment.get("STATE_DIRECTORY").and_then(|list| {
        let first = list.as_bytes().split(|byte| *byte == b':').next()?;
        Some(Path::new(std::ffi::OsStr::from_bytes(first))).filter(|path| path.is_absolute())
    });
    let found = if let Some(state) = first {
        (state.to_owned(), "STATE_DIRECTORY")
    } else if let Some(data) = directory("XDG_DATA_HOME") {
        (data.join("keydrift"), "XDG_DATA_HOME")
    } else {
        (directory("HOME")?.join(".local/share/keydrift"), "HOME")
    };
    Some((found.0.join("keydrift.db"), found.1))
}

/// Whether text begins as every key of the provider does: it is then shown nowhere.
pub(crate) fn looks_like_credential(text: &str) -> bool {
    text.trim_start().starts_with("sk-")
}

impl Settings {
    /// The settings of an organization.
    #[must_use]
    pub fn organization(&self, name: &str) -> Option<&OrganizationSettings> {
        self.organizations.iter().find(|organization| organization.name.as_str() == name)
    }

    /// Where an organization's credential comes from as things stand now. It is not read yet.
    pub fn credential_source(&self, name: &OrgName) -> Result<CredentialSource, secret::Error> {
        self.credentials.resolve(name)
    }

    /// Whether somebody set this setting of an organization, rather than left it at its default.
    #[must_use]
    pub fn is_set(&self, organization: &OrgName, key: &str) -> bool {
        let key = format!("{ORGANIZATIONS}.{organization}.{key}");
        self.effective.iter().any(|row| row.key == key && row.origin != read::DEFAULT)
    }

    /// Every setting as it holds, secrets masked, with each organization's credential source.
    #[must_use]
    pub fn effective(&self) -> Vec<EffectiveSetting> {
        let mut rows = self.effective.clone();
        for organization in &self.organizations {
            let key = format!("{ORGANIZATIONS}.{}.credential", organization.name);
            rows.push(match self.credentials.resolve(&organization.name) {
                Ok(source) => {
                    EffectiveSetting { key, value: source.to_string(), origin: source.origin() }
                }
                Err(error) => {
                    EffectiveSetting { key, value: "(none)".to_owned(), origin: error.to_string() }
                }
            });
        }
        rows
    }
}
