//! `keydrift config check`: the configuration in effect, or what is wrong with it.

use super::{Context, Exit};
use crate::cli::ConfigCheck;
use crate::output::{Column, Kind};

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
    // Each credential must at least have a source; reading it is for the run.
    for organization in &settings.organizations {
        if let Err(error) = settings.credential_source(&organization.name) {
            return Err(error.into());
        }
    }
    Ok(Exit::Done)
}
