//! `keydrift man`: the manual pages, for packages.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory;

use super::Exit;
use crate::cli::{Cli, Man};

pub(super) fn run(arguments: &Man) -> anyhow::Result<Exit> {
    let directory: &Path = &arguments.directory;
    clap_mangen::generate_to(Cli::command().disable_help_flag(false), directory).with_context(
        || format!("could not write the manual pages into `{}`", directory.display()),
    )?;
    Ok(Exit::Done)
}
