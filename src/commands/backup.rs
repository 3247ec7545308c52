//! `keydrift backup`: a copy of the database while it is in use.

use anyhow::Context as _;

use super::{Context, Exit};
use crate::cli::Backup;
use crate::output;
use crate::stop::Stop;
use crate::store;

pub(super) async fn run(context: &mut Context, arguments: &Backup) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let stop = Stop::on_signals().context("could not listen for signals")?;
    let failed = || format!("could not back up into `{}`", arguments.file.display());
    let stopped = async {
        stop.requested().await;
    };
    let backup = store::back_up(&settings.database.path, &arguments.file, stopped).await;
    let Some(store::Backup { bytes, runs, events }) = backup.with_context(failed)? else {
        let by = stop.requested().await;
        anyhow::bail!("{}: stopped by {by}", failed());
    };
    let size = output::count(bytes, "byte");
    let (runs, events) = (output::count(runs, "run"), output::count(events, "event"));
    let file = arguments.file.display();
    context.printer.line(&format!("{file}: {size}, {runs}, {events}, checked"))?;
    Ok(Exit::Done)
}
