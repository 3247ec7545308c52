//! Logging: which lines are written, where, and how they look.
//!
//! Under systemd they go straight to the journal, with their fields; else to stderr. What a line says belongs
//! to the module that writes it.

mod fields;
mod journal;
mod json;
pub mod message;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::Environment;
use crate::output::harmless;
use fields::Collect;
use journal::Journal;
use json::Json;

/// How lines on stderr look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    // For people. Comments of documentation here would make the help twice as long.
    Text,
    // One object a line.
    Json,
}

/// What the command line says of logging.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How often `-v` was given.
    pub verbose: u8,
    /// `-q`.
    pub quiet: bool,
    /// Whether nothing is to be said at all: the demo breaks things on purpose, and tells of it itself.
    pub silent: bool,
    /// Whether this is the daemon, which tells of each run.
    pub daemon: bool,
    /// Chosen by somebody: then lines go to stderr also under systemd.
    pub format: Option<LogFormat>,
}

/// How lines are to look and which are wanted, decided from flags, environment and terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    filter: String,
    /// `RUST_LOG` as it was set, where it could not be used.
    refused_filter: Option<String>,
    timestamps: bool,
    ansi: bool,
}

impl Options {
    /// `terminal`: whether stderr is one; `journal`: whether lines go straight to the journal.
    #[must_use]
    fn new(wanted: Wanted, terminal: bool, journal: bool, environment: &Environment) -> Self {
        let Wanted { verbose, quiet, silent, daemon, format: _ } = wanted;
        // Libraries stay one or two levels quieter than we are: their lines are for the few who
        // ask for them by name with RUST_LOG. sqlx warns of each statement that waits for a lock.
        let level = match (quiet, verbose) {
            (_, 0) if silent => "off",
            (true, _) => "error",
            // What becomes of single keys is in the database; the journal is for those who wait for it.
            (false, 0) if journal => "warn,sqlx=error,keydrift=info",
            (false, 0) if daemon => "warn,sqlx=error,keydrift=info,keydrift::event=off",
            (false, 0) => "warn,sqlx=error",
            (false, 1) => "warn,sqlx=error,keydrift=info",
            (false, 2) => "warn,sqlx=error,keydrift=debug",
            (false, _) => "info,keydrift=trace",
        };
        let wanted = environment.get("RUST_LOG").map(|value| value.to_string_lossy());
        let valid = wanted.as_deref().filter(|filter| EnvFilter::try_new(filter).is_ok());
        Self {
            filter: valid.unwrap_or(level).to_owned(),
            refused_filter: wanted.as_deref().filter(|_| valid.is_none()).map(str::to_owned),
            timestamps: environment.get("JOURNAL_STREAM").is_none(),
            ansi: terminal && environment.get("NO_COLOR").is_none(),
        }
    }
}

/// Starts logging for the whole process. An error means that it was started before.
pub fn init(wanted: Wanted, environment: &Environment) -> Result<(), TryInitError> {
    let interactive = io::stderr().is_terminal();
    let stream = environment.get("JOURNAL_STREAM").and_then(|value| value.to_str());
    let journal = (wanted.format.is_none() && journal::is_stderr(stream))
        .then(|| Journal::open(Path::new(journal::SOCKET)))
        .flatten();
    let options = Options::new(wanted, interactive, journal.is_some(), environment);
    let filter = EnvFilter::new(&options.filter);
    match (journal, wanted.format) {
        (Some(journal), _) => registry().with(filter).with(Collect(journal)).try_init()?,
        (None, Some(LogFormat::Json)) => {
            let json = Json(move || Lenient { interactive });
            registry().with(filter).with(Collect(json)).try_init()?;
        }
        (None, _) => subscriber(&options, move || Lenient { interactive }).try_init()?,
    }
    warn_of_refused_filter(&options);
    Ok(())
}

/// Standard error, as far as it takes what is written: a full disk or a reader that has gone must not be
/// the end of a run. Left to itself, the library would tell of such a failure by a macro that panics.
struct Lenient {
    /// A terminal, on which a progress bar may stand where the line goes.
    interactive: bool,
}

impl Write for Lenient {
    /// The library writes a line with each call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        const CLEAR: &[u8] = b"\r\x1b[2K";
        let clear = if self.interactive { CLEAR } else { b"" };
        io::stderr().write_all(&[clear, line].concat()).ok();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn warn_of_refused_filter(options: &Options) {
    if let Some(refused) = &options.refused_filter {
        tracing::warn!(
            RUST_LOG = refused.as_str(),
            "RUST_LOG is not a valid filter and was left aside; write for instance `keydrift=debug`"
        );
    }
}

fn subscriber<W>(options: &Options, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&options.filter))
        .with_ansi(options.ansi)
        .with_writer(writer)
        .fmt_fields(HarmlessFields);
    if options.timestamps {
        Box::new(builder.finish())
    } else {
        Box::new(builder.without_time().finish())
    }
}

/// Fields as `name=value`, on one line whatever they hold.
///
/// The formatter that comes with the library escapes ANSI sequences, but lets a line feed in a
/// displayed value through, and with it a forged line.
struct HarmlessFields;

impl<'w> FormatFields<'w> for HarmlessFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, is_empty: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

/// The fields of a line that is being written.
struct Line<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        // For the journal; and where a line came by the `log` crate, its target and file once more.
        if matches!(name, "message_id" | "priority") || name.starts_with("log.") {
            return;
        }
        let text = format!("{value:?}");
        let text = harmless(&text);
        let space = if self.is_empty { "" } else { " " };
        self.is_empty = false;
        let written = match name {
            "message" => write!(self.writer, "{space}{text}"),
            name => write!(self.writer, "{space}{}={text}", name.trim_start_matches("r#")),
        };
        self.result = self.result.and(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    fn filter(verbose: u8, quiet: bool, rust_log: &str) -> String {
        let wanted = Wanted { verbose, quiet, ..Wanted::default() };
        Options::new(wanted, false, false, &environment(&[("RUST_LOG", rust_log)])).filter
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `act` logs under these options.
    fn logged(options: &Options, act: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        tracing::subscriber::with_default(subscriber(options, move || writer.clone()), act);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn under_the_journal(verbose: u8) -> Options {
        let wanted = Wanted { verbose, ..Wanted::default() };
        Options::new(wanted, false, false, &environment(&[("JOURNAL_STREAM", "8:1")]))
    }

    #[test]
    fn flags_choose_the_level_and_rust_log_wins() {
        assert_eq!(filter(0, false, ""), "warn,sqlx=error");
        assert_eq!(filter(0, true, ""), "error");
        assert_eq!(filter(1, false, ""), "warn,sqlx=error,keydrift=info");
        assert_eq!(filter(2, false, ""), "warn,sqlx=error,keydrift=debug");
        assert_eq!(filter(9, false, ""), "info,keydrift=trace");
        assert_eq!(filter(1, true, "keydrift=trace"), "keydrift=trace");
        let of = |daemon, journal| {
            let wanted = Wanted { daemon, ..Wanted::default() };
            Options::new(wanted, false, journal, &Environment::default()).filter
        };
        assert_eq!(of(true, false), "warn,sqlx=error,keydrift=info,keydrift::event=off");
        assert_eq!(of(true, true), "warn,sqlx=error,keydrift=info");
        assert_eq!(of(false, true), "warn,sqlx=error,keydrift=info");
    }

    #[test]
    fn an_invalid_rust_log_is_a_warning_and_the_flags_hold() {
        let variables =
            environment(&[("RUST_LOG", "keydrift=lod\x1b[31m"), ("JOURNAL_STREAM", "8:1")]);
        let wanted = Wanted { verbose: 1, ..Wanted::default() };
        let options = Options::new(wanted, false, false, &variables);
        assert_eq!(options.filter, "warn,sqlx=error,keydrift=info");
        insta::assert_snapshot!(logged(&options, || warn_of_refused_filter(&options)), @r#" WARN keydrift::telemetry: RUST_LOG is not a valid filter and was left aside; write for instance `keydrift=debug` RUST_LOG="keydrift=lod\u{1b}[31m""#);
    }

    #[test]
    fn colour_only_on_a_terminal_without_no_color() {
        let ansi = |terminal, no_color| {
            let variables = environment(&[("NO_COLOR", no_color)]);
            Options::new(Wanted::default(), terminal, false, &variables).ansi
        };
        assert!(ansi(true, ""));
        assert!(!ansi(true, "1"));
        assert!(!ansi(false, ""));
    }

    #[test]
    fn the_journal_gets_no_timestamp_of_ours() {
        let line = logged(&under_the_journal(0), || tracing::warn!("a retry"));
        insta::assert_snapshot!(line, @" WARN keydrift::telemetry::tests: a retry");
        let plain = Options::new(Wanted::default(), false, false, &Environment::default());
        let line = logged(&plain, || tracing::warn!("a retry"));
        assert!(line.starts_with("20") && line.contains("WARN"), "{line}");
    }

    #[test]
    fn hostile_text_stays_on_its_line_and_moves_no_cursor() {
        let hostile = "evil\x1b[2J\nERROR forged\r\u{9b}31m\u{202e}\0";
        let lines = logged(&under_the_journal(1), || {
            let span = tracing::info_span!("sync", name = %hostile);
            let _entered = span.enter();
            tracing::info!(displayed = %hostile, debugged = ?hostile, plain = hostile, "said {hostile}");
        });
        assert_eq!(lines.lines().count(), 1, "{lines}");
        let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!lines.contains(harmful), "{lines:?}");
    }

    #[test]
    fn fields_read_as_name_and_value() {
        let lines = logged(&under_the_journal(1), || {
            tracing::info!(
                message_id = "0",
                org.label = "acme",
                attempt = 2,
                r#type = true,
                "one run"
            );
        });
        insta::assert_snapshot!(lines, @r#" INFO keydrift::telemetry::tests: one run org.label="acme" attempt=2 type=true"#);
    }
}
