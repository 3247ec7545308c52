//! One file a subcommand, and what they share: the context, the exit codes, the advice.

mod attribution;
mod backup;
mod checkpoint;
mod completions;
mod config_check;
mod demo;
mod diff;
mod doctor;
mod events;
mod evidence;
mod findings;
mod forget;
mod held;
mod keys;
mod log;
mod man;
mod note;
mod organization;
mod prune;
mod run;
mod runs;
mod show;
mod status;
mod sync;
mod verify;
mod window;

use std::process::ExitCode;
use std::sync::Arc;

use crate::checkpoint as checkpoints;
use crate::cli::{Command, Config, Global, Organization};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Environment, Inputs, Settings};
use crate::output::Printer;
use crate::store::{self, Reader, Writer};
use crate::sync::Error as SyncError;
use crate::{daemon, openai, secret, when};

/// What every command works with.
pub struct Context {
    pub printer: Printer,
    pub environment: Environment,
    pub clock: Arc<dyn Clock>,
    pub global: Global,
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1: all that comes from the API or the database.
    Failed,
    /// 2: wrong command line, configuration or credential source.
    Usage,
    /// 3: the answer is the bad one.
    Bad,
    /// 4: at least one organization is done and one is not.
    Partly,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Bad => 3,
            Exit::Partly => 4,
        })
    }
}

/// Something on the command line that does not fit.
#[derive(Debug, thiserror::Error)]
pub enum Misuse {
    #[error("`{argument}`: `{value}` cannot be read")]
    Time { argument: &'static str, value: String, source: when::ParseError },
    #[error("`{argument}`: `{value}` cannot be read")]
    Duration { argument: &'static str, value: String, source: when::ParseDurationError },
    #[error("`{from}` is after `{to}`")]
    Backwards { from: Timestamp, to: Timestamp },
    #[error("there is no organization `{name}`")]
    UnknownOrganization { name: String, known: Vec<String> },
    #[error("{what}")]
    Other { what: String, hint: String },
}

impl Misuse {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Time { .. } | Self::Duration { .. } => None,
            Self::Backwards { .. } => Some("name the earlier time first".to_owned()),
            Self::UnknownOrganization { known, .. } if known.is_empty() => None,
            Self::UnknownOrganization { known, .. } => Some(format!("known: {}", known.join(", "))),
            Self::Other { hint, .. } => Some(hint.clone()),
        }
    }
}

/// No run of the organization has been good yet, so that there is no inventory to tell of.
#[derive(Debug, thiserror::Error)]
#[error("nothing is known yet: no sync has succeeded so far")]
struct NothingKnown;

/// What to say where nothing is listed: that nothing matches, or that nothing is known yet.
async fn none_listed(
    reader: &mut Reader,
    organization: Option<&str>,
    none: &str,
) -> Result<String, store::Error> {
    let is_known = reader.is_anything_known(organization).await?;
    Ok(if is_known { none.to_owned() } else { NothingKnown.to_string() })
}

/// Opens the database for reading. Where it is missing and should not be, that is told.
async fn open_reader(settings: &Settings) -> anyhow::Result<Reader> {
    match Reader::open(&settings.database.path).await {
        // One that is empty is as good as missing.
        Err(error) => {
            let missing = checkpoints::look_for_missing(settings);
            Err(missing.map_or_else(|| error.into(), anyhow::Error::from))
        }
        opened => Ok(opened?),
    }
}

/// Runs one subcommand.
pub async fn run(context: &mut Context, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(arguments) => run::run(context, &arguments).await,
        Command::Sync(arguments) => sync::run(context, &arguments).await,
        Command::Keys(arguments) => keys::run(context, &arguments).await,
        Command::Log(arguments) => log::run(context, &arguments).await,
        Command::Show(arguments) => show::run(context, &arguments).await,
        Command::Findings(arguments) => findings::run(context, &arguments).await,
        Command::Note(arguments) => note::run(context, &arguments).await,
        Command::Diff(arguments) => diff::run(context, &arguments).await,
        Command::Runs(arguments) => runs::run(context, &arguments).await,
        Command::Status(arguments) => status::run(context, &arguments).await,
        Command::Doctor(arguments) => doctor::run(context, &arguments).await,
        Command::Verify(arguments) => verify::run(context, &arguments).await,
        Command::Evidence(arguments) => evidence::run(context, &arguments).await,
        Command::Backup(arguments) => backup::run(context, &arguments).await,
        Command::Checkpoint(arguments) => checkpoint::run(context, &arguments).await,
        Command::Prune(arguments) => prune::run(context, &arguments).await,
        Command::Forget(arguments) => forget::run(context, &arguments).await,
        Command::Organization(Organization::Rename(arguments)) => {
            organization::rename(context, &arguments).await
        }
        Command::Config(Config::Check(arguments)) => config_check::run(context, &arguments),
        Command::Demo(arguments) => demo::run(context, &arguments).await,
        Command::Man(arguments) => man::run(&arguments),
        Command::Completions(arguments) => completions::run(context, &arguments),
    }
}

/// The exit code that an error ends the process with.
#[must_use]
pub fn exit_of(error: &anyhow::Error) -> Exit {
    let misuse = error.chain().any(|cause| {
        cause.is::<Misuse>() || cause.is::<config::Error>() || cause.is::<secret::Error>()
    });
    if misuse { Exit::Usage } else { Exit::Failed }
}

/// Says what went wrong, why, and what to do.
pub fn report(printer: &mut Printer, error: &anyhow::Error) {
    let problems = error.downcast_ref().map_or(&[][..], config::Error::problems);
    if problems.len() < 2 {
        printer.report(error, &hints(error));
        return;
    }
    let told = problems.iter().map(|problem| match problem.hint() {
        Some(hint) => format!("{problem}; {hint}"),
        None => problem.to_string(),
    });
    let what = format!("the configuration has {} problems:", problems.len());
    printer.report_several(&what, &told.collect::<Vec<_>>());
}

/// Logs what went wrong, for programs that read nothing else. Tells whether the log takes it.
#[must_use]
pub fn log(error: &anyhow::Error) -> bool {
    let mut parts: Vec<String> = Vec::new();
    let problems = error.downcast_ref().map_or(&[][..], config::Error::problems);
    let causes = error.chain().map(ToString::to_string);
    for cause in causes.chain(problems.iter().map(ToString::to_string)).chain(hints(error)) {
        // Some repeat their source in their own message.
        if !parts.iter().any(|part| part.contains(&cause)) {
            parts.push(cause);
        }
    }
    tracing::error!(error = parts.join("; "), "ended by an error");
    tracing::enabled!(tracing::Level::ERROR)
}

/// What to do about an error, as its causes advise.
fn hints(error: &anyhow::Error) -> Vec<String> {
    let hint = |cause: &(dyn std::error::Error + 'static)| {
        if let Some(error) = cause.downcast_ref::<Misuse>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<config::Error>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<secret::Error>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<store::Error>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<checkpoints::Error>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<checkpoints::KeyError>() {
            Some(error.hint())
        } else if let Some(error) = cause.downcast_ref::<openai::Error>() {
            error.hint()
        } else if let Some(error) = cause.downcast_ref::<demo::Occupied>() {
            Some(error.hint())
        } else if let Some(error) = cause.downcast_ref::<daemon::Error>() {
            error.hint()
        } else if cause.is::<sync::NoDirectory>() {
            Some(sync::NoDirectory::hint())
        } else if cause.is::<forget::Unknown>() {
            Some(forget::Unknown::hint())
        } else if let Some(error) = cause.downcast_ref::<note::NoEvent>() {
            Some(error.hint())
        } else if cause.is::<NothingKnown>() {
            Some("`keydrift runs` tells why; run `keydrift sync`".to_owned())
        } else if let Some(error @ SyncError::NothingToAccept) = cause.downcast_ref() {
            // The others advise through their causes.
            error.hint("")
        } else {
            cause.downcast_ref::<show::Meant>().map(show::Meant::hint)
        }
    };
    error.chain().filter_map(hint).collect()
}

impl Context {
    fn settings(&self) -> Result<Settings, config::Error> {
        config::load(&Inputs {
            config_path: self.global.config.as_deref(),
            database: self.global.database.as_deref(),
            environment: &self.environment,
        })
    }

    /// Opens a database that is there for writing, unless it departs from its checkpoints.
    async fn writer(
        &mut self,
        settings: &Settings,
    ) -> anyhow::Result<(Writer, checkpoints::Checkpoints)> {
        let path = &settings.database.path;
        if !path.exists() {
            return Err(store::Error::Missing { path: path.clone() }.into());
        }
        let printer = &mut self.printer;
        let waiting = |holder: &str| printer.note(&format!("waiting for {holder}"));
        let opened = checkpoints::open(settings, settings.database.lock_timeout, waiting).await?;
        if let Some(mending) = opened.1.mending() {
            printer.note(&mending);
        }
        Ok(opened)
    }

    /// The organizations of the database, or the one asked for.
    async fn organizations(
        reader: &mut Reader,
        wanted: Option<&str>,
    ) -> anyhow::Result<Vec<String>> {
        let mut known = reader.list_organizations().await?;
        let Some(wanted) = wanted else { return Ok(known) };
        if known.iter().any(|known| known == wanted) {
            known.retain(|known| known == wanted);
            return Ok(known);
        }
        Err(Misuse::UnknownOrganization { name: wanted.to_owned(), known }.into())
    }

    /// Opens the database for reading, and makes sure that it knows the organization asked for.
    async fn reader(&mut self, organization: Option<&str>) -> anyhow::Result<Reader> {
        let settings = self.settings()?;
        let mut reader = open_reader(&settings).await?;
        // What cannot be read is told by who reads it.
        if let Ok(look) = checkpoints::look(&settings, &mut reader).await
            && let Some(departure) = look.departure
        {
            self.printer.warning(&departure.to_string());
        }
        if let Some(name) = organization {
            let known = reader.list_organizations().await?;
            if !known.iter().any(|known| known == name) {
                return Err(Misuse::UnknownOrganization { name: name.to_owned(), known }.into());
            }
        }
        Ok(reader)
    }

    /// The time that an argument means.
    fn time(&self, argument: &'static str, value: &str) -> Result<Timestamp, Misuse> {
        when::parse(value, self.clock.now()).map_err(|source| Misuse::Time {
            argument,
            value: value.to_owned(),
            source,
        })
    }

    fn optional_time(
        &self,
        argument: &'static str,
        value: Option<&String>,
    ) -> Result<Option<Timestamp>, Misuse> {
        value.map(|value| self.time(argument, value)).transpose()
    }
}
