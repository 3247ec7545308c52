//! Where output goes, and what is known of the terminals there.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use super::harmless::{harmless, width};
use super::paint::{Style, paint};
use super::progress::ProgressLines;
use super::{Result, json};

/// Before the word of an outcome, and how wide that is.
const OUTCOME_INDENT: &str = "        ";
const OUTCOME_WIDTH: usize = 6;

/// What a stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terminal {
    /// A terminal on which a line can be drawn again.
    pub interactive: bool,
    pub colour: bool,
    /// In columns; `None` where lines may be of any length.
    pub width: Option<u16>,
}

impl Terminal {
    /// A file, a pipe, or anything else that only takes text.
    pub const PLAIN: Self = Self { interactive: false, colour: false, width: None };

    /// `no_color` and `term` are the environment variables `NO_COLOR` and `TERM`.
    #[must_use]
    pub fn new(
        is_terminal: bool,
        width: Option<u16>,
        no_color: Option<&OsStr>,
        term: Option<&OsStr>,
    ) -> Self {
        if !is_terminal {
            return Self::PLAIN;
        }
        let interactive = term.is_none_or(|term| term != "dumb");
        let colour = interactive && no_color.is_none_or(OsStr::is_empty);
        Self { interactive, colour, width: width.filter(|&width| width > 0) }
    }
}

/// Something to write to.
pub(super) type Out = Box<dyn Write + Send>;

/// A writer, and what is known of the terminal behind it.
pub struct Stream {
    pub(super) writer: Out,
    pub(super) terminal: Terminal,
}

impl Stream {
    #[must_use]
    pub fn new(writer: Box<dyn Write + Send>, terminal: Terminal) -> Self {
        Self { writer, terminal }
    }
}

/// Prints data to standard output and everything else to standard error.
pub struct Printer {
    pub(super) out: Stream,
    pub(super) err: Stream,
    pub(super) quiet: bool,
}

impl Printer {
    /// `quiet` silences notes and progress, never data, warnings or errors.
    #[must_use]
    pub fn new(out: Stream, err: Stream, quiet: bool) -> Self {
        Self { out, err, quiet }
    }

    /// The process's own streams. Made once, in `main`.
    #[must_use]
    pub fn standard(quiet: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR");
        let term = std::env::var_os("TERM");
        let describe = |is_terminal, size: Option<(terminal_size::Width, _)>| {
            let width = size.map(|(width, _)| width.0);
            Terminal::new(is_terminal, width, no_color.as_deref(), term.as_deref())
        };
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let out = describe(stdout.is_terminal(), terminal_size::terminal_size_of(&stdout));
        let err = describe(stderr.is_terminal(), terminal_size::terminal_size_of(&stderr));
        // A person sees each line at once; a pipe or file gets its data in large pieces.
        let stdout: Out = if stdout.is_terminal() {
            Box::new(stdout)
        } else {
            Box::new(BufWriter::with_capacity(64 * 1024, stdout))
        };
        Self::new(Stream::new(stdout, out), Stream::new(Box::new(stderr), err), quiet)
    }

    /// What standard output can show.
    #[must_use]
    pub fn terminal(&self) -> Terminal {
        self.out.terminal
    }

    /// A line of data for people, on standard output.
    pub fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out.writer, "{}", harmless(text))?;
        Ok(())
    }

    /// A line that stands above what follows it, on standard output.
    pub fn heading(&mut self, text: &str) -> Result<()> {
        let text = paint(&harmless(text), Style::Heading, self.out.terminal.colour);
        writeln!(self.out.writer, "{text}")?;
        Ok(())
    }

    /// How something went: a status or an event in its colour, and what is to be said of it, indented.
    pub fn outcome(&mut self, word: &str, text: &str) -> Result<()> {
        let word = harmless(word);
        let padding = " ".repeat(OUTCOME_WIDTH.saturating_sub(width(&word)));
        let painted = paint(&word, Style::of_word(&word), self.out.terminal.colour);
        writeln!(self.out.writer, "{OUTCOME_INDENT}{painted}{padding}  {}", harmless(text))?;
        Ok(())
    }

    /// Text of our own, written as it stands: examples of several lines, generated files.
    /// Nothing that came from the API may be in it.
    pub fn verbatim(&mut self, text: &str) -> Result<()> {
        self.out.writer.write_all(text.as_bytes())?;
        Ok(())
    }

    /// One JSON document on a line of its own, on standard output.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        json::write(&mut self.out.writer, value)?;
        writeln!(self.out.writer)?;
        Ok(())
    }

    /// A remark on standard error, unless quiet. It follows what it is about, also where both streams are one.
    pub fn note(&mut self, text: &str) {
        // What cannot be written now cannot be written at the end, where that is an error.
        if !self.quiet && self.out.writer.flush().is_ok() {
            self.err_line(&harmless(text));
        }
    }

    /// `warning: …` on standard error.
    pub fn warning(&mut self, text: &str) {
        let label = paint("warning:", Style::Warning, self.err.terminal.colour);
        self.err_line(&format!("{label} {}", harmless(text)));
    }

    /// Where lines show that keys are coming in, if standard error is a terminal and we are not quiet.
    #[must_use]
    pub fn progress(&self) -> ProgressLines {
        if self.quiet || !self.err.terminal.interactive {
            return ProgressLines::hidden();
        }
        ProgressLines::on_stderr(self.err.terminal.colour)
    }

    /// Hands all that was printed to the system. To be called before the end: dropping a printer
    /// loses the error of a full disk.
    pub fn flush(&mut self) -> Result<()> {
        self.out.writer.flush()?;
        Ok(())
    }

    /// Writes a line, made harmless before, to standard error at one go. Where that fails there is
    /// nobody left to tell.
    pub(super) fn err_line(&mut self, text: &str) {
        self.err.writer.write_all(format!("{text}\n").as_bytes()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Error;
    use crate::output::testing::{Failing, in_colour, printer};

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let colour = |is_terminal, no_color: Option<&str>, term: Option<&str>| {
            Terminal::new(is_terminal, Some(80), no_color.map(OsStr::new), term.map(OsStr::new))
                .colour
        };
        assert!(colour(true, None, Some("xterm")));
        assert!(colour(true, Some(""), None));
        assert!(!colour(true, Some("1"), Some("xterm")));
        assert!(!colour(true, None, Some("dumb")));
        assert!(!colour(false, None, Some("xterm")));
    }

    #[test]
    fn a_printer_may_cross_threads() {
        fn is_send<T: Send>() {}
        is_send::<Printer>();
    }

    #[test]
    fn only_a_terminal_has_a_width() {
        assert_eq!(Terminal::new(true, Some(80), None, None).width, Some(80));
        assert_eq!(Terminal::new(true, Some(0), None, None).width, None);
        assert_eq!(Terminal::new(false, Some(80), None, None), Terminal::PLAIN);
        assert!(!Terminal::new(true, None, None, Some(OsStr::new("dumb"))).interactive);
    }

    #[test]
    fn data_and_remarks_go_apart() {
        let (mut printer, out, err) = printer(Terminal::PLAIN, false);
        printer.heading("demo").unwrap();
        printer.line("default: 1 key named a\nb\u{1b}").unwrap();
        printer.json(&serde_json::json!({"name": "a\u{202e}"})).unwrap();
        printer.verbatim("one\ntwo\n").unwrap();
        printer.note("no keys match");
        printer.warning("odd\rname");
        insta::assert_snapshot!(out.text(), @r#"
        demo
        default: 1 key named a\nb\u{1b}
        {"name":"a\u202e"}
        one
        two
        "#);
        insta::assert_snapshot!(err.text(), @r"
        no keys match
        warning: odd\rname
        ");
    }

    #[test]
    fn an_outcome_is_coloured_and_aligned() {
        let (mut printer, out, _) = printer(in_colour(80), false);
        printer.outcome("ok", "3 used").unwrap();
        printer.outcome("failed", "a\u{1b}b").unwrap();
        insta::assert_snapshot!(out.text().replace('\u{1b}', "␛"), @r"
                ␛[32mok␛[0m      3 used
                ␛[31mfailed␛[0m  a\u{1b}b
        ");
    }

    #[test]
    fn quiet_silences_notes_only() {
        let (mut printer, out, err) = printer(in_colour(80), true);
        printer.note("no keys match");
        printer.warning("clock went back");
        printer.line("data").unwrap();
        assert_eq!(err.text(), "\u{1b}[33mwarning:\u{1b}[0m clock went back\n");
        assert_eq!(out.text(), "data\n");
    }

    fn failing(kind: io::ErrorKind) -> Printer {
        let stream = || Stream::new(Box::new(Failing(kind)), Terminal::PLAIN);
        Printer::new(stream(), stream(), false)
    }

    #[test]
    fn a_reader_that_left_is_no_failure_but_a_full_disk_is() {
        let closed = failing(io::ErrorKind::BrokenPipe).line("data");
        assert!(matches!(closed, Err(Error::Closed)));
        let closed = failing(io::ErrorKind::BrokenPipe).json(&"data");
        assert!(matches!(closed, Err(Error::Closed)));
        let full = failing(io::ErrorKind::StorageFull).json(&"data");
        assert!(
            matches!(full, Err(Error::Write(error)) if error.kind() == io::ErrorKind::StorageFull)
        );
        assert!(matches!(failing(io::ErrorKind::StorageFull).flush(), Err(Error::Write(_))));
    }

    #[test]
    fn a_standard_error_that_is_gone_stops_nothing() {
        failing(io::ErrorKind::BrokenPipe).warning("nobody reads this");
    }
}
