//! `keydrift completions`: a completion script for a shell.

use clap::CommandFactory;

use super::{Context, Exit};
use crate::cli::{Cli, Completions};

pub(super) fn run(context: &mut Context, arguments: &Completions) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "keydrift", &mut script);
    context.printer.verbatim(&String::from_utf8(script)?)?;
    Ok(Exit::Done)
}
