//! The `keydrift` binary: parses, calls, prints the error, returns the exit code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use keydrift::cli::{Cli, Command};
use keydrift::clock::SystemClock;
use keydrift::commands::{self, Context};
use keydrift::config::Environment;
use keydrift::output::{self, Printer};
use keydrift::telemetry::LogFormat;
use keydrift::{secret, telemetry};

fn main() -> ExitCode {
    // Before the credential is anywhere in memory but where the kernel put it.
    let dumpable = secret::forbid_core_dumps();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => return usage(&message),
    };
    let environment = Environment::of_process();
    let mut printer = Printer::standard(cli.global.quiet);
    let wanted = telemetry::Wanted {
        verbose: cli.global.verbose,
        quiet: cli.global.quiet,
        silent: matches!(cli.command, Command::Demo(_)),
        daemon: matches!(cli.command, Command::Run(_)),
        format: cli.global.log_format,
    };
    // Standard error is a log then, from its first line to its last.
    let logs_only = wanted.daemon && wanted.format == Some(LogFormat::Json);
    if telemetry::init(wanted, &environment).is_err() {
        printer.warning("logging could not be started");
    }
    if let Err(error) = dumpable {
        printer.warning(&format!("this process may leave a core dump: {error}"));
    }
    let mut context =
        Context { printer, environment, clock: Arc::new(SystemClock), global: cli.global };
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::new)
        .and_then(|runtime| {
            let done = runtime.block_on(commands::run(&mut context, cli.command));
            // What is still under way was given up: a name that is being looked up, a run cut off.
            runtime.shutdown_background();
            done
        })
        .and_then(|exit| match context.printer.flush().map_err(anyhow::Error::new) {
            Err(error) if !output::is_closed(&error) => Err(error),
            // Also where nobody reads any more, what was done and what not.
            Ok(()) | Err(_) => Ok(exit),
        });
    match done {
        Ok(exit) => exit.into(),
        // Whoever read our output has seen enough.
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if !(logs_only && commands::log(&error)) {
                commands::report(&mut context.printer, &error);
            }
            commands::exit_of(&error).into()
        }
    }
}

/// Help and the version go to stdout, mistakes to stderr.
fn usage(message: &clap::Error) -> ExitCode {
    // A reader that went away is none of our business.
    let _printed = message.print();
    u8::try_from(message.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}
