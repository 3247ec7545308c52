//! `keydrift run`: the daemon.

use std::sync::Arc;

use super::{Context, Exit};
use crate::cli::Run;
use crate::config::{self, Inputs};
use crate::daemon;

pub(super) async fn run(context: &mut Context, _arguments: &Run) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    if settings.database.is_default {
        super::sync::make_directory(&settings.database.path)?;
    }
    let (global, environment) = (context.global.clone(), context.environment.clone());
    let load = move || {
        config::load(&Inputs {
            config_path: global.config.as_deref(),
            database: global.database.as_deref(),
            environment: &environment,
        })
    };
    Box::pin(daemon::run(settings, Box::new(load), Arc::clone(&context.clock))).await?;
    Ok(Exit::Done)
}
