//! `keydrift config check`: the configuration in effect, or what is wrong with it.

use super::{Context, Exit, findings};
use crate::cli::ConfigCheck;
use crate::config::Settings;
use crate::output::{Column, Kind};
use crate::secret::Error;

const COLUMNS: [Column; 3] = [
    Column::new("key", "SETTING", Kind::Id),
    Column::new("value", "VALUE", Kind::Id),
    Column::new("origin", "SET BY", Kind::Id),
];

pub(super) fn run(context: &mut Context, arguments: &ConfigCheck) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let mut listing = context.printer.listing(arguments.format.format, &COLUMNS, "no settings")?;
    for setting in settings.effective() {
        listing.row(&[setting.key.into(), setting.value.into(), setting.origin.into()])?;
    }
    listing.finish()?;
    // What is wrong stands below them also where both streams are one.
    context.printer.flush()?;
    let now = context.clock.now();
    let ended = settings.findings.exceptions.iter().filter(|exception| !exception.is_in_force(now));
    ended.for_each(|exception| findings::tell_ended(context, exception));
    let mut unusable = read_credentials(&settings);
    if unusable.len() > 1 {
        let what = format!("{} credentials cannot be used:", unusable.len());
        let told = unusable.iter().map(|(name, error)| tell(name, error));
        context.printer.report_several(&what, &told.collect::<Vec<_>>());
        return Ok(Exit::Usage);
    }
    match unusable.pop() {
        Some((_, error @ (Error::NotConfigured { .. } | Error::Ambiguous { .. }))) => {
            Err(error.into())
        }
        Some((name, error)) => Err(anyhow::Error::new(error)
            .context(format!("the credential of organization `{name}` cannot be used"))),
        None => Ok(Exit::Done),
    }
}

/// Reads the credential of each organization as a run would, and returns what is wrong with which.
fn read_credentials(settings: &Settings) -> Vec<(&str, Error)> {
    let mut unusable: Vec<(&str, Error)> = Vec::new();
    for organization in &settings.organizations {
        let source = settings.credential_source(&organization.name);
        let Err(error) = source.and_then(|source| source.read()) else { continue };
        // It names all of them.
        let is_ambiguous = |error: &Error| matches!(error, Error::Ambiguous { .. });
        if !is_ambiguous(&error) || !unusable.iter().any(|(_, other)| is_ambiguous(other)) {
            unusable.push((organization.name.as_str(), error));
        }
    }
    unusable
}

/// What is wrong, why, and what to do, in one line.
fn tell(organization: &str, error: &Error) -> String {
    let mut line = format!("organization `{organization}`: {error}");
    if let Some(cause) = std::error::Error::source(error) {
        line = format!("{line}: {cause}");
    }
    match error.hint() {
        Some(hint) => format!("{line}; {hint}"),
        None => line,
    }
}
